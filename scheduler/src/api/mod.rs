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
use tasksync_common::schedule::Schedule;
use tasksync_common::settings::Settings;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use auth::{ApiToken, MINIMUM_TOKEN_LENGTH, TokenError};
pub use error::{ApiCode, ApiError, ErrorBody, markdown as errors_markdown};
pub use routes::{markdown, router};
pub use serve::serve;

use crate::checks::TenantChecks;

/// Largest request body in bytes.
pub const MAXIMUM_BODY_BYTES: usize = 1024 * 1024;
/// Most open alerts read at once.
const MAXIMUM_ALERTS: u32 = 1_000;
/// Doctors at work at once.
const DOCTORS: usize = 2;

/// Who leads, as far as this process knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Leadership {
    /// The order of work was not asked yet.
    Unknown,
    /// This process leads.
    Leading {
        /// Its number.
        epoch: u64,
    },
    /// Another process leads.
    Following,
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
    /// Who leads.
    pub leadership: watch::Receiver<Leadership>,
    /// The operator token; without one the API is closed.
    pub token: Option<ApiToken>,
    /// Cancelled when the process takes nothing new: readiness then says so.
    pub stopping: CancellationToken,
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
