//! Joining what both sides reported into one pair per task. Pure.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use tasksync_common::model::{FieldSet, LocationKey, SourceKey};
use tasksync_common::plan::{MailboxSide, MailboxValue, Pair, SourceSide, SourceValue};
use tasksync_common::state::{Link, SyncState};

use super::mailbox_reading::MailboxReading;
use super::source_reader::SourceReading;
use super::tenants::Connections;
use crate::mailbox::MailboxItem;
use crate::source::{Location, SourceItem, TaskPresence};

/// What was read from both sides.
pub(super) struct Sides<'a> {
    pub(super) source: &'a SourceReading,
    pub(super) mailbox: &'a mut MailboxReading,
    pub(super) locations: &'a BTreeMap<LocationKey, Location>,
    pub(super) connections: &'a Connections,
    /// Tasks whose values are compared even if their versions did not change.
    pub(super) deep: &'a BTreeSet<SourceKey>,
    /// Whether this is a full check, in which parked tasks are tried again.
    pub(super) full: bool,
}

/// Returns one pair for each of these keys.
pub(super) fn pairs_of(keys: &BTreeSet<SourceKey>, state: &SyncState, sides: Sides<'_>) -> Vec<Pair> {
    let Sides {
        source,
        mailbox,
        locations,
        connections,
        deep,
        full,
    } = sides;
    let source_offset = connections.source.clock_offset().unwrap_or_default();
    let mailbox_offset = connections.mailbox.clock_offset().unwrap_or_default();
    keys.iter()
        .map(|key| {
            let link = state.links.get(key).cloned();
            let items = mailbox.items.remove(key).unwrap_or_default();
            let items = items
                .into_iter()
                .map(|item| {
                    let elsewhere =
                        folder_outside_location(&item, key, link.as_ref(), state, &mailbox.folder_of_item);
                    mailbox_value(item, mailbox_offset, elsewhere)
                })
                .collect();
            let linked_id = link.as_ref().map(|link| link.item.as_str());
            let missing = if link.as_ref().is_some_and(Link::has_lost_its_folder) {
                MailboxSide::FolderGone
            } else if mailbox.archived.contains(key) {
                MailboxSide::Archived
            } else if mailbox.missing_from_folder.contains(key) {
                MailboxSide::Gone
            } else {
                MailboxSide::Unchanged
            };
            let deleted = mailbox.deleted.remove(key).unwrap_or_default();
            let (mailbox, twins) = sort_items(items, linked_id, missing);
            Pair {
                key: key.clone(),
                parked: state.parked.get(key).filter(|_| !full).cloned(),
                deep: deep.contains(key),
                source_holds: supported_fields(&key.location(), state, locations),
                source: match source.tasks.get(key) {
                    None | Some(TaskPresence::Unreadable(_)) => SourceSide::Unchanged,
                    Some(TaskPresence::Present(item)) => {
                        SourceSide::Present(Box::new(source_value(item, source_offset)))
                    }
                    Some(TaskPresence::Absent(absence)) => SourceSide::Absent(*absence),
                },
                writing: state.writing.get(key).cloned(),
                let_go: state.let_go.get(key).cloned(),
                deleted_write_ids: deleted,
                link,
                mailbox,
                twins,
            }
        })
        .collect()
}

fn supported_fields(
    location: &LocationKey,
    state: &SyncState,
    locations: &BTreeMap<LocationKey, Location>,
) -> FieldSet {
    match (locations.get(location), state.locations.get(location)) {
        (Some(described), _) => described.holds,
        (None, Some(stored)) => stored.holds,
        (None, None) => FieldSet::ALL,
    }
}

/// Chooses which of several items with one key stands for the task: the linked one; if that is gone, one that
/// was moved; otherwise the oldest. Returns it and the others.
fn sort_items(
    mut items: Vec<MailboxValue>,
    linked: Option<&str>,
    missing: MailboxSide,
) -> (MailboxSide, Vec<MailboxValue>) {
    items.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
    items.dedup_by(|one, other| one.id == other.id);
    let found = linked.and_then(|linked| items.iter().position(|item| item.id == linked));
    let chosen = match (found, linked, &missing) {
        (Some(at), _, _) => Some(at),
        // The linked item was not reported, so it is unchanged, and these are copies of it.
        (None, Some(_), MailboxSide::Unchanged) => None,
        (None, _, _) if items.is_empty() => None,
        (None, _, _) => Some(0),
    };
    match chosen {
        Some(at) => (MailboxSide::Present(Box::new(items.remove(at))), items),
        None => (missing, items),
    }
}

