//! The simulated SharePoint over real HTTP, in both forms of JSON.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod changes;
mod farm;
mod items;
mod site;
mod tampering;
