//! Tests of the API over real HTTP, with the registry in SQLite and the schedule and the queue in memory.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test, and only test functions themselves are exempt"
)]

mod access;
mod door;
mod harness;
mod observing;
mod pauses;
mod tenants;
mod users;
