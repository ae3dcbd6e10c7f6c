//! Answers that belong to another request, as from a proxy that mixes up its connections.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use jiff::SignedDuration;
use tasksync_common::settings::{LogSettings, TelemetrySettings};
use tasksync_common::telemetry::{self, Telemetry};
use tasksync_loadtest::sim::answers::{Tamper, Tape};
use tasksync_loadtest::sim::faults::Fault;

use crate::rig::Rig;

/// The metrics of the process.
static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();

/// Returns how many answers of this server were refused in this process so far because they belonged to another
/// request.
pub(crate) fn foreign_answers(server: &str) -> u64 {
    let telemetry = TELEMETRY.get_or_init(|| {
        let log = LogSettings {
            filter: "off".to_owned(),
            ..LogSettings::default()
        };
        telemetry::init(&log, &TelemetrySettings::default(), "test").unwrap()
    });
    let text = telemetry.metrics().render().unwrap();
    let start = format!("tasksync_foreign_answers_total{{server=\"{server}\"}} ");
    let value = text.lines().find_map(|line| line.strip_prefix(&start));
    value.unwrap_or_else(|| panic!("{text}")).parse().unwrap()
}

/// Returns a fault that sends the kept answer. With `right_id` it has the id of the current request.
fn replay(tape: &Tape, right_id: bool) -> Fault {
    let tape = tape.clone();
    Fault::Tamper(Tamper::new(move |answer| {
        let id = answer.header("client-request-id").map(str::to_owned);
        let kept = tape.answer().unwrap_or(answer);
        match id.filter(|_| right_id) {
            Some(id) => kept
                .without_header("client-request-id")
                .with_header("client-request-id", &id),
            None => kept,
        }
    }))
}

/// The answer to a creation contains the item of an earlier creation, in the same pass and in a later one.
#[tokio::test]
async fn a_creation_that_is_answered_with_another_tasks_item_is_linked_to_its_own() {
    for (right_id, in_one_pass) in [(true, true), (true, false), (false, true), (false, false)] {
        let case = format!("right id {right_id}, in one pass {in_one_pass}");
        let (rig, list, _) = Rig::with_tasks(1).await;
        let tape = Tape::default();
        let faults = &rig.farm.exchange.faults;
        faults.next(Some("CreateItem"), 1, Fault::Tamper(tape.record()));
        faults.next(Some("CreateItem"), 1, replay(&tape, right_id));
        let first = rig.add_task(list, 0, "First");
        if !in_one_pass {
            rig.cycle(0).await.report();
        }
        let second = rig.add_task(list, 0, "Second");
        rig.cycle(0).await.report();
        assert_eq!(rig.farm.exchange.stats.snapshot().faults, 2, "{case}");
        for _ in 0..2 {
            rig.cycle(0).await;
        }
        let state = rig.state(0).await;
        let items: BTreeSet<&str> = state.links.values().map(|link| link.item.as_str()).collect();
        assert_eq!((state.links.len(), items.len()), (3, 3), "{case}: {state:#?}");
        for item in [first, second] {
            assert_eq!(rig.copies(0, list, item).len(), 1, "{case}");
        }
        let in_mailbox = rig.farm.exchange.items(rig.smtp(0));
        assert!(
            in_mailbox.iter().all(|item| !item.in_deleted_items),
            "{case}: {in_mailbox:#?}"
        );
        rig.retitle_original(list, second, "Second, edited");
        rig.cycle(0).await.report();
        assert_eq!(rig.copy(0, list, second).subject, "Second, edited", "{case}");
        assert_eq!(rig.copy(0, list, first).subject, "First", "{case}");
        rig.assert_settled().await;
    }
}

/// An answer to another request shows that a connection is mixed up. It is counted, and the connection is not used
/// again.
#[tokio::test]
async fn a_connection_that_gave_another_requests_answer_is_given_up_and_the_answer_is_counted() {
    let (rig, list, items) = Rig::with_tasks(2).await;
    let tape = Tape::default();
    let faults = &rig.farm.exchange.faults;
    faults.next(Some("UpdateItem"), 1, Fault::Tamper(tape.record()));
    for right_id in [true, false] {
        faults.next(Some("UpdateItem"), 1, replay(&tape, right_id));
    }
    let mut edit = 0;
    let mut edited = async |item| {
        rig.pass_time(SignedDuration::from_mins(1));
        edit += 1;
        rig.retitle_original(list, item, &format!("Edit {edit}"));
        let (opened, counted) = (rig.farm.connections().0, foreign_answers("ews"));
        // The first cycle may end with the answer; the second one sends the request again.
        rig.cycle(0).await.report();
        rig.cycle(0).await;
        (
            rig.farm.connections().0 - opened,
            foreign_answers("ews") - counted,
        )
    };
    assert_eq!(edited(items[0]).await.0, 0, "an honest answer");
    for item in [items[1], items[1]] {
        let (opened, counted) = edited(item).await;
        assert_eq!(opened, 1);
        assert!(counted >= 1);
    }
    rig.cycle(0).await;
    rig.assert_settled().await;
}

/// A new process requests the columns of lists and receives items. The lists count as unreadable and not as lists
/// without columns.
#[tokio::test]
async fn items_in_place_of_columns_hide_no_list() {
    let (mut rig, list, items) = Rig::with_tasks(2).await;
    let other = rig.tasks_list("Other");
    rig.add_task(other, 0, "In another list");
    rig.cycle(0).await;
    rig.assert_settled().await;
    let tape = Tape::default();
    let faults = |fault| rig.farm.sharepoint.faults.next(Some("batch"), 1, fault);
    faults(Fault::Tamper(tape.record()));
    rig.try_thorough_cycle(0).await.unwrap();
    assert!(tape.answer().unwrap().text().contains("AssignedToId"));
    faults(replay(&tape, true));
    rig.restart();
    rig.retitle_original(list, items[0], "Edited");
    // However this sync ends, the next one with honest servers is right.
    let _ = rig.try_cycle(0).await;
    assert_eq!(rig.farm.sharepoint.stats.faults(), 2);
    rig.pass_time(SignedDuration::from_mins(10));
    rig.cycle(0).await;
    assert_eq!(rig.copy(0, list, items[0]).subject, "Edited");
    rig.assert_settled().await;
}
