//! Reading both sides of one user: what is remembered, what changed, and what has to be looked at by key.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tasksync_common::error::{Code, Failure};
use tasksync_common::metrics::record::{self, Phase};
use tasksync_common::model::{LocationKey, SourceKey, UserKey};
use tasksync_common::plan::Pair;
use tasksync_common::registry::{Enrolment, StoredState};
use tasksync_common::state::SyncState;
use tokio::time::Instant;

use super::mailbox_side::{MailboxReading, Reached, lost_with_their_folder};
use super::pairs::pairs_of;
use super::source_side::SourceReading;
use super::survey::{Work, unknown};
use super::{SyncEngine, TenantContext, in_time};
use crate::mailbox::Owner;
use crate::source::{Location, Person, Presence};

/// Both sides of one user.
pub(super) struct Loaded {
    pub(super) user: UserKey,
    /// The enrolment the state belongs to.
    pub(super) enrolment: Enrolment,
    pub(super) owner: Owner,
    /// The state as it will be saved; cursors still the old ones.
    pub(super) state: SyncState,
    /// The state as it was loaded, to see whether saving is worth it.
    pub(super) before: SyncState,
    /// Version to compare when saving; 0 when nothing is stored.
    pub(super) version: u64,
    /// Everything was compared.
    pub(super) full: bool,
    /// Positions reached, stored last.
    pub(super) source_cursor: String,
    pub(super) folders: BTreeMap<LocationKey, Reached>,
    /// Fresh copies that are fresh no more when these positions are stored.
    pub(super) confirmed: BTreeSet<SourceKey>,
    /// What is known of the locations.
    pub(super) locations: BTreeMap<LocationKey, Location>,
    /// The tasks.
    pub(super) pairs: Vec<Pair>,
    /// When reading began.
    pub(super) started: Timestamp,
}

impl SyncEngine {
    pub(super) async fn load(
        &self,
        context: &TenantContext,
        work: Work,
        deadline: Instant,
    ) -> Result<Loaded, Failure> {
        let started = self.clock.now();
        let user = work.user;
        // What the survey knew may be as old as the batch. Enrolment and state are of one moment: with one mailbox's links
        // another mailbox would seem to be emptied.
        let (enrolment, stored) = self
            .registry
            .enrolment_with_state(&user)
            .await?
            .ok_or_else(|| unknown(&user))?;
        let found = work.found.filter(|found| found.is_about(&enrolment));
        let (changes, signs, folder_gone) = found.map_or_else(Default::default, |found| {
            (found.source, found.signs, found.folder_gone)
        });
        let owner = context.owner(&enrolment)?;
        let person = Person {
            login: enrolment.source_login.clone(),
        };
        let (before, version) = decoded(&user, stored);
        let mut state = before.clone();
        let full = work.full || version == 0 || self.full_check_due(state.full_check_at, started);

        let reading = self.read_source(context, &person, &state, changes, full);
        let mut source = record::timed(Phase::SourceRead, reading).await?;
        in_time(deadline)?;
        let reading = self.read_mailbox(
            context,
            &owner,
            &mut state,
            &source,
            signs,
            full,
            folder_gone,
            deadline,
        );
        let mut mailbox = record::timed(Phase::MailboxRead, reading).await?;
        in_time(deadline)?;

        // What only one side reported is looked up on the other, by key, before anything is decided.
        let questions = mailbox.questions_for_source(&state, &source.tasks);
        self.ask_about(context, &person, &questions, &mut source).await?;
        let locations = self.known_locations(context, &state, &source).await?;
        let keys = all_keys(&state, &source.tasks, &mailbox);
        let pairs = pairs_of(&keys, &state, &source, &mut mailbox, &locations, context);
        Ok(Loaded {
            user,
            enrolment,
            owner,
            state,
            before,
            version,
            full,
            source_cursor: source.cursor,
            folders: mailbox.reached,
            confirmed: mailbox.confirmed,
            locations,
            pairs,
            started,
        })
    }

    async fn known_locations(
        &self,
        context: &TenantContext,
        state: &SyncState,
        source: &SourceReading,
    ) -> Result<BTreeMap<LocationKey, Location>, Failure> {
        let mut known = source.locations.clone();
        let wanted: BTreeSet<LocationKey> = source
            .tasks
            .iter()
            .filter(|(_, presence)| matches!(presence, Presence::Present(_)))
            .map(|(key, _)| key.location())
            .filter(|location| !known.contains_key(location) && !state.locations.contains_key(location))
            .collect();
        for location in wanted {
            if let Some(found) = context.connections.source.location(&location).await? {
                known.insert(location, found);
            }
        }
        Ok(known)
    }
}

/// The stored state and its version; what cannot be read counts as lost and links are found again in the mailbox.
fn decoded(user: &UserKey, stored: Option<StoredState>) -> (SyncState, u64) {
    let Some(stored) = stored else {
        return (SyncState::default(), 0);
    };
    match SyncState::decode(&stored.blob) {
        Ok(state) => (state, stored.version),
        Err(error) => {
            tracing::warn!(tenant = %user.tenant, user = %user.user, code = %Code::StateUnreadable, %error,
                "saved sync state cannot be read, everything is compared");
            (SyncState::default(), stored.version)
        }
    }
}

fn all_keys(
    state: &SyncState,
    source: &BTreeMap<SourceKey, Presence>,
    mailbox: &MailboxReading,
) -> BTreeSet<SourceKey> {
    source
        .keys()
        .chain(mailbox.keys())
        .chain(lost_with_their_folder(state))
        .chain(&state.pending)
        .chain(&state.held)
        .cloned()
        .collect()
}
