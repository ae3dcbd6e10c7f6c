//! Changes items: parses the values of a request and applies them with version, time and change log.

use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::changes::ChangeType;
use super::errors::SpError;
use super::fields::{Column, RichText};
use super::model::{List, ListItem, Site};
use super::zones::{SiteZone, parse_instant, whole_second};

/// Largest length of a single line of text, in UTF-16 units.
const MAXIMUM_TITLE: usize = 255;
/// Largest length of a body, in bytes.
const MAXIMUM_BODY: usize = 4 * 1024 * 1024;

/// The change of a column that may be empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum CellChange<T> {
    /// The column stays as it is.
    #[default]
    Keep,
    /// The column becomes empty.
    Clear,
    /// The column gets this value.
    Set(T),
}

impl<T> CellChange<T> {
    /// Returns the change to a value, or to no value.
    pub(crate) fn replace_with(value: Option<T>) -> Self {
        value.map_or(Self::Clear, Self::Set)
    }

    fn apply(self, cell: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *cell = None,
            Self::Set(value) => *cell = Some(value),
        }
    }
}

/// New values for some columns of an item. `None` leaves a column as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Patch {
    pub(crate) title: Option<String>,
    pub(crate) body: Option<String>,
    pub(crate) start: CellChange<Timestamp>,
    pub(crate) due: CellChange<Timestamp>,
    pub(crate) status: CellChange<String>,
    pub(crate) percent: CellChange<f64>,
    pub(crate) priority: CellChange<String>,
    pub(crate) assigned_to: Option<Vec<i32>>,
    pub(crate) actual_work: CellChange<f64>,
    pub(crate) total_work: CellChange<f64>,
    pub(crate) completed: CellChange<Timestamp>,
}

/// Parses the values of a create or update. `verbose` is the form of the request's body.
pub(crate) fn parse(list: &List, zone: &SiteZone, body: &[u8], verbose: bool) -> Result<Patch, SpError> {
    let value: Value =
        serde_json::from_slice(body).map_err(|error| SpError::query(format!("Invalid JSON. {error}")))?;
    let map = value
        .as_object()
        .ok_or_else(|| SpError::query("Invalid JSON. An object was expected."))?;
    let kind = list.item_kind();
    if verbose {
        check_type(map, &kind)?;
    }
    let mut patch = Patch::default();
    for (name, value) in map {
        match name.as_str() {
            "__metadata" if verbose => continue,
            "odata.type" | "odata.metadata" | "odata.id" | "odata.etag" | "odata.editLink" if !verbose => {
                continue;
            }
            "AssignedToId" if list.field("AssignedTo").is_some() => {
                patch.assigned_to = Some(person_ids(value, list.schema.multi_person, verbose)?);
                continue;
            }
            _ => {}
        }
        let field = list.fields.iter().find(|field| field.entity_name() == name);
        let field = field.ok_or_else(|| SpError::no_property(name, &kind))?;
        let date = || date(value, zone, name).map(CellChange::replace_with);
        let choice = || choice(value, name).map(CellChange::replace_with);
        let number = |maximum| number(value, name, maximum).map(CellChange::replace_with);
        match field.column {
            Column::Title => patch.title = Some(text(value, name)?.unwrap_or_default()),
            Column::Body => patch.body = Some(text(value, name)?.unwrap_or_default()),
            Column::Start => patch.start = date()?,
            Column::Due => patch.due = date()?,
            Column::Completed => patch.completed = date()?,
            Column::Status => patch.status = choice()?,
            Column::Priority => patch.priority = choice()?,
            Column::Percent => patch.percent = number(1.0)?,
            Column::ActualWork => patch.actual_work = number(f64::MAX)?,
            Column::TotalWork => patch.total_work = number(f64::MAX)?,
            // The content type cannot be changed here. A request may repeat it; the value is ignored.
            Column::ContentTypeId => {}
            // A request names the people by `AssignedToId`.
            Column::AssignedTo
            | Column::Checkmark
            | Column::Id
            | Column::Created
            | Column::Modified
            | Column::Author
            | Column::Editor
            | Column::Version
            | Column::Guid
            | Column::UniqueId
            | Column::ObjectType
            | Column::UiVersion
            | Column::Attachments => {
                return Err(SpError::query(format!("The property '{name}' is read-only.")));
            }
        }
    }
    if patch
        .title
        .as_ref()
        .is_some_and(|title| title.encode_utf16().count() > MAXIMUM_TITLE || title.contains('\n'))
        || patch.body.as_ref().is_some_and(|body| body.len() > MAXIMUM_BODY)
    {
        return Err(SpError::text_too_long());
    }
    Ok(patch)
}

