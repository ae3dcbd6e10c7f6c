//! Which lists are synced, and what happens to lists as a whole.

use serde_json::{Value, json};
use tasksync_common::model::LocationKey;
use tasksync_common::registry::{JournalEntry, JournalKind};
use tasksync_loadtest::exchange::MailboxItemEdit as CopyEdit;
use tasksync_loadtest::sharepoint::Access;
use tasksync_loadtest::sharepoint::people::{ListSpec, RightsTarget};

use crate::rig::{Cycle, Rig, Spec};

/// Task lists of every template are synced, and custom lists whose default content type is Task. No other lists are.
#[tokio::test]
async fn lists_count_by_template_or_default_content_type() {
    let mut rig = Rig::plain().await;
    for (title, template) in [("Tasks", 107), ("Gantt", 150), ("Timeline", 171), ("Custom", 100)] {
        let list = rig.add_list(&ListSpec::new(title, template));
        rig.add_task(list, 0, title);
    }
    // The oracle does not know these lists, so nothing of them may be in the mailbox.
    let other = ListSpec {
        task_not_default: true,
        ..ListSpec::new("Issues", 100)
    };
    let list = rig.farm.sharepoint.add_list(rig.site(), &other).unwrap();
    rig.add_task(list, 0, "not a task list");
    let hidden = ListSpec {
        hidden: true,
        ..ListSpec::new("Hidden", 171)
    };
    let list = rig.farm.sharepoint.add_list(rig.site(), &hidden).unwrap();
    rig.add_task(list, 0, "hidden");
    let library = ListSpec {
        task_content_type: false,
        ..ListSpec::new("Documents", 101)
    };
    rig.farm.sharepoint.add_list(rig.site(), &library).unwrap();
    rig.cycle(0).await;
    assert_eq!(rig.our_folders(0).len(), 4);
    rig.assert_settled().await;
}

/// The change feed reports a new list, so that it is found before the next walk over the site.
#[tokio::test]
async fn a_new_list_is_found_by_the_feed() {
    let mut rig = Rig::plain().await;
    let first = rig.tasks_list("Plan");
    rig.add_task(first, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    let second = rig.add_list(&ListSpec::new("Later", 107));
    rig.add_task(second, 0, "New here");
    rig.cycle(0).await.report();
    assert_eq!(rig.our_folders(0).len(), 2);
    rig.assert_settled().await;
}

/// A folder has the name of its list, by which people know it.
#[tokio::test]
async fn a_renamed_list_renames_its_folder() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    rename(&rig, list, "Plan B").await;
    rig.cycle(0).await;
    assert_eq!(folder_names(&rig), ["Contoso - Plan B"]);
    rig.assert_settled().await;
}

/// A number in brackets at the end of a list's own name is a part of the name.
#[tokio::test]
async fn a_folder_follows_its_list_out_of_a_name_that_ends_in_brackets() {
    let mut rig = Rig::plain().await;
    let list = rig.add_list(&ListSpec::new("Project Alpha (2025)", 171));
    rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    assert_eq!(folder_names(&rig), ["Contoso - Project Alpha (2025)"]);
    rename(&rig, list, "Project Alpha").await;
    rig.cycle(0).await;
    assert_eq!(folder_names(&rig), ["Contoso - Project Alpha"]);
    rig.assert_settled().await;
}

/// If a folder's name was taken, the folder keeps its number as long as its list keeps its name. It still follows a
/// rename.
#[tokio::test]
async fn a_folder_whose_name_was_taken_keeps_its_number_until_its_list_is_renamed() {
    let mut rig = Rig::plain().await;
    let tasks = rig.own_folder(0).id;
    let taken = "Contoso - Plan";
    let made = rig
        .farm
        .exchange
        .person_creates_folder(rig.smtp(0), &tasks, taken, "IPF.Task");
    let made = made.unwrap();
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    assert_eq!(folder_names(&rig), ["Contoso - Plan (2)"]);
    rig.retitle_original(list, item, "Report of May");
    rig.cycle(0).await.report();
    rig.pass_time(jiff::SignedDuration::from_hours(7));
    rig.cycle(0).await;
    assert_eq!(folder_names(&rig), ["Contoso - Plan (2)"]);
    rig.assert_settled().await;
    // The folder is found again by its marker. The state that recorded the reason for its name is lost.
    let mail = &rig.farm.exchange;
    mail.person_renames_folder(rig.smtp(0), &made, "Mine").unwrap();
    rig.registry.forget_sync_state(&rig.user(0)).await.unwrap();
    rig.cycle(0).await;
    assert_eq!(folder_names(&rig), ["Contoso - Plan (2)"]);
    rig.assert_settled().await;
    rename(&rig, list, "Plan B").await;
    rig.cycle(0).await;
    assert_eq!(folder_names(&rig), ["Contoso - Plan B"]);
    rig.assert_settled().await;
}

