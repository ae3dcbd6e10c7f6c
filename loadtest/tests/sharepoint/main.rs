//! The simulated SharePoint over real HTTP, in both forms of JSON.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod changes;
mod farm;
mod items;
mod site;
mod tampering;
