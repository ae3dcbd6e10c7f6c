//! Computes the changes since a sync state. These are pure functions over a store.
//!
//! A *pass* delivers everything between the state's base and the change number at which the pass began. It first
//! delivers the items that arrived (newest first), then the changed ones, then the deleted ones. The keys by which a
//! pass is paged do not change while it runs. An item that is edited in the meantime is delivered again by the next
//! pass, and none is left out.

use std::collections::BTreeSet;

use super::ids::SyncState;
use super::store::{Folder, Store};

/// A change of one item of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ItemChange {
    Create(u64),
    Update(u64),
    /// The item, and the change number of its deletion.
    Delete(u64, u64),
}

/// One page of changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ItemPage {
    pub(crate) changes: Vec<ItemChange>,
    pub(crate) state: SyncState,
    pub(crate) last: bool,
}

const IDLE: u64 = 0;
const ARRIVALS: u64 = 1;
const UPDATES: u64 = 2;
const DELETIONS: u64 = 3;

/// Returns the next changes of a folder, at most `limit`. Items in `ignored` count as delivered.
pub(crate) fn item_page(
    store: &Store,
    folder: &Folder,
    mut state: SyncState,
    limit: usize,
    ignored: &BTreeSet<u64>,
) -> ItemPage {
    if state.phase == IDLE {
        if folder.contents_change <= state.base && state.base != 0 {
            return ItemPage {
                changes: Vec::new(),
                state,
                last: true,
            };
        }
        state = SyncState {
            top: store.change(),
            phase: ARRIVALS,
            cursor: u64::MAX,
            ..state
        };
    }
    let mut changes = Vec::new();
    while state.phase != IDLE {
        let remaining = limit.saturating_sub(changes.len());
        let mut keyed = candidates(store, folder, &state);
        let more = keyed.len() > remaining;
        keyed.truncate(remaining);
        if let Some((key, _)) = keyed.last() {
            state.cursor = *key;
        }
        changes.extend(keyed.into_iter().map(|(_, change)| change));
        if more {
            break;
        }
        state = match state.phase {
            ARRIVALS => SyncState {
                phase: UPDATES,
                cursor: u64::MAX,
                ..state
            },
            UPDATES => SyncState {
                phase: DELETIONS,
                cursor: 0,
                ..state
            },
            _ => SyncState {
                phase: IDLE,
                base: state.top,
                cursor: 0,
                ..state
            },
        };
    }
    changes.retain(|change| match change {
        ItemChange::Create(item) | ItemChange::Update(item) | ItemChange::Delete(item, _) => {
            !ignored.contains(item)
        }
    });
    let last = state.phase == IDLE && folder.contents_change <= state.base;
    ItemPage { changes, state, last }
}

/// Returns the undelivered changes of the state's phase with their keys, in the order of delivery.
fn candidates(store: &Store, folder: &Folder, state: &SyncState) -> Vec<(u64, ItemChange)> {
    let pass = |change: u64| change > state.base && change <= state.top;
    let mut keyed: Vec<(u64, ItemChange)> = match state.phase {
        DELETIONS => folder
            .tombstones
            .iter()
            .filter(|gone| pass(gone.change) && gone.change > state.cursor && gone.arrival <= state.base)
            .map(|gone| (gone.change, ItemChange::Delete(gone.item, gone.change)))
            .collect(),
        phase => folder
            .items
            .iter()
            .filter_map(|number| store.item(*number))
            .filter_map(|item| match phase {
                ARRIVALS if pass(item.arrival) && item.arrival < state.cursor => {
                    Some((item.arrival, ItemChange::Create(item.number)))
                }
                UPDATES if item.arrival <= state.base && pass(item.change) && item.change < state.cursor => {
                    Some((item.change, ItemChange::Update(item.number)))
                }
                _ => None,
            })
            .collect(),
    };
    keyed.sort_unstable_by_key(|(key, _)| *key);
    if state.phase != DELETIONS {
        keyed.reverse();
    }
    keyed
}

/// A change of one folder of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FolderChange {
    Create(u64),
    Update(u64),
    Delete(u64),
}

