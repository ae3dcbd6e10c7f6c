//! Columns of a task list: found by their GUIDs, read into a task and written from one. Pure.
//!
//! Built-in lists name the columns `Status` and `DueDate`, lists that got the Task content type later `TaskStatus` and
//! `TaskDueDate`; the GUIDs are the same everywhere.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value, json};
use tasksync_common::model::{Field, FieldSet, Percent, Status, Task, cut_utf16};
use uuid::{Uuid, uuid};

use super::choices::{PriorityChoices, Schema, StatusChoices};
use super::zone::{Midnight, Zone};
use super::{body, odata};

const TITLE: Uuid = uuid!("fa564e0f-0c70-4ab9-b863-0177e6ddd247");
const BODY: Uuid = uuid!("7662cd2c-f069-4dba-9e35-082cf976e170");
const START: Uuid = uuid!("64cd368d-2f95-4bfc-a1f9-8d4324ecb007");
const DUE: Uuid = uuid!("cd21b4c2-6841-4f9e-a23a-738a65f99889");
const STATUS: Uuid = uuid!("c15b34c3-ce7d-490a-b133-3f4de8801b76");
const PERCENT: Uuid = uuid!("d2311440-1ed6-46ea-b46d-daa643dc3886");
const PRIORITY: Uuid = uuid!("a8eb573e-9e11-481a-a8c9-1104a54b2fbd");
const ASSIGNED: Uuid = uuid!("53101f38-dd2e-458c-b245-0c236cc13d1a");
const COMPLETED: Uuid = uuid!("24bfa3c2-e6a0-4651-80e9-3db44bf52147");
const ACTUAL_WORK: Uuid = uuid!("b0b3407e-1c33-40ed-a37c-2430b7a5d081");
const TOTAL_WORK: Uuid = uuid!("f3c4a259-19a2-44b8-ab3d-e9145d07d538");

/// Titles and subjects hold so many UTF-16 units.
const LONGEST_TITLE: usize = 255;

/// A date column.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DateColumn {
    name: String,
    date_only: bool,
}

/// The columns of a list that tasksync knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    title: String,
    /// Name, and whether it is rich text.
    body: Option<(String, bool)>,
    start: Option<DateColumn>,
    due: Option<DateColumn>,
    completed: Option<DateColumn>,
    status: Option<(String, StatusChoices)>,
    percent: Option<String>,
    priority: Option<(String, PriorityChoices)>,
    assigned: String,
    actual_work: Option<String>,
    total_work: Option<String>,
}

impl Columns {
    /// Reads the answer of `fields`; `None` when the list has no column of people tasks are assigned to.
    pub(super) fn read(value: &Value) -> Option<Self> {
        let mut columns: HashMap<Uuid, (&Value, String, Schema)> = HashMap::new();
        for column in odata::entries(value)? {
            if let (Some(id), Some(name)) = (odata::guid(column, "Id"), odata::text(column, "InternalName")) {
                let schema = Schema::read(&odata::text(column, "SchemaXml").unwrap_or_default());
                columns.insert(id, (column, name, schema));
            }
        }
        let name = |id: Uuid| columns.get(&id).map(|(_, name, _)| name.clone());
        let date = |id: Uuid| {
            let (column, name, schema) = columns.get(&id)?;
            let date_only = match (
                odata::integer(column, "DisplayFormat"),
                schema.attribute("Format"),
            ) {
                (Some(format), _) => format == 0,
                (None, Some(format)) => format.eq_ignore_ascii_case("DateOnly"),
                (None, None) => true,
            };
            Some(DateColumn {
                name: name.clone(),
                date_only,
            })
        };
        let choices = |id: Uuid| {
            let (column, name, schema) = columns.get(&id)?;
            let mut choices = odata::texts(column, "Choices");
            if choices.is_empty() {
                choices.clone_from(&schema.choices);
            }
            Some((name.clone(), choices, schema))
        };
        Some(Self {
            title: name(TITLE).unwrap_or_else(|| "Title".to_owned()),
            // An append-only column shows its history elsewhere and would grow with every write.
            body: columns
                .get(&BODY)
                .filter(|(_, _, schema)| !schema.says("AppendOnly"))
                .map(|(column, name, schema)| {
                    let rich = odata::boolean(column, "RichText").unwrap_or_else(|| schema.says("RichText"));
                    (name.clone(), rich)
                }),
            start: date(START),
            due: date(DUE),
            completed: date(COMPLETED),
            status: choices(STATUS)
                .map(|(name, choices, schema)| (name, StatusChoices::new(&choices, &schema.mappings)))
                .filter(|(_, choices)| choices.is_known()),
            percent: name(PERCENT),
            priority: choices(PRIORITY)
                .and_then(|(name, choices, _)| Some((name, PriorityChoices::new(&choices)?))),
            assigned: name(ASSIGNED)?,
            actual_work: name(ACTUAL_WORK),
            total_work: name(TOTAL_WORK),
        })
    }

