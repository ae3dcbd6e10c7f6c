//! The oracle: reads both stores and reports whether they agree. It uses none of tasksync's code.

use std::collections::BTreeMap;

use jiff::civil::Date;

use super::bodies::readable;
use super::farm::Farm;
use super::ledger::{Edit, EditKind, EditSide};
use crate::exchange::{MailboxItemView as Copy, TaskStatus};
use crate::population::{Person, Tenant};
use crate::sharepoint::people::ListItemView as Original;

/// Name of the property that links an item to its task.
const SOURCE_KEY: &str = "TaskSyncSourceKey";

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OracleReport {
    /// Number of copies that should exist.
    pub tasks: usize,
    /// Tasks without a copy.
    pub missing: Vec<String>,
    /// Copies without a task, or of a task that is not the person's.
    pub extra: Vec<String>,
    /// Tasks with more than one copy.
    pub doubled: Vec<String>,
    /// Copies whose values differ.
    pub differing: Vec<String>,
}

impl OracleReport {
    /// Returns whether both sides agree.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.missing.is_empty()
            && self.extra.is_empty()
            && self.doubled.is_empty()
            && self.differing.is_empty()
    }

    /// Returns how many differences of each kind there are, and the first of them.
    #[must_use]
    pub fn summary(&self) -> String {
        let first = self.lines(1).pop().unwrap_or_default();
        format!(
            "{} missing, {} left over, {} doubled, {} differ ({first})",
            self.missing.len(),
            self.extra.len(),
            self.doubled.len(),
            self.differing.len(),
        )
    }

    /// Returns a description of the differences, at most `limit` lines in all.
    #[must_use]
    pub fn lines(&self, limit: usize) -> Vec<String> {
        let kinds = [
            ("missing", &self.missing),
            ("extra", &self.extra),
            ("doubled", &self.doubled),
            ("differing", &self.differing),
        ];
        kinds
            .into_iter()
            .flat_map(|(name, lines)| lines.iter().map(move |line| format!("{name}: {line}")))
            .take(limit)
            .collect()
    }
}

/// Compares the two sides of a farm.
pub struct Oracle<'a> {
    farm: &'a Farm,
}

impl<'a> Oracle<'a> {
    /// Returns an oracle for this farm.
    #[must_use]
    pub fn new(farm: &'a Farm) -> Self {
        Self { farm }
    }

    /// Compares both sides for every person.
    #[must_use]
    pub fn compare_sides(&self) -> OracleReport {
        let mut report = OracleReport::default();
        for (at, tenant) in self.farm.population.tenants.iter().enumerate() {
            let originals = self.originals(at, tenant);
            let mut keys_by_user: BTreeMap<i32, Vec<&str>> = BTreeMap::new();
            for (key, original) in &originals {
                for user in &original.assigned_to {
                    keys_by_user.entry(*user).or_default().push(key);
                }
            }
            let users = self
                .farm
                .applied
                .get(at)
                .map_or(&[][..], |applied| &applied.users);
            for person in &tenant.people {
                let assigned = users
                    .get(person.id)
                    .and_then(|user| keys_by_user.get(user))
                    .map_or(&[][..], Vec::as_slice);
                self.compare(tenant, person, &originals, assigned, &mut report);
            }
        }
        report
    }

    /// Returns the live tasks of a tenant by key.
    fn originals(&self, at: usize, tenant: &Tenant) -> BTreeMap<String, Original> {
        let mut originals = BTreeMap::new();
        let Some(applied) = self.farm.applied.get(at) else {
            return originals;
        };
        for (list, _) in &applied.lists {
            for item in self
                .farm
                .sharepoint
                .items(&tenant.site, *list)
                .unwrap_or_default()
            {
                if !item.recycled {
                    originals.insert(Farm::key(*list, item.id), item);
                }
            }
        }
        originals
    }

    fn compare(
        &self,
        tenant: &Tenant,
        person: &Person,
        originals: &BTreeMap<String, Original>,
        assigned: &[&str],
        report: &mut OracleReport,
    ) {
        let mut copies: BTreeMap<String, Vec<Copy>> = BTreeMap::new();
        for copy in self.farm.exchange.items(&person.smtp) {
            if let Some(key) = copy.named.get(SOURCE_KEY)
                && !copy.in_deleted_items
            {
                copies.entry(key.clone()).or_default().push(copy);
            }
        }
        let name = |key: &str| format!("{} / {} / {key}", tenant.slug, person.smtp);
        for (key, original) in assigned.iter().filter_map(|key| originals.get_key_value(*key)) {
            report.tasks += 1;
            match copies.remove(key).unwrap_or_default().as_slice() {
                [] => report
                    .missing
                    .push(format!("{} \"{}\"", name(key), original.title)),
                [copy] => report.differing.extend(
                    differences(original, copy)
                        .into_iter()
                        .map(|what| format!("{}: {what}", name(key))),
                ),
                more => report
                    .doubled
                    .push(format!("{} ({} copies)", name(key), more.len())),
            }
        }
        report.extra.extend(copies.keys().map(|key| name(key)));
    }