/// Returns the changes below `root` since `base`; 0 returns all folders.
pub(crate) fn folder_changes(store: &Store, root: u64, base: u64) -> Vec<FolderChange> {
    let now = store.change();
    store
        .folders_ever()
        .filter_map(|folder| {
            let was = base != 0 && store.was_below(folder.number, root, base);
            let is = store.was_below(folder.number, root, now);
            match (was, is) {
                (false, true) => Some(FolderChange::Create(folder.number)),
                (true, true) if folder.change > base => Some(FolderChange::Update(folder.number)),
                (true, false) => Some(FolderChange::Delete(folder.number)),
                (true, true) | (false, false) => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::ids::ObjectKind;
    use super::super::properties::Properties;
    use super::super::store::{Item, TASKS, TOP};
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn store(items: usize) -> (Store, Vec<u64>) {
        let mut store = Store::default();
        store.start_numbering();
        let numbers = (0..items)
            .map(|_| store.add_item(Item::new(NOW, "a"), TASKS, NOW).unwrap())
            .collect();
        (store, numbers)
    }

    fn start() -> SyncState {
        SyncState {
            kind: ObjectKind::Item,
            mailbox: 1,
            folder: TASKS,
            epoch: 0,
            base: 0,
            top: 0,
            phase: 0,
            cursor: 0,
        }
    }

    fn next(store: &Store, state: SyncState, limit: usize) -> ItemPage {
        item_page(
            store,
            store.folder(TASKS).unwrap(),
            state,
            limit,
            &BTreeSet::new(),
        )
    }

    fn touch(store: &mut Store, number: u64) {
        let item = store.item(number).unwrap().clone();
        store.commit_item(item, &[], "a", NOW);
    }

    #[test]
    fn pages_deliver_newest_first_and_everything_once() {
        let (store, numbers) = store(5);
        let first = next(&store, start(), 2);
        assert_eq!(
            first.changes,
            vec![ItemChange::Create(numbers[4]), ItemChange::Create(numbers[3])]
        );
        assert!(!first.last);
        let second = next(&store, first.state, 3);
        assert_eq!(second.changes.len(), 3);
        assert!(second.last);
        let idle = next(&store, second.state, 3);
        assert_eq!(
            (idle.changes.len(), idle.last, idle.state),
            (0, true, second.state)
        );
    }

    #[test]
    fn edits_and_deletions_between_pages_are_not_lost() {
        let (mut store, numbers) = store(4);
        let first = next(&store, start(), 2);
        // Edit an item that was not delivered yet, delete one that was, and add a new one.
        touch(&mut store, numbers[0]);
        store.remove_item(numbers[3], NOW);
        let fresh = store.add_item(Item::new(NOW, "a"), TASKS, NOW).unwrap();
        let second = next(&store, first.state, 10);
        assert_eq!(
            second.changes,
            vec![ItemChange::Create(numbers[1]), ItemChange::Create(numbers[0])]
        );
        assert!(!second.last);
        let third = next(&store, second.state, 10);
        assert!(third.changes.contains(&ItemChange::Create(fresh)));
        assert!(third.changes.contains(&ItemChange::Update(numbers[0])));
        assert!(
            third
                .changes
                .iter()
                .any(|change| matches!(change, ItemChange::Delete(item, _) if *item == numbers[3]))
        );
        assert!(third.last);
    }

    #[test]
    fn an_empty_folder_ends_at_once() {
        let (store, _) = store(0);
        let page = next(&store, start(), 10);
        assert_eq!((page.changes.len(), page.last), (0, true));
    }

    #[test]
    fn a_tree_sees_a_folder_move_out_as_deletion_and_the_bigger_tree_as_update() {
        let (mut store, _) = store(0);
        let folder = store
            .create_folder(TASKS, "A", "IPF.Task", Properties::new(), NOW)
            .unwrap();
        let base = store.change();
        assert_eq!(
            folder_changes(&store, TASKS, 0),
            vec![FolderChange::Create(folder)]
        );
        assert_eq!(folder_changes(&store, TASKS, base), vec![]);
        store.update_folder(folder, "B", Properties::new()).unwrap();
        assert_eq!(
            folder_changes(&store, TASKS, base),
            vec![FolderChange::Update(folder)]
        );
        let base = store.change();
        store.delete_folder(folder, true, NOW).unwrap();
        assert_eq!(
            folder_changes(&store, TASKS, base),
            vec![FolderChange::Delete(folder)]
        );
        assert_eq!(
            folder_changes(&store, TOP, base),
            vec![FolderChange::Update(folder)]
        );
    }
}
