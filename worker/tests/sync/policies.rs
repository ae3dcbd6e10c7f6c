//! A tenant's policies for deletions and the archive, and the journal of overwritten values.

use jiff::SignedDuration;
use serde_json::{Value, json};
use tasksync_common::registry::{JournalEntry, JournalKind};
use tasksync_loadtest::exchange::{MailboxItemEdit as CopyEdit, TaskStatus};
use tasksync_loadtest::sharepoint::people::{ItemId, ListId, ListItemEdit};

use crate::rig::{Rig, Spec};

/// Returns a tenant with this policy and two synced tasks.
async fn synced_tenant(policy: Value) -> (Rig, ListId, Vec<ItemId>) {
    let mut rig = Rig::with_settings(Spec::default(), |_, mut settings| {
        settings["policy"] = policy;
        settings
    })
    .await;
    let list = rig.tasks_list("Plan");
    let items = vec![rig.add_task(list, 0, "Report"), rig.add_task(list, 0, "Invoice")];
    rig.cycle(0).await;
    rig.assert_settled().await;
    (rig, list, items)
}

/// Returns for every item of the first person with this subject, anywhere: whether it was deleted, and whether it has
/// a marker.
fn items_named(rig: &Rig, subject: &str) -> Vec<(bool, bool)> {
    let all = rig.farm.exchange.items(rig.smtp(0));
    all.iter()
        .filter(|item| item.subject == subject)
        .map(|item| {
            (
                item.in_deleted_items,
                item.named.contains_key("TaskSyncSourceKey"),
            )
        })
        .collect()
}

fn complete(rig: &Rig, list: ListId, item: ItemId) {
    let edit = CopyEdit {
        status: Some(TaskStatus::Completed),
        percent: Some(100.0),
        ..CopyEdit::default()
    };
    rig.edit_copy(0, list, item, edit);
}

#[tokio::test]
async fn a_copy_that_a_person_deletes_completes_its_task_where_the_tenant_says_so() {
    let (rig, list, items) = synced_tenant(json!({"mailbox_deletions": "complete"})).await;
    rig.delete_copy(0, list, items[0]);
    let report = rig.cycle(0).await.report();
    assert_eq!((report.source_writes, report.mailbox_writes), (1, 0));
    let original = rig.original(list, items[0]);
    assert!(!original.recycled);
    assert!((original.percent - 1.0).abs() < f64::EPSILON, "{original:?}");
    assert_eq!(rig.journal(0).await, ["completed_at_source"]);
    rig.assert_no_more_writes().await;
    assert!(rig.copies(0, list, items[0]).is_empty());
    // A colleague reopens the task: the person gets a copy again.
    rig.reopen_original(list, items[0]);
    rig.cycle(0).await.report();
    assert_eq!(rig.copies(0, list, items[0]).len(), 1);
    rig.assert_settled().await;
}

#[tokio::test]
async fn a_copy_that_a_person_deletes_changes_nothing_where_the_tenant_says_so() {
    let (rig, list, items) = synced_tenant(json!({"mailbox_deletions": "ignore"})).await;
    rig.delete_copy(0, list, items[0]);
    let before = rig.writes();
    rig.cycle(0).await.report();
    assert_eq!(rig.writes(), before);
    rig.assert_no_more_writes().await;
    assert!(!rig.original(list, items[0]).recycled);
    assert!(rig.copies(0, list, items[0]).is_empty());
    // A colleague's edit brings the copy back.
    rig.retitle_original(list, items[0], "Report, really");
    rig.cycle(0).await.report();
    assert_eq!(rig.copy(0, list, items[0]).subject, "Report, really");
    rig.assert_settled().await;
}

#[tokio::test]
async fn a_task_deleted_at_the_source_leaves_a_completed_item_of_the_persons_own_where_the_tenant_says_so() {
    let (rig, list, items) = synced_tenant(json!({"source_deletions": "complete"})).await;
    rig.delete_original(list, items[0]);
    rig.cycle(0).await.report();
    assert_eq!(items_named(&rig, "Report"), [(false, false)]);
    let all = rig.farm.exchange.items(rig.smtp(0));
    let left = all.iter().find(|item| item.subject == "Report").unwrap();
    assert_eq!(left.status, TaskStatus::Completed);
    assert_eq!(rig.journal(0).await, ["completed_in_mailbox"]);
    rig.assert_no_more_writes().await;
}

#[tokio::test]
async fn a_task_deleted_at_the_source_leaves_the_copy_as_it_is_where_the_tenant_says_so() {
    let (rig, list, items) = synced_tenant(json!({"source_deletions": "ignore"})).await;
    rig.delete_original(list, items[0]);
    rig.cycle(0).await.report();
    assert_eq!(items_named(&rig, "Report"), [(false, false)]);
    rig.assert_no_more_writes().await;
    // A person who is no longer assigned keeps no copy.
    let other = rig.add_task(list, 0, "Budget");
    rig.cycle(0).await.report();
    rig.assign(list, other, &[]);
    rig.cycle(0).await.report();
    assert_eq!(items_named(&rig, "Budget"), [(true, true)]);
}

