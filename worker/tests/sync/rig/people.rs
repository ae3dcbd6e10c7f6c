//! Actions of people on both servers, and views of the results.

use std::sync::atomic::Ordering;

use jiff::SignedDuration;
use jiff::civil::date;
use tasksync_loadtest::exchange::{FolderView, MailboxItemEdit as CopyEdit, MailboxItemView as Copy};
use tasksync_loadtest::population::Person;
use tasksync_loadtest::sharepoint::people::{
    ItemId, ListId, ListItemEdit, ListItemView as Original, ListSpec,
};
use tasksync_loadtest::trial::Farm;

use super::Rig;

impl Rig {
    pub(crate) fn person(&self, person: usize) -> &Person {
        &self.farm.population.tenants[0].people[person]
    }

    pub(crate) fn smtp(&self, person: usize) -> &str {
        &self.person(person).smtp
    }

    /// Returns the person's id on the site.
    pub(crate) fn site_user(&self, person: usize) -> i32 {
        self.farm.applied[0].users[person]
    }

    pub(crate) fn site(&self) -> &str {
        &self.farm.population.tenants[0].site
    }

    pub(crate) fn add_list(&mut self, spec: &ListSpec) -> ListId {
        let list = self.farm.sharepoint.add_list(self.site(), spec).unwrap();
        self.farm.applied[0].lists.push((list, Vec::new()));
        list
    }

    /// Adds a list of the template for tasks.
    pub(crate) fn tasks_list(&mut self, title: &str) -> ListId {
        self.add_list(&ListSpec::new(title, 171))
    }

    /// Adds a task that is assigned to a person.
    pub(crate) fn add_task(&self, list: ListId, person: usize, title: &str) -> ItemId {
        self.add_task_with(
            list,
            person,
            ListItemEdit {
                title: Some(title.to_owned()),
                body: Some(format!("<p>About <b>{title}</b></p>")),
                start: Some(Some(date(2026, 11, 2))),
                due: Some(Some(date(2026, 11, 20))),
                ..ListItemEdit::default()
            },
        )
    }

    pub(crate) fn add_task_with(&self, list: ListId, person: usize, edit: ListItemEdit) -> ItemId {
        let user = self.site_user(person);
        let edit = ListItemEdit {
            assigned_to: edit.assigned_to.or_else(|| Some(vec![user])),
            ..edit
        };
        self.farm
            .sharepoint
            .person_creates(self.site(), list, edit, user)
            .unwrap()
    }

    pub(crate) fn edit_original(&self, list: ListId, item: ItemId, edit: ListItemEdit) {
        let by = self.site_user(0);
        self.farm
            .sharepoint
            .person_edits(self.site(), list, item, edit, by)
            .unwrap();
    }

    pub(crate) fn retitle_original(&self, list: ListId, item: ItemId, title: &str) {
        self.edit_original(
            list,
            item,
            ListItemEdit {
                title: Some(title.to_owned()),
                ..ListItemEdit::default()
            },
        );
    }

    /// Sets a completed task back to half done, as a colleague.
    pub(crate) fn reopen_original(&self, list: ListId, item: ItemId) {
        let edit = ListItemEdit {
            status: Some(2),
            percent: Some(0.5),
            ..ListItemEdit::default()
        };
        self.edit_original(list, item, edit);
    }

    pub(crate) fn assign(&self, list: ListId, item: ItemId, people: &[usize]) {
        let to: Vec<i32> = people.iter().map(|person| self.site_user(*person)).collect();
        self.farm
            .sharepoint
            .person_assigns(self.site(), list, item, &to, self.site_user(0))
            .unwrap();
    }

    pub(crate) fn delete_original(&self, list: ListId, item: ItemId) {
        self.farm
            .sharepoint
            .person_deletes(self.site(), list, item)
            .unwrap();
    }

    pub(crate) fn original(&self, list: ListId, item: ItemId) -> Original {
        let items = self.farm.sharepoint.items(self.site(), list).unwrap();
        items.into_iter().find(|found| found.id == item).unwrap()
    }

    /// Returns every copy of a task in a mailbox, except those in Deleted Items.
    pub(crate) fn copies(&self, person: usize, list: ListId, item: ItemId) -> Vec<Copy> {
        let key = Farm::key(list, item);
        let mut copies = self.farm.exchange.items(self.smtp(person));
        copies.retain(|copy| !copy.in_deleted_items && copy.named.get("TaskSyncSourceKey") == Some(&key));
        copies
    }

    /// Returns the only copy of a task.
    pub(crate) fn copy(&self, person: usize, list: ListId, item: ItemId) -> Copy {
        let mut copies = self.copies(person, list, item);
        assert_eq!(copies.len(), 1, "{copies:#?}");
        copies.pop().unwrap()
    }

    pub(crate) fn edit_copy(&self, person: usize, list: ListId, item: ItemId, edit: CopyEdit) -> Copy {
        let copy = self.copy(person, list, item);
        self.farm
            .exchange
            .person_edits(self.smtp(person), &copy.id, edit)
            .unwrap()
    }

    pub(crate) fn retitle_copy(&self, person: usize, list: ListId, item: ItemId, title: &str) -> Copy {
        self.edit_copy(
            person,
            list,
            item,
            CopyEdit {
                subject: Some(title.to_owned()),
                ..CopyEdit::default()
            },
        )
    }

    /// Deletes a copy as a person in Outlook.
    pub(crate) fn delete_copy(&self, person: usize, list: ListId, item: ItemId) {
        let copy = self.copy(person, list, item);
        self.farm
            .exchange
            .person_deletes(self.smtp(person), &copy.id, true)
            .unwrap();
    }

    /// Returns the mailbox's default task folder.
    pub(crate) fn own_folder(&self, person: usize) -> FolderView {
        let folders = self.farm.exchange.folders(self.smtp(person));
        folders
            .into_iter()
            .find(|folder| folder.distinguished == Some("tasks"))
            .unwrap()
    }

    /// Returns our folders in a mailbox.
    pub(crate) fn our_folders(&self, person: usize) -> Vec<FolderView> {
        let mut folders = self.farm.exchange.folders(self.smtp(person));
        folders.retain(|folder| !folder.in_deleted_items && folder.named.contains_key("TaskSyncLocation"));
        folders
    }

    pub(crate) async fn journal(&self, person: usize) -> Vec<String> {
        let entries = self.registry.journal_of(&self.user(person), 100).await.unwrap();
        entries
            .into_iter()
            .map(|entry| entry.kind.name().to_owned())
            .collect()
    }

    /// Returns the kinds of the person's journal entries about losing edits, newest first.
    pub(crate) async fn conflicts(&self, person: usize) -> Vec<String> {
        let mut kinds = self.journal(person).await;
        kinds.retain(|kind| kind.starts_with("conflict_lost"));
        kinds
    }

    /// Returns all journal entries of a person as JSON.
    pub(crate) async fn journal_text(&self, person: usize) -> String {
        let entries = self.registry.journal_of(&self.user(person), 1_000).await.unwrap();
        serde_json::to_string(&entries).unwrap()
    }

    /// Advances our clock and those of both servers together.
    pub(crate) fn pass_time(&self, by: SignedDuration) {
        self.clock.advance(by);
        let skew = SignedDuration::from_millis(self.clock.0.load(Ordering::SeqCst));
        self.farm.exchange.clock.set_skew(skew);
        self.farm.sharepoint.clock.set_skew(skew);
    }
}
