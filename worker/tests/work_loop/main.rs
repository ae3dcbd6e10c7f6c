//! The worker's loop over the stores in memory, on paused time.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod ending_queue;
mod endings;
mod failures;
mod limits;