    /// Returns whether the other side shows this edit.
    #[must_use]
    pub fn shows(&self, edit: &Edit) -> bool {
        let Some(tenant) = self.farm.population.tenants.get(edit.tenant) else {
            return false;
        };
        let key = Farm::key(edit.list, edit.item);
        let original = self.farm.sharepoint.item(&tenant.site, edit.list, edit.item);
        let copies = |person: usize| -> Vec<Copy> {
            let Some(person) = tenant.people.get(person) else {
                return Vec::new();
            };
            self.farm
                .exchange
                .items(&person.smtp)
                .into_iter()
                .filter(|copy| !copy.in_deleted_items && copy.named.get(SOURCE_KEY) == Some(&key))
                .collect()
        };
        let in_mailbox = || {
            copies(edit.person)
                .iter()
                .any(|copy| copy_shows(&edit.kind, copy))
        };
        let at_source = || {
            original
                .as_ref()
                .is_some_and(|original| original_shows(&edit.kind, original))
        };
        match (&edit.kind, edit.side) {
            (EditKind::Deleted, EditSide::Source) => copies(edit.person).is_empty(),
            (EditKind::Deleted, EditSide::Mailbox | EditSide::Both) => {
                original.is_none_or(|original| original.recycled)
            }
            (EditKind::Reassigned(before, after), _) => {
                copies(*before).is_empty() && copies(*after).len() == 1
            }
            (_, EditSide::Source) => in_mailbox(),
            (_, EditSide::Mailbox) => at_source(),
            (_, EditSide::Both) => in_mailbox() && at_source(),
        }
    }
}

pub(super) fn copy_shows(kind: &EditKind, copy: &Copy) -> bool {
    match kind {
        EditKind::Title(title) | EditKind::Created(title) => copy.subject == *title,
        EditKind::Due(due) => copy.due == Some(*due),
        EditKind::Body(word) => copy.body.as_ref().is_some_and(|body| body.contains(word)),
        EditKind::Importance(importance) => copy.importance == *importance,
        EditKind::Progress(status, percent) => {
            copy.status == *status && (copy.percent - percent).abs() < 0.01
        }
        EditKind::Deleted | EditKind::Reassigned(..) => false,
    }
}

pub(super) fn original_shows(kind: &EditKind, original: &Original) -> bool {
    match kind {
        EditKind::Title(title) | EditKind::Created(title) => original.title == *title,
        EditKind::Due(due) => original.due == Some(*due),
        EditKind::Body(word) => original.body.contains(word),
        EditKind::Importance(importance) => importance_of(original.priority) == Some(*importance),
        EditKind::Progress(status, percent) => {
            status_of(original.status) == Some(*status) && (original.percent * 100.0 - percent).abs() < 0.01
        }
        EditKind::Deleted | EditKind::Reassigned(..) => false,
    }
}

fn importance_of(priority: u8) -> Option<&'static str> {
    match priority {
        1 => Some("High"),
        2 => Some("Normal"),
        3 => Some("Low"),
        _ => None,
    }
}

fn status_of(status: u8) -> Option<TaskStatus> {
    match status {
        1 => Some(TaskStatus::NotStarted),
        2 => Some(TaskStatus::InProgress),
        3 => Some(TaskStatus::Completed),
        4 => Some(TaskStatus::Deferred),
        5 => Some(TaskStatus::WaitingOnOthers),
        _ => None,
    }
}

/// Returns the status and percent that a copy must show. In SharePoint the two may contradict each other.
fn progress_in_mailbox(status: u8, percent: f64) -> (Option<TaskStatus>, f64) {
    let percent = (percent * 100.0 * 100.0).round() / 100.0;
    match status_of(status) {
        _ if percent >= 100.0 => (Some(TaskStatus::Completed), 100.0),
        Some(TaskStatus::Completed) => (Some(TaskStatus::Completed), 100.0),
        Some(TaskStatus::NotStarted) if percent > 0.0 => (Some(TaskStatus::InProgress), percent),
        other => (other, percent),
    }
}

/// Returns the due date that a copy must show. In a mailbox no task is due before it starts, and a task with a start
/// but no due date is due on the day it starts.
fn due_in_mailbox(start: Option<Date>, due: Option<Date>) -> Option<Date> {
    match (start, due) {
        (Some(start), Some(due)) => Some(due.max(start)),
        (Some(start), None) => Some(start),
        (None, due) => due,
    }
}

fn differences(original: &Original, copy: &Copy) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |same: bool, what: &str, here: String, there: String| {
        if !same {
            found.push(format!("{what}: source {here}, mailbox {there}"));
        }
    };
    check(
        original.title.trim() == copy.subject.trim(),
        "title",
        format!("{:?}", original.title),
        format!("{:?}", copy.subject),
    );
    check(
        original.start == copy.start,
        "start",
        format!("{:?}", original.start),
        format!("{:?}", copy.start),
    );
    let due = due_in_mailbox(original.start, original.due);
    check(
        due == copy.due,
        "due",
        format!("{due:?}"),
        format!("{:?}", copy.due),
    );
    let (status, percent) = progress_in_mailbox(original.status, original.percent);
    let just_started = copy.status == TaskStatus::InProgress && copy.percent <= 1.0 && percent <= 1.0;
    check(
        status.is_none_or(|status| {
            status == copy.status && ((percent - copy.percent).abs() < 0.01 || just_started)
        }),
        "progress",
        format!("{status:?} {percent}"),
        format!("{:?} {}", copy.status, copy.percent),
    );
    let importance = importance_of(original.priority);
    check(
        importance.is_none_or(|importance| importance == copy.importance),
        "importance",
        format!("{importance:?}"),
        copy.importance.clone(),
    );
    let (original_body, copy_body) = (
        readable(&original.body),
        readable(copy.body.as_deref().unwrap_or_default()),
    );
    check(
        original_body == copy_body,
        "description",
        original_body.chars().take(60).collect(),
        copy_body.chars().take(60).collect(),
    );
    found
}
