//! The worker: takes jobs, syncs users and reports the results.

#![cfg_attr(
    not(feature = "sspi"),
    expect(
        dead_code,
        reason = "builds without NTLM and Kerberos never sign a connection in"
    )
)]

pub mod auth;
pub mod connect;
pub mod http;
mod large;
mod look;
pub mod mailbox;
pub mod sanitise;
mod session;
pub mod source;
pub mod sync;
pub mod throttle;
pub mod work;
mod zones;
