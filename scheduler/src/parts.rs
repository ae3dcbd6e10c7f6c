//! The parts that the API and the doctor work with: the stores, the checks and the leadership.

use std::sync::Arc;

use serde::Serialize;
use tasksync_common::clock::SharedClock;
use tasksync_common::error::Failure;
use tasksync_common::fleet::Fleet;
use tasksync_common::health::Health;
use tasksync_common::queue::JobQueue;
use tasksync_common::registry::Registry;
use tasksync_common::schedule::{Epoch, Schedule};
use tasksync_common::settings::Settings;
use tokio::sync::watch;

use crate::Requests;
use crate::checks::TenantChecks;

/// Which process leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LeadershipStatus {
    /// This process leads.
    Leading {
        /// Epoch of the leadership.
        epoch: u64,
        /// Name of this process.
        holder: Option<String>,
    },
    /// Another process leads.
    NotHere {
        /// Its name.
        holder: String,
    },
    /// No process leads: the last leader is gone and its lease has expired, or none was elected yet.
    Nobody,
}

/// The parts that the API and the doctor work with.
#[derive(Clone)]
pub struct ServiceParts {
    /// The registry, which has the truth.
    pub registry: Arc<dyn Registry>,
    /// The schedule.
    pub schedule: Arc<dyn Schedule>,
    /// Jobs in flight.
    pub queue: Arc<dyn JobQueue>,
    /// What all processes share.
    pub fleet: Arc<dyn Fleet>,
    /// Checks of the tenants' servers.
    pub checks: Arc<dyn TenantChecks>,
    /// The settings the process was started with.
    pub settings: Arc<Settings>,
    /// This machine's clock.
    pub clock: SharedClock,
    /// Under which epoch this process leads, if it does.
    pub leading: watch::Receiver<Option<Epoch>>,
    /// Takes "sync now" requests.
    pub requests: Arc<Requests>,
    /// Whether the process is ready and alive.
    pub health: Health,
}

impl ServiceParts {
    /// Returns which process leads. This process knows whether it leads itself; the schedule knows the other holders.
    ///
    /// # Errors
    /// The schedule's failures.
    pub(crate) async fn leadership(&self) -> Result<LeadershipStatus, Failure> {
        let holder = self.schedule.leader().await?;
        let epoch = *self.leading.borrow();
        Ok(match (epoch, holder) {
            (Some(epoch), holder) => LeadershipStatus::Leading {
                epoch: epoch.0,
                holder,
            },
            (None, Some(holder)) => LeadershipStatus::NotHere { holder },
            (None, None) => LeadershipStatus::Nobody,
        })
    }
}
