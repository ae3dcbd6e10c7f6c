//! Whether the order of work is the one that was left: nobody is sent while claims of a lost one may still be worked on.
//!
//! The leader leaves a growing mark in the order and remembers it in the registry. When the mark found is another one, is
//! missing or went back, the order was emptied, replaced or set back: it is rebuilt from the registry, and for the lifetime
//! of a claim nobody is sent. Every claim moves the mark, and no job is sent before the registry knows: where the machine of
//! leader and Redis is lost, the next leader misses the claims its predecessor made last. After a loss, the registry is told of the new mark only after that time, so that a leader who takes over
//! meanwhile finds the loss, too.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tasksync_common::error::Failure;
use tasksync_common::registry::Registry;
use tasksync_common::schedule::{Epoch, Inspected, Mark, Schedule};
use tokio::time::Instant;

#[derive(Debug, Default)]
struct State {
    /// The leadership under which the order was looked at.
    checked: Option<Epoch>,
    /// The mark left last; `None` when only the registry knows.
    remembered: Option<Mark>,
    quiet_until: Option<Instant>,
}

/// What this process knows of the order's past.
#[derive(Debug)]
pub(crate) struct Continuity {
    lifetime: Duration,
    state: Mutex<State>,
    /// One save at a time, so that an older number never replaces a newer one.
    saving: tokio::sync::Mutex<()>,
}

impl Continuity {
    /// After a loss nobody is sent for `claim_lifetime`.
    pub(crate) fn new(claim_lifetime: Duration) -> Self {
        Self {
            lifetime: claim_lifetime,
            state: Mutex::default(),
            saving: tokio::sync::Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A loss was found: nobody is sent from now on until claims have run out.
    pub(crate) fn fall_quiet(&self) {
        self.state().quiet_until = Some(Instant::now() + self.lifetime);
    }

    /// Whether the order bears a mark that this process left: then it is known to be whole, and if nobody is in it, nobody
    /// was put in yet.
    pub(crate) fn is_marked(&self) -> bool {
        self.state().remembered.is_some()
    }

    /// Whether claims of a lost order may still be worked on.
    pub(crate) fn is_quiet(&self) -> bool {
        self.state()
            .quiet_until
            .is_some_and(|until| Instant::now() < until)
    }

    /// Whether users may be sent under this leadership: the order was looked at, and nothing was lost lately.
    pub(crate) fn allows(&self, epoch: Epoch) -> bool {
        let checked = self.state().checked;
        checked == Some(epoch) && !self.is_quiet()
    }

    /// Looks for losses and falls quiet when there was one; `true` then.
    pub(crate) async fn check(
        &self,
        epoch: Epoch,
        schedule: &dyn Schedule,
        registry: &dyn Registry,
    ) -> Result<bool, Failure> {
        let own = {
            let mut state = self.state();
            let quiet = state.quiet_until.is_some_and(|until| Instant::now() < until);
            // Somebody else may have led meanwhile and dealt with a loss; only while this process does so itself it knows
            // better than the registry.
            if state.checked != Some(epoch) && !quiet {
                state.remembered = None;
            }
            state.remembered.clone()
        };
        // Read before the mark is moved: should this fail, the next check still finds what there is to find.
        let remembered = match own {
            Some(mark) => Some(mark),
            None => registry.mark().await?,
        };
        let Some(marked) = schedule.mark().await? else {
            self.state().checked = Some(epoch);
            return Ok(false);
        };
        let lost = marked.shows_loss(remembered.as_ref());
        if lost {
            self.fall_quiet();
            tracing::warn!(
                pause_s = self.lifetime.as_secs(),
                remembered = remembered.map(|mark| mark.number),
                found = marked.before.map(|mark| mark.number),
                "the order of work was lost or set back; it is rebuilt from the registry"
            );
        }
        {
            let mut state = self.state();
            state.remembered = Some(marked.after.clone());
            state.checked = Some(epoch);
        }
        if !self.is_quiet() {
            registry.save_mark(&marked.after).await?;
        }
        Ok(lost)
    }

    /// Tells the registry of the claims made since the last check, before anybody works on them: by its number a leader who
    /// takes over sees whether they are still there.
    pub(crate) async fn remember(
        &self,
        schedule: &dyn Schedule,
        registry: &dyn Registry,
    ) -> Result<(), Failure> {
        let _alone = self.saving.lock().await;
        let Some(number) = schedule.acknowledged() else {
            return Ok(());
        };
        let mark = match self.state().remembered.clone() {
            Some(mark) if mark.number < number => Mark { number, ..mark },
            Some(_) | None => return Ok(()),
        };
        // Until old claims have run out the registry keeps what shows the loss.
        if self.is_quiet() {
            return Ok(());
        }
        registry.save_mark(&mark).await?;
        let mut state = self.state();
        if let Some(remembered) = &mut state.remembered
            && remembered.id == mark.id
        {
            remembered.number = remembered.number.max(mark.number);
        }
        Ok(())
    }

    /// Compares about `limit` tenants of the order with themselves and with the index, and falls quiet when one was lost.
    pub(crate) async fn inspect(&self, schedule: &dyn Schedule, limit: usize) -> Result<Inspected, Failure> {
        let inspected = schedule.inspect(limit, self.lifetime).await?;
        if inspected.repaired > 0 {
            tracing::info!(
                tenants = inspected.repaired,
                "the index of tenants was brought in step with them"
            );
        }
        let lost = inspected.lost.len();
        if lost > 0 {
            self.fall_quiet();
            tracing::warn!(
                tenants = lost,
                first = inspected.lost.first().map(ToString::to_string),
                pause_s = self.lifetime.as_secs(),
                "a part of the order of work was lost or set back; it is rebuilt from the registry"
            );
        }
        Ok(inspected)
    }
}
