//! Every field is carried over in both directions, in every time zone.

use jiff::civil::Date;
use tasksync_loadtest::exchange::{DateZone, ExchangeSettings, MailboxItemEdit as CopyEdit, TaskStatus};
use tasksync_loadtest::sharepoint::Language;
use tasksync_loadtest::sharepoint::people::{ItemId, ListId, ListItemEdit, ListSpec};

use crate::rig::{Rig, Spec, day};

/// Returns one edit for each `{ field: value, .. }`. Fields that it does not name stay as they are.
macro_rules! edits {
    ($edit:ident: $({ $($field:ident: $value:expr),+ })+) => {
        [$($edit { $($field: Some($value),)+ ..$edit::default() }),+]
    };
}

/// Returns a rig, a list with all supported columns, and a synced task in it.
async fn full_list(spec: Spec) -> (Rig, ListId, ItemId) {
    let mut rig = Rig::new(spec).await;
    let list = rig.add_list(&ListSpec {
        with_work: true,
        with_date_completed: true,
        ..ListSpec::new("Plan", 171)
    });
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    (rig, list, item)
}

/// SharePoint accepts characters that Exchange cannot store. Their loss is not an edit in the mailbox: only fields
/// that a person changed are written back, and the title stays the same byte for byte.
#[tokio::test]
async fn characters_that_only_one_side_can_store_are_no_edit() {
    let (rig, list, item) = full_list(Spec::default()).await;
    let titles = ["It\u{92}s due", "a\u{7f}b", "a\u{b}b", "a\u{ffff}b"];
    for (title, importance) in titles.into_iter().zip(["High", "Low", "Normal", "High"]) {
        let body = format!("<p>{title} here</p>");
        rig.edit_original(
            list,
            item,
            ListItemEdit {
                title: Some(title.into()),
                body: Some(body.clone()),
                ..ListItemEdit::default()
            },
        );
        rig.cycle(0).await;
        rig.edit_copy(
            0,
            list,
            item,
            CopyEdit {
                importance: Some(importance.to_owned()),
                ..CopyEdit::default()
            },
        );
        let report = rig.cycle(0).await.report();
        assert_eq!(report.source_writes, 1);
        let original = rig.original(list, item);
        assert_eq!(original.title, title);
        assert!(original.body.contains(&body), "{}", original.body);
        let before = rig.writes();
        rig.cycle(0).await;
        assert_eq!(rig.writes(), before);
    }
}

/// An edit in SharePoint is in the mailbox after one sync.
#[tokio::test]
async fn edits_at_the_source_reach_the_mailbox() {
    let (rig, list, item) = full_list(Spec::default()).await;
    let edits = edits!(ListItemEdit:
        { title: "Übergabe & <Abnahme> 📷".into() }
        { body: "<p>New <b>text</b> &amp; more</p><ul><li>one</li></ul>".into() }
        { body: String::new() }
        { start: Some(day(11, 5)) }
        { due: Some(day(12, 24)) }
        { start: Some(day(12, 30)) }
        { start: None }
        { due: None }
        { start: Some(day(3, 29)) }
        { status: 2 }
        { percent: 0.33 }
        { status: 4 }
        { status: 5 }
        { status: 3, percent: 1.0 }
        { status: 1, percent: 0.0 }
        { priority: 1 }
        { priority: 3 }
        { actual_work: Some(90.0), total_work: Some(480.0) }
        { actual_work: None }
    );
    for edit in edits {
        let what = format!("{edit:?}");
        rig.edit_original(list, item, edit);
        let report = rig.cycle(0).await.report();
        assert_eq!(report.source_writes, 0, "{what}");
        rig.assert_sides_agree();
        let (copy, original) = (rig.copy(0, list, item), rig.original(list, item));
        assert_eq!(
            copy.actual_work.unwrap_or(0),
            minutes(original.actual_work),
            "{what}"
        );
        assert_eq!(
            copy.total_work.unwrap_or(0),
            minutes(original.total_work),
            "{what}"
        );
    }
    rig.assert_settled().await;
}

