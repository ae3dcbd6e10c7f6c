//! The simulated Exchange over real HTTP, with every answer checked against the schema when there is one.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by failing"
)]

mod client;
mod folders;
mod items;
mod scale;