fn check_type(map: &Map<String, Value>, kind: &str) -> Result<(), SpError> {
    match map
        .get("__metadata")
        .and_then(|metadata| metadata.get("type"))
        .and_then(Value::as_str)
    {
        Some(given) if given == kind || given == "SP.ListItem" => Ok(()),
        Some(given) => Err(SpError::query(format!(
            "A type named '{given}' could not be resolved by the model. When a model is available, each type name must \
             resolve to a valid type."
        ))),
        None => Err(SpError::query(
            "An entry without a type name was found, but no expected type was specified. To allow entries without type \
             information, the expected type must also be specified when the model is specified.",
        )),
    }
}

fn text(value: &Value, name: &str) -> Result<Option<String>, SpError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(SpError::bad_value(name))
        }
    }
}

/// Returns the text of a choice column. An empty text is no choice.
fn choice(value: &Value, name: &str) -> Result<Option<String>, SpError> {
    Ok(text(value, name)?.filter(|text| !text.is_empty()))
}

fn number(value: &Value, name: &str, maximum: f64) -> Result<Option<f64>, SpError> {
    let number = match value {
        Value::Null => return Ok(None),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match number {
        Some(number) if (0.0..=maximum).contains(&number) => Ok(Some(number)),
        Some(_) => Err(SpError::exception(
            400,
            -2_130_575_155,
            format!("The value of '{name}' is out of range."),
        )),
        None => Err(SpError::bad_value(name)),
    }
}

fn date(value: &Value, zone: &SiteZone, name: &str) -> Result<Option<Timestamp>, SpError> {
    let text = match value {
        Value::Null => return Ok(None),
        Value::String(text) => text,
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            return Err(SpError::bad_value(name));
        }
    };
    let instant = parse_instant(text, zone).ok_or_else(|| SpError::bad_value(name))?;
    if !(1900..8900).contains(&zone.date(instant).year()) {
        return Err(SpError::exception(
            400,
            -2_130_575_155,
            format!("The date in '{name}' is out of range."),
        ));
    }
    Ok(Some(zone.truncate(instant)))
}

fn person_ids(value: &Value, multi: bool, verbose: bool) -> Result<Vec<i32>, SpError> {
    let bad = || SpError::bad_value("AssignedToId");
    let id = |value: &Value| value.as_i64().and_then(|id| i32::try_from(id).ok());
    if !multi {
        if value.is_null() {
            return Ok(Vec::new());
        }
        return Ok(match id(value).ok_or_else(bad)? {
            -1 | 0 => Vec::new(),
            id => vec![id],
        });
    }
    let ids = match (value, verbose) {
        (Value::Null, _) => return Ok(Vec::new()),
        (Value::Object(map), true) => map.get("results").and_then(Value::as_array).ok_or_else(bad)?,
        (Value::Array(ids), false) => ids,
        (Value::Object(_), false) => {
            return Err(SpError::query(
                "An unexpected 'StartObject' node was found when reading from the JSON reader. A 'StartArray' node was \
                 expected.",
            ));
        }
        _ => {
            return Err(SpError::query(
                "An unexpected node was found when reading from the JSON reader. A 'StartObject' node was expected.",
            ));
        }
    };
    ids.iter().map(|value| id(value).ok_or_else(bad)).collect()
}

/// Returns the form in which SharePoint stores HTML.
fn stored_body(mode: RichText, html: &str, unique_id: Uuid) -> String {
    if html.is_empty() {
        return String::new();
    }
    match mode {
        RichText::Plain => html.to_owned(),
        RichText::Compatible if html.trim_start().starts_with("<div") => html.to_owned(),
        RichText::Compatible => format!("<div>{html}</div>"),
        RichText::Full => {
            let class = format!("ExternalClass{}", unique_id.simple().to_string().to_uppercase());
            // A wrapper that is sent back with the text is replaced instead of nested.
            let inner = html
                .trim()
                .strip_prefix("<div class=\"ExternalClass")
                .and_then(|rest| rest.split_once('>'))
                .and_then(|(_, rest)| rest.strip_suffix("</div>"))
                .unwrap_or(html);
            format!("<div class=\"{class}\">{inner}</div>")
        }
    }
}

fn apply(item: &mut ListItem, patch: Patch, mode: RichText) {
    let Patch {
        title,
        body,
        start,
        due,
        status,
        percent,
        priority,
        assigned_to,
        actual_work,
        total_work,
        completed,
    } = patch;
    if let Some(title) = title {
        item.title = title;
    }
    if let Some(body) = body {
        item.body = stored_body(mode, &body, item.unique_id);
    }
    start.apply(&mut item.start);
    due.apply(&mut item.due);
    status.apply(&mut item.status);
    percent.apply(&mut item.percent);
    priority.apply(&mut item.priority);
    actual_work.apply(&mut item.actual_work);
    total_work.apply(&mut item.total_work);
    completed.apply(&mut item.completed);
    if let Some(assigned_to) = assigned_to {
        item.assigned_to = assigned_to;
    }
}

