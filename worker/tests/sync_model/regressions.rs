//! Histories that once failed: folders, moves, and interrupted writes.

mod answers;

use tasksync_common::model::Status;

use crate::Op::{self, LoseState};
use crate::engine::SyncCircumstances;
use crate::faults::Fault;
use crate::world::Act::{
    Copy, Create, DeleteFolder, DeleteItem, DeleteTask, EditItem, EditSource, Move, Unassign,
};
use crate::world::{Act, Edit, MoveTarget};
use crate::{RefusedTasks, run};

const SYNC: Op = Op::Sync(SyncCircumstances::PLAIN);

fn act(act: Act) -> Op {
    Op::Act(0, act)
}

/// Returns an action that is later by more than a second.
fn later(act: Act) -> Op {
    Op::Act(2_000, act)
}

fn failing(fault: Fault) -> Op {
    Op::Sync(SyncCircumstances {
        fault,
        ..SyncCircumstances::PLAIN
    })
}

fn meanwhile(act: Act) -> Op {
    Op::Sync(SyncCircumstances {
        while_reading: Some(act),
        ..SyncCircumstances::PLAIN
    })
}

const TITLE: Edit = Edit::Title;

/// An interrupted write at the source was recognised as done. The copy then counted as present, although it had been
/// deleted with its folder.
#[test]
fn a_folder_deleted_after_an_interrupted_write() {
    for fault in [Fault::Late(1), Fault::Busy(1), Fault::Crash(1), Fault::None] {
        run(
            0,
            &[
                act(Create(0)),
                SYNC,
                act(EditItem(0, TITLE)),
                failing(Fault::LostAnswer(1)),
                act(DeleteFolder(0)),
                failing(fault),
            ],
        );
    }
}

/// The folder was created again but its copies were not. Their absence in it deleted the tasks at the source.
#[test]
fn a_deleted_folder_and_a_busy_server() {
    for fault in [
        Fault::Busy(2),
        Fault::LostAnswer(2),
        Fault::Late(2),
        Fault::Crash(1),
        Fault::Crash(3),
    ] {
        run(
            0,
            &[
                act(Create(0)),
                act(Create(0)),
                act(Create(0)),
                SYNC,
                act(DeleteFolder(0)),
                failing(fault),
                SYNC,
            ],
        );
    }
}

/// After a loss of the state, copies that were found again were created a second time if the first write to them
/// failed.
#[test]
fn a_lost_state_and_a_busy_server() {
    for fault in [
        Fault::Busy(1),
        Fault::Refused(1),
        Fault::LostAnswer(1),
        Fault::Crash(1),
    ] {
        for edit in [EditItem(0, TITLE), EditSource(0, TITLE)] {
            run(
                0,
                &[
                    act(Create(0)),
                    act(Create(0)),
                    SYNC,
                    later(edit),
                    LoseState,
                    failing(fault),
                    SYNC,
                ],
            );
        }
        run(
            0,
            &[
                act(Create(0)),
                act(Create(0)),
                SYNC,
                act(DeleteTask(0)),
                LoseState,
                failing(fault),
                SYNC,
            ],
        );
    }
}

/// A copy was moved and edited, and sending the edit failed. The copy was then missed under its old id, and its task
/// deleted.
#[test]
fn a_moved_copy_and_a_busy_server() {
    for fault in [
        Fault::Busy(1),
        Fault::Refused(1),
        Fault::LostAnswer(1),
        Fault::Crash(1),
    ] {
        run(
            0,
            &[
                act(Create(0)),
                act(Create(1)),
                SYNC,
                act(Move(0, MoveTarget::Ours(1))),
                later(EditItem(1, TITLE)),
                later(EditItem(0, TITLE)),
                failing(fault),
                SYNC,
            ],
        );
    }
}

/// A moved copy is lost with the folder that contains it and not with the folder it came from.
#[test]
fn a_moved_copy_and_its_folder() {
    for (folder, synced) in [(0, true), (1, true), (0, false), (1, false)] {
        let mut history = vec![
            act(Create(0)),
            act(Create(0)),
            act(Create(1)),
            SYNC,
            act(Move(0, MoveTarget::Ours(1))),
        ];
        history.extend(synced.then_some(SYNC));
        history.extend([act(DeleteFolder(folder)), SYNC]);
        run(0, &history);
    }
}

