//! The built executable: commands against a running standalone service, start and end of the service, pages, examples.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test, and only test functions themselves are exempt"
)]

mod commands;
mod harness;
mod pages;
mod roles;
mod standalone;