#[expect(clippy::cast_possible_truncation, reason = "small whole numbers")]
fn minutes(work: Option<f64>) -> i32 {
    work.unwrap_or(0.0) as i32
}

/// An edit in Outlook is in SharePoint after one sync.
#[tokio::test]
async fn edits_in_the_mailbox_reach_the_source() {
    let (rig, list, item) = full_list(Spec::default()).await;
    let edits = edits!(CopyEdit:
        { subject: "Übergabe & <Abnahme> 📷".into() }
        { body: Some("Plain text & <more>\r\nsecond line".into()) }
        { body: None }
        { start: Some(day(11, 5)) }
        { due: Some(day(12, 24)) }
        { start: Some(day(12, 30)) }
        { start: None }
        { due: None }
        { status: TaskStatus::InProgress }
        { percent: 40.0 }
        { status: TaskStatus::Deferred }
        { status: TaskStatus::WaitingOnOthers }
        { status: TaskStatus::Completed }
        { status: TaskStatus::NotStarted }
        { importance: "High".into() }
        { importance: "Low".into() }
        { actual_work: Some(90), total_work: Some(480) }
    );
    for edit in edits {
        let what = format!("{edit:?}");
        rig.edit_copy(0, list, item, edit);
        let report = rig.cycle(0).await.report();
        assert_eq!(report.mailbox_writes, 0, "{what}");
        rig.assert_sides_agree();
        let (copy, original) = (rig.copy(0, list, item), rig.original(list, item));
        assert_eq!(
            copy.actual_work.unwrap_or(0),
            minutes(original.actual_work),
            "{what}"
        );
        assert_eq!(
            copy.total_work.unwrap_or(0),
            minutes(original.total_work),
            "{what}"
        );
    }
    rig.assert_settled().await;
}

/// The person's own categories, and columns that a list lacks, do not matter to the other side: they stay and cause no
/// write.
#[tokio::test]
async fn values_that_one_side_cannot_store_stay_on_the_other() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.edit_copy(
        0,
        list,
        item,
        CopyEdit {
            categories: Some(vec!["Mine".into()]),
            actual_work: Some(Some(30)),
            ..CopyEdit::default()
        },
    );
    let before = rig.writes();
    rig.cycle(0).await;
    assert_eq!(rig.writes(), before);
    rig.retitle_original(list, item, "Report 2");
    rig.cycle(0).await;
    let copy = rig.copy(0, list, item);
    assert_eq!(
        (copy.categories, copy.actual_work),
        (vec!["Mine".to_owned()], Some(30))
    );
    rig.assert_settled().await;
}

/// A due date is a day and not an instant. It is the same day for every pair of time zones, even on days of clock
/// changes.
#[tokio::test]
async fn dates_are_days_in_every_zone() {
    for date_zone in [DateZone::Mailbox, DateZone::Request] {
        for site_zone in [
            "Europe/Berlin",
            "America/Los_Angeles",
            "Asia/Kolkata",
            "Australia/Sydney",
        ] {
            zone(date_zone, site_zone).await;
        }
    }
}

