//! Running work that may panic, and the reasons why work stops without an answer.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{TenantId, UserId};

/// Why work stopped without an answer.
pub(super) enum Interruption {
    /// It panicked, with this message.
    Panicked(String),
    /// It exceeded its time and was cut.
    TimedOut,
}

impl Interruption {
    /// Returns the code with which it is reported.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Panicked(_) => Code::Panic.as_str(),
            Self::TimedOut => Code::BudgetExhausted.as_str(),
        }
    }
}

/// Runs a future and turns its panic into a value.
pub(super) async fn catch_panic<T>(work: impl Future<Output = T>) -> Result<T, Interruption> {
    // State that a panic leaves inside the future is dropped with it; shared state is behind locks and
    // atomics.
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(|payload| Interruption::Panicked(message(payload.as_ref())))
}

/// Returns the panic's message, at most 200 characters of it.
fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    text.chars().take(200).collect()
}

/// Returns the failure of a user whose work was cut.
pub(super) fn budget_exhausted(tenant: &TenantId, user: &UserId, step: &str) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::BudgetExhausted,
        format!("{step} of {tenant}/{user} did not end in time and was cancelled"),
    )
}
