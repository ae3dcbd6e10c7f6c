//! Simulated people who edit their tasks on both sides, the same for the same seed.

use std::time::Duration;

use jiff::ToSpan as _;
use jiff::civil::{Date, date};
use uuid::Uuid;

use super::farm::Farm;
use super::ledger::{Edit, EditKind, EditSide, Ledger};
use crate::exchange::{MailboxItemEdit as CopyEdit, TaskStatus};
use crate::machine_clock::monotonic;
use crate::sharepoint::people::{ListItemEdit, ListItemView};

/// Words for generated titles.
const WORDS: &[&str] = &[
    "Budget",
    "Café",
    "Übergabe",
    "Release",
    "Audit",
    "日程",
    "Umzug",
    "O'Brien",
    "A & B",
    "<draft>",
];

/// How often each kind of edit is made, as a weight relative to the sum of all weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Habits {
    /// Changes in SharePoint.
    pub at_source: usize,
    /// Changes in the mailbox.
    pub in_mailbox: usize,
    /// New tasks.
    pub create: usize,
    /// Deletions, made on both sides in turn.
    pub delete: usize,
    /// Tasks reassigned to another person.
    pub reassign: usize,
    /// Changes of one task on both sides, one right after the other. Each one takes more than a second of the editor's
    /// time.
    pub conflict: usize,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            at_source: 42,
            in_mailbox: 42,
            create: 6,
            delete: 4,
            reassign: 3,
            conflict: 3,
        }
    }
}

/// Makes edits in the name of every person.
pub struct Editor {
    habits: Habits,
    /// Running totals of the tenants' people, so that each person is equally likely to act.
    people: Vec<usize>,
    dice: u64,
    number: u64,
    deletions: usize,
    rest: Duration,
}

/// A task that can be edited.
struct EditTarget {
    tenant: usize,
    list: Uuid,
    original: ListItemView,
    person: usize,
}

