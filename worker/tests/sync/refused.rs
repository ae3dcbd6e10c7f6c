//! Writes that one task or one list never accepts. All other work continues; the refused work is shown and tried again
//! later.

use jiff::SignedDuration;
use tasksync_common::error::ErrorClass;
use tasksync_loadtest::sharepoint::people::{ItemId, ListId};
use tasksync_loadtest::sim::answers::Answer;
use tasksync_loadtest::sim::faults::{Aim, Fault};
use tasksync_loadtest::trial::Farm;

use crate::rig::Rig;

/// A refusal by a list's validation formula, and one by a custom handler of the list, for which SharePoint has no
/// code.
const REFUSALS: [&str; 2] = [
    "-2130575162, Microsoft.SharePoint.SPListDataValidationException",
    "-2146232832, Microsoft.SharePoint.SPException",
];

/// Number of list A's tasks that are edited.
const EDITED: usize = 4;

/// One person with tasks in two lists. List A is written first.
struct TwoLists {
    rig: Rig,
    a: ListId,
    b: ListId,
    in_a: Vec<ItemId>,
    in_b: Vec<ItemId>,
}

impl TwoLists {
    async fn with_tasks(tasks_of_a: usize) -> Self {
        let mut rig = Rig::plain().await;
        let mut lists = [rig.tasks_list("Alpha"), rig.tasks_list("Beta")];
        lists.sort_by_key(|list| Farm::key(*list, 1));
        let [a, b] = lists;
        let tasks = |list: ListId, count: usize| -> Vec<ItemId> {
            (0..count)
                .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
                .collect()
        };
        let (in_a, in_b) = (tasks(a, tasks_of_a), tasks(b, 4));
        rig.cycle(0).await;
        rig.assert_settled().await;
        Self {
            rig,
            a,
            b,
            in_a,
            in_b,
        }
    }

    /// Returns the edited tasks of A, and the one of B.
    fn edited_tasks(&self) -> Vec<(ListId, ItemId)> {
        let in_a = self.in_a.iter().take(EDITED).map(|item| (self.a, *item));
        in_a.chain([(self.b, self.in_b[0])]).collect()
    }

    /// Makes every `operation` about list A meet this fault until the faults are cleared.
    fn refuse(&self, operation: &str, items: &[ItemId], fault: &Fault) {
        let farm = &self.rig.farm;
        if operation.starts_with("items.") {
            let aim = Aim::at(operation).containing(&self.a.to_string());
            farm.sharepoint.faults.aim(aim, fault.clone());
        } else if operation == "CreateItem" {
            let aim = Aim::at(operation).containing(&self.a.to_string());
            farm.exchange.faults.aim(aim, fault.clone());
        } else {
            for item in items {
                let copy = self.rig.copy(0, self.a, *item);
                let aim = Aim::at(operation).containing(&copy.id);
                farm.exchange.faults.aim(aim, fault.clone());
            }
        }
    }

    /// Returns how many tasks are pending and how many are refused.
    async fn pending_and_parked(&self) -> (usize, usize) {
        let state = self.rig.state(0).await;
        (state.pending.len(), state.parked.len())
    }

    /// Runs two more cycles after the first. Then the `refused` tasks of A are parked with `reason`, and a plain cycle
    /// ignores them.
    async fn assert_parked_after_three_passes(&self, refused: usize, reason: &str, what: &str) {
        for _ in 0..2 {
            self.rig.cycle(0).await;
        }
        let state = self.rig.state(0).await;
        assert_eq!(
            (state.pending.len(), state.parked.len()),
            (0, refused),
            "{what}: {state:#?}"
        );
        for (key, parked) in &state.parked {
            assert_eq!(parked.failure.class, ErrorClass::Refused, "{what}");
            assert!(
                parked.failure.detail.contains(reason),
                "{what}: {}",
                parked.failure
            );
            assert!(key.as_str().contains(&self.a.to_string()), "{what}: {key}");
        }
        let before = self.rig.writes();
        self.rig.assert_idle().await;
        self.rig.cycle(0).await;
        assert_eq!(
            self.rig.writes(),
            before,
            "{what}: left alone until the next full check"
        );
    }

    /// Removes the faults: the next full check carries out what was refused.
    async fn assert_recovers(&self, what: &str) {
        self.rig.farm.exchange.faults.clear();
        self.rig.farm.sharepoint.faults.clear();
        self.rig.pass_time(SignedDuration::from_hours(7));
        self.rig.cycle(0).await.report();
        assert_eq!(self.pending_and_parked().await, (0, 0), "{what}");
        self.rig.assert_settled().await;
    }
}

fn internal_error() -> Fault {
    Fault::Error("ErrorInternalServerError".to_owned())
}

fn refusal(code: &str) -> Fault {
    let body = format!(
        r#"{{"odata.error":{{"code":"{code}","message":{{"lang":"en-US","value":"The list refuses the item."}}}}}}"#
    );
    Fault::Instead(Answer::json(500, &body))
}

