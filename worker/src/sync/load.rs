//! Reading both sides of one user: the saved state, what changed since, and what has to be looked up by key.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tasksync_common::error::{Code, Failure};
use tasksync_common::metrics::record::{self, Phase};
use tasksync_common::model::{LocationKey, SourceKey, UserKey, digest};
use tasksync_common::plan::{Pair, Pass, ReadProgress};
use tasksync_common::registry::{Enrolment, Registry, StoredState};
use tasksync_common::state::SyncState;
use tokio::time::Instant;

use super::mailbox_reader::MailboxReader;
use super::mailbox_reading::{MailboxReading, lost_with_their_folder};
use super::pairs::{Sides, pairs_of};
use super::source_reader::{SourceReader, SourceReading};
use super::survey::{SyncWork, unknown_user};
use super::{SyncSettings, TenantContext, in_time};
use crate::mailbox::{FolderId, ItemRef, Owner};
use crate::source::{Location, Person, Source};

/// Both sides of one user, read and joined.
pub(super) struct Loaded {
    pub(super) user: UserKey,
    pub(super) owner: Owner,
    pub(super) person: Person,
    /// The enrolment for which the state was made.
    pub(super) enrolment: Enrolment,
    /// The version that must be stored when saving; 0 when nothing is stored.
    pub(super) version: u64,
    /// The state, and how far both sides were read.
    pub(super) pass: Pass,
    /// The locations that were reported or looked up.
    pub(super) locations: BTreeMap<LocationKey, Location>,
    /// One pair for each task to decide.
    pub(super) pairs: Vec<Pair>,
    /// Folders and items of ours whose markers name no owner yet.
    pub(super) unnamed: UnnamedMarkers,
    /// When reading began.
    pub(super) started: Timestamp,
}

/// Folders and items whose markers an earlier build wrote.
#[derive(Default)]
pub(super) struct UnnamedMarkers {
    pub(super) folders: Vec<FolderId>,
    pub(super) items: BTreeMap<SourceKey, ItemRef>,
}

/// How thoroughly a pass compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CheckDepth {
    /// As the state requires: a full check if it is due, and the values of the pairs whose deep check is due.
    AsDue,
    /// A full check, and the values of every pair.
    Everything,
}

/// Reads both sides of one user.
pub(super) struct Loader<'a> {
    pub(super) registry: &'a dyn Registry,
    pub(super) context: &'a TenantContext,
    pub(super) settings: &'a SyncSettings,
    pub(super) started: Timestamp,
    pub(super) deadline: Instant,
    pub(super) depth: CheckDepth,
}

impl Loader<'_> {
    pub(super) async fn load(&self, work: SyncWork) -> Result<Loaded, Failure> {
        let user = work.user;
        // The survey's data may be as old as the batch. Enrolment and state are read together: one mailbox's
        // links checked against another mailbox would look like an emptied mailbox.
        let (enrolment, stored) = self
            .registry
            .enrolment_with_state(&user)
            .await?
            .ok_or_else(|| unknown_user(&user))?;
        let found = work.findings.filter(|found| found.is_about(&enrolment));
        let (changes, signs, folder_gone) = found.map_or_else(Default::default, |found| {
            (found.source, found.signs, found.folder_gone)
        });
        let owner = self.context.owner(&enrolment)?;
        let (saved, version) = decode_state(&user, stored);
        let person = Person {
            login: enrolment.source_login.clone(),
            identity: saved.identity.clone(),
        };
        let mut state = saved.clone();
        let full = work.full
            || version == 0
            || self.depth == CheckDepth::Everything
            || self.settings.full_check_due(state.full_check_at, self.started);
        let deep = if full {
            self.deep_keys(&state)
        } else {
            BTreeSet::new()
        };

        let source = SourceReader {
            source: &*self.context.connections.source,
            person: &person,
        };
        let reading = source.read(&mut state, changes, full);
        let mut from_source = record::time_phase(Phase::SourceRead, reading).await?;
        in_time(self.deadline)?;
        let reader = MailboxReader {
            mailbox: &*self.context.connections.mailbox,
            owner: &owner,
            state: &mut state,
            source: &from_source,
            signs,
            full,
            deep: deep.clone(),
            deadline: self.deadline,
            reading: MailboxReading::default(),
        };
        let mut from_mailbox = record::time_phase(Phase::MailboxRead, reader.read(folder_gone)).await?;
        in_time(self.deadline)?;

        // Look up on the source, by key, what only the mailbox reported, before anything is decided.
        let questions = from_mailbox.questions_for_source(&state, &from_source.tasks);
        source.ask(&mut state, &questions, &mut from_source).await?;
        let locations = known_locations(&*self.context.connections.source, &from_source).await?;
        let mut undecided = std::mem::take(&mut from_source.undecided);
        undecided.extend(std::mem::take(&mut from_mailbox.undecided));
        let mut keys = all_keys(&state, &from_source, &from_mailbox);
        keys.extend(deep.iter().cloned());
        keys.retain(|key| !undecided.contains_key(key));
        let reached = ReadProgress {
            source_cursor: from_source.cursor.clone(),
            folders: std::mem::take(&mut from_mailbox.reached),
            confirmed: std::mem::take(&mut from_mailbox.confirmed),
            unread: from_source.unread.clone(),
            read_again: from_source.read_again(&state),
            without_dates: locations
                .iter()
                .map(|(key, location)| (key.clone(), location.without_dates.clone()))
                .collect(),
            undecided,
            full,
        };
        let unnamed = UnnamedMarkers {
            folders: std::mem::take(&mut from_mailbox.unnamed_folders),
            items: std::mem::take(&mut from_mailbox.unnamed_items),
        };
        let pairs = pairs_of(
            &keys,
            &state,
            Sides {
                source: &from_source,
                mailbox: &mut from_mailbox,
                locations: &locations,
                connections: &self.context.connections,
                deep: &deep,
                full,
            },
        );
        Ok(Loaded {
            user,
            owner,
            person,
            enrolment,
            version,
            pass: Pass::new(state, saved, reached, self.started),
            locations,
            pairs,
            unnamed,
            started: self.started,
        })
    }

    /// Returns the linked tasks whose values are compared in this full check even though their versions did
    /// not change. The digest of a task's key gives it a fixed moment within the interval of deep checks; the
    /// task is due if that moment lies between the last full check and this one.
    fn deep_keys(&self, state: &SyncState) -> BTreeSet<SourceKey> {
        if self.depth == CheckDepth::Everything {
            return state.links.keys().cloned().collect();
        }
        let Some(last) = state.full_check_at else {
            return BTreeSet::new();
        };
        let interval = self.settings.deep_check_interval.as_secs().max(1);
        let now = self.started.as_second();
        let passed = now.saturating_sub(last.as_second());
        state
            .links
            .keys()
            .filter(|key| is_due(digest(key.as_str().bytes()), interval, now, passed))
            .cloned()
            .collect()
    }
}