impl Editor {
    /// Returns an editor with this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            habits: Habits::default(),
            people: Vec::new(),
            dice: seed,
            number: 0,
            deletions: 0,
            rest: Duration::ZERO,
        }
    }

    /// Returns an editor that leaves a task alone for `rest` after each edit. Servers report times in whole seconds.
    /// Of two edits on both sides within that time, the later one cannot be determined once the first is no longer
    /// remembered.
    #[must_use]
    pub fn resting(seed: u64, rest: Duration) -> Self {
        Self {
            rest,
            ..Self::new(seed)
        }
    }

    /// Replaces the habits.
    #[must_use]
    pub fn with_habits(self, habits: Habits) -> Self {
        Self { habits, ..self }
    }

    fn roll(&mut self, sides: usize) -> usize {
        self.dice = self
            .dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let high = usize::try_from(self.dice >> 33).unwrap_or(0);
        high % sides.max(1)
    }

    fn title(&mut self) -> String {
        self.number += 1;
        let word = WORDS.get(self.roll(WORDS.len())).copied().unwrap_or("Task");
        format!("{word} no. {}", self.number)
    }

    fn day(&mut self) -> Date {
        let days = i64::try_from(self.roll(400)).unwrap_or(0);
        date(2026, 6, 1).saturating_add(days.days())
    }

    /// Makes one edit, of a task that has no unseen edit. Returns `None` if it found no such task.
    ///
    /// # Errors
    /// The refusal of a simulated server.
    pub fn act(&mut self, farm: &Farm, ledger: &mut Ledger) -> Result<Option<EditKind>, String> {
        let Some(target) = self.target(farm, ledger) else {
            return Ok(None);
        };
        let habits = self.habits;
        let mut bound = 0;
        let mut below = |part: usize| {
            bound += part;
            bound
        };
        let (at_source, in_mailbox) = (below(habits.at_source), below(habits.in_mailbox));
        let (create, delete, reassign) = (below(habits.create), below(habits.delete), below(habits.reassign));
        let edit = match self.roll(below(habits.conflict)) {
            roll if roll < at_source => self.at_source(farm, &target)?,
            roll if roll < in_mailbox => self.in_mailbox(farm, &target)?,
            roll if roll < create => self.create(farm, &target)?,
            roll if roll < delete => self.delete(farm, &target)?,
            roll if roll < reassign => self.reassign(farm, &target)?,
            _ => self.conflict(farm, &target)?,
        };
        let Some((item, side, kind)) = edit else {
            return Ok(None);
        };
        ledger.push(Edit {
            tenant: target.tenant,
            person: target.person,
            list: target.list,
            item,
            side,
            kind: kind.clone(),
            at: monotonic(),
            seen: None,
        });
        Ok(Some(kind))
    }

    /// Picks a free task, and one of the people it is assigned to who has a copy of it.
    fn target(&mut self, farm: &Farm, ledger: &Ledger) -> Option<EditTarget> {
        for _ in 0..20 {
            let at = self.tenant(farm);
            let (tenant, applied) = (farm.population.tenants.get(at)?, farm.applied.get(at)?);
            let list = applied.lists.get(self.roll(applied.lists.len()))?.0;
            let highest = usize::try_from(farm.sharepoint.last_item(&tenant.site, list)).unwrap_or(0);
            let from = i32::try_from(self.roll(highest) + 1).unwrap_or(1);
            let Some(original) = farm.sharepoint.item_from(&tenant.site, list, from) else {
                continue;
            };
            let assigned = self.roll(original.assigned_to.len());
            let Some(user) = original.assigned_to.get(assigned).copied() else {
                continue;
            };
            // The ids of people increase with their numbers.
            let Ok(person) = applied.users.binary_search(&user) else {
                continue;
            };
            if ledger.is_open(list, original.id) || ledger.is_recent(list, original.id, self.rest) {
                continue;
            }
            let target = EditTarget {
                tenant: at,
                list,
                original,
                person,
            };
            if copy_of(farm, &target).is_some() {
                return Some(target);
            }
        }
        None
    }

    /// Picks the tenant of a random person.
    fn tenant(&mut self, farm: &Farm) -> usize {
        if self.people.is_empty() {
            let sizes = farm.population.tenants.iter().map(|tenant| tenant.people.len());
            self.people = sizes
                .scan(0, |sum, size| {
                    *sum += size;
                    Some(*sum)
                })
                .collect();
        }
        let person = self.roll(self.people.last().copied().unwrap_or(0));
        self.people.partition_point(|sum| *sum <= person)
    }

    fn change(&mut self) -> EditKind {
        match self.roll(10) {
            0..=3 => EditKind::Title(self.title()),
            4 | 5 => EditKind::Due(self.day()),
            6 => {
                self.number += 1;
                EditKind::Body(format!("remark{}", self.number))
            }
            7 => EditKind::Importance(
                ["Low", "Normal", "High"]
                    .get(self.roll(3))
                    .copied()
                    .unwrap_or("High"),
            ),
            8 => EditKind::Progress(TaskStatus::Completed, 100.0),
            _ => {
                let percent = u32::try_from(5 + self.roll(90)).unwrap_or(50);
                EditKind::Progress(TaskStatus::InProgress, f64::from(percent))
            }
        }
    }

    fn at_source(
        &mut self,
        farm: &Farm,
        target: &EditTarget,
    ) -> Result<Option<(i32, EditSide, EditKind)>, String> {
        let kind = self.change();
        apply_at_source(farm, target, &kind)?;
        Ok(Some((target.original.id, EditSide::Source, kind)))
    }

    fn in_mailbox(
        &mut self,
        farm: &Farm,
        target: &EditTarget,
    ) -> Result<Option<(i32, EditSide, EditKind)>, String> {
        let kind = self.change();
        let Some((smtp, id)) = copy_of(farm, target) else {
            return Ok(None);
        };
        apply_in_mailbox(farm, &smtp, &id, &kind)?;
        Ok(Some((target.original.id, EditSide::Mailbox, kind)))
    }

    fn create(
        &mut self,
        farm: &Farm,
        target: &EditTarget,
    ) -> Result<Option<(i32, EditSide, EditKind)>, String> {
        let title = self.title();
        let user = target.original.assigned_to.first().copied().unwrap_or_default();
        let person = user_of(farm, target);
        let edit = ListItemEdit {
            title: Some(title.clone()),
            due: Some(Some(self.day())),
            assigned_to: Some(vec![person.unwrap_or(user)]),
            ..ListItemEdit::default()
        };
        let item = farm
            .sharepoint
            .person_creates(site(farm, target), target.list, edit, user)?;
        Ok(Some((item, EditSide::Source, EditKind::Created(title))))
    }

    /// Deletes a task. Deletions are rare, so that the guard has no reason to hold them.
    fn delete(
        &mut self,
        farm: &Farm,
        target: &EditTarget,
    ) -> Result<Option<(i32, EditSide, EditKind)>, String> {
        // A deletion in one person's mailbox deletes the task for all its people, so only tasks of one person are
        // deleted there.
        self.deletions += 1;
        if self.deletions.is_multiple_of(2) && target.original.assigned_to.len() == 1 {
            let Some((smtp, id)) = copy_of(farm, target) else {
                return Ok(None);
            };
            farm.exchange
                .person_deletes(&smtp, &id, true)
                .map_err(|error| error.to_string())?;
            return Ok(Some((target.original.id, EditSide::Mailbox, EditKind::Deleted)));
        }
        farm.sharepoint
            .person_deletes(site(farm, target), target.list, target.original.id)?;
        Ok(Some((target.original.id, EditSide::Source, EditKind::Deleted)))
    }

    fn reassign(
        &mut self,
        farm: &Farm,
        target: &EditTarget,
    ) -> Result<Option<(i32, EditSide, EditKind)>, String> {
        let Some(applied) = farm.applied.get(target.tenant) else {
            return Ok(None);
        };
        let to = self.roll(applied.users.len());
        let Some(user) = applied.users.get(to).copied() else {
            return Ok(None);
        };
        if target.original.assigned_to.contains(&user) {
            return Ok(None);
        }
        farm.sharepoint
            .person_assigns(site(farm, target), target.list, target.original.id, &[user], user)?;
        Ok(Some((
            target.original.id,
            EditSide::Source,
            EditKind::Reassigned(target.person, to),
        )))
    }

    /// Sets a title on both sides before the next sync. The one in the mailbox is later by more than a second.
    fn conflict(
        &mut self,
        farm: &Farm,
        target: &EditTarget,
    ) -> Result<Option<(i32, EditSide, EditKind)>, String> {
        let (first, second) = (EditKind::Title(self.title()), EditKind::Title(self.title()));
        let Some((smtp, id)) = copy_of(farm, target) else {
            return Ok(None);
        };
        apply_at_source(farm, target, &first)?;
        std::thread::sleep(std::time::Duration::from_millis(1_100));
        // If a sync comes in between, the item has a new version, and this is an ordinary second edit.
        apply_in_mailbox(farm, &smtp, &id, &second)?;
        Ok(Some((target.original.id, EditSide::Both, second)))
    }
}

