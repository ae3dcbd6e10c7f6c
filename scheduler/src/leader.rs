//! Leader election: a lease in the schedule, renewed every third of its lifetime and given up before it expires.

use std::sync::Arc;
use std::time::Duration;

use tasksync_common::clock::monotonic;
use tasksync_common::health::Pulse;
use tasksync_common::schedule::{Epoch, Schedule};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::metrics::DispatchMetrics;

/// Timeout for giving the leadership up at the end. If it passes, the lease expires by itself.
const RESIGN: Duration = Duration::from_secs(3);

/// Takes part in the election for as long as it runs. Publishes through `leading` under which epoch this process
/// leads.
pub(crate) struct LeaderCandidate {
    pub(crate) schedule: Arc<dyn Schedule>,
    /// Unique per process and start, so that a restarted process counts as another holder.
    pub(crate) holder: String,
    pub(crate) lifetime: Duration,
    pub(crate) metrics: Arc<DispatchMetrics>,
    pub(crate) leading: watch::Sender<Option<Epoch>>,
    pub(crate) pulse: Pulse,
}

/// What this process knows of its own lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LeadershipLease {
    /// Another process leads, or it is not known which one does.
    None,
    /// This process leads until `until`. The time is measured on its own clock, from before the call that took the
    /// lease.
    Held { epoch: Epoch, until: Instant },
}

impl LeaderCandidate {
    /// Runs until `stop` is cancelled. Keeps the lease; [`Self::resign`] gives it up.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        self.campaign(stop).await;
        self.pulse.mark_ended();
    }

    async fn campaign(&self, stop: &CancellationToken) {
        let mut lease = LeadershipLease::None;
        let mut answers = true;
        while !stop.is_cancelled() {
            self.pulse.beat();
            let began = monotonic();
            // A renewal that hangs is given up in time for the next one, and always before the lease ends.
            let call_timeout = match lease {
                LeadershipLease::None => self.lifetime / 3,
                LeadershipLease::Held { until, .. } => {
                    (self.lifetime / 3).min(until.saturating_duration_since(began))
                }
            };
            let call = timeout(call_timeout, self.schedule.lead(&self.holder, self.lifetime));
            let Some(answer) = stop.run_until_cancelled(call).await else {
                return;
            };
            let wait = match answer {
                Ok(Ok(Some(epoch))) => {
                    answers = true;
                    // A sixth of the lifetime is kept in reserve, for clocks that run at different speeds and for
                    // work in flight.
                    let until = began + self.lifetime - self.lifetime / 6;
                    lease = LeadershipLease::Held { epoch, until };
                    self.publish_leadership(Some(epoch));
                    self.lifetime / 3
                }
                Ok(Ok(None)) => {
                    answers = true;
                    lease = LeadershipLease::None;
                    self.publish_leadership(None);
                    self.lifetime / 10
                }
                failed @ (Ok(Err(_)) | Err(_)) => {
                    if answers {
                        answers = false;
                        let failure = match failed {
                            Ok(Err(failure)) => failure.to_string(),
                            Ok(Ok(_)) | Err(_) => "no answer in time".to_owned(),
                        };
                        tracing::warn!(failure, "the leadership could not be requested or renewed");
                    }
                    if let LeadershipLease::Held { until, .. } = lease
                        && monotonic() >= until
                    {
                        lease = LeadershipLease::None;
                        self.publish_leadership(None);
                    }
                    self.lifetime / 10
                }
            };
            let wait = match lease {
                LeadershipLease::Held { until, .. } => wait.min(until.saturating_duration_since(monotonic())),
                LeadershipLease::None => wait,
            };
            // At least 10 ms, so that this never becomes a busy loop, even when the lease is about to end.
            let wait = wait.max(Duration::from_millis(10));
            if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                return;
            }
        }
    }

    /// Gives the leadership up, so that another process takes it at once.
    pub(crate) async fn resign(&self) {
        let led = self.leading.borrow().is_some();
        self.publish_leadership(None);
        if led
            && !matches!(
                timeout(RESIGN, self.schedule.resign(&self.holder)).await,
                Ok(Ok(()))
            )
        {
            tracing::warn!("the leadership could not be given up; the lease expires by itself");
        }
    }

    /// Publishes and logs the state if it changed.
    fn publish_leadership(&self, now: Option<Epoch>) {
        let changed = self.leading.send_if_modified(|leading| {
            let changed = *leading != now;
            *leading = now;
            changed
        });
        if !changed {
            return;
        }
        if let Some(epoch) = now {
            self.metrics.leading.set(1);
            self.metrics.leaderships.add(1);
            tracing::info!(epoch = epoch.0, "this process leads");
        } else {
            self.metrics.leading.set(0);
            tracing::info!("this process no longer leads");
        }
    }
}