#[tokio::test]
async fn a_task_completed_long_ago_that_leaves_the_mailbox_was_archived_and_a_fresh_one_was_deleted() {
    let (rig, list, items) = synced_tenant(json!({"archived_after": "30d"})).await;
    complete(&rig, list, items[0]);
    rig.cycle(0).await.report();
    rig.pass_time(SignedDuration::from_hours(24 * 31));
    complete(&rig, list, items[1]);
    rig.cycle(0).await.report();
    rig.delete_copy(0, list, items[0]);
    rig.delete_copy(0, list, items[1]);
    rig.cycle(0).await.report();
    assert!(!rig.original(list, items[0]).recycled);
    assert!(rig.original(list, items[1]).recycled);
    rig.assert_no_more_writes().await;
    assert!(rig.copies(0, list, items[0]).is_empty());
    rig.reopen_original(list, items[0]);
    rig.cycle(0).await.report();
    assert_eq!(rig.copies(0, list, items[0]).len(), 1);
    rig.assert_settled().await;
}

#[tokio::test]
async fn a_copy_in_the_archive_mailbox_was_not_deleted() {
    let (rig, list, items) = synced_tenant(json!({})).await;
    rig.farm.exchange.give_archive(rig.smtp(0)).unwrap();
    let copy = rig.copy(0, list, items[0]);
    rig.farm.exchange.person_archives(rig.smtp(0), &copy.id).unwrap();
    rig.delete_copy(0, list, items[1]);
    rig.cycle(0).await.report();
    assert!(!rig.original(list, items[0]).recycled);
    assert!(rig.original(list, items[1]).recycled, "a deletion still travels");
    rig.assert_no_more_writes().await;
    let archived = rig.farm.exchange.items(rig.smtp(0));
    let reports: Vec<bool> = archived
        .iter()
        .filter(|item| item.subject == "Report")
        .map(|item| item.in_archive)
        .collect();
    assert_eq!(reports, [true], "no second copy is made");
}

#[tokio::test]
async fn overwritten_values_are_in_the_journal_with_their_field_and_side() {
    let (rig, list, items) = synced_tenant(json!({})).await;
    rig.retitle_copy(0, list, items[0], "Report of May");
    rig.cycle(0).await.report();
    rig.retitle_original(list, items[1], "Invoice of May");
    rig.cycle(0).await.report();
    let entries = rig.registry.journal_of(&rig.user(0), 10).await.unwrap();
    let entry_values = |entry: &JournalEntry| {
        (
            entry.kind.clone(),
            entry.before.clone().unwrap(),
            entry.after.clone().unwrap(),
        )
    };
    let recorded: Vec<_> = entries.iter().map(entry_values).collect();
    assert_eq!(
        recorded,
        [
            (
                JournalKind::OverwrittenInMailbox,
                json!({"title": "Invoice"}),
                json!({"title": "Invoice of May"})
            ),
            (
                JournalKind::OverwrittenAtSource,
                json!({"title": "Report"}),
                json!({"title": "Report of May"})
            ),
        ]
    );
}

/// Edits of different fields between two syncs are both applied on both sides, and no edit is lost.
#[tokio::test]
async fn edits_of_different_fields_both_stand_where_the_tenant_merges() {
    let (rig, list, items) = synced_tenant(json!({"conflicts": "merge"})).await;
    rig.retitle_copy(0, list, items[0], "Report of May");
    let half_done = ListItemEdit {
        status: Some(2),
        percent: Some(0.5),
        ..ListItemEdit::default()
    };
    rig.edit_original(list, items[0], half_done);
    // The source's edit is written first. The next pass sends the mailbox's edit.
    rig.cycle(0).await.report();
    rig.cycle(0).await.report();
    let (original, copy) = (rig.original(list, items[0]), rig.copy(0, list, items[0]));
    assert_eq!(original.title, "Report of May");
    assert!((original.percent - 0.5).abs() < f64::EPSILON, "{original:?}");
    assert_eq!(copy.subject, "Report of May");
    assert!((copy.percent - 50.0).abs() < f64::EPSILON, "{copy:?}");
    assert_eq!(rig.conflicts(0).await, Vec::<String>::new());
    rig.assert_settled().await;
}

/// If both sides changed the same field, the later edit wins that field only, and the journal names it.
#[tokio::test]
async fn the_later_edit_of_the_same_field_wins_that_field_where_the_tenant_merges() {
    let minute = SignedDuration::from_mins(1);
    for source_last in [true, false] {
        let (rig, list, items) = synced_tenant(json!({"conflicts": "merge"})).await;
        let at_source = || rig.retitle_original(list, items[0], "By a colleague");
        let in_mailbox = || {
            let edit = CopyEdit {
                subject: Some("By me".into()),
                importance: Some("High".into()),
                ..CopyEdit::default()
            };
            rig.edit_copy(0, list, items[0], edit);
        };
        if source_last {
            in_mailbox();
            rig.pass_time(minute);
            at_source();
        } else {
            at_source();
            rig.pass_time(minute);
            in_mailbox();
        }
        rig.cycle(0).await.report();
        rig.cycle(0).await;
        let (winner, loser, kind) = if source_last {
            ("By a colleague", "By me", JournalKind::ConflictLostInMailbox)
        } else {
            ("By me", "By a colleague", JournalKind::ConflictLostAtSource)
        };
        let original = rig.original(list, items[0]);
        assert_eq!((original.title.as_str(), original.priority), (winner, 1));
        assert_eq!(rig.copy(0, list, items[0]).subject, winner);
        let entries = rig.registry.journal_of(&rig.user(0), 10).await.unwrap();
        let conflicts: Vec<_> = entries
            .iter()
            .filter(|entry| entry.kind.name().starts_with("conflict_lost"))
            .map(|entry| {
                let title = |values: &Option<Value>| values.as_ref().map(|values| values["title"].clone());
                (entry.kind.clone(), title(&entry.before), title(&entry.after))
            })
            .collect();
        assert_eq!(conflicts, [(kind, Some(json!(loser)), Some(json!(winner)))]);
        rig.assert_settled().await;
    }
}
