//! One wrong answer at every read of a sync, after every action of a person.

use tasksync_common::model::Status;

use crate::Op;
use crate::engine::SyncCircumstances;
use crate::faults::Fault;
use crate::run;
use crate::world::Act::{
    Create, DeleteFolder, DeleteItem, DeleteTask, EditItem, EditSource, Move, Reassign, Unassign,
};
use crate::world::{Act, Edit, MoveTarget};

/// Exceeds the number of reads of any sync in these histories.
const READS: u32 = 14;

fn act(act: Act) -> Op {
    Op::Act(2_000, act)
}

fn sync(fault: Fault, full: bool) -> Op {
    Op::Sync(SyncCircumstances {
        fault,
        full,
        ..SyncCircumstances::PLAIN
    })
}

/// Returns the person's actions before the sync with the wrong answer.
fn wishes() -> Vec<Vec<Act>> {
    vec![
        vec![],
        vec![EditItem(0, Edit::Title)],
        vec![EditSource(0, Edit::Title)],
        vec![EditItem(0, Edit::Title), EditSource(0, Edit::Title)],
        vec![
            EditItem(1, Edit::Progress(Status::Completed, 100)),
            EditItem(0, Edit::Title),
        ],
        vec![DeleteItem(0)],
        vec![DeleteTask(0)],
        vec![Unassign(0)],
        vec![Unassign(0), Reassign(0)],
        vec![Move(0, MoveTarget::Ours(1)), EditItem(0, Edit::Title)],
        vec![Move(0, MoveTarget::Own)],
        vec![DeleteFolder(0)],
        vec![Create(0)],
    ]
}

/// Runs every list of actions with every fault: in plain syncs, in full ones, and after a loss of the state.
fn everywhere(fault: impl Fn(u32) -> Fault) {
    for wish in wishes() {
        for at in 1..READS {
            for (full, lost) in [(false, false), (true, false), (false, true)] {
                let mut history = vec![
                    act(Create(0)),
                    act(Create(0)),
                    act(Create(1)),
                    sync(Fault::None, false),
                ];
                history.extend(wish.iter().cloned().map(act));
                history.extend(lost.then_some(Op::LoseState));
                history.push(sync(fault(at), full));
                let case = format!("{wish:?}, {:?}, full {full}, state lost {lost}", fault(at));
                let ended = std::panic::catch_unwind(|| run(0, &history));
                assert!(ended.is_ok(), "{case}");
            }
        }
    }
}

#[test]
fn no_single_wrong_answer_deletes_anything() {
    everywhere(Fault::WrongAnswer);
}

#[test]
fn a_change_that_cannot_be_read_arrives_once_it_can() {
    everywhere(Fault::ReadRefused);
}

#[test]
fn a_write_that_fails_arrives_later() {
    everywhere(Fault::Fails);
}

#[test]
fn a_write_that_is_done_and_reported_as_refused_is_recognised() {
    everywhere(Fault::FalseRefusal);
}

#[test]
fn a_write_that_is_done_and_reported_as_a_conflict_is_recognised() {
    everywhere(Fault::FalseConflict);
}

#[test]
fn a_read_without_answer_loses_nothing() {
    everywhere(Fault::ReadFails);
}

#[test]
fn a_process_that_ends_before_any_call_loses_nothing() {
    everywhere(Fault::Kill);
}