fn folder_names(rig: &Rig) -> Vec<String> {
    rig.our_folders(0)
        .into_iter()
        .map(|folder| folder.display_name)
        .collect()
}

/// Renames a list through SharePoint's own interface, as a site owner's browser does.
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
pub(crate) async fn rename(rig: &Rig, list: uuid::Uuid, title: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let site = rig.farm.site_url(&rig.farm.population.tenants[0]);
    let password =
        std::fs::read_to_string(rig.folder.path().join("secrets/service-account.password")).unwrap();
    let call = |url: String| client.post(url).basic_auth("svc-tasksync", Some(&password));
    let json = "application/json;odata=verbose";
    let digest: serde_json::Value = call(format!("{site}/_api/contextinfo"))
        .header("accept", json)
        .header("content-length", "0")
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let digest = digest["d"]["GetContextWebInformation"]["FormDigestValue"]
        .as_str()
        .unwrap()
        .to_owned();
    let answer = call(format!("{site}/_api/web/lists(guid'{list}')"))
        .header("accept", json)
        .header("content-type", json)
        .header("x-requestdigest", digest)
        .header("x-http-method", "MERGE")
        .header("if-match", "*")
        .body(serde_json::json!({"__metadata": {"type": "SP.List"}, "Title": title}).to_string())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
}

/// The copies of a deleted list are removed once SharePoint has reported twice, five minutes apart, that the list does
/// not exist.
#[tokio::test]
async fn a_deleted_list_takes_its_copies_along() {
    let mut rig = Rig::plain().await;
    let (small, kept) = (rig.tasks_list("Small"), rig.tasks_list("Kept"));
    rig.add_task(small, 0, "One");
    rig.add_task(small, 0, "Two");
    rig.add_task(kept, 0, "Kept");
    rig.cycle(0).await;
    rig.assert_settled().await;
    rig.farm.sharepoint.delete_list(rig.site(), small).unwrap();
    rig.cycle(0).await;
    let live = rig.farm.exchange.items(rig.smtp(0));
    assert!(live.iter().all(|item| !item.in_deleted_items));
    rig.pass_time(jiff::SignedDuration::from_mins(6));
    rig.cycle(0).await.report();
    let live = rig.farm.exchange.items(rig.smtp(0));
    assert_eq!(live.iter().filter(|item| !item.in_deleted_items).count(), 1);
    assert_eq!(
        live.iter().filter(|item| item.in_deleted_items).count(),
        2,
        "recoverable"
    );
    rig.assert_settled().await;
}

/// A task that is reassigned to another person moves from one mailbox to the other, and back.
#[tokio::test]
async fn a_reassigned_task_moves_and_comes_back() {
    let mut rig = Rig::new(Spec {
        people: 2,
        ..Spec::default()
    })
    .await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle_all().await;
    rig.assert_settled().await;
    for owner in [1, 0, 1] {
        rig.assign(list, item, &[owner]);
        rig.cycle_all().await;
        assert_eq!(rig.copies(owner, list, item).len(), 1);
        assert!(rig.copies(1 - owner, list, item).is_empty());
        rig.assert_settled().await;
    }
    rig.assign(list, item, &[0, 1]);
    rig.cycle_all().await;
    rig.assert_settled().await;
    assert!(!rig.original(list, item).recycled);
}

