//! The API over real HTTP, with the registry in SQLite and the order of work and the queue in memory.

mod access;
mod harness;
mod observing;
mod tenants;
mod users;