#[tokio::test]
async fn copies_that_a_mailbox_never_takes_hold_up_no_other_list() {
    let lists = TwoLists::with_tasks(EDITED + 2).await;
    lists.refuse("UpdateItem", &lists.in_a[..EDITED], &internal_error());
    for (list, item) in lists.edited_tasks() {
        lists.rig.retitle_original(list, item, "Edited");
    }
    lists.rig.cycle(0).await.report();
    assert_eq!(
        lists.rig.copy(0, lists.b, lists.in_b[0]).subject,
        "Edited",
        "the other list is written in the first pass"
    );
    assert_eq!(lists.pending_and_parked().await, (EDITED, 0));
    lists
        .assert_parked_after_three_passes(EDITED, "ErrorInternalServerError", "UpdateItem")
        .await;
    lists.assert_recovers("UpdateItem").await;
    assert_eq!(lists.rig.copy(0, lists.a, lists.in_a[0]).subject, "Edited");
}

#[tokio::test]
async fn edits_that_a_list_never_takes_hold_up_no_other_list() {
    for code in REFUSALS {
        let lists = TwoLists::with_tasks(EDITED + 2).await;
        lists.refuse("items.update", &[], &refusal(code));
        for (list, item) in lists.edited_tasks() {
            lists.rig.retitle_copy(0, list, item, "Edited");
        }
        lists.rig.cycle(0).await.report();
        assert_eq!(
            lists.rig.original(lists.b, lists.in_b[0]).title,
            "Edited",
            "{code}"
        );
        lists
            .assert_parked_after_three_passes(EDITED, "The list refuses the item", code)
            .await;
        lists.assert_recovers(code).await;
        assert_eq!(
            lists.rig.original(lists.a, lists.in_a[0]).title,
            "Edited",
            "{code}"
        );
    }
}

#[tokio::test]
async fn new_copies_and_deletions_that_a_server_never_takes_hold_up_no_other_list() {
    for operation in ["CreateItem", "DeleteItem", "items.recycle"] {
        let lists = TwoLists::with_tasks(EDITED + 2).await;
        let rig = &lists.rig;
        let fault = if operation == "items.recycle" {
            refusal(REFUSALS[1])
        } else {
            internal_error()
        };
        lists.refuse(operation, &lists.in_a[..EDITED], &fault);
        let done = match operation {
            "CreateItem" => {
                for number in 0..EDITED {
                    rig.add_task(lists.a, 0, &format!("New {number}"));
                }
                let new = rig.add_task(lists.b, 0, "New");
                rig.cycle(0).await.report();
                rig.copies(0, lists.b, new).len() == 1
            }
            "DeleteItem" => {
                for (list, item) in lists.edited_tasks() {
                    rig.delete_original(list, item);
                }
                rig.cycle(0).await.report();
                rig.copies(0, lists.b, lists.in_b[0]).is_empty()
            }
            _ => {
                for (list, item) in lists.edited_tasks() {
                    rig.delete_copy(0, list, item);
                }
                rig.cycle(0).await.report();
                rig.original(lists.b, lists.in_b[0]).recycled
            }
        };
        assert!(done, "{operation}: the other list is written in the first pass");
        let reason = if operation == "items.recycle" {
            "The list refuses the item"
        } else {
            "ErrorInternalServerError"
        };
        lists
            .assert_parked_after_three_passes(EDITED, reason, operation)
            .await;
        lists.assert_recovers(operation).await;
    }
}

/// Twelve writes fail. In several lists this would stop the pass, but all of them are in one list: that list waits for
/// the next pass, and the other one continues.
#[tokio::test]
async fn a_list_that_takes_nothing_holds_up_no_other_list() {
    let lists = TwoLists::with_tasks(12).await;
    lists.refuse("items.update", &[], &refusal(REFUSALS[1]));
    for item in &lists.in_a {
        lists.rig.retitle_copy(0, lists.a, *item, "Edited");
    }
    lists.rig.retitle_copy(0, lists.b, lists.in_b[0], "Edited");
    lists.rig.cycle(0).await.report();
    assert_eq!(lists.rig.original(lists.b, lists.in_b[0]).title, "Edited");
    for _ in 0..5 {
        lists.rig.cycle(0).await.report();
    }
    assert_eq!(lists.pending_and_parked().await, (0, 12));
    lists.assert_recovers("a whole list").await;
}

