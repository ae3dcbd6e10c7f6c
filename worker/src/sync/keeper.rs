//! Saving a user's state by compare-and-set.

use std::sync::Arc;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::plan::Pass;
use tasksync_common::registry::{Enrolment, Registry, SaveResult};
use tasksync_common::state::StateError;

/// Saves one user's state under the enrolment for which it was made.
pub(super) struct Keeper {
    pub(super) registry: Arc<dyn Registry>,
    pub(super) enrolment: Enrolment,
    /// The version that must be stored when saving; 0 when nothing is stored.
    pub(super) version: u64,
}

impl Keeper {
    /// Saves the state as it is now. A save before the cursors move keeps what was done, should the pass be
    /// interrupted.
    ///
    /// # Errors
    /// `Conflict` when another process saved first, or the person changed the mailbox.
    pub(super) async fn save(&mut self, pass: &mut Pass) -> Result<(), Failure> {
        let user = &self.enrolment.key;
        let unreadable = |error: StateError| {
            Failure::new(
                ErrorClass::Transient,
                Code::StateUnreadable,
                format!("{user}: {error}"),
            )
        };
        let blob = pass.state.encode().map_err(unreadable)?;
        let fingerprint = pass.state.fingerprint().encode().map_err(unreadable)?;
        match self
            .registry
            .save_sync_state(&self.enrolment, self.version, &fingerprint, &blob)
            .await?
        {
            SaveResult::Stored(version) => {
                self.version = version;
                pass.stored();
                Ok(())
            }
            SaveResult::VersionConflict => Err(Failure::new(
                ErrorClass::Conflict,
                Code::StateConflict,
                format!(
                    "{user}: the saved state is no longer version {}, or the user changed the mailbox",
                    self.version
                ),
            )),
        }
    }
}
