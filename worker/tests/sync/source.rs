//! SharePoint's answers when one list, one task or one answer is faulty.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::SignedDuration;
use tasksync_common::error::Code;
use tasksync_common::model::LocationKey;
use tasksync_loadtest::exchange::MailboxItemEdit as CopyEdit;
use tasksync_loadtest::sharepoint::people::{ItemId, ListId, ListItemEdit, ListSpec};
use tasksync_loadtest::sharepoint::{Closed, Operation};
use tasksync_loadtest::sim::answers::{Answer, Tamper};
use tasksync_loadtest::sim::faults::{Aim, Fault};

use crate::rig::{Rig, Spec};

/// Reconnects the tenant, as after a restart: nothing that was read before is remembered.
async fn reconnect(rig: &Rig) {
    let mut tenant = rig.registry.tenant(&rig.tenant_id()).await.unwrap().unwrap();
    for enabled in [false, true] {
        tenant.enabled = enabled;
        rig.registry.put_tenant(&tenant).await.unwrap();
        rig.pass_time(SignedDuration::from_secs(15));
        assert_eq!(rig.survey(0).await.is_ok(), enabled);
    }
}

/// A list over the lookup threshold (every read fails) or over the list view threshold (reads without a filter fail,
/// too) affects no other list.
#[tokio::test]
async fn a_list_that_cannot_be_read_stops_neither_other_lists_nor_other_people() {
    for code in ["-2147024749", "-2147024860"] {
        let mut rig = Rig::new(Spec {
            people: 2,
            ..Spec::default()
        })
        .await;
        let (broken, good) = (rig.tasks_list("Broken"), rig.tasks_list("Good"));
        let kept = rig.add_task(broken, 0, "Kept");
        rig.add_task(good, 1, "First");
        rig.cycle_all().await;
        rig.assert_settled().await;
        rig.farm.sharepoint.faults.aim(
            Aim::at("getitems").containing(&broken.to_string()),
            Fault::Error(code.to_owned()),
        );
        rig.retitle_original(broken, kept, "Later");
        let mine = rig.add_task(good, 0, "Mine");
        let theirs = rig.add_task(good, 1, "Theirs");
        rig.cycle_all().await;
        assert_eq!(rig.copy(0, good, mine).subject, "Mine");
        assert_eq!(rig.copy(1, good, theirs).subject, "Theirs");
        assert_eq!(rig.copy(0, broken, kept).subject, "Kept");
        // Both people meet the failure again in their full checks. It stays one alert.
        rig.pass_time(SignedDuration::from_hours(7));
        rig.cycle_all().await;
        let alerts = rig.registry.alerts(None, 10).await.unwrap();
        let [alert] = alerts.as_slice() else {
            panic!("{alerts:#?}")
        };
        assert_eq!(alert.failure.code, Code::ListUnreadable);
        assert_eq!((&alert.user, &alert.location), (&None, &Some(location(broken))));
        assert!(
            alert.failure.detail.contains("\"Contoso - Broken\""),
            "{}",
            alert.failure.detail
        );
        assert!(rig.state(0).await.unread.contains_key(&location(broken)));
        rig.farm.sharepoint.faults.clear();
        rig.pass_time(SignedDuration::from_mins(11));
        rig.cycle_all().await;
        assert_eq!(rig.copy(0, broken, kept).subject, "Later");
        // It arrives before the next full check, which is hours later.
        assert!(rig.state(0).await.unread.is_empty());
        assert_eq!(rig.registry.alerts(None, 10).await.unwrap(), []);
        rig.assert_settled().await;
    }
}

