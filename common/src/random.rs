//! Random identifiers. Everything else takes them as parameters or asks for them here.

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

/// Returns an identifier that is ordered by time (UUID version 7).
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that makes ordered identifiers"
)]
#[must_use]
pub fn ordered_id() -> Uuid {
    Uuid::now_v7()
}
