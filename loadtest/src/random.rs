//! Random identifiers of the harness and of the simulated servers.

use uuid::Uuid;

/// Returns a random identifier (UUID version 4).
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that makes random identifiers"
)]
#[must_use]
pub fn unique_id() -> Uuid {
    Uuid::new_v4()
}
