//! Histories that once failed: answers that contradict each other, merges, and writes that fail again and again.

use jiff::SignedDuration;
use tasksync_common::plan::{ConflictPolicy, DeletionPolicy, Policy};
use tasksync_worker::mailbox::MailboxCapabilities;

use super::*;
use crate::engine::Stage;
use crate::run_with;

/// A copy whose creation was interrupted was deleted, and a second copy that the person had made of it was moved. The
/// search found the second copy, one read by its id did not, and the task was deleted.
#[test]
fn a_second_copy_found_and_not_read_after_an_interrupted_write() {
    for wrong in 1..14 {
        run(
            0,
            &[
                act(Create(0)),
                SYNC,
                act(Create(1)),
                failing(Fault::Crash(2)),
                act(Copy(1)),
                act(DeleteItem(1)),
                act(Move(1, MoveTarget::Own)),
                failing(Fault::WrongAnswer(wrong)),
            ],
        );
    }
}

/// After a loss of the state, the search found an item that had just been moved, and its folder was not recorded. The
/// item was not looked for there, so its deletion was not seen.
#[test]
fn a_second_copy_moved_after_a_lost_state() {
    run(
        0,
        &[
            act(Create(0)),
            failing(Fault::LostAnswer(2)),
            Op::Act(1, Copy(0)),
            LoseState,
            meanwhile(Move(0, MoveTarget::Own)),
            act(DeleteItem(0)),
        ],
    );
}

/// Without a search by key, one listing that omitted a copy was enough to create it a second time.
#[test]
fn a_copy_omitted_by_a_listing_without_search_by_key() {
    let capabilities = MailboxCapabilities {
        search_by_key: false,
        ..MailboxCapabilities::ALL
    };
    for left_out in 1..12 {
        let history = [
            act(Create(0)),
            act(Create(1)),
            failing(Fault::Late(5)),
            LoseState,
            failing(Fault::ReadRefused(1)),
            act(EditSource(1, TITLE)),
            failing(Fault::WrongAnswer(left_out)),
            act(DeleteItem(2)),
        ];
        run_with(0, capabilities, Policy::default(), RefusedTasks::Edited, &history);
    }
}

/// A merge writes the source's edits into the mailbox first. The title that the mailbox wins in the next pass is an
/// edit of the source that loses.
#[test]
fn a_title_that_loses_a_merge_is_in_the_journal() {
    let policy = Policy {
        conflicts: ConflictPolicy::Merge,
        ..Policy::default()
    };
    let history = [
        act(Create(0)),
        SYNC,
        act(EditSource(0, TITLE)),
        act(EditSource(0, Edit::Due(Some(1)))),
        later(EditItem(0, TITLE)),
    ];
    run_with(
        0,
        MailboxCapabilities::ALL,
        policy,
        RefusedTasks::Edited,
        &history,
    );
}

/// A write that fails in every pass is refused after the third one. No further edit follows, and the next full check
/// carries it out.
#[test]
fn a_write_that_fails_in_every_pass_arrives_with_the_next_full_check() {
    for first in 1..4 {
        for what in [
            EditSource(0, TITLE),
            EditItem(0, TITLE),
            DeleteTask(0),
            Create(0),
            Copy(0),
        ] {
            let mut history = vec![
                act(Create(0)),
                act(Create(0)),
                SYNC,
                act(what),
                act(EditSource(1, TITLE)),
            ];
            history.extend((0..4).map(|_| failing(Fault::Fails(first))));
            run(0, &history);
        }
    }
}

/// A copy is edited in the second of its creation, before it is read back. The edit is later than the values it was
/// created with.
#[test]
fn a_copy_that_is_edited_while_its_sync_is_under_way() {
    let capabilities = MailboxCapabilities {
        conditional_writes: false,
        ..MailboxCapabilities::ALL
    };
    let between = |before_writing| {
        Op::Sync(SyncCircumstances {
            before_writing: Some(before_writing),
            ..SyncCircumstances::PLAIN
        })
    };
    let history = [
        act(Create(0)),
        between(Unassign(0)),
        act(DeleteItem(0)),
        act(Create(1)),
        SYNC,
        act(EditItem(0, TITLE)),
        act(EditSource(5, Edit::Due(Some(1)))),
        Op::Sync(SyncCircumstances {
            fault: Fault::ReadRefused(7),
            full: true,
            before_writing: Some(Create(0)),
            ..SyncCircumstances::PLAIN
        }),
        Op::Sync(SyncCircumstances {
            while_reading: Some(EditItem(1, TITLE)),
            before_writing: Some(EditItem(0, TITLE)),
            ..SyncCircumstances::PLAIN
        }),
    ];
    run_with(0, capabilities, Policy::default(), RefusedTasks::Edited, &history);
}