/// While the time zone of a site is unknown, the dates of its tasks cannot be compared. An edit in the mailbox neither
/// clears nor loses a date.
#[tokio::test]
async fn an_edit_while_the_time_zone_is_not_known_changes_no_date() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let (titled, dated) = (rig.add_task(list, 0, "Titled"), rig.add_task(list, 0, "Dated"));
    rig.cycle(0).await;
    rig.assert_settled().await;
    rig.farm
        .sharepoint
        .faults
        .aim(Aim::at("timezone"), Fault::Status(500));
    rig.restart();
    rig.pass_time(SignedDuration::from_mins(10));
    rig.retitle_copy(0, list, titled, "Titled in the mailbox");
    let due = Some(crate::rig::day(12, 16));
    rig.edit_copy(
        0,
        list,
        dated,
        CopyEdit {
            start: Some(None),
            due: Some(due),
            ..CopyEdit::default()
        },
    );
    rig.cycle(0).await;
    assert_eq!(rig.original(list, titled).title, "Titled in the mailbox");
    assert_eq!(rig.copy(0, list, titled).due, Some(crate::rig::day(11, 20)));
    assert_eq!(rig.copy(0, list, dated).due, due);
    rig.farm.sharepoint.faults.clear();
    rig.pass_time(SignedDuration::from_hours(8 * 24));
    rig.cycle(0).await;
    rig.pass_time(SignedDuration::from_hours(8 * 24));
    rig.cycle(0).await;
    assert_eq!(rig.original(list, dated).due, due);
    assert_eq!(rig.original(list, titled).due, Some(crate::rig::day(11, 20)));
    rig.assert_settled().await;
}

/// If dates are not written, the status and an alert name the list and the reason until the time zone is known.
#[tokio::test]
async fn a_list_whose_time_zone_was_never_known_is_named_with_the_reason() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    let nothing = Answer::json(200, "{}");
    rig.farm
        .sharepoint
        .faults
        .aim(Aim::at("timezone"), Fault::Instead(nothing));
    rig.cycle(0).await.report();
    let copy = rig.copy(0, list, item);
    assert_eq!((copy.subject.as_str(), copy.due), ("Report", None));
    let reason = &rig.state(0).await.without_dates[&location(list)];
    assert!(reason.detail.contains("names no time zone"), "{reason}");
    // A pass without news of the list does not end the alert, and a full check confirms it.
    for hours in [1, 7] {
        rig.pass_time(SignedDuration::from_hours(hours));
        rig.cycle(0).await;
        let alerts = rig.registry.alerts(None, 10).await.unwrap();
        let [alert] = alerts.as_slice() else {
            panic!("{alerts:#?}")
        };
        assert_eq!(alert.failure.code, Code::ListWithoutDates);
        assert_eq!((&alert.user, &alert.location), (&None, &Some(location(list))));
        for part in ["\"Contoso - Plan\"", "names no time zone"] {
            assert!(alert.failure.detail.contains(part), "{}", alert.failure.detail);
        }
    }
    rig.farm.sharepoint.faults.clear();
    rig.pass_time(SignedDuration::from_hours(7));
    rig.cycle(0).await;
    assert_eq!(rig.state(0).await.without_dates.len(), 0);
    assert_eq!(rig.registry.alerts(None, 10).await.unwrap(), []);
    assert_eq!(rig.copy(0, list, item).due, Some(crate::rig::day(11, 20)));
    rig.assert_settled().await;
}

/// A new process takes the resolved person from the person's state. After a day the site is asked again, once.
#[tokio::test]
async fn a_person_is_resolved_by_one_process_for_all() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    let asked = |rig: &Rig| rig.farm.sharepoint.stats.operations(Operation::EnsureUser);
    assert_eq!(asked(&rig), 2);
    for (hours, times) in [(1, 2), (7, 2), (25, 3)] {
        rig.restart();
        rig.pass_time(SignedDuration::from_hours(hours));
        let title = format!("After {hours} hours");
        rig.retitle_original(list, item, &title);
        rig.cycle(0).await.report();
        assert_eq!(rig.copy(0, list, item).subject, title);
        assert_eq!(asked(&rig), times, "after {hours} hours");
    }
    rig.assert_settled().await;
}

/// If an unreadable list becomes readable but has no usable dates, its alert shows the current reason.
#[tokio::test]
async fn the_alert_of_a_list_shows_the_current_reason() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let other = rig.tasks_list("Other");
    rig.add_task(other, 0, "In a list without dates");
    for code in [
        Code::ListWithoutDates,
        Code::ListUnreadable,
        Code::ListWithoutDates,
    ] {
        let faults = &rig.farm.sharepoint.faults;
        faults.clear();
        let no_zone = Fault::Instead(Answer::json(200, "{}"));
        faults.aim(Aim::at("timezone"), no_zone);
        if code == Code::ListUnreadable {
            let items = Aim::at("getitems").containing(&list.to_string());
            faults.aim(items, Fault::Error("-2147024749".to_owned()));
        }
        rig.add_task(list, 0, "Report");
        rig.cycle(0).await;
        let alerts = rig.registry.alerts(None, 10).await.unwrap();
        let of_list = alerts
            .iter()
            .filter(|alert| alert.location == Some(location(list)));
        let codes: Vec<Code> = of_list.map(|alert| alert.failure.code).collect();
        assert_eq!(codes, [code]);
        rig.pass_time(SignedDuration::from_mins(11));
    }
}

