//! The columns of a task list: found by their GUIDs, read into a task and written from one. Pure.
//!
//! Built-in lists name the columns `Status` and `DueDate`. Lists that got the Task content type later name
//! them `TaskStatus` and `TaskDueDate`. The GUIDs are the same everywhere.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value, json};
use tasksync_common::model::{Field, FieldSet, Percent, Status, Task, cut_utf16, normal_text};
use tasksync_common::plan::{self, Agreed};
use uuid::{Uuid, uuid};

use super::choices::{PriorityChoices, Schema, StatusChoices};
use super::json::Cell;
use super::zone::{Midnight, Zone};
use super::{body, odata};
use crate::source::TaskChanges;

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

/// UTF-16 units that a title and a subject can hold.
const LONGEST_TITLE: usize = 255;

/// The properties that are read of each column of a list.
pub(super) const COLUMN_PROPERTIES: [&str; 6] = [
    "Id",
    "InternalName",
    "Choices",
    "SchemaXml",
    "DisplayFormat",
    "RichText",
];

/// A date column.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DateColumn {
    name: String,
    date_only: bool,
}

/// The columns of a list that tasksync uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TaskColumns {
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

impl TaskColumns {
    /// Reads the answer of `fields`. Returns `None` if the list has no column for the people to whom tasks
    /// are assigned.
    pub(super) fn read(value: &Cell) -> Option<Self> {
        let mut columns: HashMap<Uuid, (&Cell, String, Schema)> = HashMap::new();
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
            // An append-only column keeps its history elsewhere and would grow with every write.
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

    /// Returns the fields that tasks of the list can hold. Without a zone no date can be read or written.
    pub(super) fn holds(&self, zone: Option<&Zone>) -> FieldSet {
        [
            (Field::Title, true),
            (Field::Body, self.body.is_some()),
            (Field::Start, self.start.is_some() && zone.is_some()),
            (Field::Due, self.due.is_some() && zone.is_some()),
            (Field::Progress, self.status.is_some() || self.percent.is_some()),
            (Field::Importance, self.priority.is_some()),
            (Field::ActualWork, self.actual_work.is_some()),
            (Field::TotalWork, self.total_work.is_some()),
        ]
        .into_iter()
        .filter(|(_, supported)| *supported)
        .fold(FieldSet::EMPTY, |set, (field, _)| set.with(field))
    }

    /// Returns the internal name of the people column, for CAML.
    pub(super) fn assigned(&self) -> &str {
        &self.assigned
    }

    /// Returns whether tasks of the list have a start or due date.
    pub(super) fn have_dates(&self) -> bool {
        self.start.is_some() || self.due.is_some()
    }

    /// Returns the internal names of the columns that are read.
    fn names(&self) -> impl Iterator<Item = &str> {
        let dates = [&self.start, &self.due, &self.completed]
            .into_iter()
            .flatten()
            .map(|column| column.name.as_str());
        let others = [&self.percent, &self.actual_work, &self.total_work]
            .into_iter()
            .flatten()
            .map(String::as_str);
        std::iter::once(self.title.as_str())
            .chain(dates)
            .chain(others)
            .chain(self.body.iter().map(|(name, _)| name.as_str()))
            .chain(self.status.iter().map(|(name, _)| name.as_str()))
            .chain(self.priority.iter().map(|(name, _)| name.as_str()))
    }

    /// Returns the properties of an item that tasksync reads.
    pub(super) fn properties(&self) -> Vec<String> {
        let mut properties = vec![
            "Id".to_owned(),
            "Modified".to_owned(),
            "HasUniqueRoleAssignments".to_owned(),
            self.assigned_property(),
        ];
        properties.extend(self.names().map(property));
        properties
    }

    /// Returns the `$select` of an item with everything that tasksync reads.
    pub(super) fn select(&self) -> String {
        self.properties().join(",")
    }

    /// Returns the `ViewFields` of a CAML query. No other column is read, however large it is or however many
    /// lists it looks up. `owshiddenversion` is the item's version.
    pub(super) fn view_fields(&self) -> String {
        let names: Vec<String> = ["ID", "Modified", "owshiddenversion", self.assigned.as_str()]
            .into_iter()
            .chain(self.names())
            .map(|name| format!("<FieldRef Name='{name}'/>"))
            .collect();
        format!("<ViewFields>{}</ViewFields>", names.concat())
    }

    /// Returns the name of the property with the ids of the people to whom an item is assigned.
    pub(super) fn assigned_property(&self) -> String {
        format!("{}Id", property(&self.assigned))
    }

    /// Returns the ids of the site users and groups to whom the item is assigned.
    ///
    /// # Errors
    /// A text that says what cannot be read.
    pub(super) fn assignees(&self, item: &Cell) -> Result<Vec<i64>, String> {
        odata::ids_column(item, &self.assigned_property())
    }

    /// Reads the task in an item. Status and percent are returned as the list holds them, even if they
    /// contradict each other: only the plan knows the earlier values and thus which of them was edited.
    /// Without a zone the task has no dates.
    ///
    /// # Errors
    /// Names the column that cannot be read. A value that cannot be read never counts as empty.
    pub(super) fn read_task(&self, item: &Cell, zone: Option<&Zone>) -> Result<Task, String> {
        let text = |name: &str| odata::text_column(item, &property(name));
        let date = |column: &Option<DateColumn>| -> Result<Option<Date>, String> {
            let (Some(column), Some(zone)) = (column, zone) else {
                return Ok(None);
            };
            let Some(instant) = odata::instant_column(item, &property(&column.name))? else {
                return Ok(None);
            };
            if !column.date_only {
                return Ok(Some(zone.date_of_instant(instant)));
            }
            match zone.date_of_midnight(instant) {
                Some(date) => Ok(Some(date)),
                None => Err(format!("{} is not a date", column.name)),
            }
        };
        let minutes = |name: &Option<String>| -> Result<Option<i32>, String> {
            let Some(name) = name else { return Ok(None) };
            let Some(number) = odata::number_column(item, &property(name))? else {
                return Ok(None);
            };
            match odata::rounded(number).and_then(|minutes| i32::try_from(minutes).ok()) {
                Some(minutes) => Ok(Some(minutes)),
                None => Err(format!("{name} is not a number of minutes")),
            }
        };
        let percent = match &self.percent {
            Some(name) => Some(
                odata::number_column(item, &property(name))?.map_or(Percent::ZERO, Percent::from_fraction),
            ),
            None => None,
        };
        let status = match &self.status {
            Some((name, choices)) => text(name)?.and_then(|text| choices.read(&text)),
            None => None,
        };
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
        let title = text(&self.title)?.unwrap_or_default();
        if title.encode_utf16().count() > LONGEST_TITLE {
            return Err(format!(
                "{} is longer than {LONGEST_TITLE} characters",
                self.title
            ));
        }
        let body = match &self.body {
            Some((name, rich)) => text(name)?.and_then(|content| body::from_column(&content, *rich)),
            None => None,
        };
        let completed_at = match &self.completed {
            Some(column) => odata::instant_column(item, &property(&column.name))?,
            None => None,
        };
        let importance = match &self.priority {
            Some((name, choices)) => text(name)?.map(|text| choices.read(&text)),
            None => None,
        };
        Ok(Task {
            title: normal_text(&title).trim().to_owned(),
            body,
            start: date(&self.start)?,
            due: date(&self.due)?,
            status,
            percent,
            completed_at: completed_at.filter(|_| status == Status::Completed),
            importance: importance.unwrap_or_default(),
            actual_work: minutes(&self.actual_work)?,
            total_work: minutes(&self.total_work)?,
            ..Task::default()
        })
    }

    /// Returns the dates to be written whose midnights only the server knows.
    pub(super) fn unknown_midnights(&self, task: &Task, fields: FieldSet, zone: Option<&Zone>) -> Vec<Date> {
        let Some(zone) = zone else { return Vec::new() };
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

    /// Returns the columns to write for these fields; without a zone no date column. `midnights` are the
    /// server's answers for [`Self::unknown_midnights`].
    pub(super) fn write_task(
        &self,
        task: &Task,
        fields: FieldSet,
        zone: Option<&Zone>,
        midnights: &HashMap<Date, Timestamp>,
    ) -> Map<String, Value> {
        let mut columns = Map::new();
        let mut set = |name: &str, value: Value| {
            columns.insert(property(name), value);
        };
        let dates = zone
            .map(|zone| self.dates(task, fields, zone))
            .unwrap_or_default();
        for (column, date) in dates {
            let is_completion = self.completed.as_ref() == Some(column);
            if is_completion && task.status == Status::Completed && task.completed_at.is_none() {
                // Completed at an unknown time: leave the column to the list's own rules.
                continue;
            }
            let instant = match task.completed_at {
                Some(instant) if is_completion && !column.date_only => Some(instant),
                _ => date.and_then(|date| match midnights.get(&date) {
                    Some(instant) => Some(*instant),
                    None => match zone?.midnight(date)? {
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

impl TaskColumns {
    /// Returns the first column whose value in an item is not the one that was written. Descriptions are
    /// compared by their visible text, because SharePoint rewrites HTML.
    pub(super) fn first_difference(
        &self,
        item: &Cell,
        written: &Map<String, Value>,
        changes: &TaskChanges,
    ) -> Option<String> {
        let body = self.body.as_ref().map(|(name, rich)| (property(name), *rich));
        written
            .iter()
            .find(|(name, value)| match &body {
                Some((body, rich)) if body == *name => {
                    let content = odata::text_column(item, name);
                    let there = content.map(|content| {
                        let body = content.and_then(|content| body::from_column(&content, *rich));
                        Task {
                            body,
                            ..Task::default()
                        }
                    });
                    !there.is_ok_and(|there| {
                        let fields = FieldSet::of(&[Field::Body]);
                        plan::changed_fields(&Agreed::of(&changes.task), &there, fields).is_empty()
                    })
                }
                Some(_) | None => !item.get(name).is_some_and(|cell| odata::is_value(cell, value)),
            })
            .map(|(name, _)| name.clone())
    }
}

/// Returns the JSON property of a column: `OData` allows no leading underscore, so SharePoint adds `OData_`.
fn property(internal_name: &str) -> String {
    if internal_name.starts_with('_') {
        format!("OData_{internal_name}")
    } else {
        internal_name.to_owned()
    }
}

#[cfg(test)]
pub(super) mod tests;