/// A copy met in its new folder was taken for a second one and removed, and then its task was deleted too.
#[test]
fn a_copy_moved_while_the_folders_are_read() {
    for index in [0, 1] {
        run(
            0,
            &[
                act(Create(0)),
                act(Create(1)),
                SYNC,
                meanwhile(Move(0, MoveTarget::Ours(1 - index))),
                SYNC,
            ],
        );
        run(
            0,
            &[
                act(Create(0)),
                act(Create(1)),
                SYNC,
                act(Move(1 - index, MoveTarget::Ours(index))),
                meanwhile(Move(1, MoveTarget::Ours(1 - index))),
                SYNC,
            ],
        );
    }
}

/// A change between two reads of one folder was reported once, and was combined with older values.
#[test]
fn an_edit_while_the_folders_are_read() {
    run(
        0,
        &[
            act(Create(0)),
            act(Create(1)),
            SYNC,
            LoseState,
            act(Copy(0)),
            meanwhile(EditItem(0, TITLE)),
        ],
    );
    run(
        0,
        &[
            act(Create(0)),
            act(Create(0)),
            act(Create(1)),
            SYNC,
            act(DeleteItem(0)),
            act(EditItem(0, TITLE)),
            meanwhile(DeleteFolder(0)),
        ],
    );
}

/// Our own removal of a moved copy was forgotten before it was carried out. Its result was taken for the person's
/// wish.
#[test]
fn a_moved_copy_that_is_removed() {
    for fault in [
        Fault::Refused(1),
        Fault::Busy(1),
        Fault::LostAnswer(1),
        Fault::Crash(1),
    ] {
        run(
            0,
            &[
                act(Create(0)),
                act(Create(1)),
                SYNC,
                act(Move(0, MoveTarget::Ours(1))),
                act(Unassign(0)),
                failing(fault),
                act(Act::Reassign(0)),
                SYNC,
            ],
        );
    }
}

/// A second copy was not reported again after its removal failed.
#[test]
fn a_second_copy_and_a_busy_server() {
    for fault in [
        Fault::Busy(1),
        Fault::Late(1),
        Fault::LostAnswer(1),
        Fault::Crash(1),
    ] {
        run(
            0,
            &[
                act(Create(0)),
                act(Create(0)),
                SYNC,
                act(Copy(0)),
                failing(fault),
                SYNC,
            ],
        );
        run(
            0,
            &[
                act(Create(0)),
                act(Create(0)),
                SYNC,
                act(Copy(0)),
                act(EditItem(0, TITLE)),
                failing(fault),
                SYNC,
            ],
        );
    }
}

/// A pass that was interrupted after a save forgot the work that an earlier pass had left.
#[test]
fn work_left_from_an_earlier_pass() {
    run(
        0,
        &[
            act(Create(0)),
            act(Create(0)),
            act(Create(0)),
            act(Create(0)),
            SYNC,
            act(DeleteItem(3)),
            failing(Fault::Busy(1)),
            act(EditSource(0, TITLE)),
            act(Create(0)),
            act(Create(0)),
            failing(Fault::Crash(2)),
            SYNC,
        ],
    );
}

/// A folder that was missing in the saved state contained a copy whose task was deleted.
#[test]
fn a_crash_after_the_first_copy_in_a_new_folder() {
    run(
        0,
        &[
            SYNC,
            act(Create(0)),
            failing(Fault::Crash(2)),
            act(DeleteTask(0)),
            SYNC,
        ],
    );
    run(
        0,
        &[
            act(Create(0)),
            failing(Fault::LostAnswer(1)),
            failing(Fault::Crash(1)),
            act(DeleteTask(0)),
            SYNC,
        ],
    );
}

