//! The simulated Exchange over real HTTP. Every answer is validated against the schema if the schema is available.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test says what went wrong by failing"
)]
#![expect(clippy::print_stdout, reason = "a skipped schema check is said aloud")]

mod client;
mod folders;
mod items;
mod scale;
mod tampering;
