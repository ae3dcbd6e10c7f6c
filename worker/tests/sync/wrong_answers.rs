//! Servers that give wrong answers for a while and are honest afterwards: nothing is lost, duplicated, shifted or
//! deleted.
//!
//! Each history derives its edits and its wrong answers from a seed. `TASKSYNC_LIES_SEED` sets the first seed,
//! `TASKSYNC_LIES_RUNS` the number of histories, `TASKSYNC_LIES_PER_MILLE` the share of wrong answers, and
//! `TASKSYNC_LIES_KINDS` their kinds, separated by commas (`all` for all).

mod others_answers;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tasksync_loadtest::exchange::MailboxItemEdit as CopyEdit;
use tasksync_loadtest::sharepoint::people::{ItemId, ListId, ListItemEdit};
use tasksync_loadtest::trial::{Edit, EditKind, EditSide, Editor, Habits, InitialTasks, Ledger, Oracle};
use tasksync_loadtest::wrong_answers::{OnlyAnswer, WrongAnswerKind, WrongAnswerSpec, WrongAnswers};

use crate::rig::{Rig, Spec, day};
use tasksync_loadtest::machine_clock::monotonic;

/// The default kinds of wrong answers: those that can be mistaken for an honest answer.
const KINDS: [&str; 8] = [
    "others-answer",
    "earlier-answer",
    "dropped",
    "altered",
    "false-success",
    "false-refusal",
    "not-found",
    "empty",
];

/// Number of people in a history.
const PEOPLE: usize = 2;

/// A farm behind a proxy that gives wrong answers, and the edits of its people.
struct Trial {
    rig: Rig,
    wrong_answers: Arc<WrongAnswers>,
    log: PathBuf,
    _folder: tempfile::TempDir,
    ledger: Ledger,
    truth: InitialTasks,
    lists: Vec<ListId>,
    cycles: Vec<String>,
}

fn spec(kinds: &[WrongAnswerKind], seed: u64) -> WrongAnswerSpec {
    WrongAnswerSpec {
        per_mille: 1000,
        answers: 0,
        kinds: kinds.to_vec(),
        groups: Vec::new(),
        late: Duration::from_secs(6),
        seed,
        only: None,
    }
}

