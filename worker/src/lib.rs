//! The worker: takes jobs, syncs users, reports back.

pub mod auth;
pub mod http;
pub mod mailbox;
pub mod sanitise;
pub mod source;
pub mod sync;
pub mod throttle;
pub mod work;
