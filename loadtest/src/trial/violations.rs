//! The values that every task must have at the end, given its first values and the edits. Both sides might agree on a
//! wrong value.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use super::bodies::readable;
use super::farm::Farm;
use super::ledger::{Edit, EditKind, EditSide};
use super::oracle::{copy_shows, original_shows};
use crate::sharepoint::people::ListItemView as Original;

/// Every task as it was before the first edit.
#[derive(Debug, Default)]
pub struct InitialTasks {
    before: HashMap<(usize, Uuid, i32), Original>,
}

/// Differences from what people entered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Violations {
    /// Dates that differ from those that people set.
    pub shifted: Vec<String>,
    /// Other values that differ from those that people set.
    pub altered: Vec<String>,
    /// Tasks in the recycle bin that no person deleted.
    pub deleted: Vec<String>,
    /// Values set by people that are lost: on neither side, in no recycle bin, not in Deleted Items and not in the
    /// journal.
    pub gone: Vec<String>,
}

impl Violations {
    /// Returns a description of everything found, at most `limit` lines of each kind.
    #[must_use]
    pub fn lines(&self, limit: usize) -> Vec<String> {
        let kinds = [
            ("shifted", &self.shifted),
            ("altered", &self.altered),
            ("deleted", &self.deleted),
            ("gone", &self.gone),
        ];
        kinds
            .into_iter()
            .flat_map(|(name, lines)| {
                lines
                    .iter()
                    .take(limit)
                    .map(move |line| format!("{name}: {line}"))
            })
            .collect()
    }
}

impl InitialTasks {
    /// Records every task that exists now.
    #[must_use]
    pub fn record(farm: &Farm) -> Self {
        let mut before = HashMap::new();
        for (at, list, item) in tasks(farm) {
            before.insert((at, list, item.id), item);
        }
        Self { before }
    }

    /// Compares every task with the values it must have. `journal` returns the text of a person's journal, by tenant
    /// and person.
    #[must_use]
    pub fn find_violations<'e>(
        &self,
        farm: &Farm,
        edits: impl Iterator<Item = &'e Edit>,
        journal: impl Fn(usize, usize) -> String,
    ) -> Violations {
        let mut last: BTreeMap<(usize, Uuid, i32, &'static str), &Edit> = BTreeMap::new();
        let mut deleted_by_edit: BTreeSet<(usize, Uuid, i32)> = BTreeSet::new();
        for edit in edits {
            // The title set at creation counts as a title edit.
            let name = if matches!(edit.kind, EditKind::Created(_)) {
                "title"
            } else {
                edit.kind.name()
            };
            last.insert((edit.tenant, edit.list, edit.item, name), edit);
            if edit.kind == EditKind::Deleted {
                deleted_by_edit.insert((edit.tenant, edit.list, edit.item));
            }
        }
        let mut found = Violations::default();
        for (tenant, list, item) in tasks(farm) {
            let task = format!("{tenant} / {}", Farm::key(list, item.id));
            if deleted_by_edit.contains(&(tenant, list, item.id)) {
                continue;
            }
            if item.recycled {
                found.deleted.push(format!("{task} {:?}", item.title));
                continue;
            }
            let edited = |name| last.get(&(tenant, list, item.id, name)).copied();
            let edits = ["title", "due date", "description", "importance", "progress"];
            for edit in edits.into_iter().filter_map(edited) {
                if original_shows(&edit.kind, &item) {
                    continue;
                }
                let line = format!("{task}: {:?} set in {:?} is missing", edit.kind, edit.side);
                if matches!(edit.kind, EditKind::Due(_)) {
                    found.shifted.push(line.clone());
                } else {
                    found.altered.push(line.clone());
                }
                if !is_anywhere(farm, edit, &item, &journal) {
                    found.gone.push(line);
                }
            }
            let Some(before) = self.before.get(&(tenant, list, item.id)) else {
                continue;
            };
            let mut same = |holds: bool, lines: fn(&mut Violations) -> &mut Vec<String>, what: String| {
                if !holds {
                    lines(&mut found).push(format!("{task}: {what}"));
                }
            };
            if edited("due date").is_none() {
                same(
                    (before.start, before.due) == (item.start, item.due),
                    |found| &mut found.shifted,
                    format!(
                        "{:?} to {:?} became {:?} to {:?}",
                        before.start, before.due, item.start, item.due
                    ),
                );
            }
            if edited("title").is_none() {
                same(
                    before.title == item.title,
                    |found| &mut found.altered,
                    format!("title {:?} became {:?}", before.title, item.title),
                );
            }
            if edited("description").is_none() {
                same(
                    readable(&before.body) == readable(&item.body),
                    |found| &mut found.altered,
                    "another description".to_owned(),
                );
            }
            if edited("importance").is_none() {
                same(
                    before.priority == item.priority,
                    |found| &mut found.altered,
                    format!("priority {} became {}", before.priority, item.priority),
                );
            }
            if edited("progress").is_none() {
                same(
                    before.status == item.status && (before.percent - item.percent).abs() < 1e-6,
                    |found| &mut found.altered,
                    format!(
                        "status {} at {} became {} at {}",
                        before.status, before.percent, item.status, item.percent
                    ),
                );
            }
        }
        found
    }
}

fn tasks(farm: &Farm) -> impl Iterator<Item = (usize, Uuid, Original)> {
    farm.population
        .tenants
        .iter()
        .zip(&farm.applied)
        .enumerate()
        .flat_map(move |(at, (tenant, applied))| {
            applied.lists.iter().flat_map(move |(list, _)| {
                let items = farm.sharepoint.items(&tenant.site, *list).unwrap_or_default();
                items.into_iter().map(move |item| (at, *list, item))
            })
        })
}

/// Returns whether the value that an edit set still exists anywhere.
fn is_anywhere(
    farm: &Farm,
    edit: &Edit,
    original: &Original,
    journal: impl Fn(usize, usize) -> String,
) -> bool {
    if original_shows(&edit.kind, original) {
        return true;
    }
    let key = Farm::key(edit.list, edit.item);
    let people = farm
        .population
        .tenants
        .get(edit.tenant)
        .map_or(&[][..], |tenant| tenant.people.as_slice());
    let copies = people
        .get(edit.person)
        .into_iter()
        .flat_map(|person| farm.exchange.items(&person.smtp));
    let copy_has_it = copies
        .filter(|copy| copy.named.get("TaskSyncSourceKey") == Some(&key))
        .any(|copy| copy_shows(&edit.kind, &copy));
    if copy_has_it {
        return true;
    }
    let value = match &edit.kind {
        EditKind::Title(text) | EditKind::Created(text) | EditKind::Body(text) => text.clone(),
        EditKind::Due(date) => date.to_string(),
        EditKind::Importance(name) => (*name).to_owned(),
        EditKind::Progress(_, percent) => format!("{percent}"),
        EditKind::Deleted | EditKind::Reassigned(..) => return true,
    };
    // The value as it appears in JSON.
    let value = serde_json::Value::from(value).to_string();
    let value = value.trim_matches('"');
    // The value of an edit at the source can be in the journals of all the people who have the task.
    let readers: Vec<usize> = match edit.side {
        EditSide::Mailbox => vec![edit.person],
        EditSide::Source | EditSide::Both => (0..people.len()).collect(),
    };
    readers
        .into_iter()
        .any(|person| journal(edit.tenant, person).contains(value))
}
