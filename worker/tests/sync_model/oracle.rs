//! The rules that must hold, judged by the person's actions and the state of both sides. It uses no code of the
//! planner.
//!
//! Every title that a person sets contains a new number, so a title identifies its edit and shows whether that edit
//! was lost.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use tasksync_common::model::{Field, Percent, SourceKey, Status, Task};
use tasksync_common::plan::{ConflictPolicy, DeletionPolicy};
use tasksync_common::registry::{JournalEntry, JournalKind};

use crate::world::{Item, SourceTask, World, holds, number_of};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Source,
    Mailbox,
}

/// What the oracle remembers.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Titles that must reach the other side or the journal.
    open: BTreeMap<u32, (SourceKey, Side)>,
    /// The last title that both sides had.
    settled: BTreeMap<SourceKey, u32>,
    /// The source's values when both sides were equal: of the last time, and of earlier times if it is uncertain that
    /// the state of the last time was saved. A task that is changed back to one of them counts as not edited.
    equal: BTreeMap<SourceKey, Vec<Task>>,
    /// Tasks with several copies or a private one. The oracle does not judge which of their titles is valid.
    unclear: BTreeSet<SourceKey>,
    /// Those of them whose titles are not carried over, because the copy is or was private.
    private: BTreeSet<SourceKey>,
    /// Tasks with a copy in the archive. They need no other copy.
    archived: BTreeSet<SourceKey>,
    /// Tasks whose copy a person removed.
    taken: BTreeSet<SourceKey>,
    /// Those of them that must be deleted at the source, because nothing else happened to them.
    pub(crate) must_go: BTreeSet<SourceKey>,
    /// Tasks that were assigned to another person at some time.
    reassigned: BTreeSet<SourceKey>,
    /// Tasks of which a write was refused permanently.
    pub(crate) refused: BTreeSet<SourceKey>,
    /// For titles in conflict before a sync: the title that must win.
    winners: BTreeMap<SourceKey, u32>,
}

impl Oracle {
    fn forget_open(&mut self, key: &SourceKey, side: Side) {
        self.open.retain(|_, (of, on)| of != key || *on != side);
    }

    pub(crate) fn wrote_task(&mut self, key: &SourceKey, task: &Task, titled: bool) {
        self.must_go.remove(key);
        if titled {
            self.forget_open(key, Side::Source);
            if !self.private.contains(key) {
                self.open.insert(number_of(task), (key.clone(), Side::Source));
            }
        }
    }

    pub(crate) fn wrote_item(&mut self, key: &SourceKey, task: &Task, titled: bool, private: bool) {
        self.must_go.remove(key);
        if private {
            self.unclear.insert(key.clone());
            self.private.insert(key.clone());
            self.forget_open(key, Side::Source);
        }
        if titled || private {
            self.forget_open(key, Side::Mailbox);
        }
        if titled && !self.unclear.contains(key) {
            self.open.insert(number_of(task), (key.clone(), Side::Mailbox));
        }
    }

    pub(crate) fn deleted_task(&mut self, key: &SourceKey) {
        self.must_go.remove(key);
        self.forget_open(key, Side::Source);
    }

    pub(crate) fn took_away(&mut self, key: &SourceKey, _task: &Task, must_go: bool) {
        self.forget_open(key, Side::Mailbox);
        self.taken.insert(key.clone());
        if must_go {
            self.must_go.insert(key.clone());
        }
    }

    pub(crate) fn record_archived(&mut self, key: &SourceKey, _task: &Task) {
        self.must_go.remove(key);
        self.forget_open(key, Side::Mailbox);
        self.archived.insert(key.clone());
    }

    pub(crate) fn record_lost_folder(&mut self, key: &SourceKey, _task: &Task) {
        self.must_go.remove(key);
        self.forget_open(key, Side::Mailbox);
    }

    pub(crate) fn record_copied(&mut self, key: &SourceKey) {
        self.must_go.remove(key);
        self.unclear.insert(key.clone());
        self.forget_open(key, Side::Mailbox);
    }

    pub(crate) fn record_reassigned(&mut self, key: &SourceKey) {
        self.must_go.remove(key);
        self.reassigned.insert(key.clone());
    }

    /// Returns whether the copy of a deleted task may be removed: the person removed one, or had to lose it anyway.
    pub(crate) fn may_lose_copy(&self, key: &SourceKey) -> bool {
        self.reassigned.contains(key) || self.taken.contains(key)
    }

    pub(crate) fn record_lost_state(&mut self) {
        self.must_go.clear();
    }

    /// Records that an item was removed which a person edited at that moment.
    pub(crate) fn record_race(&mut self, _key: &SourceKey, task: &Task) {
        self.open.remove(&number_of(task));
    }

    /// Records that a copy was created with the source's values. From now on a change of it is the person's edit and
    /// not a conflict.
    pub(crate) fn record_created(&mut self, key: &SourceKey, task: &Task) {
        self.taken.remove(key);
        self.open.retain(|number, _| task.title != format!("t{number}"));
        self.record_sent(key, task.clone());
    }