/// A mailbox's times are exact to a millisecond, a source's to a second. Two edits within one second are a tie, which
/// the source wins.
#[test]
fn two_edits_within_one_second_of_the_coarser_clock_are_a_tie() {
    let capabilities = MailboxCapabilities {
        time_precision: SignedDuration::from_millis(1),
        ..MailboxCapabilities::ALL
    };
    for (source, mailbox, mailbox_wins) in [(100, 900, false), (900, 1_100, true)] {
        let stage = Stage::new(0, capabilities, Policy::default());
        stage.shared_world.world().act(&Create(0));
        assert!(stage.sync(&SyncCircumstances::PLAIN) && stage.sync(&SyncCircumstances::PLAIN));
        let title_at_source = {
            let mut world = stage.shared_world.world();
            let second = (world.now / 1_000 + 10) * 1_000;
            world.now = second + source;
            world.act(&EditSource(0, TITLE));
            world.now = second + mailbox;
            world.act(&EditItem(0, TITLE));
            world.source.values().next().unwrap().task.title.clone()
        };
        stage.sync(&SyncCircumstances::PLAIN);
        let world = stage.shared_world.world();
        let now = &world.source.values().next().unwrap().task.title;
        assert_eq!(*now != title_at_source, mailbox_wins, "{source} and {mailbox}");
    }
}

/// A copy was deleted, so its task is completed at the source. That write is carried out but reported as a conflict.
/// It is not an edit at the source that brings the copy back.
#[test]
fn a_completion_that_is_reported_as_a_conflict_brings_no_copy_back() {
    let policy = Policy {
        mailbox_deletions: DeletionPolicy::Complete,
        archived_after: SignedDuration::from_secs(3),
        ..Policy::default()
    };
    let history = [
        act(Create(0)),
        act(Create(0)),
        act(Create(1)),
        failing(Fault::FalseConflict(3)),
        act(Create(0)),
        act(DeleteItem(0)),
        failing(Fault::FalseConflict(2)),
    ];
    run_with(
        0,
        MailboxCapabilities::ALL,
        policy,
        RefusedTasks::Edited,
        &history,
    );
}

/// A write is carried out but reported as refused, and the person deletes the item before the next full check. The
/// deleted item has the id of that write, so the copy does not come back.
#[test]
fn a_copy_that_is_deleted_while_its_write_counts_as_refused() {
    let capabilities = MailboxCapabilities {
        conditional_writes: false,
        ..MailboxCapabilities::ALL
    };
    let history = [
        act(Create(0)),
        Op::Sync(SyncCircumstances {
            fault: Fault::FalseRefusal(2),
            before_writing: Some(EditSource(0, TITLE)),
            ..SyncCircumstances::PLAIN
        }),
        failing(Fault::FalseRefusal(1)),
        act(DeleteItem(0)),
        SYNC,
    ];
    run_with(
        0,
        capabilities,
        Policy::default(),
        RefusedTasks::LeftAlone,
        &history,
    );
}

/// One read of Deleted Items that is refused or incomplete does not bring back what the person deleted.
#[test]
fn one_wrong_read_of_the_deleted_items_brings_no_copy_back() {
    for read in 1..12 {
        for fault in [Fault::ReadRefused(read), Fault::WrongAnswer(read)] {
            let history = [
                act(Create(0)),
                failing(Fault::LostAnswer(2)),
                act(DeleteItem(0)),
                failing(fault),
            ];
            run(0, &history);
        }
    }
}

/// tasksync removes a copy itself, the answer is lost, and an earlier write of the task was interrupted. The absence
/// of the copy is not the person's wish, and the task stays when it is assigned again.
#[test]
fn a_copy_that_is_removed_after_an_interrupted_write() {
    let capabilities = MailboxCapabilities {
        conditional_writes: false,
        ..MailboxCapabilities::ALL
    };
    let history = [
        act(Create(0)),
        failing(Fault::Busy(3)),
        act(EditItem(0, Edit::Progress(Status::NotStarted, 1))),
        act(Create(1)),
        failing(Fault::Crash(3)),
        act(Unassign(2)),
        Op::Sync(SyncCircumstances {
            fault: Fault::LostAnswer(1),
            while_reading: Some(Act::Reassign(2)),
            ..SyncCircumstances::PLAIN
        }),
    ];
    run_with(0, capabilities, Policy::default(), RefusedTasks::Edited, &history);
}

/// An edit at the source that was made and reverted after the creation of a copy is not an edit that a deletion loses
/// to.
#[test]
fn an_edit_that_was_reverted_before_the_copy_is_deleted() {
    let policy = Policy {
        archived_after: SignedDuration::from_secs(3),
        ..Policy::default()
    };
    let history = [
        act(Create(0)),
        act(EditSource(0, TITLE)),
        failing(Fault::Fails(3)),
        act(EditSource(0, TITLE)),
        Op::Sync(SyncCircumstances {
            before_writing: Some(EditSource(0, Edit::Due(Some(1)))),
            ..SyncCircumstances::PLAIN
        }),
        act(EditSource(0, Edit::Due(None))),
        act(DeleteItem(0)),
    ];
    run_with(
        0,
        MailboxCapabilities::ALL,
        policy,
        RefusedTasks::Edited,
        &history,
    );
}