/// A failure in every list is the server's. The pass stops, and no task is refused because of it.
#[tokio::test]
async fn a_failure_in_every_list_is_blamed_on_no_task() {
    let lists = TwoLists::with_tasks(10).await;
    let fault = || refusal(REFUSALS[1]);
    lists
        .rig
        .farm
        .sharepoint
        .faults
        .aim(Aim::at("items.update"), fault());
    for (list, item) in lists.edited_tasks() {
        lists.rig.retitle_copy(0, list, item, "Edited");
    }
    let third = lists.in_a.iter().skip(EDITED).map(|item| (lists.a, *item));
    let rest = lists.in_b.iter().skip(1).map(|item| (lists.b, *item));
    for (list, item) in third.take(3).chain(rest) {
        lists.rig.retitle_copy(0, list, item, "Edited");
    }
    for _ in 0..4 {
        lists.rig.try_cycle(0).await.unwrap_err();
    }
    assert_eq!(lists.pending_and_parked().await, (11, 0));
    lists.rig.farm.sharepoint.faults.clear();
    lists.rig.cycle(0).await.report();
    lists.rig.assert_settled().await;
}

/// A folder that cannot be created delays only its own list.
#[tokio::test]
async fn a_folder_that_a_mailbox_never_makes_holds_up_no_other_list() {
    let mut lists = TwoLists::with_tasks(1).await;
    let other = lists.rig.tasks_list("Gamma");
    let aim = Aim::at("CreateFolder").containing(&other.to_string());
    lists.rig.farm.exchange.faults.aim(aim, internal_error());
    lists.rig.add_task(other, 0, "Without a folder");
    lists.rig.retitle_original(lists.b, lists.in_b[0], "Edited");
    lists.rig.cycle(0).await.report();
    assert_eq!(lists.rig.copy(0, lists.b, lists.in_b[0]).subject, "Edited");
    for _ in 0..2 {
        lists.rig.cycle(0).await.report();
    }
    let state = lists.rig.state(0).await;
    assert_eq!((state.pending.len(), state.parked.len()), (0, 1), "{state:#?}");
    lists.assert_recovers("CreateFolder").await;
}

/// A second copy that cannot be removed delays nothing. The next full check finds it again.
#[tokio::test]
async fn a_second_copy_that_a_mailbox_never_removes_holds_up_nothing() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    let copy = rig.copy(0, list, items[0]);
    let second = rig
        .farm
        .exchange
        .person_copies(rig.smtp(0), &copy.id, None)
        .unwrap();
    let aim = Aim::at("DeleteItem").containing(&second.id);
    rig.farm.exchange.faults.aim(aim, internal_error());
    rig.retitle_original(list, items[1], "Edited");
    for _ in 0..3 {
        rig.cycle(0).await.report();
    }
    assert_eq!(rig.copy(0, list, items[1]).subject, "Edited");
    let state = rig.state(0).await;
    assert_eq!((state.pending.len(), state.parked.len()), (0, 0), "{state:#?}");
    rig.assert_idle().await;
    rig.farm.exchange.faults.clear();
    rig.pass_time(SignedDuration::from_hours(7));
    rig.cycle(0).await.report();
    assert_eq!(rig.copies(0, list, items[0]).len(), 1);
    rig.assert_settled().await;
}

/// A site that is temporarily locked refuses one edit, and no further edit follows. The next full check carries it
/// out.
#[tokio::test]
async fn a_write_that_was_refused_once_is_retried_at_the_next_full_check() {
    let (rig, list, items) = Rig::with_tasks(3).await;
    let locked = Answer::json(
        403,
        r#"{"odata.error":{"code":"-2130575223, Microsoft.SharePoint.SPException","message":{"lang":"en-US","value":"The site is locked."}}}"#,
    );
    rig.farm
        .sharepoint
        .faults
        .next(Some("items.update"), 1, Fault::Instead(locked));
    rig.retitle_copy(0, list, items[0], "Edited");
    rig.cycle(0).await.report();
    let state = rig.state(0).await;
    assert_eq!((state.pending.len(), state.parked.len()), (0, 1), "{state:#?}");
    let before = rig.writes();
    rig.cycle(0).await;
    assert_eq!(rig.writes(), before, "a plain cycle leaves it alone");
    rig.pass_time(SignedDuration::from_hours(7));
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, items[0]).title, "Edited");
    assert!(rig.state(0).await.parked.is_empty());
    rig.assert_settled().await;
}

/// A gateway that loses its SharePoint for some minutes does not count against the tasks written then: none of them
/// waits for the next full check.
#[tokio::test]
async fn a_gateway_without_its_server_refuses_no_task() {
    for status in [408, 502, 504] {
        let lists = TwoLists::with_tasks(EDITED + 2).await;
        lists.refuse("items.update", &lists.in_a, &Fault::Status(status));
        for item in &lists.in_a[..2] {
            lists.rig.retitle_copy(0, lists.a, *item, "Edited");
        }
        for _ in 0..4 {
            lists.rig.cycle(0).await;
        }
        assert_eq!(lists.pending_and_parked().await, (2, 0), "{status}");
        lists.rig.farm.sharepoint.faults.clear();
        lists.rig.cycle(0).await.report();
        assert_eq!(lists.pending_and_parked().await, (0, 0), "{status}");
        lists.rig.assert_settled().await;
    }
}