    /// Records that one side's values were written to the other side, even if they have changed since.
    pub(crate) fn record_sent(&mut self, key: &SourceKey, task: Task) {
        self.equal.entry(key.clone()).or_default().push(task);
    }

    /// Records an entry that is written to the journal before the plan is carried out.
    pub(crate) fn journal(&mut self, entry: &JournalEntry) {
        // Entries about agreed values, and about deletions that no person made, do not excuse a lost edit.
        match &entry.kind {
            JournalKind::ConflictLostAtSource
            | JournalKind::ConflictLostInMailbox
            | JournalKind::EditRemovedFromMailbox
            | JournalKind::SetBackInMailbox => {}
            JournalKind::OverwrittenAtSource
            | JournalKind::OverwrittenInMailbox
            | JournalKind::DeletedAtSource
            | JournalKind::CompletedAtSource
            | JournalKind::RemovedFromMailbox
            | JournalKind::CompletedInMailbox
            | JournalKind::LeftInMailbox
            | JournalKind::RestoredInMailbox
            | JournalKind::DeletionSetBackInMailbox
            | JournalKind::SecondCopyRemoved
            | JournalKind::SecondCopyLeft
            | JournalKind::Other(_) => return,
        }
        let lost = entry.before.as_ref().and_then(|before| before["title"].as_str());
        if let Some(title) = lost {
            let lost = Task {
                title: title.to_owned(),
                ..Task::default()
            };
            self.open.remove(&number_of(&lost));
        }
    }

    /// Checks a deletion of a task at the source by tasksync.
    pub(crate) fn recycles(&self, key: &SourceKey, task: &Task, copies: usize) {
        assert!(
            self.taken.contains(key),
            "{key} is deleted although no person removed its copy"
        );
        assert_eq!(copies, 0, "{key} is deleted while it has a copy");
        let title = number_of(task);
        assert!(
            !self.open.contains_key(&title),
            "{key} is deleted although its title {title} was new"
        );
        if let Some(equal) = self.equal.get(key).filter(|_| !self.unclear.contains(key)) {
            let due = |task: &Task| task.due.max(task.start);
            let compared_values = |task: &Task| (task.title.clone(), task.start, due(task), task.importance);
            let is_known = equal
                .iter()
                .any(|equal| compared_values(equal) == compared_values(task));
            assert!(
                is_known,
                "{key} is deleted although it was edited: {task:?}, not {equal:?}"
            );
        }
    }

    /// Determines before a sync without faults which titles must win.
    pub(crate) fn expect_winners(world: &mut World) {
        let mut winners = BTreeMap::new();
        for (key, task) in world.source.iter().filter(|(_, task)| task.assigned) {
            let oracle = &world.oracle;
            // If the state is lost, it is unknown whether an item was edited in the second of its creation.
            let edit_is_visible = |item: &Item| world.saved.is_some() || item.modified > item.created + 2_000;
            if let [(_, item)] = world.copies_of(key)[..]
                && edit_is_visible(item)
                && !oracle.unclear.contains(key)
                && !oracle.refused.contains(key)
            {
                let (at_source, in_mailbox) = (number_of(&task.task), number_of(&item.task));
                let open = |number, side| oracle.open.get(&number).is_some_and(|(_, on)| *on == side);
                if open(at_source, Side::Source) && open(in_mailbox, Side::Mailbox) {
                    let later = item.modified.div_euclid(1000) > task.modified;
                    let mailbox_wins = match world.policy.conflicts {
                        ConflictPolicy::LatestTask | ConflictPolicy::Merge => later,
                        ConflictPolicy::SourceWins => false,
                        ConflictPolicy::MailboxWins => true,
                    };
                    let winner = if mailbox_wins && task.writable {
                        in_mailbox
                    } else {
                        at_source
                    };
                    winners.insert(key.clone(), winner);
                }
            }
        }
        world.oracle.winners = winners;
    }

    /// Checks the result of a sync. `clean` means that the sync had no fault.
    pub(crate) fn observe(world: &mut World, clean: bool) {
        let winners = std::mem::take(&mut world.oracle.winners);
        for (key, winner) in winners {
            let titles: Vec<u32> = world
                .copies_of(&key)
                .iter()
                .map(|(_, item)| number_of(&item.task))
                .chain([number_of(&world.source[&key].task)])
                .collect();
            assert_eq!(titles, [winner, winner], "{key}: the later edit has to win");
        }
        let World { source, oracle, .. } = &*world;
        let (mut settled, mut equal) = (Vec::new(), Vec::new());
        for (key, task) in source {
            let copies = world.copies_of(key);
            let number = number_of(&task.task);
            if copies.iter().any(|(_, item)| number_of(&item.task) == number) {
                settled.push((key.clone(), number));
            }
            if let [(_, item)] = copies[..] {
                let before = oracle.settled.get(key).copied().unwrap_or_default();
                let now = number.min(number_of(&item.task));
                assert!(
                    now >= before || oracle.unclear.contains(key),
                    "{key}: the title went back from {before} to {now}"
                );
                if difference(key, &task.task, item).is_none() {
                    equal.push((key.clone(), task.task.clone()));
                }
            }
        }
        for (key, number) in settled {
            world.oracle.open.remove(&number);
            world.oracle.settled.insert(key, number);
        }
        for (key, task) in equal {
            let equal_tasks = world.oracle.equal.entry(key).or_default();
            if clean {
                equal_tasks.clear();
            }
            equal_tasks.push(task);
        }
    }

