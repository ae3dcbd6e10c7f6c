//! Answers that belong to another person.

use jiff::SignedDuration;
use tasksync_loadtest::sharepoint::people::ItemId;
use tasksync_loadtest::trial::{EditKind, EditSide, Oracle};
use tasksync_loadtest::wrong_answers::{OnlyAnswer, WrongAnswerKind};

use super::{PEOPLE, Trial, spec};
use crate::swapped_answers::foreign_answers;

/// Rounds of edits after which every operation has been used.
const ROUNDS_BEFORE: usize = 2;

/// Operations whose answers are the same for all people, so that a mix-up has no effect. `DeleteItem` reports success
/// without naming an object, the values of a site belong to the site, and `lists.update` is an operation of the test
/// only.
const SAME_FOR_ALL: [&str; 6] = [
    "DeleteItem",
    "lists.update",
    "permissions",
    "timezone",
    "web",
    "webs",
];

/// Operations for which the first person must have received the second person's answer. `getchanges` and others are
/// tried, too. They are requested once for all people of a site, and their answers during the second person's sync do
/// no harm.
const SWAPPED: [&str; 14] = [
    "CreateFolder",
    "CreateItem",
    "FindFolder",
    "FindItem",
    "GetFolder",
    "GetItem",
    "SyncFolderItems",
    "UpdateFolder",
    "UpdateItem",
    "batch",
    "ensureuser",
    "getitems",
    "items.recycle",
    "items.update",
];

/// Those of the operations whose answers always contain one message that names its object. A wrong answer is
/// recognised and counted. Answers to the other operations may be empty, report "not found", or have another number of
/// messages.
const RECOGNISED: [(&str, &str); 3] = [
    ("ews", "UpdateFolder"),
    ("ews", "UpdateItem"),
    ("sharepoint", "ensureuser"),
];

/// Returns everything in a person's mailbox.
fn mailbox(trial: &Trial, person: usize) -> String {
    let exchange = &trial.rig.farm.exchange;
    let smtp = trial.rig.smtp(person);
    format!("{:#?}\n{:#?}", exchange.folders(smtp), exchange.items(smtp))
}

/// Makes edits for both people in their own tasks, so that every operation is needed: edits on both sides, new tasks,
/// and deletions of the previous round's tasks.
fn edits_of_a_round(trial: &mut Trial, round: usize, before: &mut Vec<(usize, ItemId)>) {
    let list = trial.lists[0];
    for (at, (person, item)) in std::mem::take(before).into_iter().enumerate() {
        let side = if at % 2 == 0 {
            trial.rig.delete_original(list, item);
            EditSide::Source
        } else {
            trial.rig.delete_copy(person, list, item);
            EditSide::Mailbox
        };
        trial.record_edit(person, list, item, side, EditKind::Deleted);
    }
    for person in 0..PEOPLE {
        let first = i32::try_from(person).unwrap() * 3 + 1;
        let title = format!("Round {round} of person {person}");
        trial.rig.retitle_original(list, first, &title);
        trial.record_edit(
            person,
            list,
            first,
            EditSide::Source,
            EditKind::Title(title.clone()),
        );
        trial.rig.retitle_copy(person, list, first + 1, &title);
        trial.record_edit(
            person,
            list,
            first + 1,
            EditSide::Mailbox,
            EditKind::Title(title.clone()),
        );
        for _ in 0..2 {
            let new = trial.rig.add_task(list, person, &title);
            trial.record_edit(
                person,
                list,
                new,
                EditSide::Source,
                EditKind::Created(title.clone()),
            );
            before.push((person, new));
        }
    }
}

/// The first person receives each kind of answer that the second person received, once. Nothing is written for the
/// wrong person, nothing is deleted, and both people's data is right after the next honest sync.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_about_one_person_is_taken_for_another() {
    let mut trial = Trial::start(spec(&[WrongAnswerKind::OthersAnswer], 0)).await;
    let (mut given, mut before) = (Vec::new(), Vec::new());
    let mut operations: Vec<String> = Vec::new();
    for round in 0.. {
        edits_of_a_round(&mut trial, round, &mut before);
        // All operations must have been used before the first one is aimed at.
        let operation = round
            .checked_sub(ROUNDS_BEFORE)
            .map(|at| operations[at].clone())
            .unwrap_or_default();
        if round == 0 || operation == "CreateFolder" {
            trial.new_list();
        }
        if round == 0 || operation == "UpdateFolder" {
            let title = format!("Errands {round}");
            crate::lists::rename(&trial.rig, trial.lists[1], &title).await;
        }
        // A resolved person is cached for a day.
        let hours = if operation == "ensureuser" { 25 } else { 4 };
        trial.rig.pass_time(SignedDuration::from_hours(hours));
        trial.cycle(1, false).await;
        trial.cycle(1, true).await;
        trial.rig.restart();
        let mailbox_before = mailbox(&trial, 1);
        trial.wrong_answers.aim(OnlyAnswer::FirstOf(operation.clone()));
        trial.wrong_answers.set_active(true);
        let recognised = RECOGNISED.iter().find(|(_, name)| *name == operation);
        let recognised = recognised.map(|(server, _)| (*server, foreign_answers(server)));
        for thorough in [false, true] {
            trial.cycle(0, thorough).await;
            trial.rig.pass_time(SignedDuration::from_mins(6));
        }
        trial.wrong_answers.set_active(false);
        if trial.wrong_answers.has_hit()
            && let Some((server, before)) = recognised
        {
            assert!(foreign_answers(server) > before, "{operation}: not counted");
        }
        let (farm, cycles) = (&trial.rig.farm, trial.cycles.join("\n"));
        assert_eq!(
            mailbox(&trial, 1),
            mailbox_before,
            "{operation}: written for the wrong person"
        );
        let untruths = trial
            .truth
            .find_violations(farm, trial.ledger.edits(), |_, _| String::new());
        assert!(
            untruths.deleted.is_empty(),
            "{operation}: {untruths:#?}\n{cycles}"
        );
        for person in 0..PEOPLE {
            trial.cycle(person, false).await;
        }
        let verdict = Oracle::new(&trial.rig.farm).compare_sides();
        assert!(
            verdict.agrees(),
            "{operation}: {:#?}\n{cycles}",
            verdict.lines(20)
        );
        if trial.wrong_answers.has_hit() {
            given.push(operation);
        }
        if round + 1 == ROUNDS_BEFORE {
            let met = trial.wrong_answers.operations().into_iter();
            operations = met.map(|(_, operation)| operation).collect();
            operations.retain(|operation| !SAME_FOR_ALL.contains(&operation.as_str()));
        }
        if round + 1 == ROUNDS_BEFORE + operations.len() {
            break;
        }
    }
    if let Err(wrong) = trial.settle().await {
        panic!("{wrong}");
    }
    for operation in SWAPPED {
        assert!(
            given.iter().any(|given| given == operation),
            "{operation}: {given:?}"
        );
    }
}
