//! The REST API: everything an operator does, as JSON under `/api/v1`.
//!
//! One token opens all of it; without a token configured it is closed. Every address names its tenant where it has one,
//! unknown fields and parameters are refused, and every error says what to do.

mod auth;
mod error;
mod extract;
mod middleware;
mod routes;
mod serve;
mod status;
mod tenants;
mod users;
mod views;

use std::sync::Arc;

use serde::Serialize;
use tasksync_common::clock::SharedClock;
use tasksync_common::queue::JobQueue;
use tasksync_common::registry::Registry;
use tasksync_common::schedule::{Epoch, Schedule};
use tasksync_common::settings::Settings;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use auth::{ApiToken, MINIMUM_TOKEN_LENGTH, TokenError};
pub use error::{ApiCode, ApiError, ErrorBody, markdown as errors_markdown};
pub use routes::{markdown, router};
pub use serve::serve;

use crate::Requests;
use crate::checks::TenantChecks;

/// Largest request body in bytes.
pub const MAXIMUM_BODY_BYTES: usize = 1024 * 1024;
/// Most open alerts read at once.
const MAXIMUM_ALERTS: u32 = 1_000;
/// Doctors at work at once.
const DOCTORS: usize = 2;

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

/// What the API works with.
#[derive(Clone)]
pub struct Parts {
    /// The truth.
    pub registry: Arc<dyn Registry>,
    /// The order of work.
    pub schedule: Arc<dyn Schedule>,
    /// Jobs in flight.
    pub queue: Arc<dyn JobQueue>,
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
    /// The operator token; without one the API is closed.
    pub token: Option<ApiToken>,
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

/// State of the handlers.
#[derive(Clone)]
struct Shared {
    parts: Arc<Parts>,
    readiness: Arc<status::Readiness>,
    /// Places for doctors: each asks many servers.
    doctors: Arc<tokio::sync::Semaphore>,
}

/// Cuts a list that was read with one entry more than `limit`; the last kept entry when something was cut.
fn cut<T>(entries: &mut Vec<T>, limit: u32) -> Option<&T> {
    let limit = limit as usize;
    if entries.len() <= limit {
        return None;
    }
    entries.truncate(limit);
    entries.last()
}
