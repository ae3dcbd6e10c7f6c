//! The leader's loop, with and without workers, over the stores in memory, on paused time.

#[path = "../../../worker/tests/support/mod.rs"]
mod support;

mod bench;
mod dispatch;
mod election;
mod fairness;
mod refusing_queue;
mod requests;