/// A person who loses the right to see a task loses the copy, and gets it again with the right, without an edit of the
/// task.
#[tokio::test]
async fn access_decides_and_may_come_later() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Secret");
    let other = rig.add_task(list, 0, "Open");
    rig.cycle(0).await;
    rig.assert_settled().await;
    let user = rig.site_user(0);
    // The item comes second: from then on it has its own rights and does not follow the list's.
    for target in [RightsTarget::List(list), RightsTarget::Item(list, item)] {
        rig.farm.sharepoint.revoke(rig.site(), target, user).unwrap();
        rig.cycle(0).await.report();
        assert!(rig.copies(0, list, item).is_empty(), "{target:?}");
        let rest = usize::from(matches!(target, RightsTarget::Item(..)));
        assert_eq!(rig.copies(0, list, other).len(), rest);
        rig.assert_no_more_writes().await;
        rig.farm.sharepoint.grant(rig.site(), target, user).unwrap();
        rig.cycle(0).await.report();
        rig.assert_settled().await;
    }
}

/// Changes that a person with read access makes to a copy are reverted. Once the person may edit again, new
/// changes reach the source.
#[tokio::test]
async fn a_person_with_read_access_neither_edits_nor_deletes_a_task_from_the_mailbox() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let edited = rig.add_task(list, 0, "Budget");
    let deleted = rig.add_task(list, 0, "Invoice");
    rig.cycle(0).await;
    rig.assert_settled().await;
    let (site, user) = (rig.site().to_owned(), rig.site_user(0));
    for item in [edited, deleted] {
        let access =
            rig.farm
                .sharepoint
                .set_access(&site, RightsTarget::Item(list, item), user, Access::Read);
        access.unwrap();
    }
    rig.cycle(0).await.report();
    rig.retitle_copy(0, list, edited, "Budget, twice as much");
    rig.delete_copy(0, list, deleted);
    let report = rig.cycle(0).await.report();
    assert_eq!((report.source_writes, report.mailbox_writes), (0, 2));
    assert_eq!(rig.copy(0, list, edited).subject, "Budget");
    assert_eq!(rig.copy(0, list, deleted).subject, "Invoice");
    // The journal names each task, and the right that its person lacks.
    let mut entries = rig.registry.journal_of(&rig.user(0), 10).await.unwrap();
    entries.sort_by_key(|entry| entry.task.clone());
    let entry_values = |entry: &JournalEntry| {
        let of = |values: &Option<Value>| values.as_ref().map(|values| values["title"].clone());
        let kind = entry.kind.clone();
        (entry.task.clone(), kind, of(&entry.before), of(&entry.after))
    };
    let location = LocationKey::sharepoint_list(&list.to_string());
    assert_eq!(
        entries.iter().map(entry_values).collect::<Vec<_>>(),
        [
            (
                location.task(edited.into()),
                JournalKind::SetBackInMailbox,
                Some(json!("Budget, twice as much")),
                Some(json!("Budget"))
            ),
            (
                location.task(deleted.into()),
                JournalKind::DeletionSetBackInMailbox,
                None,
                Some(json!("Invoice"))
            ),
        ]
    );
    for entry in &entries {
        let meaning = entry.kind.meaning().unwrap();
        assert!(meaning.contains("no right to edit"), "{meaning}");
    }
    let state = rig.state(0).await;
    assert_eq!(state.links[&entries[0].task].agreed.title(), "Budget");
    rig.assert_settled().await;

    for item in [edited, deleted] {
        rig.farm
            .sharepoint
            .grant(&site, RightsTarget::Item(list, item), user)
            .unwrap();
    }
    rig.retitle_copy(0, list, edited, "Budget of May");
    rig.delete_copy(0, list, deleted);
    rig.cycle(0).await.report();
    assert_eq!(rig.original(list, edited).title, "Budget of May");
    assert!(rig.original(list, deleted).recycled);
}

/// An item that a person creates in the mailbox is private, even in our folders. It never reaches the source.
#[tokio::test]
async fn an_item_that_a_person_creates_in_the_mailbox_stays_their_own() {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    let folder = rig.our_folders(0).pop().unwrap().id;
    for parent_folder in [Some(folder.as_str()), None] {
        let values = CopyEdit {
            subject: Some("Mine".into()),
            ..CopyEdit::default()
        };
        rig.farm
            .exchange
            .person_creates(rig.smtp(0), parent_folder, values)
            .unwrap();
    }
    let before = rig.writes();
    let cycle = rig.cycle(0).await;
    assert!(matches!(cycle, Cycle::Synced(_)));
    assert_eq!(rig.writes(), before);
    rig.assert_settled().await;
}
