//! Limits towards the tenants' servers: requests in flight per server, pauses that all processes keep, and
//! one request at a time per mailbox.

mod allowance;
mod last_day;
mod mailboxes;
mod pause;
mod pausing;
mod servers;
mod sharing;

pub use mailboxes::{MailboxGuard, MailboxLocks};
pub use pause::{LONGEST_PAUSE, SHORTEST_PAUSE, pause};
pub use servers::{ServerCounts, ServerLimits, ServerPermit, Servers};

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::clock::SharedClock;

/// Returns the future's result, or `None` at the deadline. A future that is ready at once always returns its
/// result.
async fn until<F: Future>(deadline: Timestamp, clock: &SharedClock, future: F) -> Option<F::Output> {
    let left = Duration::try_from(clock.now().duration_until(deadline)).unwrap_or(Duration::ZERO);
    tokio::time::timeout(left, future).await.ok()
}