/// Returns the folder of an item, if it is not the folder of its location.
fn folder_outside_location(
    item: &MailboxItem,
    key: &SourceKey,
    link: Option<&Link>,
    state: &SyncState,
    folder_of_item: &BTreeMap<String, String>,
) -> Option<String> {
    let home = state
        .locations
        .get(&key.location())
        .map(|stored| stored.folder.as_str());
    match (folder_of_item.get(&item.item.id), link) {
        (Some(folder), _) => (home != Some(folder)).then(|| folder.clone()),
        // The item was read by its id, so it is where the link says.
        (None, Some(link)) if link.item == item.item.id => link.other_folder.clone(),
        (None, _) => None,
    }
}

/// Converts a server's time to our clock.
fn to_local_time(server: Timestamp, offset: SignedDuration) -> Timestamp {
    server.checked_sub(offset).unwrap_or(server)
}

fn source_value(item: &SourceItem, offset: SignedDuration) -> SourceValue {
    SourceValue {
        version: item.version.clone(),
        task: item.task.clone(),
        modified: to_local_time(item.modified, offset),
        web_url: item.web_url.clone(),
        writable: item.writable,
    }
}

fn mailbox_value(item: MailboxItem, offset: SignedDuration, other_folder: Option<String>) -> MailboxValue {
    MailboxValue {
        id: item.item.id,
        change_key: item.item.change_key,
        task: item.task,
        modified: to_local_time(item.modified, offset),
        created: to_local_time(item.created, offset),
        recurring: item.recurring,
        private: item.private,
        other_folder,
        write_id: item.write_id,
    }
}

#[cfg(test)]
mod tests {
    use tasksync_common::model::Task;

    use super::*;

    fn value(id: &str, created: i64) -> MailboxValue {
        MailboxValue {
            id: id.to_owned(),
            change_key: "1".to_owned(),
            task: Task::default(),
            modified: Timestamp::UNIX_EPOCH,
            created: Timestamp::from_second(created).unwrap(),
            recurring: false,
            private: false,
            other_folder: None,
            write_id: None,
        }
    }

    fn sorted(items: Vec<MailboxValue>, linked: Option<&str>, missing: MailboxSide) -> (String, Vec<String>) {
        let (side, twins) = sort_items(items, linked, missing);
        let side = match side {
            MailboxSide::Present(value) => value.id,
            MailboxSide::Unchanged => "unchanged".to_owned(),
            MailboxSide::Gone => "gone".to_owned(),
            MailboxSide::FolderGone => "folder gone".to_owned(),
            MailboxSide::Archived => "archived".to_owned(),
        };
        (side, twins.into_iter().map(|twin| twin.id).collect())
    }

    #[test]
    fn of_several_items_with_one_key_the_right_one_stands_for_the_task() {
        let both = || vec![value("new", 2), value("old", 1)];
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        // A linked item is chosen whatever its age.
        assert_eq!(
            sorted(both(), Some("new"), MailboxSide::Unchanged),
            ("new".into(), names(&["old"]))
        );
        // Without a link, the oldest is chosen.
        assert_eq!(
            sorted(both(), None, MailboxSide::Unchanged),
            ("old".into(), names(&["new"]))
        );
        // The linked item was not reported: it is unchanged, and these are copies of it.
        assert_eq!(
            sorted(both(), Some("else"), MailboxSide::Unchanged),
            ("unchanged".into(), names(&["old", "new"]))
        );
        // The linked item is gone and another one bears its key: it was moved.
        assert_eq!(
            sorted(vec![value("moved", 3)], Some("else"), MailboxSide::Gone),
            ("moved".into(), vec![])
        );
        assert_eq!(
            sorted(vec![], Some("else"), MailboxSide::Gone),
            ("gone".into(), vec![])
        );
        assert_eq!(
            sorted(vec![], None, MailboxSide::Unchanged),
            ("unchanged".into(), vec![])
        );
        // The same item was read twice in one pass.
        assert_eq!(
            sorted(vec![value("a", 1), value("a", 1)], Some("a"), MailboxSide::Gone),
            ("a".into(), vec![])
        );
    }
}