/// Returns whether the moment of a key, which recurs every `interval` seconds, lay within the last `passed`
/// seconds.
fn is_due(digest: u64, interval: u64, now: i64, passed: i64) -> bool {
    let moment = i128::from(digest % interval);
    let since = (i128::from(now) - moment).rem_euclid(i128::from(interval));
    since < i128::from(passed)
}

/// Returns the locations of every task that was read. What they can hold is read in every pass: if the site's
/// time zone is unknown, its dates cannot be read, and must not be taken for dates that a person cleared.
async fn known_locations(
    source: &dyn Source,
    reading: &SourceReading,
) -> Result<BTreeMap<LocationKey, Location>, Failure> {
    let mut locations = reading.locations.clone();
    let wanted: BTreeSet<LocationKey> = reading
        .present()
        .map(SourceKey::location)
        .filter(|location| !locations.contains_key(location))
        .collect();
    for location in wanted {
        if let Some(found) = source.location(&location).await? {
            locations.insert(location, found);
        }
    }
    Ok(locations)
}

/// Returns the stored state and its version. A state that cannot be decoded counts as lost; its links are
/// found again in the mailbox.
fn decode_state(user: &UserKey, stored: Option<StoredState>) -> (SyncState, u64) {
    let Some(stored) = stored else {
        return (SyncState::default(), 0);
    };
    match SyncState::decode(&stored.blob) {
        Ok(state) => (state, stored.version),
        Err(error) => {
            tracing::warn!(tenant = %user.tenant, user = %user.user, code = %Code::StateUnreadable, %error,
                "the saved sync state cannot be read; everything is compared");
            (SyncState::default(), stored.version)
        }
    }
}

fn all_keys(state: &SyncState, source: &SourceReading, mailbox: &MailboxReading) -> BTreeSet<SourceKey> {
    source
        .tasks
        .keys()
        .chain(mailbox.keys())
        .chain(lost_with_their_folder(state))
        .chain(&state.pending)
        .chain(&state.held)
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_turn_once_in_an_interval_however_the_full_checks_lie() {
        let interval = 7 * 24 * 3_600;
        for key in 0..200_u64 {
            let digest = digest(key.to_le_bytes());
            let (mut now, mut turns) = (1_000_000_i64, 0);
            let end = now + 10 * 7 * 24 * 3_600;
            let mut step = 3_000 + i64::try_from(key).unwrap() * 97;
            while now < end {
                step = 3_000 + (step * 31 + 7) % 5_000;
                let passed = step.min(end - now);
                now += passed;
                turns += u32::from(is_due(digest, interval, now, passed));
            }
            assert_eq!(turns, 10, "key {key}");
        }
    }
}