impl Trial {
    /// Starts with two synced people who have tasks in two lists.
    async fn start(spec: WrongAnswerSpec) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("lies.jsonl");
        let wrong_answers = WrongAnswers::new(spec, Some(&log)).unwrap();
        let mut rig = Rig::new(Spec {
            people: PEOPLE,
            request_timeout: Duration::from_secs(5),
            wrong_answers: Some(Arc::clone(&wrong_answers)),
            ..Spec::default()
        })
        .await;
        let lists = vec![rig.tasks_list("Plan"), rig.tasks_list("Errands")];
        for list in &lists {
            for person in 0..PEOPLE {
                for number in 0..3 {
                    rig.add_task(*list, person, &format!("Task {number} of person {person}"));
                }
            }
        }
        for person in 0..PEOPLE {
            wrong_answers.set_asker(&person.to_string());
            rig.cycle(person).await;
        }
        rig.assert_sides_agree();
        let truth = InitialTasks::record(&rig.farm);
        Self {
            rig,
            wrong_answers,
            log,
            _folder: folder,
            ledger: Ledger::default(),
            truth,
            lists,
            cycles: Vec::new(),
        }
    }

    fn record_edit(&mut self, person: usize, list: ListId, item: ItemId, side: EditSide, kind: EditKind) {
        self.ledger.push(Edit {
            tenant: 0,
            person,
            list,
            item,
            side,
            kind,
            at: monotonic(),
            seen: None,
        });
    }

    async fn cycle(&mut self, person: usize, thorough: bool) {
        self.wrong_answers.set_asker(&person.to_string());
        let went = if thorough {
            self.rig.try_thorough_cycle(person).await
        } else {
            self.rig.try_cycle(person).await
        };
        let went = match went {
            Ok(cycle) => format!("{cycle:?}"),
            Err(failure) => failure.to_string(),
        };
        self.cycles.push(format!(
            "before answer {}: person {person} {went}",
            self.wrong_answers.answers()
        ));
    }

    /// Makes both servers honest and gives every person full and deep checks. Returns what is wrong afterwards.
    async fn settle(&mut self) -> Result<(), String> {
        self.wrong_answers.set_active(false);
        for round in 0..4 {
            // Longer than pauses, circuits, the time between two errors that disable a user, and the deep check's
            // interval.
            self.rig.pass_time(SignedDuration::from_hours(8 * 24));
            for person in 0..PEOPLE {
                self.cycle(person, round > 0).await;
            }
        }
        let mut wrong = Oracle::new(&self.rig.farm).compare_sides().lines(20);
        let mut journal = Vec::new();
        for person in 0..PEOPLE {
            journal.push(self.rig.journal_text(person).await);
        }
        let untruths = self
            .truth
            .find_violations(&self.rig.farm, self.ledger.edits(), |_, person| {
                journal[person].clone()
            });
        wrong.extend(untruths.lines(20));
        let writes = self.rig.writes();
        for person in 0..PEOPLE {
            self.cycle(person, true).await;
        }
        if self.rig.writes() != writes {
            wrong.push("a further sync wrote".to_owned());
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let wrong_answer_log = std::fs::read_to_string(&self.log).unwrap();
        let cycles = self.cycles.join("\n");
        let edits: Vec<String> = self
            .ledger
            .edits()
            .map(|edit| {
                format!(
                    "person {} {:?} {}|{} {:?}",
                    edit.person, edit.side, edit.list, edit.item, edit.kind
                )
            })
            .collect();
        Err(format!(
            "{}\nlies:\n{wrong_answer_log}cycles:\n{cycles}\nedits:\n{}\njournals:\n{}",
            wrong.join("\n"),
            edits.join("\n"),
            journal.join("\n")
        ))
    }

    /// Makes one edit of each kind for this person: in the mailbox, at the source, deletions on both sides, a new task
    /// and a new folder.
    fn every_kind_of_edit(&mut self, person: usize) {
        let list = self.lists[0];
        let first = i32::try_from(person).unwrap() * 3 + 1;
        let errand = self.lists[1];
        self.rig
            .retitle_original(list, first, &format!("Edited at the source {person}"));
        let title = EditKind::Title(format!("Edited at the source {person}"));
        self.record_edit(person, list, first, EditSide::Source, title);
        self.rig.retitle_copy(
            person,
            list,
            first + 1,
            &format!("Edited in the mailbox {person}"),
        );
        let title = EditKind::Title(format!("Edited in the mailbox {person}"));
        self.record_edit(person, list, first + 1, EditSide::Mailbox, title);
        self.rig.delete_original(list, first + 2);
        self.record_edit(person, list, first + 2, EditSide::Source, EditKind::Deleted);
        self.rig.delete_copy(person, errand, first);
        self.record_edit(person, errand, first, EditSide::Mailbox, EditKind::Deleted);
        let due = EditKind::Due(day(12, 24));
        self.rig.edit_copy(
            person,
            errand,
            first + 1,
            CopyEdit {
                start: Some(None),
                due: Some(Some(day(12, 24))),
                ..CopyEdit::default()
            },
        );
        self.record_edit(person, errand, first + 1, EditSide::Mailbox, due);
        let due = EditKind::Due(day(12, 25));
        self.rig.edit_original(
            errand,
            first + 2,
            ListItemEdit {
                start: Some(None),
                due: Some(Some(day(12, 25))),
                ..ListItemEdit::default()
            },
        );
        self.record_edit(person, errand, first + 2, EditSide::Source, due);
        let title = format!("New for {person}");
        let new = self.rig.add_task(list, person, &title);
        self.record_edit(person, list, new, EditSide::Source, EditKind::Created(title));
    }

    fn new_list(&mut self) {
        let list = self.rig.tasks_list("Late");
        self.lists.push(list);
        for person in 0..PEOPLE {
            let title = format!("In a new folder {person}");
            let new = self.rig.add_task(list, person, &title);
            self.record_edit(person, list, new, EditSide::Source, EditKind::Created(title));
        }
    }
}

