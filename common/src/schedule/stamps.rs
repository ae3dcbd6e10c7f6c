//! Saves stamps to the registry, late and in batches: a lost stamp costs an early sync and nothing else.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::FinishedAttempt;
use crate::error::Failure;
use crate::metrics::{Metrics, catalogue};
use crate::model::{TenantId, UserId};
use crate::registry::Registry;
use crate::schedule::{FailureStreak, SavedStamp};

/// Largest number of stamps that are written in one transaction.
const BATCH: usize = 1_000;

#[derive(Debug, Default)]
struct Buffer {
    stamps: HashMap<TenantId, HashMap<UserId, SavedStamp>>,
    /// Number of stamps in it, of all tenants.
    count: usize,
    dropped: u64,
}

/// Collects the stamps of finished users and saves them to the registry, one batch per tenant.
///
/// A user's newer stamp replaces a waiting older one. While the registry does not answer, stamps wait. If
/// `most` stamps wait, those of further users are dropped and counted.
pub struct StampSaver {
    registry: Arc<dyn Registry>,
    /// When this many stamps wait, they are saved without waiting for the interval.
    batch: usize,
    most: usize,
    buffer: Mutex<Buffer>,
    full: Notify,
}

impl StampSaver {
    /// Returns a saver that saves when `batch` stamps wait, and at the interval of [`Self::run`]. It holds at
    /// most `most` stamps.
    #[must_use]
    pub fn new(registry: Arc<dyn Registry>, batch: usize, most: usize) -> Self {
        Self {
            registry,
            batch: batch.max(1),
            most: most.max(batch).max(1),
            buffer: Mutex::default(),
            full: Notify::new(),
        }
    }

    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the stamps of ended attempts. `finished` are the users of `results` that
    /// [`super::Claims::finish`] returned, `at` is its time, and `minimum` is the minimum time between syncs.
    pub fn finished(
        &self,
        tenant: &TenantId,
        at: Timestamp,
        minimum: Duration,
        results: &[FinishedAttempt],
        finished: &[UserId],
    ) {
        let span = |duration: Duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
        let finished: HashSet<&UserId> = finished.iter().collect();
        for result in results.iter().filter(|result| finished.contains(&result.user)) {
            let stamp = at
                .checked_add(span(result.due_after))
                .and_then(|due| due.checked_sub(span(minimum)))
                .unwrap_or(at);
            self.note(
                tenant,
                SavedStamp {
                    user: result.user.clone(),
                    stamp,
                    last_success: result.result.is_ok().then_some(at),
                    failing: result.result.as_ref().err().map(|failure| FailureStreak {
                        since: at,
                        attempts: result.history.failures,
                        failure: failure.clone(),
                    }),
                },
            );
        }
    }

    /// Adds one stamp.
    pub fn note(&self, tenant: &TenantId, stamp: SavedStamp) {
        let mut buffer = self.buffer();
        buffer.put(tenant, stamp, self.most, true);
        if buffer.count >= self.batch {
            self.full.notify_one();
        }
    }

    /// Returns the number of waiting stamps, and of those dropped since the start.
    #[must_use]
    pub fn waiting_and_dropped(&self) -> (usize, u64) {
        let buffer = self.buffer();
        (buffer.count, buffer.dropped)
    }

    /// Registers the metrics of waiting and dropped stamps.
    pub fn register(self: &Arc<Self>, metrics: &Metrics) {
        let saver = Arc::clone(self);
        metrics.observe_value(&catalogue::STAMPS_WAITING, move || {
            saver.waiting_and_dropped().0 as u64
        });
        let saver = Arc::clone(self);
        metrics.observe_value(&catalogue::STAMPS_DROPPED, move || saver.waiting_and_dropped().1);
    }

    /// Saves the waiting stamps and returns their number.
    ///
    /// # Errors
    /// The failure of the registry; stamps that were not saved wait again.
    pub async fn flush(&self) -> Result<usize, Failure> {
        let taken = {
            let mut buffer = self.buffer();
            buffer.count = 0;
            std::mem::take(&mut buffer.stamps)
        };
        let mut saved = 0;
        let mut failed: Option<Failure> = None;
        for (tenant, stamps) in taken {
            let stamps: Vec<SavedStamp> = stamps.into_values().collect();
            for batch in stamps.chunks(BATCH) {
                // After one failure the remaining batches are not tried: the registry is down, and each try
                // would wait for its timeout.
                if failed.is_none() {
                    match self.registry.save_stamps(&tenant, batch).await {
                        Ok(()) => {
                            saved += batch.len();
                            continue;
                        }
                        Err(failure) => failed = Some(failure),
                    }
                }
                let mut buffer = self.buffer();
                for stamp in batch {
                    buffer.put(&tenant, stamp.clone(), self.most, false);
                }
            }
        }
        failed.map_or(Ok(saved), Err)
    }

    /// Saves every `interval`, and sooner when enough stamps wait, until `stop`; then once more.
    pub async fn run(&self, interval: Duration, stop: CancellationToken) {
        loop {
            let stopped = tokio::select! {
                () = stop.cancelled() => true,
                () = tokio::time::sleep(interval) => false,
                () = self.full.notified() => false,
            };
            let failed = match self.flush().await {
                Ok(_) => false,
                Err(failure) => {
                    tracing::warn!(code = %failure.code, detail = failure.detail, "stamps were not saved; they are kept and saved later");
                    true
                }
            };
            if stopped {
                return;
            }
            if failed {
                // Waits for the interval, because a full buffer would wake this loop at once.
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = tokio::time::sleep(interval) => {}
                }
            }
        }
    }
}

impl Buffer {
    /// Adds a stamp. `newer` says whether it replaces a waiting one or is replaced by it.
    fn put(&mut self, tenant: &TenantId, stamp: SavedStamp, most: usize, newer: bool) {
        let of_tenant = self.stamps.entry(tenant.clone()).or_default();
        match of_tenant.entry(stamp.user.clone()) {
            Entry::Occupied(mut waiting) => {
                let waiting = waiting.get_mut();
                let last_success = stamp.last_success.max(waiting.last_success);
                let since = [&stamp, &*waiting]
                    .into_iter()
                    .filter_map(|stamp| stamp.failing.as_ref().map(|failing| failing.since))
                    .min();
                if newer {
                    *waiting = stamp;
                }
                waiting.last_success = last_success;
                if let (Some(failing), Some(since)) = (&mut waiting.failing, since) {
                    failing.since = since;
                }
            }
            Entry::Vacant(_) if self.count >= most => self.dropped += 1,
            Entry::Vacant(vacant) => {
                vacant.insert(stamp);
                self.count += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