async fn zone(date_zone: DateZone, site_zone: &'static str) {
    let zones: &[&str] = &[
        "Europe/London",
        "America/New_York",
        "Asia/Tokyo",
        "Pacific/Auckland",
    ];
    let mut rig = Rig::new(Spec {
        people: 4,
        site_zone,
        mailbox_zones: &[
            "Europe/London",
            "America/New_York",
            "Asia/Tokyo",
            "Pacific/Auckland",
        ],
        exchange: ExchangeSettings {
            date_zone,
            ..ExchangeSettings::default()
        },
        ..Spec::default()
    })
    .await;
    let list = rig.tasks_list("Plan");
    // Days on which clocks change somewhere, and the first and last days of a year.
    let days: Vec<Date> = [
        (1, 1),
        (3, 8),
        (3, 29),
        (4, 5),
        (10, 4),
        (10, 25),
        (11, 1),
        (12, 31),
    ]
    .into_iter()
    .map(|(month, of)| day(month, of))
    .collect();
    let items: Vec<ItemId> = days
        .iter()
        .map(|date| {
            rig.add_task_with(
                list,
                0,
                ListItemEdit {
                    title: Some(date.to_string()),
                    start: Some(Some(*date)),
                    due: Some(Some(*date)),
                    assigned_to: Some((0..4).map(|person| rig.site_user(person)).collect()),
                    ..ListItemEdit::default()
                },
            )
        })
        .collect();
    rig.cycle_all().await;
    rig.assert_settled().await;
    // Each person moves the due date of one task by a day. All other people must see that day.
    for (person, zone) in zones.iter().enumerate() {
        let (item, date) = (items[person * 2], days[person * 2 + 1]);
        rig.edit_copy(
            person,
            list,
            item,
            CopyEdit {
                due: Some(Some(date)),
                ..CopyEdit::default()
            },
        );
        rig.cycle_all().await;
        rig.cycle_all().await;
        assert_eq!(
            rig.original(list, item).due,
            Some(date),
            "{site_zone} {zone} {date_zone:?}"
        );
        rig.assert_sides_agree();
    }
    rig.assert_settled().await;
}

/// A German site has German choices, and columns may be renamed. The meaning stays the same.
#[tokio::test]
async fn a_german_site_with_renamed_columns_means_the_same() {
    let mut rig = Rig::new(Spec {
        language: Language::German,
        ..Spec::default()
    })
    .await;
    for with_mappings in [true, false] {
        let list = rig.add_list(&ListSpec {
            renamed_columns: true,
            with_mappings,
            ..ListSpec::new(if with_mappings { "Aufgaben" } else { "Weitere" }, 171)
        });
        let item = rig.add_task(list, 0, "Bericht");
        rig.cycle(0).await;
        for status in [2, 4, 5, 3, 1] {
            rig.edit_original(
                list,
                item,
                ListItemEdit {
                    status: Some(status),
                    percent: Some(if status == 3 { 1.0 } else { 0.0 }),
                    priority: Some(if status > 3 { 1 } else { 3 }),
                    ..ListItemEdit::default()
                },
            );
            rig.cycle(0).await.report();
            rig.assert_sides_agree();
        }
        for status in [
            TaskStatus::InProgress,
            TaskStatus::Deferred,
            TaskStatus::WaitingOnOthers,
            TaskStatus::Completed,
            TaskStatus::NotStarted,
        ] {
            rig.edit_copy(
                0,
                list,
                item,
                CopyEdit {
                    status: Some(status),
                    due: Some(Some(day(12, 1))),
                    importance: Some("High".into()),
                    ..CopyEdit::default()
                },
            );
            rig.cycle(0).await.report();
            rig.assert_sides_agree();
        }
    }
    rig.assert_settled().await;
}

/// A task in progress that is set back to 0 % at the source shows as just begun in the mailbox. An edit of another
/// field there must not restore the old percentage.
#[tokio::test]
async fn progress_that_went_back_to_zero_stays_there() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Tasks");
    let item = rig.add_task(list, 0, "Report");
    let progress = |percent| ListItemEdit {
        status: Some(2),
        percent: Some(percent),
        ..ListItemEdit::default()
    };
    rig.edit_original(list, item, progress(0.5));
    rig.cycle(0).await;
    rig.cycle(0).await;
    rig.edit_original(list, item, progress(0.0));
    rig.cycle(0).await;
    rig.assert_sides_agree();
    rig.retitle_copy(0, list, item, "Report, revised");
    rig.cycle(0).await;
    let original = rig.original(list, item);
    assert_eq!(
        (original.title.as_str(), original.percent),
        ("Report, revised", 0.0)
    );
    rig.assert_settled().await;
}
