//! Calls to tenants' servers and token endpoints, against small servers of these tests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "this is a test; its helper functions may fail loudly, too"
)]

mod auth;
mod bombs;
mod bound;
mod http;
mod on_premises;
#[path = "../../../loadtest/tests/foreign/python.rs"]
mod python;
mod secrecy;
mod server;
