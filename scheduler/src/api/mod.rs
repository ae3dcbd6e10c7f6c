//! The REST API: everything an operator does, as JSON under `/api/v1`.
//!
//! One token opens all of it; while no token is configured, it is closed. Every address names its tenant where there
//! is one, unknown fields and parameters are refused, and every error says what to do.

mod alerts;
mod auth;
mod dead_letters;
mod enrolment;
mod error;
mod extract;
mod import;
mod installation;
mod metrics;
mod middleware;
mod pauses;
mod probes;
mod problems;
mod routes;
mod serve;
mod startup_gate;
mod status;
mod status_view;
mod task_views;
mod tenants;
mod users;
mod views;

use std::sync::Arc;

pub use auth::{ApiToken, MINIMUM_TOKEN_LENGTH, TokenError};
pub use error::{ApiCode, ApiError, ApiErrorBody, markdown as errors_markdown};
pub use metrics::router as metrics_router;
pub use probes::{Detail, probes};
pub use problems::FieldProblem;
pub use routes::{markdown, router};
pub use serve::serve;
pub use startup_gate::StartupGate;

use crate::parts::ServiceParts;

/// Largest request body in bytes.
pub const MAXIMUM_BODY_BYTES: usize = 1024 * 1024;
/// Most open alerts in one answer.
const MAXIMUM_ALERTS: u32 = 1_000;
/// Most doctor runs at a time.
const DOCTORS: usize = 2;

/// State of the handlers.
#[derive(Clone)]
struct ApiState {
    parts: Arc<ServiceParts>,
    /// The operator token; `None` closes the API.
    token: Option<Arc<ApiToken>>,
    /// Limits doctor runs, because each queries many servers.
    doctors: Arc<tokio::sync::Semaphore>,
}

impl ApiState {
    /// Returns the right to query the tenants' servers, until it is dropped.
    fn doctor_place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, ApiError> {
        self.doctors.try_acquire().map_err(|_| {
            ApiError::new(
                ApiCode::Busy,
                "other doctor runs are in progress; each queries many servers",
            )
        })
    }
}

/// Truncates a list that was read with one entry more than `limit`. Returns the last entry kept, or `None` if nothing
/// was cut.
fn truncate_page<T>(entries: &mut Vec<T>, limit: u32) -> Option<&T> {
    let limit = limit as usize;
    if entries.len() <= limit {
        return None;
    }
    entries.truncate(limit);
    entries.last()
}
