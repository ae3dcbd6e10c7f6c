//! Tests of the built executable: commands against a running standalone service, its start and end, pages, examples.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test, and only test functions themselves are exempt"
)]

mod backup;
mod commands;
mod harness;
mod init;
mod pages;
mod reference;
mod roles;
mod settings;
mod standalone;
mod support;
mod tenants;