/// A copy was moved into one of our folders that was missing in the saved state. The copy was missed, and its task
/// deleted.
#[test]
fn a_move_into_a_folder_left_by_a_crash() {
    run(
        0,
        &[
            act(Create(1)),
            SYNC,
            act(Create(0)),
            failing(Fault::Crash(1)),
            act(DeleteTask(0)),
            act(Move(0, MoveTarget::Ours(0))),
            SYNC,
        ],
    );
}

/// A change of the start in the mailbox also moved the due date, which the source did not get.
#[test]
fn dates_that_move_each_other() {
    for (source, item) in [
        (Edit::Start(Some(10)), Edit::Start(Some(5))),
        (Edit::Start(Some(10)), Edit::Due(Some(5))),
        (Edit::Due(Some(10)), Edit::Start(Some(12))),
    ] {
        for location_number in [0, 1] {
            run(
                0,
                &[
                    act(Create(location_number)),
                    act(EditSource(0, source)),
                    SYNC,
                    later(EditItem(0, item)),
                    SYNC,
                ],
            );
            // The same in a conflict, won by either side, and for a source's change into an item that has a start of
            // its own.
            run(
                0,
                &[
                    act(Create(location_number)),
                    act(EditSource(0, source)),
                    SYNC,
                    later(EditSource(0, TITLE)),
                    later(EditItem(0, item)),
                    SYNC,
                    later(EditSource(0, Edit::Due(None))),
                    SYNC,
                ],
            );
            run(
                0,
                &[
                    act(Create(location_number)),
                    act(EditSource(0, source)),
                    SYNC,
                    later(EditItem(0, item)),
                    later(EditSource(0, TITLE)),
                    SYNC,
                ],
            );
        }
    }
}

/// Contradictory status and percentage at the source are kept through a conflict that the mailbox wins.
#[test]
fn progress_that_contradicts_itself() {
    let progress = |status, percent| EditSource(0, Edit::Progress(status, percent));
    run(
        0,
        &[
            act(Create(0)),
            SYNC,
            act(progress(Status::Completed, 50)),
            later(EditItem(0, Edit::Progress(Status::Completed, 100))),
            later(EditItem(0, TITLE)),
            SYNC,
            later(EditItem(0, TITLE)),
            SYNC,
        ],
    );
}

/// A copy was moved into a folder whose creation was never answered, and that folder was deleted. Only the person
/// knows that it was one of ours.
#[test]
fn a_copy_deleted_with_an_unknown_folder() {
    run(
        0,
        &[
            act(Create(0)),
            act(Create(0)),
            SYNC,
            act(EditSource(0, TITLE)),
            act(EditSource(0, TITLE)),
            act(EditSource(0, TITLE)),
            act(Create(1)),
            act(Create(1)),
            Op::Sync(SyncCircumstances {
                fault: Fault::Busy(1),
                before_writing: Some(DeleteFolder(0)),
                ..SyncCircumstances::PLAIN
            }),
            failing(Fault::LostAnswer(2)),
            act(Move(0, MoveTarget::Ours(1))),
            act(DeleteFolder(1)),
        ],
    );
}

/// The moved item looked like a second copy beside the linked one, and was removed.
#[test]
fn a_copy_moved_during_a_full_check() {
    let move_meanwhile = Op::Sync(SyncCircumstances {
        full: true,
        while_reading: Some(Move(0, MoveTarget::Own)),
        ..SyncCircumstances::PLAIN
    });
    run(
        0,
        &[act(Create(0)), failing(Fault::ReadRefused(2)), move_meanwhile],
    );
}

/// One listing of the folders omitted ours. Every copy in it was created a second time beside an edited one.
#[test]
fn a_folder_left_out_after_a_lost_state() {
    for left_out in 1..12 {
        for target in [None, Some(MoveTarget::Own), Some(MoveTarget::Ours(1))] {
            let mut history = vec![act(Create(0)), act(Create(1)), SYNC];
            history.extend(target.map(|target| act(Move(0, target))));
            history.extend([
                later(EditItem(0, TITLE)),
                LoseState,
                failing(Fault::WrongAnswer(left_out)),
            ]);
            run(0, &history);
        }
    }
}
