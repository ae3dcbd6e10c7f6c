//! What the API shows of a user's tasks: how many are synced, and which problems others have.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize as _, Serialize};
use tasksync_common::error::{Code, Failure};
use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_common::plan::HeldDeletions;
use tasksync_common::registry::Alert;
use tasksync_common::state::{StateError, SyncState, Writing};

use super::views::FailureView;

/// Most entries shown of each list.
const SHOWN: usize = 20;

/// A task with a problem.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct TaskView {
    task: String,
    /// As last agreed; `None` before the first agreement.
    title: Option<String>,
    /// Name of its list; `None` while nothing of the list is in the mailbox.
    list: Option<String>,
    /// `None` if the sync only ran out of time.
    failure: Option<FailureView>,
}

impl TaskView {
    fn of(state: &SyncState, key: &SourceKey, failure: Option<&Failure>) -> Self {
        Self {
            task: key.to_string(),
            title: title_of(state, key),
            list: list_of(state, &key.location()),
            failure: failure.map(FailureView::from),
        }
    }
}

/// Returns a task's title as last agreed; `None` before the first agreement.
pub(super) fn title_of(state: &SyncState, key: &SourceKey) -> Option<String> {
    let writing = state.writing.get(key).map(|writing| match writing {
        Writing::Source { link } | Writing::Mailbox { link, .. } => link,
    });
    state
        .links
        .get(key)
        .filter(|link| link.is_agreed())
        .or(writing)
        .map(|link| link.agreed.title().to_owned())
}

/// Returns the name of a list; `None` while nothing of it is in the mailbox.
pub(super) fn list_of(state: &SyncState, location: &LocationKey) -> Option<String> {
    state
        .locations
        .get(location)
        .map(|location_state| location_state.name.clone())
}

/// What people call a task or list.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct NameView {
    /// As last agreed; `None` for a list, and before the first agreement.
    title: Option<String>,
    /// Name of the list; `None` while nothing of it is in the mailbox.
    list: Option<String>,
}

/// Returns the names of the tasks whose deletion an alert shows as held back, and of the lists that would be emptied.
pub(super) fn names_of_held(alerts: &[Alert], state: Option<&SyncState>) -> BTreeMap<String, NameView> {
    let Some(state) = state else {
        return BTreeMap::new();
    };
    let evidence = alerts
        .iter()
        .filter(|alert| alert.failure.code == Code::GuardHeld)
        .filter_map(|alert| Vec::<HeldDeletions>::deserialize(alert.evidence.as_ref()?).ok());
    let mut names = BTreeMap::new();
    for deletions in evidence.flatten() {
        for key in &deletions.keys {
            let name = NameView {
                title: title_of(state, key),
                list: list_of(state, &key.location()),
            };
            names.insert(key.to_string(), name);
        }
        for list in &deletions.emptied {
            let name = NameView {
                title: None,
                list: list_of(state, list),
            };
            names.insert(list.to_string(), name);
        }
    }
    names
}

/// A list or site that could not be read, or a list whose dates could not be read.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct UnreadView {
    location: String,
    /// `None` while nothing of it is in the mailbox.
    list: Option<String>,
    failure: FailureView,
}

impl UnreadView {
    /// Returns the first [`SHOWN`] of these lists.
    fn first_of(state: &SyncState, lists: &BTreeMap<LocationKey, Failure>) -> Vec<Self> {
        let first = lists.iter().take(SHOWN);
        first
            .map(|(location, failure)| Self {
                location: location.to_string(),
                list: list_of(state, location),
                failure: failure.into(),
            })
            .collect()
    }
}

/// An item or folder of the mailbox that bears the marker of another owner and is left alone.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct ForeignView {
    /// The task or list that the marker names.
    key: String,
    /// The owner that the marker was written for: installation, tenant and user.
    owner: String,
}

/// What the saved state knows of a user's tasks.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct TasksView {
    /// Tasks on both sides.
    linked: usize,
    /// Tasks that the last sync did not finish. The next one looks at them again.
    unfinished: usize,
    /// Deletions that the guard holds back.
    held: usize,
    /// Tasks without a copy: archived, or deleted in the mailbox and kept at the source by the tenant's policy.
    let_go: usize,
    /// All tasks that a server refused.
    refused: usize,
    /// The first [`SHOWN`] of them.
    refused_tasks: Vec<TaskView>,
    /// The first [`SHOWN`] of the unfinished tasks.
    unfinished_tasks: Vec<TaskView>,
    /// All lists and sites that could not be read.
    unread: usize,
    /// The first [`SHOWN`] of them.
    unread_lists: Vec<UnreadView>,
    /// All lists whose dates are neither read nor written.
    without_dates: usize,
    /// The first [`SHOWN`] of them.
    lists_without_dates: Vec<UnreadView>,
    /// All markers of other owners in the mailbox.
    foreign: usize,
    /// The first [`SHOWN`] of them.
    foreign_markers: Vec<ForeignView>,
    /// When all tasks were last compared.
    full_check_at: Option<Timestamp>,
    /// Why the saved state cannot be decoded; the next sync compares everything.
    unreadable: Option<String>,
}

