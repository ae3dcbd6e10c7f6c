//! Private servers: they answer, keep their data over a kill, are empty after a wipe, and leave nothing behind.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code outside test functions: a panic is how it fails"
)]

mod leftovers;
mod postgres;
mod rabbitmq;
mod redis_sentinel;
mod redis_server;
mod runs;

use std::sync::Arc;
use std::time::Duration;

use tasksync_loadtest::machine_clock::monotonic;
use tasksync_loadtest::services::{Binaries, ServiceFolder, started_or_skipped as started};

fn folder() -> Arc<ServiceFolder> {
    Arc::new(ServiceFolder::new(None, Binaries::default()).unwrap())
}

/// Returns the state letter of a process, or `None` if it does not exist or is a zombie.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let state = stat.rsplit_once(')')?.1.trim_start().chars().next()?;
    (state != 'Z' && state != 'X').then_some(state)
}

/// Waits at most a minute until `condition` holds.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let started = monotonic();
    while !condition() {
        assert!(started.elapsed() < Duration::from_mins(1), "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
