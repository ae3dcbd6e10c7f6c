//! Saving the state, compare-and-set; cursors last.

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record;
use tasksync_common::plan::{Held, Side};
use tasksync_common::registry::{Alert, Saved};
use tasksync_common::state::StateError;

use super::SyncEngine;
use super::load::Loaded;

impl SyncEngine {
    /// Saves the links as they are now, with the old cursors: what was done is kept if the pass is cut off.
    pub(super) async fn save_progress(&self, loaded: &mut Loaded) -> Result<(), Failure> {
        let unreadable = |error: StateError| {
            Failure::new(
                ErrorClass::Transient,
                Code::StateUnreadable,
                format!("{}: {error}", loaded.user),
            )
        };
        let blob = loaded.state.encode().map_err(unreadable)?;
        let fingerprint = loaded.state.fingerprint().encode().map_err(unreadable)?;
        match self
            .registry
            .save_sync_state(&loaded.enrolment, loaded.version, &fingerprint, &blob)
            .await?
        {
            Saved::Stored(version) => {
                loaded.version = version;
                loaded.before.clone_from(&loaded.state);
                Ok(())
            }
            Saved::VersionConflict => Err(Failure::new(
                ErrorClass::Conflict,
                Code::StateConflict,
                format!(
                    "{}: the saved state is no longer version {}, or the user changed the mailbox",
                    loaded.user, loaded.version
                ),
            )),
        }
    }

    /// Moves the cursors to where reading ended and saves, if anything differs from what is stored.
    ///
    /// What the cursors cover was applied, or is written down as pending, held or parked in the same save.
    pub(super) async fn commit(&self, loaded: &mut Loaded) -> Result<(), Failure> {
        let now = loaded.started;
        let state = &mut loaded.state;
        for (location, reached) in std::mem::take(&mut loaded.folders) {
            if let Some(place) = state.locations.get_mut(&location) {
                place.cursor = Some(reached.cursor);
                place.signs = reached.signs;
            }
        }
        for key in std::mem::take(&mut loaded.confirmed) {
            state.fresh.remove(&key);
        }
        let links = &state.links;
        state.fresh.retain(|key| links.contains_key(key));
        if state.source_cursor.as_ref() != Some(&loaded.source_cursor) || state.source_cursor_at.is_none() {
            state.source_cursor = Some(loaded.source_cursor.clone());
            state.source_cursor_at = Some(now);
        } else if let Some(stored) = state.source_cursor_at
            && now.duration_since(stored) > jiff::SignedDuration::from_mins(30)
        {
            state.source_cursor_at = Some(now);
        }
        if loaded.full {
            state.full_check_at = Some(now);
        }
        if loaded.version != 0 && loaded.state == loaded.before {
            return Ok(());
        }
        self.save_progress(loaded).await
    }

    /// Raises the alert for held deletions, or ends it when nothing is held any more.
    pub(super) async fn tell_of_held(&self, loaded: &Loaded, held: &[Held]) -> Result<(), Failure> {
        let user = &loaded.user;
        if held.is_empty() {
            if !loaded.before.held.is_empty() {
                self.registry
                    .end_alert(&user.tenant, Some(&user.user), Code::GuardHeld)
                    .await?;
            }
            return Ok(());
        }
        record::refusal();
        for held in held {
            let side = match held.side {
                Side::Source => record::Side::Source,
                Side::Mailbox => record::Side::Mailbox,
            };
            record::held(side, held.keys.len());
        }
        let detail = held.iter().map(sentence).collect::<Vec<_>>().join("; ");
        tracing::warn!(tenant = %user.tenant, user = %user.user, code = %Code::GuardHeld, detail, "deletions held back");
        let alert = Alert {
            since: loaded.started,
            tenant: user.tenant.clone(),
            user: Some(user.user.clone()),
            failure: Failure::new(ErrorClass::Refused, Code::GuardHeld, detail),
            evidence: serde_json::to_value(held).ok(),
        };
        self.registry.raise_alert(&alert).await.map(|_| ())
    }
}

fn sentence(held: &Held) -> String {
    let (count, of) = (held.keys.len(), held.of);
    let what = match held.side {
        Side::Source => {
            format!("{count} of {of} tasks are gone from the mailbox and would be deleted at the source")
        }
        Side::Mailbox => {
            format!("{count} of {of} tasks are gone from the source and would be removed from the mailbox")
        }
    };
    if held.emptied.is_empty() {
        what
    } else {
        format!("{what}, which empties {} of its folders", held.emptied.len())
    }
}