impl TasksView {
    /// Returns what is shown of a saved sync state, or of one that cannot be decoded.
    pub(super) fn of(state: &Result<SyncState, StateError>) -> Self {
        let state = match state {
            Ok(state) => state,
            Err(error) => {
                return Self {
                    unreadable: Some(error.to_string()),
                    ..Self::default()
                };
            }
        };
        Self {
            linked: state.links.len(),
            unfinished: state.pending.len(),
            held: state.held.len(),
            let_go: state.let_go.len(),
            refused: state.parked.len(),
            refused_tasks: state
                .parked
                .iter()
                .take(SHOWN)
                .map(|(key, parked)| TaskView::of(state, key, Some(&parked.failure)))
                .collect(),
            unfinished_tasks: state
                .pending
                .iter()
                .take(SHOWN)
                .map(|key| TaskView::of(state, key, state.reasons.get(key)))
                .collect(),
            unread: state.unread.len(),
            unread_lists: UnreadView::first_of(state, &state.unread),
            without_dates: state.without_dates.len(),
            lists_without_dates: UnreadView::first_of(state, &state.without_dates),
            foreign: state.foreign.len(),
            foreign_markers: state
                .foreign
                .iter()
                .take(SHOWN)
                .map(|(key, owner)| ForeignView {
                    key: key.clone(),
                    owner: owner.clone(),
                })
                .collect(),
            full_check_at: state.full_check_at,
            unreadable: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tasksync_common::error::{Code, ErrorClass};
    use tasksync_common::model::{FieldSet, Task};
    use tasksync_common::plan::Agreed;
    use tasksync_common::state::{Link, LocationState, Parked};

    use super::*;

    #[test]
    fn problems_are_shown_with_title_list_and_reason_and_lists_are_limited() {
        let unreadable = TasksView::of(&SyncState::decode(b"\xffnonsense"));
        assert!(unreadable.unreadable.is_some());
        let location = LocationKey::sharepoint_list("3f1c2f0e-0000-4000-8000-000000000001");
        let failure = Failure::new(
            ErrorClass::Refused,
            Code::SharePointItemRefused,
            "Title is required",
        );
        let mut state = SyncState::default();
        for number in 0..30 {
            let parked = Parked {
                version: None,
                change_key: None,
                failure: failure.clone(),
            };
            state.parked.insert(location.task(number), parked);
        }
        let location_state = LocationState {
            name: "Projects - Plan".to_owned(),
            name_read_from_folder: false,
            holds: FieldSet::ALL,
            folder: "folder".to_owned(),
            cursor: None,
            signs: None,
        };
        state.locations.insert(location.clone(), location_state);
        let link = Link {
            version: "1".to_owned(),
            agreed: Agreed::of(&Task {
                title: "Order paint".to_owned(),
                ..Task::default()
            }),
            ..Link::unagreed("item", "ck", None)
        };
        let pending = [location.task(98), location.task(99)];
        state.pending.extend(pending.clone());
        state.links.insert(pending[0].clone(), link);
        state.reasons.insert(pending[0].clone(), failure.clone());
        let closed = LocationKey::sharepoint_list("3f1c2f0e-0000-4000-8000-000000000002");
        state.unread.insert(location.clone(), failure.clone());
        state.unread.insert(closed.clone(), failure.clone());
        state.without_dates.insert(location.clone(), failure.clone());
        state.record_foreign_marker("sp|x|1", "another owner");
        let shown = TasksView::of(&Ok(state));
        assert_eq!(
            (shown.refused, shown.refused_tasks.len(), shown.unfinished),
            (30, SHOWN, 2)
        );
        let reason = FailureView::from(&failure);
        assert_eq!(shown.refused_tasks[0].failure.as_ref(), Some(&reason));
        let list = || Some("Projects - Plan".to_owned());
        let unfinished = |key: &SourceKey, title: Option<&str>, failure| TaskView {
            task: key.to_string(),
            title: title.map(str::to_owned),
            list: list(),
            failure,
        };
        assert_eq!(
            shown.unfinished_tasks,
            [
                unfinished(
                    &pending[0],
                    Some("Order paint"),
                    Some(FailureView::from(&failure))
                ),
                unfinished(&pending[1], None, None),
            ]
        );
        let unread = |location: &LocationKey, list| UnreadView {
            location: location.to_string(),
            list,
            failure: (&failure).into(),
        };
        assert_eq!(
            (shown.unread, shown.unread_lists),
            (2, vec![unread(&location, list()), unread(&closed, None)])
        );
        assert_eq!(
            (shown.without_dates, shown.lists_without_dates),
            (1, vec![unread(&location, list())])
        );
        assert_eq!(
            (shown.foreign, shown.foreign_markers[0].owner.as_str()),
            (1, "another owner")
        );
    }
}