    /// Which fields tasks of the list can hold.
    pub(super) fn holds(&self) -> FieldSet {
        [
            (Field::Title, true),
            (Field::Body, self.body.is_some()),
            (Field::Start, self.start.is_some()),
            (Field::Due, self.due.is_some()),
            (Field::Progress, self.status.is_some() || self.percent.is_some()),
            (Field::Importance, self.priority.is_some()),
            (Field::ActualWork, self.actual_work.is_some()),
            (Field::TotalWork, self.total_work.is_some()),
        ]
        .into_iter()
        .filter(|(_, held)| *held)
        .fold(FieldSet::EMPTY, |set, (field, _)| set.with(field))
    }

    /// The internal name of the people column, for CAML.
    pub(super) fn assigned(&self) -> &str {
        &self.assigned
    }

    /// The `$select` of an item with everything tasksync reads.
    pub(super) fn select(&self) -> String {
        let mut names = vec![
            "Id".to_owned(),
            "Modified".to_owned(),
            "HasUniqueRoleAssignments".to_owned(),
            format!("{}Id", property(&self.assigned)),
            property(&self.title),
        ];
        let dates = [&self.start, &self.due, &self.completed]
            .into_iter()
            .flatten()
            .map(|column| &column.name);
        let others = [&self.percent, &self.actual_work, &self.total_work]
            .into_iter()
            .flatten();
        names.extend(
            dates
                .chain(others)
                .chain(self.body.iter().map(|(name, _)| name))
                .chain(self.status.iter().map(|(name, _)| name))
                .chain(self.priority.iter().map(|(name, _)| name))
                .map(|name| property(name)),
        );
        names.join(",")
    }

    /// Ids of the site users and groups the item is assigned to.
    pub(super) fn assignees(&self, item: &Value) -> Vec<i64> {
        odata::ids(item, &format!("{}Id", property(&self.assigned)))
    }

    /// The task in an item. Status and percent are as the list holds them, even where they contradict each other:
    /// which of them was edited is seen only by whoever knows the earlier values.
    pub(super) fn read_task(&self, item: &Value, zone: &Zone) -> Task {
        let text = |name: &str| odata::text(item, &property(name));
        let date = |column: &Option<DateColumn>| {
            let column = column.as_ref()?;
            let instant = odata::instant(item, &property(&column.name))?;
            if column.date_only {
                zone.date_of_midnight(instant)
            } else {
                Some(zone.date_of_instant(instant))
            }
        };
        let minutes = |name: &Option<String>| {
            let number = odata::number(item, &property(name.as_ref()?))?;
            odata::rounded(number).and_then(|minutes| i32::try_from(minutes).ok())
        };
        let percent = self
            .percent
            .as_ref()
            .map(|name| odata::number(item, &property(name)).map_or(Percent::ZERO, Percent::from_fraction));
        let status = self
            .status
            .as_ref()
            .and_then(|(name, choices)| choices.read(&text(name)?));
        let (status, percent) = match (status, percent) {
            (Some(status), Some(percent)) => (status, percent),
            (Some(Status::Completed), None) => (Status::Completed, Percent::DONE),
            (Some(status), None) => (status, Percent::ZERO),
            (None, percent) => {
                let percent = percent.unwrap_or_default();
                let status = match percent {
                    Percent::ZERO => Status::NotStarted,
                    Percent::DONE => Status::Completed,
                    _ => Status::InProgress,
                };
                (status, percent)
            }
        };
        Task {
            title: text(&self.title).unwrap_or_default().trim().to_owned(),
            body: self.body.as_ref().and_then(|(name, rich)| {
                let content = text(name)?;
                if *rich {
                    body::from_html(&content)
                } else {
                    body::from_text(&content)
                }
            }),
            start: date(&self.start),
            due: date(&self.due),
            status,
            percent,
            completed_at: self
                .completed
                .as_ref()
                .filter(|_| status == Status::Completed)
                .and_then(|column| odata::instant(item, &property(&column.name))),
            importance: self
                .priority
                .as_ref()
                .and_then(|(name, choices)| Some(choices.read(&text(name)?)))
                .unwrap_or_default(),
            actual_work: minutes(&self.actual_work),
            total_work: minutes(&self.total_work),
            ..Task::default()
        }
    }