/// Returns a setting of the histories from the environment.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn number(name: &str, default: u64) -> u64 {
    set(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn kinds() -> Vec<WrongAnswerKind> {
    let named = set("TASKSYNC_LIES_KINDS").unwrap_or_else(|| KINDS.join(","));
    if named == "all" {
        return WrongAnswerKind::ALL.to_vec();
    }
    WrongAnswerKind::ALL
        .iter()
        .copied()
        .filter(|kind| named.split(',').any(|name| name == kind.name()))
        .collect()
}

/// Returns a trial in which both people made the same kinds of edits and the second person's syncs are done.
async fn with_edits(spec: WrongAnswerSpec, restart: bool) -> Trial {
    let mut trial = Trial::start(spec).await;
    trial.rig.pass_time(SignedDuration::from_mins(10));
    trial.new_list();
    for person in 0..PEOPLE {
        trial.every_kind_of_edit(person);
    }
    trial.rig.pass_time(SignedDuration::from_mins(10));
    trial.cycle(1, false).await;
    trial.cycle(1, false).await;
    trial.cycle(1, true).await;
    trial.rig.pass_time(SignedDuration::from_hours(4));
    // Some requests are made only by a new process.
    if restart {
        trial.rig.restart();
    }
    trial
}

/// Runs a history with the same edits each time, in which one answer to the first person's syncs is wrong.
async fn one_wrong_answer(
    kind: WrongAnswerKind,
    only: OnlyAnswer,
    seed: u64,
    restart: bool,
) -> Result<Trial, String> {
    let only = Some(only);
    let mut trial = with_edits(
        WrongAnswerSpec {
            only,
            ..spec(&[kind], seed)
        },
        restart,
    )
    .await;
    trial.wrong_answers.set_active(true);
    for thorough in [false, false, true, true] {
        trial.cycle(0, thorough).await;
        trial.rig.pass_time(SignedDuration::from_mins(6));
    }
    trial.settle().await.map(|()| trial)
}

/// Returns a trial in which the first answer to `operation` reports success for a write that is not carried out.
async fn one_false_success(operation: &str) -> Trial {
    let trial = Trial::start(WrongAnswerSpec {
        only: Some(OnlyAnswer::FirstOf(operation.to_owned())),
        ..spec(&[WrongAnswerKind::FalseSuccess], 0)
    })
    .await;
    trial.rig.pass_time(SignedDuration::from_mins(10));
    trial
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_was_not_renamed_in_spite_of_the_answer_is_renamed_later() {
    let mut trial = one_false_success("UpdateFolder").await;
    crate::lists::rename(&trial.rig, trial.lists[0], "Plan B").await;
    trial.wrong_answers.set_active(true);
    trial.cycle(0, false).await;
    assert!(trial.wrong_answers.has_hit());
    trial.wrong_answers.set_active(false);
    trial.rig.pass_time(SignedDuration::from_hours(7));
    trial.cycle(0, false).await;
    let folders = trial.rig.our_folders(0);
    let names: Vec<&str> = folders
        .iter()
        .map(|folder| folder.display_name.as_str())
        .collect();
    assert!(names.iter().any(|name| name.contains("Plan B")), "{names:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_not_deleted_in_spite_of_the_answer_is_deleted_in_the_next_sync() {
    let mut trial = one_false_success("DeleteItem").await;
    trial.rig.delete_original(trial.lists[0], 1);
    trial.wrong_answers.set_active(true);
    trial.cycle(0, false).await;
    assert!(trial.wrong_answers.has_hit());
    trial.wrong_answers.set_active(false);
    trial.rig.pass_time(SignedDuration::from_mins(10));
    trial.cycle(0, false).await;
    let verdict = Oracle::new(&trial.rig.farm).compare_sides();
    assert!(verdict.agrees(), "{:#?}", verdict.lines(20));
}

/// Tests one wrong answer of each kind at one place. With `TASKSYNC_LIES_STEP`, tests every place at intervals of that
/// many answers, with and without a new process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_single_wrong_answer_loses_anything() {
    let step = number("TASKSYNC_LIES_STEP", 0);
    let mut wrong = Vec::new();
    for restart in [true, false] {
        if step == 0 && !restart {
            break;
        }
        let control = one_wrong_answer(WrongAnswerKind::Half, OnlyAnswer::Number(u64::MAX), 0, restart).await;
        let answers = control.unwrap().wrong_answers.answers();
        for (kind, first) in kinds()
            .into_iter()
            .zip((number("TASKSYNC_LIES_SEED", 5)..).step_by(7))
        {
            let positions: Vec<u64> = match usize::try_from(step).unwrap() {
                0 => vec![first % answers],
                step => (0..answers).step_by(step).collect(),
            };
            for at in positions {
                if let Err(found) = one_wrong_answer(kind, OnlyAnswer::Number(at), at, restart).await {
                    println!("--- {} at {at}, restart {restart}\n{found}", kind.name());
                    wrong.push(format!("{} at {at}, restart {restart}", kind.name()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Runs a history in which people edit on both sides while a share of the answers is wrong.
async fn history(kinds: &[WrongAnswerKind], per_mille: u16, seed: u64) -> Result<(), String> {
    let mut trial = Trial::start(WrongAnswerSpec {
        per_mille,
        ..spec(kinds, seed)
    })
    .await;
    let mut editor = Editor::new(seed).with_habits(Habits {
        conflict: 0,
        ..Habits::default()
    });
    trial.rig.pass_time(SignedDuration::from_mins(10));
    trial.wrong_answers.set_active(true);
    for round in 0..6_u64 {
        for _ in 0..2 {
            let oracle = Oracle::new(&trial.rig.farm);
            trial.ledger.check_unseen(usize::MAX, |edit| oracle.shows(edit));
            editor.act(&trial.rig.farm, &mut trial.ledger).unwrap();
        }
        trial.rig.pass_time(SignedDuration::from_secs(400));
        if (seed + round).is_multiple_of(4) {
            trial.rig.restart();
        }
        for person in 0..PEOPLE {
            trial.cycle(person, (seed + round).is_multiple_of(3)).await;
        }
    }
    trial.settle().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_answers_lose_nothing_once_the_servers_are_honest_again() {
    let (from, runs) = (number("TASKSYNC_LIES_SEED", 0), number("TASKSYNC_LIES_RUNS", 2));
    let share = u16::try_from(number("TASKSYNC_LIES_PER_MILLE", 100)).unwrap();
    let mut wrong = Vec::new();
    for seed in from..from + runs {
        if let Err(found) = history(&kinds(), share, seed).await {
            println!("--- seed {seed}\n{found}");
            wrong.push(seed);
        }
    }
    assert!(wrong.is_empty(), "seeds {wrong:?}");
}
