//! Calls to tenants' servers and token endpoints, against small servers of these tests.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "this is a test; its helper functions may fail loudly, too"
)]

mod auth;
mod bombs;
mod http;
mod secrecy;
mod server;