fn location(list: ListId) -> LocationKey {
    LocationKey::sharepoint_list(&list.to_string())
}

/// Makes SharePoint's answers show another title than "second" from now on.
fn misread_title(rig: &Rig) {
    rig.farm.sharepoint.faults.aim(
        Aim::at("getitems"),
        Fault::Tamper(Tamper::replace("second", "secznd")),
    );
}

/// Asserts that a full check and a deep check leave the title "second" on both sides.
async fn is_repaired(rig: &Rig, list: ListId, item: ItemId) {
    for hours in [7, 8 * 24] {
        rig.pass_time(SignedDuration::from_hours(hours));
        rig.cycle(0).await.report();
    }
    assert_eq!(rig.original(list, item).title, "second");
    assert_eq!(rig.copy(0, list, item).subject, "second");
    rig.assert_settled().await;
}

/// One answer contains a misread value, which is written into the copy, and the answer to that write is lost. The next
/// sync recognises its own write, and the deep check repairs the copy. The original keeps its value.
#[tokio::test]
async fn a_misread_value_whose_write_is_interrupted_does_not_come_back_as_an_edit() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "second");
    rig.cycle(0).await;
    misread_title(&rig);
    rig.farm
        .exchange
        .faults
        .aim(Aim::at("UpdateItem"), Fault::LoseResponse);
    rig.pass_time(SignedDuration::from_hours(8 * 24));
    rig.cycle(0).await;
    assert_eq!(rig.copy(0, list, item).subject, "secznd");
    rig.farm.sharepoint.faults.clear();
    rig.farm.exchange.faults.clear();
    rig.restart();
    is_repaired(&rig, list, item).await;
}

/// A copy is created from a misread value. The following checks repair the copy and leave the original unchanged.
#[tokio::test]
async fn a_copy_that_was_made_of_a_misread_value_is_repaired_and_not_sent() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "second");
    misread_title(&rig);
    rig.cycle(0).await;
    assert_eq!(rig.copy(0, list, item).subject, "secznd");
    rig.farm.sharepoint.faults.clear();
    is_repaired(&rig, list, item).await;
}

/// One answer that names another assignee removes no copy while the listing shows the task as the person's.
#[tokio::test]
async fn one_wrong_answer_about_whose_a_task_is_takes_no_copy_away() {
    let (rig, list, items) = Rig::with_tasks(2).await;
    let changed = Arc::new(AtomicU32::new(0));
    let (count, mine) = (
        Arc::clone(&changed),
        format!("\"AssignedToId\":[{}]", rig.site_user(0)),
    );
    let somebody_elses = Tamper::new(move |answer| {
        let text = answer.text();
        count.fetch_add(u32::from(text.contains(&mine)), Ordering::SeqCst);
        answer.with_body(text.replace(&mine, "\"AssignedToId\":[9999]"))
    });
    rig.farm
        .sharepoint
        .faults
        .aim(Aim::at("getitems").times(1), Fault::Tamper(somebody_elses));
    rig.retitle_copy(0, list, items[0], "Edited in the mailbox");
    rig.cycle(0).await.report();
    assert_eq!(changed.load(Ordering::SeqCst), 1);
    assert_eq!(rig.copies(0, list, items[0]).len(), 1);
    rig.cycle(0).await;
    assert_eq!(rig.original(list, items[0]).title, "Edited in the mailbox");
    rig.assert_settled().await;
}

