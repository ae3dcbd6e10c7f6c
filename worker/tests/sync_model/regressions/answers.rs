//! Histories that once ended badly: answers that contradict each other, merges, writes that fail again and again.

use jiff::SignedDuration;
use tasksync_common::plan::{ConflictPolicy, DeletionPolicy, Policy};
use tasksync_worker::mailbox::MailboxCapabilities;

use super::*;
use crate::engine::Stage;
use crate::run_with;

/// A copy whose creation was cut off was deleted, and one that the person made of it was moved: the search found that one, one
/// read by its id did not, and the task was deleted.
#[test]
fn a_second_copy_found_and_not_read_after_a_write_that_was_cut_off() {
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
                act(Move(1, Place::Own)),
                failing(Fault::Lie(wrong)),
            ],
        );
    }
}

/// After a lost state, the search met an item that was moved meanwhile, and its folder was not remembered: nobody looked for it
/// there, and its deletion was not seen.
#[test]
fn a_second_copy_moved_after_a_lost_state() {
    run(
        0,
        &[
            act(Create(0)),
            failing(Fault::LostAnswer(2)),
            Op::Act(1, Copy(0)),
            LoseState,
            meanwhile(Move(0, Place::Own)),
            act(DeleteItem(0)),
        ],
    );
}

/// Where nothing can be searched for by key, one listing that left a copy out was enough to make it a second time.
#[test]
fn a_copy_left_out_by_a_listing_where_nothing_is_searched_for() {
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
            failing(Fault::Lie(left_out)),
            act(DeleteItem(2)),
        ];
        run_with(0, capabilities, Policy::default(), Refused::Edited, &history);
    }
}

/// A merge writes the source's edits into the mailbox first; the title that the mailbox wins in the next pass is an edit of the
/// source that loses.
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
    run_with(0, MailboxCapabilities::ALL, policy, Refused::Edited, &history);
}

/// What fails in every pass is refused after the third one; nobody edits it again, and the next full check carries it out.
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

/// A copy is edited in the very second in which it is made, and before it is read back: the edit is later than what it was made of.
#[test]
fn a_copy_that_is_edited_while_its_sync_is_under_way() {
    let capabilities = MailboxCapabilities {
        conditional_writes: false,
        ..MailboxCapabilities::ALL
    };
    let between = |before_writing| {
        Op::Sync(Way {
            before_writing: Some(before_writing),
            ..Way::PLAIN
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
        Op::Sync(Way {
            fault: Fault::ReadRefused(7),
            full: true,
            before_writing: Some(Create(0)),
            ..Way::PLAIN
        }),
        Op::Sync(Way {
            while_reading: Some(EditItem(1, TITLE)),
            before_writing: Some(EditItem(0, TITLE)),
            ..Way::PLAIN
        }),
    ];
    run_with(0, capabilities, Policy::default(), Refused::Edited, &history);
}

/// Times of a mailbox that are exact to a millisecond are compared with those of a source that are exact to a second: within
/// one second it is a tie, and the source wins.
#[test]
fn two_edits_within_one_second_of_the_coarser_clock_are_a_tie() {
    let capabilities = MailboxCapabilities {
        time_precision: SignedDuration::from_millis(1),
        ..MailboxCapabilities::ALL
    };
    for (source, mailbox, mailbox_wins) in [(100, 900, false), (900, 1_100, true)] {
        let stage = Stage::new(0, capabilities, Policy::default());
        stage.shared.world().act(&Create(0));
        assert!(stage.sync(&Way::PLAIN) && stage.sync(&Way::PLAIN));
        let title_at_source = {
            let mut world = stage.shared.world();
            let second = (world.now / 1_000 + 10) * 1_000;
            world.now = second + source;
            world.act(&EditSource(0, TITLE));
            world.now = second + mailbox;
            world.act(&EditItem(0, TITLE));
            world.source.values().next().unwrap().task.title.clone()
        };
        stage.sync(&Way::PLAIN);
        let world = stage.shared.world();
        let now = &world.source.values().next().unwrap().task.title;
        assert_eq!(*now != title_at_source, mailbox_wins, "{source} and {mailbox}");
    }
}

/// The completion of a task whose copy was deleted is done and called a conflict: it is no edit at the source that brings the copy
/// back.
#[test]
fn a_completion_that_is_called_a_conflict_brings_no_copy_back() {
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
    run_with(0, MailboxCapabilities::ALL, policy, Refused::Edited, &history);
}

/// A write that is done and called refused, of an item that the person deletes before the next full check: the deleted item bears
/// the id of that write, and the copy does not come back.
#[test]
fn a_copy_that_is_deleted_while_its_write_counts_as_refused() {
    let capabilities = MailboxCapabilities {
        conditional_writes: false,
        ..MailboxCapabilities::ALL
    };
    let history = [
        act(Create(0)),
        Op::Sync(Way {
            fault: Fault::FalseRefusal(2),
            before_writing: Some(EditSource(0, TITLE)),
            ..Way::PLAIN
        }),
        failing(Fault::FalseRefusal(1)),
        act(DeleteItem(0)),
        SYNC,
    ];
    run_with(0, capabilities, Policy::default(), Refused::LeftAlone, &history);
}

/// One reading of the deleted items that is refused, or leaves something out, does not bring back what the person deleted.
#[test]
fn one_wrong_reading_of_the_deleted_items_brings_no_copy_back() {
    for read in 1..12 {
        for fault in [Fault::ReadRefused(read), Fault::Lie(read)] {
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

/// A copy that tasksync removes itself, with the answer lost, while an earlier write of the task was cut off: its absence is no wish
/// of the person, and the task stays when it is assigned again.
#[test]
fn a_copy_that_is_removed_after_a_write_that_was_cut_off() {
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
        Op::Sync(Way {
            fault: Fault::LostAnswer(1),
            while_reading: Some(Act::Reassign(2)),
            ..Way::PLAIN
        }),
    ];
    run_with(0, capabilities, Policy::default(), Refused::Edited, &history);
}

/// What was edited at the source since a copy was made, and taken back, is no edit that a deletion loses against.
#[test]
fn an_edit_that_was_taken_back_before_the_copy_is_deleted() {
    let policy = Policy {
        archived_after: SignedDuration::from_secs(3),
        ..Policy::default()
    };
    let history = [
        act(Create(0)),
        act(EditSource(0, TITLE)),
        failing(Fault::Fails(3)),
        act(EditSource(0, TITLE)),
        Op::Sync(Way {
            before_writing: Some(EditSource(0, Edit::Due(Some(1)))),
            ..Way::PLAIN
        }),
        act(EditSource(0, Edit::Due(None))),
        act(DeleteItem(0)),
    ];
    run_with(0, MailboxCapabilities::ALL, policy, Refused::Edited, &history);
}