fn site<'a>(farm: &'a Farm, target: &EditTarget) -> &'a str {
    farm.population
        .tenants
        .get(target.tenant)
        .map_or("", |tenant| tenant.site.as_str())
}

fn user_of(farm: &Farm, target: &EditTarget) -> Option<i32> {
    farm.applied.get(target.tenant)?.users.get(target.person).copied()
}

fn apply_at_source(farm: &Farm, target: &EditTarget, kind: &EditKind) -> Result<(), String> {
    let mut edit = ListItemEdit::default();
    match kind {
        EditKind::Title(title) => edit.title = Some(title.clone()),
        EditKind::Due(due) => {
            edit.due = Some(Some(*due));
            edit.start = Some(None);
        }
        EditKind::Body(word) => edit.body = Some(format!("<p>A <b>{word}</b> of the team</p>")),
        EditKind::Importance(importance) => {
            edit.priority = Some(match *importance {
                "High" => 1,
                "Normal" => 2,
                _ => 3,
            });
        }
        EditKind::Progress(status, percent) => {
            edit.status = Some(if *status == TaskStatus::Completed { 3 } else { 2 });
            edit.percent = Some(percent / 100.0);
        }
        EditKind::Created(_) | EditKind::Deleted | EditKind::Reassigned(..) => return Ok(()),
    }
    let by = user_of(farm, target).unwrap_or_default();
    farm.sharepoint
        .person_edits(site(farm, target), target.list, target.original.id, edit, by)
}

fn apply_in_mailbox(farm: &Farm, smtp: &str, id: &str, kind: &EditKind) -> Result<(), String> {
    let mut edit = CopyEdit::default();
    match kind {
        EditKind::Title(title) => edit.subject = Some(title.clone()),
        EditKind::Due(due) => {
            edit.start = Some(None);
            edit.due = Some(Some(*due));
        }
        EditKind::Body(word) => edit.body = Some(Some(format!("A {word} of mine"))),
        EditKind::Importance(importance) => edit.importance = Some((*importance).to_owned()),
        EditKind::Progress(status, percent) => {
            edit.percent = Some(*percent);
            edit.status = Some(*status);
        }
        EditKind::Created(_) | EditKind::Deleted | EditKind::Reassigned(..) => return Ok(()),
    }
    farm.exchange
        .person_edits(smtp, id, edit)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Returns the address of the person's mailbox, and the id of their copy in it.
fn copy_of(farm: &Farm, target: &EditTarget) -> Option<(String, String)> {
    let person = farm
        .population
        .tenants
        .get(target.tenant)?
        .people
        .get(target.person)?;
    let key = Farm::key(target.list, target.original.id);
    farm.exchange
        .items(&person.smtp)
        .into_iter()
        .find(|copy| !copy.in_deleted_items && copy.named.get("TaskSyncSourceKey") == Some(&key))
        .map(|copy| (person.smtp.clone(), copy.id))
}
