//! Detects that the schedule lost data, and then stops sending until old claims must have expired.
//!
//! The leader leaves a growing mark in the schedule and saves it in the registry. A different mark, a missing mark or
//! a lower number means that the schedule was emptied, replaced or set back to an older state. Then it is rebuilt
//! from the registry, and no user is sent for the lifetime of a claim, because workers may still hold lost claims.
//!
//! Every claim moves the mark, and no job is sent before the registry has the new number. Without that, a leader that
//! takes over after a crash of both the leader's and Redis' machine would not notice that its predecessor's last
//! claims are missing.
//!
//! After a loss, the new mark is saved in the registry only when the waiting time is over. A leader that takes over
//! during that time therefore detects the loss, too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tasksync_common::clock::monotonic;
use tasksync_common::error::Failure;
use tasksync_common::registry::Registry;
use tasksync_common::schedule::{Epoch, InspectionResult, Mark, Schedule};
use tokio::time::Instant;

#[derive(Debug, Default)]
struct ContinuityState {
    /// Epoch of the leadership under which the schedule was last checked.
    checked_epoch: Option<Epoch>,
    /// The mark this process left last; `None` if it must be read from the registry.
    last_mark: Option<Mark>,
    paused_until: Option<Instant>,
}

/// What this process knows about losses of the schedule.
#[derive(Debug)]
pub(crate) struct Continuity {
    lifetime: Duration,
    state: Mutex<ContinuityState>,
    /// Serialises saves, so that an older number never replaces a newer one.
    saving: tokio::sync::Mutex<()>,
}

impl Continuity {
    /// Returns a tracker that stops sending for `claim_lifetime` after a loss.
    pub(crate) fn new(claim_lifetime: Duration) -> Self {
        Self {
            lifetime: claim_lifetime,
            state: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, ContinuityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops sending from now on until all claims of the lost schedule have expired.
    pub(crate) fn pause_dispatch(&self) {
        self.state().paused_until = Some(monotonic() + self.lifetime);
    }

    /// Returns true if the schedule bears a mark that this process left. Then it lost nothing; if it is empty, no
    /// user has been added yet.
    pub(crate) fn bears_own_mark(&self) -> bool {
        self.state().last_mark.is_some()
    }

    /// Returns true while workers may still hold claims of a lost schedule.
    pub(crate) fn is_dispatch_paused(&self) -> bool {
        self.state().paused_until.is_some_and(|until| monotonic() < until)
    }

    /// Returns true if users may be sent under this leadership: the schedule was checked, and no loss is being waited
    /// out.
    pub(crate) fn may_dispatch(&self, epoch: Epoch) -> bool {
        let checked = self.state().checked_epoch;
        checked == Some(epoch) && !self.is_dispatch_paused()
    }

    /// Checks the schedule for losses. Returns true, and stops sending, if there was one.
    pub(crate) async fn check(
        &self,
        epoch: Epoch,
        schedule: &dyn Schedule,
        registry: &dyn Registry,
    ) -> Result<bool, Failure> {
        let known_mark = {
            let mut state = self.state();
            let quiet = state.paused_until.is_some_and(|until| monotonic() < until);
            // Another process may have led in the meantime and dealt with a loss, so the registry knows better. Only
            // while this process waits out a loss itself does it know better than the registry.
            if state.checked_epoch != Some(epoch) && !quiet {
                state.last_mark = None;
            }
            state.last_mark.clone()
        };
        // Reads the saved mark before moving the schedule's: if this read fails, the next check still detects the
        // loss.
        let remembered = match known_mark {
            Some(mark) => Some(mark),
            None => registry.mark().await?,
        };
        let Some(marked) = schedule.mark().await? else {
            self.state().checked_epoch = Some(epoch);
            return Ok(false);
        };
        let lost = marked.shows_loss(remembered.as_ref());
        if lost {
            self.pause_dispatch();
            tracing::warn!(
                pause_s = self.lifetime.as_secs(),
                remembered = remembered.map(|mark| mark.number),
                found = marked.before.map(|mark| mark.number),
                "the schedule was lost or set back; it is rebuilt from the registry"
            );
        }
        {
            let mut state = self.state();
            state.last_mark = Some(marked.after.clone());
            state.checked_epoch = Some(epoch);
        }
        if !self.is_dispatch_paused() {
            registry.save_mark(&marked.after).await?;
        }
        Ok(lost)
    }

    /// Saves the number of the latest claims in the registry before any worker gets them. A leader that takes over
    /// compares it with the schedule to see whether these claims are still there.
    pub(crate) async fn save_latest_mark(
        &self,
        schedule: &dyn Schedule,
        registry: &dyn Registry,
    ) -> Result<(), Failure> {
        let _alone = self.saving.lock().await;
        let Some(number) = schedule.acknowledged() else {
            return Ok(());
        };
        let mark = match self.state().last_mark.clone() {
            Some(mark) if mark.number < number => Mark { number, ..mark },
            Some(_) | None => return Ok(()),
        };
        // Until old claims have expired, the registry keeps the mark that shows the loss.
        if self.is_dispatch_paused() {
            return Ok(());
        }
        registry.save_mark(&mark).await?;
        let mut state = self.state();
        if let Some(remembered) = &mut state.last_mark
            && remembered.id == mark.id
        {
            remembered.number = remembered.number.max(mark.number);
        }
        Ok(())
    }

    /// Checks about `limit` tenants of the schedule against their own data and the index. Stops sending if one was
    /// lost.
    pub(crate) async fn inspect(
        &self,
        schedule: &dyn Schedule,
        limit: usize,
    ) -> Result<InspectionResult, Failure> {
        let inspected = schedule.inspect(limit, self.lifetime).await?;
        if inspected.repaired > 0 {
            tracing::info!(tenants = inspected.repaired, "the index of tenants was repaired");
        }
        let lost = inspected.lost.len();
        if lost > 0 {
            self.pause_dispatch();
            tracing::warn!(
                tenants = lost,
                first = inspected.lost.first().map(ToString::to_string),
                pause_s = self.lifetime.as_secs(),
                "a part of the schedule was lost or set back; it is rebuilt from the registry"
            );
        }
        Ok(inspected)
    }
}