impl Site {
    /// Adds an item with the column defaults, overridden by `patch`. Returns its id.
    pub(crate) fn create_item(
        &mut self,
        list_id: Uuid,
        mut patch: Patch,
        editor: i32,
        unique_id: Uuid,
        now: Timestamp,
    ) -> Result<i32, SpError> {
        if let Some(ids) = patch.assigned_to.take() {
            patch.assigned_to = Some(self.known_users(&ids)?);
        }
        let language = self.language;
        let list = self.list_mut(list_id)?;
        let id = list.next_item;
        let task = list.schema.task;
        let mut item = ListItem {
            id,
            unique_id,
            version: 1,
            title: String::new(),
            body: String::new(),
            start: None,
            due: None,
            status: task.then(|| language.statuses()[0].to_owned()),
            percent: None,
            priority: task.then(|| language.priorities()[1].to_owned()),
            assigned_to: Vec::new(),
            actual_work: None,
            total_work: None,
            completed: None,
            created: whole_second(now),
            modified: whole_second(now),
            author: editor,
            editor,
            recycled: false,
            rights: None,
        };
        apply(&mut item, patch, list.schema.rich_text());
        list.next_item += 1;
        list.items.insert(id, Box::new(item));
        list.index_item(id);
        list.last_item_modified = whole_second(now);
        self.log_item(ChangeType::Add, list_id, (id, unique_id), now);
        Ok(id)
    }

    /// Changes an item if `if_match` allows it. Every accepted change increments the version, whether or not a value
    /// differs.
    pub(crate) fn update_item(
        &mut self,
        list_id: Uuid,
        id: i32,
        if_match: Option<&str>,
        mut patch: Patch,
        editor: i32,
        now: Timestamp,
    ) -> Result<String, SpError> {
        check_etag(self.list(list_id)?.item(id)?, if_match)?;
        if let Some(ids) = patch.assigned_to.take() {
            patch.assigned_to = Some(self.known_users(&ids)?);
        }
        let list = self.list_mut(list_id)?;
        let mode = list.schema.rich_text();
        let item = list.items.get_mut(&id).ok_or_else(SpError::no_item)?;
        apply(item, patch, mode);
        item.version += 1;
        item.modified = whole_second(now);
        item.editor = editor;
        let (etag, unique_id) = (item.etag(), item.unique_id);
        list.index_item(id);
        list.last_item_modified = whole_second(now);
        self.log_item(ChangeType::Update, list_id, (id, unique_id), now);
        Ok(etag)
    }

    /// Moves an item to the recycle bin.
    pub(crate) fn recycle_item(
        &mut self,
        list_id: Uuid,
        id: i32,
        if_match: Option<&str>,
        now: Timestamp,
    ) -> Result<(), SpError> {
        let list = self.list_mut(list_id)?;
        check_etag(list.item(id)?, if_match)?;
        let item = list.items.get_mut(&id).ok_or_else(SpError::no_item)?;
        item.recycled = true;
        let unique_id = item.unique_id;
        list.last_item_deleted = whole_second(now);
        self.log_item(ChangeType::DeleteObject, list_id, (id, unique_id), now);
        Ok(())
    }

    /// Restores an item from the recycle bin.
    pub(crate) fn restore_item(&mut self, list_id: Uuid, id: i32, now: Timestamp) -> Result<(), SpError> {
        let list = self.list_mut(list_id)?;
        let item = list
            .items
            .get_mut(&id)
            .filter(|item| item.recycled)
            .ok_or_else(SpError::no_item)?;
        item.recycled = false;
        let unique_id = item.unique_id;
        list.last_item_modified = whole_second(now);
        self.log_item(ChangeType::Restore, list_id, (id, unique_id), now);
        Ok(())
    }
}

fn check_etag(item: &ListItem, if_match: Option<&str>) -> Result<(), SpError> {
    let current = item.etag();
    match if_match {
        None | Some("*") => Ok(()),
        Some(given) if given.strip_prefix("W/").unwrap_or(given) == current => Ok(()),
        Some(given) => Err(SpError::etag_mismatch(given, &current)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rich_text_is_wrapped_once() {
        let id = Uuid::from_u128(5);
        let once = stored_body(RichText::Full, "<p>a</p>", id);
        assert!(once.starts_with("<div class=\"ExternalClass0000") && once.ends_with("<p>a</p></div>"));
        assert_eq!(stored_body(RichText::Full, &once, id), once);
        assert_eq!(stored_body(RichText::Compatible, "a", id), "<div>a</div>");
        assert_eq!(stored_body(RichText::Plain, "a", id), "a");
        assert_eq!(stored_body(RichText::Full, "", id), "");
    }
}