/// Half a character (one surrogate) in a title is read as U+FFFD. It stops nothing and is not written back.
#[tokio::test]
async fn half_a_character_stops_nothing_and_is_not_written_back() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let cut = rig.add_task(list, 0, "emoji cut X");
    let other = rig.add_task(list, 0, "Other");
    rig.farm.sharepoint.faults.aim(
        Aim::at("getitems"),
        Fault::Tamper(Tamper::replace("emoji cut X", "emoji cut \\ud83d")),
    );
    rig.cycle(0).await;
    assert_eq!(rig.copy(0, list, cut).subject, "emoji cut \u{fffd}");
    assert_eq!(rig.copy(0, list, other).subject, "Other");
    let edit = CopyEdit {
        importance: Some("High".into()),
        ..CopyEdit::default()
    };
    rig.edit_copy(0, list, cut, edit);
    rig.cycle(0).await;
    let original = rig.original(list, cut);
    assert_eq!(original.title, "emoji cut X");
    assert_eq!(original.priority, 1);
}

/// An update is answered with an empty success but not carried out. It arrives later and does not count as written
/// before.
#[tokio::test]
async fn an_update_that_only_looks_like_a_success_arrives_later() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    let faults = &rig.farm.sharepoint.faults;
    faults.next(Some("items.update"), 1, Fault::Instead(Answer::new(200)));
    rig.retitle_copy(0, list, item, "Edited in the mailbox");
    let _ = rig.try_cycle(0).await;
    rig.pass_time(SignedDuration::from_mins(10));
    rig.cycle(0).await;
    assert_eq!(rig.original(list, item).title, "Edited in the mailbox");
    rig.retitle_original(list, item, "Edited at the source");
    rig.cycle(0).await;
    assert_eq!(rig.copy(0, list, item).subject, "Edited at the source");
    rig.assert_settled().await;
}

/// An update is carried out, but a device in front of SharePoint answers. It counts once it is read back.
#[tokio::test]
async fn an_update_behind_a_foreign_answer_is_read_back() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    let page = Answer::html(200, "Thank you");
    let faults = &rig.farm.sharepoint.faults;
    faults.next(Some("items.update"), 1, Fault::Afterwards(page));
    rig.retitle_copy(0, list, item, "Edited in the mailbox");
    rig.cycle(0).await;
    assert_eq!(rig.original(list, item).title, "Edited in the mailbox");
    rig.assert_settled().await;
}

/// A sub-site that is closed to the service account keeps its copies, even after a restart and a full check.
#[tokio::test]
async fn a_closed_sub_site_keeps_its_copies() {
    for closed in [Closed::Forbidden, Closed::Missing] {
        let mut rig = Rig::plain().await;
        let kept = rig.tasks_list("Plan");
        rig.add_task(kept, 0, "Kept");
        let below = format!("{}/sub", rig.site());
        rig.farm.sharepoint.add_web(rig.site(), &below, "Sub").unwrap();
        let spec = ListSpec::new("Hidden", 171);
        let list = rig.farm.sharepoint.add_list(&below, &spec).unwrap();
        rig.farm.applied[0].lists.push((list, Vec::new()));
        let edit = ListItemEdit {
            title: Some("In the sub-site".into()),
            ..ListItemEdit::default()
        };
        rig.add_task_with(list, 0, edit);
        rig.cycle(0).await;
        rig.assert_settled().await;
        let copies = |rig: &Rig| {
            let items = rig.farm.exchange.items(rig.smtp(0));
            items.iter().filter(|item| !item.in_deleted_items).count()
        };
        assert_eq!(copies(&rig), 2);
        rig.farm.sharepoint.close_web(&below, Some(closed)).unwrap();
        for _ in 0..3 {
            reconnect(&rig).await;
            rig.pass_time(SignedDuration::from_hours(7));
            rig.cycle(0).await;
            assert_eq!(copies(&rig), 2, "{closed:?}");
            let alerts = rig.registry.alerts(None, 10).await.unwrap();
            assert_eq!(alerts.len(), 1, "{closed:?} {alerts:#?}");
            let said = &alerts[0].failure.detail;
            assert!(said.contains("the list \"Sub - Hidden\""), "{said}");
        }
        rig.farm.sharepoint.close_web(&below, None).unwrap();
        rig.pass_time(SignedDuration::from_hours(7));
        rig.cycle(0).await;
        rig.assert_settled().await;
        assert_eq!(rig.registry.alerts(None, 10).await.unwrap(), []);
    }
}
