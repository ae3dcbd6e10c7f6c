//! What the API and the doctor work with: the stores, the checks and who leads.

use std::sync::Arc;

use serde::Serialize;
use tasksync_common::clock::SharedClock;
use tasksync_common::fleet::Fleet;
use tasksync_common::queue::JobQueue;
use tasksync_common::registry::Registry;
use tasksync_common::schedule::{Epoch, Schedule};
use tasksync_common::settings::Settings;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Requests;
use crate::checks::TenantChecks;

/// Who leads, as far as this process knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Leadership {
    /// This process leads.
    Leading {
        /// Number of the leadership.
        epoch: u64,
    },
    /// This process does not lead; others share its order of work, and one of them should.
    NotHere,
    /// Nobody leads: this process is the only one and was not elected yet.
    Nobody,
}

/// What the API and the doctor work with.
#[derive(Clone)]
pub struct Parts {
    /// The truth.
    pub registry: Arc<dyn Registry>,
    /// The order of work.
    pub schedule: Arc<dyn Schedule>,
    /// Jobs in flight.
    pub queue: Arc<dyn JobQueue>,
    /// What all processes share.
    pub fleet: Arc<dyn Fleet>,
    /// Asks the tenants' servers.
    pub checks: Arc<dyn TenantChecks>,
    /// The settings the process was started with.
    pub settings: Arc<Settings>,
    /// This machine's clock.
    pub clock: SharedClock,
    /// Under which epoch this process leads, if it does.
    pub leading: watch::Receiver<Option<Epoch>>,
    /// Takes "sync now".
    pub requests: Arc<Requests>,
    /// Cancelled when the process takes nothing new: readiness then says so.
    pub stopping: CancellationToken,
}

impl Parts {
    /// Who leads.
    pub(crate) fn leadership(&self) -> Leadership {
        let epoch = *self.leading.borrow();
        match epoch {
            Some(epoch) => Leadership::Leading { epoch: epoch.0 },
            None if self.settings.schedule.url.starts_with("memory:") => Leadership::Nobody,
            None => Leadership::NotHere,
        }
    }
}