    /// The dates whose midnights only the server knows, among those that would be written.
    pub(super) fn unknown_midnights(&self, task: &Task, fields: FieldSet, zone: &Zone) -> Vec<Date> {
        self.dates(task, fields, zone)
            .into_iter()
            .filter_map(|(column, date)| date.filter(|_| column.date_only))
            .filter(|date| matches!(zone.midnight(*date), Some(Midnight::AskServer(_))))
            .collect()
    }

    fn dates(&self, task: &Task, fields: FieldSet, zone: &Zone) -> Vec<(&DateColumn, Option<Date>)> {
        let mut dates = Vec::new();
        if let (Some(column), true) = (&self.start, fields.contains(Field::Start)) {
            dates.push((column, task.start));
        }
        if let (Some(column), true) = (&self.due, fields.contains(Field::Due)) {
            dates.push((column, task.due));
        }
        if let (Some(column), true) = (&self.completed, fields.contains(Field::Progress)) {
            let date = task.completed_at.map(|instant| zone.date_of_instant(instant));
            dates.push((column, date));
        }
        dates
    }

    /// The columns to write for these fields. `midnights` are the server's answers for
    /// [`Self::unknown_midnights`].
    pub(super) fn write_task(
        &self,
        task: &Task,
        fields: FieldSet,
        zone: &Zone,
        midnights: &HashMap<Date, Timestamp>,
    ) -> Map<String, Value> {
        let mut columns = Map::new();
        let mut set = |name: &str, value: Value| {
            columns.insert(property(name), value);
        };
        for (column, date) in self.dates(task, fields, zone) {
            let is_completion = self.completed.as_ref() == Some(column);
            if is_completion && task.status == Status::Completed && task.completed_at.is_none() {
                // Completed, but nobody knows when: the list's own rules may set it.
                continue;
            }
            let instant = match task.completed_at {
                Some(instant) if is_completion && !column.date_only => Some(instant),
                _ => date.and_then(|date| match midnights.get(&date) {
                    Some(instant) => Some(*instant),
                    None => match zone.midnight(date)? {
                        Midnight::At(instant) | Midnight::AskServer(instant) => Some(instant),
                    },
                }),
            };
            let instant = instant.filter(|_| !is_completion || task.status == Status::Completed);
            set(
                &column.name,
                instant.map_or(Value::Null, |instant| json!(odata::instant_text(instant))),
            );
        }
        for field in fields.iter() {
            match field {
                Field::Title => set(&self.title, json!(cut_utf16(&task.title, LONGEST_TITLE))),
                Field::Body => {
                    if let Some((name, rich)) = &self.body {
                        let value = task.body.as_ref().map(|content| body::to_column(content, *rich));
                        set(name, json!(value));
                    }
                }
                Field::Progress => {
                    if let Some((name, choices)) = &self.status
                        && let Some(choice) = choices.write(task.status, task.percent)
                    {
                        set(name, json!(choice));
                    }
                    if let Some(name) = &self.percent {
                        set(name, json!(task.percent.as_fraction()));
                    }
                }
                Field::Importance => {
                    if let Some((name, choices)) = &self.priority {
                        set(name, json!(choices.write(task.importance)));
                    }
                }
                Field::ActualWork => {
                    if let Some(name) = &self.actual_work {
                        set(name, json!(task.actual_work));
                    }
                }
                Field::TotalWork => {
                    if let Some(name) = &self.total_work {
                        set(name, json!(task.total_work));
                    }
                }
                // Dates are above; SharePoint has no categories.
                Field::Start | Field::Due | Field::Categories => {}
            }
        }
        columns
    }
}

/// The JSON property of a column: OData allows no leading underscore, SharePoint puts `OData_` in front.
fn property(internal_name: &str) -> String {
    if internal_name.starts_with('_') {
        format!("OData_{internal_name}")
    } else {
        internal_name.to_owned()
    }
}

#[cfg(test)]
pub(super) mod tests;