    /// Returns whether every task is unambiguous. The meaning of a contradictory status and percentage depends on
    /// their history, which is lost with the state.
    pub(crate) fn is_clear(world: &World) -> bool {
        let mut assigned = world.source.iter().filter(|(_, task)| task.assigned);
        world.archive.is_empty()
            && assigned.all(|(key, _)| !world.copies_of(key).is_empty())
            && world.source.values().all(|task| is_consistent(&task.task))
    }

    /// Returns whether a task needs no copy: the copy is in the archive, or the person removed it and the tenant's
    /// policy or the archive leaves it so.
    fn needs_no_copy(world: &World, key: &SourceKey) -> bool {
        let oracle = &world.oracle;
        let completed = world.source.get(key).is_some_and(is_done);
        let soon_archived = world.policy.archived_after < SignedDuration::from_hours(1);
        let left_away = match world.policy.mailbox_deletions {
            DeletionPolicy::Propagate => soon_archived && completed,
            DeletionPolicy::Complete => completed,
            DeletionPolicy::Ignore => true,
        };
        oracle.archived.contains(key) || (oracle.taken.contains(key) && left_away)
    }

    /// Checks the final state, after the last edit and several syncs without faults.
    pub(crate) fn check_at_rest(world: &World) {
        let oracle = &world.oracle;
        for (key, task) in world.source.iter().filter(|(_, task)| task.assigned) {
            let copies = world.copies_of(key);
            if copies.is_empty() && Self::needs_no_copy(world, key) {
                continue;
            }
            assert_eq!(copies.len(), 1, "{key} has one copy: {copies:?}");
            let difference = difference(key, &task.task, copies[0].1);
            assert_eq!(
                difference, None,
                "{key}: {:?} and {:?}",
                task.task, copies[0].1.task
            );
            assert!(!oracle.must_go.contains(key), "{key} was deleted in the mailbox");
        }
        for (_, key, item) in world.copies() {
            let source = world.source.get(key);
            assert!(
                source.is_some_and(|task| task.assigned),
                "{key} is not the person's: {item:?}"
            );
        }
        for (number, (key, side)) in &oracle.open {
            let source = world.source.get(key);
            // Ignored edits come back with the next edit; completed tasks stay away.
            let without_copy = |task: &SourceTask| {
                !task.assigned
                    || oracle.archived.contains(key)
                    || (is_done(task) && world.copies_of(key).is_empty() && Self::needs_no_copy(world, key))
            };
            let hidden = match side {
                Side::Source => source.is_some_and(without_copy),
                Side::Mailbox => world.has_own_item(*number),
            };
            assert!(hidden, "{key}: title {number} of the {side:?} got lost");
        }
    }
}

/// Returns the first common field in which a task and its copy differ.
fn difference(key: &SourceKey, task: &Task, item: &Item) -> Option<Field> {
    let supported = holds(&key.location());
    let start = task.start.filter(|_| supported.contains(Field::Start));
    // A start that only the mailbox has determines a due date there.
    let own_start = item.task.start.filter(|_| !supported.contains(Field::Start));
    let same = |field: Field| match field {
        Field::Title => item.private || item.task.title == task.title,
        Field::Start => item.task.start == start,
        Field::Due => item.task.due == task.due.or(own_start).max(start),
        Field::Progress => same_progress(task, &item.task),
        Field::Importance => item.task.importance == task.importance,
        Field::Body | Field::ActualWork | Field::TotalWork | Field::Categories => true,
    };
    supported.iter().find(|field| !same(*field))
}

/// Returns whether a copy of this task is a completed one.
fn is_done(task: &SourceTask) -> bool {
    task.task.status == Status::Completed || task.task.percent == Percent::DONE
}

/// Returns whether status and percentage are consistent.
fn is_consistent(task: &Task) -> bool {
    match task.status {
        Status::NotStarted => task.percent == Percent::ZERO,
        Status::InProgress | Status::WaitingOnOthers | Status::Deferred => task.percent < Percent::DONE,
        Status::Completed => task.percent == Percent::DONE,
    }
}

/// Returns whether the progress of a task and its copy agree. If status and percentage contradict each other at the
/// source, their meaning depends on their history, and this function accepts any progress.
fn same_progress(task: &Task, item: &Task) -> bool {
    let barely = |task: &Task| task.status == Status::InProgress && task.percent.as_percent() <= 1.0;
    !is_consistent(task)
        || (task.status, task.percent) == (item.status, item.percent)
        || (barely(task) && barely(item))
}
