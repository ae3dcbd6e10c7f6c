//! Converting between the canonical task and Microsoft's `t:Task`.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{
    Body, BodyKind, Field, FieldSet, Importance, Percent, SourceKey, Status, Task, cut_utf16, normal_text,
};

use super::dates;
use super::properties::{self, Property};
use super::xml::{BadAnswer, Parsed, Xml, boolean, element, escape};
use crate::http::for_message;
use crate::mailbox::{FolderId, ItemRef, MailboxItem, Marker, NewItem};
use crate::sanitise::{clean_html, text_of_html};

/// UTF-16 units of the longest subject that Exchange keeps.
const MAXIMUM_SUBJECT: usize = 255;

fn status_name(status: Status) -> &'static str {
    match status {
        Status::NotStarted => "NotStarted",
        Status::InProgress => "InProgress",
        Status::Completed => "Completed",
        Status::WaitingOnOthers => "WaitingOnOthers",
        Status::Deferred => "Deferred",
    }
}

fn importance_name(importance: Importance) -> &'static str {
    match importance {
        Importance::Low => "Low",
        Importance::Normal => "Normal",
        Importance::High => "High",
    }
}

/// The value written for 0 % of work in progress. When read back, both count as the same (see
/// `plan::changed`).
const BARELY_BEGUN: Percent = Percent::ONE;

/// The coupled properties to send. `CompleteDate` is never sent: the server sets it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct ProgressFields {
    percent: Option<Percent>,
    status: Option<Status>,
}

/// Returns the properties for a new item, which starts as not started with 0 %. One property is enough unless
/// the status does not determine the percentage.
fn progress_of_new(status: Status, percent: Percent) -> ProgressFields {
    let part = percent > Percent::ZERO && percent < Percent::DONE;
    match status {
        Status::Completed => ProgressFields {
            percent: None,
            status: Some(Status::Completed),
        },
        _ if percent >= Percent::DONE => ProgressFields {
            percent: None,
            status: Some(Status::Completed),
        },
        Status::WaitingOnOthers | Status::Deferred => ProgressFields {
            percent: Some(percent),
            status: Some(status),
        },
        Status::NotStarted | Status::InProgress if part => ProgressFields {
            percent: Some(percent),
            status: None,
        },
        // Work in progress has a percentage above 0 (MS-OXOTASK); with the status alone an old percentage
        // would stay.
        Status::InProgress => ProgressFields {
            percent: Some(BARELY_BEGUN),
            status: None,
        },
        Status::NotStarted => ProgressFields {
            percent: None,
            status: Some(Status::NotStarted),
        },
    }
}

/// Returns start and due date as they are written: a task is due on its start date at the earliest, and a
/// task with a start has a due date.
fn days(start: Option<Date>, due: Option<Date>) -> (Option<Date>, Option<Date>) {
    match (start, due) {
        (Some(start), Some(due)) => (Some(start), Some(due.max(start))),
        (Some(start), None) => (Some(start), Some(start)),
        (None, due) => (None, due),
    }
}

/// Returns the task as Exchange shows it after it was written: a start without a due date is due on the same
/// day, and nothing is due before it starts (MS-OXOTASK). `own_start` is the item's start if the source has
/// none.
pub(super) fn canonical(task: &Task, own_start: Option<Date>) -> Task {
    let (start, due) = days(task.start.or(own_start.filter(|_| task.due.is_none())), task.due);
    Task {
        start,
        due,
        ..task.clone()
    }
}

/// Appends a whole new `t:Task`, with its elements in the order of the schema.
pub(super) fn write_new(out: &mut String, item: &NewItem<'_>, owner: &str) {
    let task = item.task;
    out.push_str("<t:Task>");
    write_title(out, task);
    if let Some(body) = &task.body {
        write_body(out, body);
    }
    if !task.categories.is_empty() {
        write_categories(out, task);
    }
    element(out, "t:Importance", importance_name(task.importance));
    Property::SourceKey.write(out, item.key.as_str());
    Property::Owner.write(out, owner);
    Property::WriteId.write(out, item.write_id);
    if let Some(link) = item.web_link {
        Property::WebLink.write(out, link);
    }
    let (start, due) = days(task.start, task.due);
    let progress = progress_of_new(task.status, task.percent);
    if let Some(minutes) = task.actual_work {
        write_number(out, "t:ActualWork", minutes);
    }
    if let Some(day) = due {
        write_day(out, "t:DueDate", day);
    }
    if let Some(percent) = progress.percent {
        write_percent(out, percent);
    }
    if let Some(day) = start {
        write_day(out, "t:StartDate", day);
    }
    if let Some(status) = progress.status {
        element(out, "t:Status", status_name(status));
    }
    if let Some(minutes) = task.total_work {
        write_number(out, "t:TotalWork", minutes);
    }
    out.push_str("</t:Task>");
}

/// Appends one change description per property. Properties that influence each other come in the order that
/// gives the right result.
pub(super) fn write_updates(out: &mut String, task: &Task, fields: FieldSet) {
    let days = days(task.start, task.due);
    for field in fields.iter() {
        match field {
            Field::Title => set(out, "item:Subject", |out| write_title(out, task)),
            Field::Body => match &task.body {
                Some(body) => set(out, "item:Body", |out| write_body(out, body)),
                // Set instead of deleted: servers are known to accept the deletion of a body and keep it.
                None => set(out, "item:Body", |out| {
                    out.push_str("<t:Body BodyType=\"Text\"></t:Body>");
                }),
            },
            Field::Start => {
                update_day(out, "task:StartDate", "t:StartDate", days.0);
                // If the start moves beyond the due date, the due date follows.
                if !fields.contains(Field::Due) && task.due.is_some() && days.1 != task.due {
                    update_day(out, "task:DueDate", "t:DueDate", days.1);
                }
            }
            // After the start, because Exchange may move the due date when the start is set.
            Field::Due => {
                let due = if fields.contains(Field::Start) {
                    days.1
                } else {
                    task.due.and(days.1)
                };
                update_day(out, "task:DueDate", "t:DueDate", due);
            }
            Field::Progress => update_progress(out, task),
            Field::Importance => set(out, "item:Importance", |out| {
                element(out, "t:Importance", importance_name(task.importance));
            }),
            Field::ActualWork => update_minutes(out, "task:ActualWork", "t:ActualWork", task.actual_work),
            Field::TotalWork => update_minutes(out, "task:TotalWork", "t:TotalWork", task.total_work),
            Field::Categories if task.categories.is_empty() => delete(out, "item:Categories"),
            Field::Categories => set(out, "item:Categories", |out| write_categories(out, task)),
        }
    }
}

/// Appends the change that sets a property of ours.
pub(super) fn write_property(out: &mut String, property: Property, value: &str) {
    out.push_str("<t:SetItemField>");
    property.write_uri(out);
    out.push_str("<t:Task>");
    property.write(out, value);
    out.push_str("</t:Task></t:SetItemField>");
}

/// Appends the changes of status and percentage. Exchange applies changes one after the other, and the last
/// of the two wins. The item's present state is not known here, so both are sent if one alone could leave the
/// other unchanged.
fn update_progress(out: &mut String, task: &Task) {
    let progress = progress_of_new(task.status, task.percent);
    let set_percent =
        |out: &mut String, percent| set(out, "task:PercentComplete", |out| write_percent(out, percent));
    let set_status = |out: &mut String, status| {
        set(out, "task:Status", |out| {
            element(out, "t:Status", status_name(status));
        });
    };
    match (progress.percent, progress.status) {
        // Waiting and deferred do not determine the percentage: it is sent first and the status last.
        (Some(percent), Some(status)) => {
            set_percent(out, percent);
            set_status(out, status);
        }
        // A percentage alone would leave the status of a waiting or deferred task unchanged.
        (Some(percent), None) => {
            set_status(out, Status::InProgress);
            set_percent(out, percent);
        }
        (None, Some(status)) => set_status(out, status),
        (None, None) => {}
    }
}

fn set(out: &mut String, uri: &str, value: impl FnOnce(&mut String)) {
    out.push_str("<t:SetItemField><t:FieldURI FieldURI=\"");
    out.push_str(uri);
    out.push_str("\"/><t:Task>");
    value(out);
    out.push_str("</t:Task></t:SetItemField>");
}

fn delete(out: &mut String, uri: &str) {
    out.push_str("<t:DeleteItemField><t:FieldURI FieldURI=\"");
    out.push_str(uri);
    out.push_str("\"/></t:DeleteItemField>");
}

fn update_day(out: &mut String, uri: &str, name: &str, day: Option<Date>) {
    match day {
        Some(day) => set(out, uri, |out| write_day(out, name, day)),
        None => delete(out, uri),
    }
}

fn update_minutes(out: &mut String, uri: &str, name: &str, minutes: Option<i32>) {
    match minutes {
        Some(minutes) => set(out, uri, |out| write_number(out, name, minutes)),
        None => delete(out, uri),
    }
}

fn write_title(out: &mut String, task: &Task) {
    element(out, "t:Subject", cut_utf16(&task.title, MAXIMUM_SUBJECT));
}

fn write_body(out: &mut String, body: &Body) {
    out.push_str(match body.kind {
        BodyKind::Html => "<t:Body BodyType=\"HTML\">",
        BodyKind::Text => "<t:Body BodyType=\"Text\">",
    });
    escape(out, &body.content);
    out.push_str("</t:Body>");
}

fn write_categories(out: &mut String, task: &Task) {
    out.push_str("<t:Categories>");
    for category in &task.categories {
        element(out, "t:String", category);
    }
    out.push_str("</t:Categories>");
}

fn write_day(out: &mut String, name: &str, day: Date) {
    let _ = write!(out, "<{name}>");
    dates::write_day(out, day);
    let _ = write!(out, "</{name}>");
}

fn write_number(out: &mut String, name: &str, number: i32) {
    let _ = write!(out, "<{name}>{number}</{name}>");
}

fn write_percent(out: &mut String, percent: Percent) {
    let _ = write!(
        out,
        "<t:PercentComplete>{}</t:PercentComplete>",
        percent.as_percent()
    );
}

/// An item while it is read.
#[derive(Debug, Default)]
pub(super) struct ReadItem {
    /// The element's name: `Task`, or another kind of item in the folder.
    kind: String,
    item: Option<ItemRef>,
    key: Option<SourceKey>,
    owner: Option<String>,
    parent: Option<FolderId>,
    task: Task,
    modified: Option<Timestamp>,
    created: Option<Timestamp>,
    recurring: bool,
    private: bool,
    write_id: Option<String>,
    /// The reason why the item cannot be synced.
    problem: Option<String>,
}

impl ReadItem {
    /// Returns the item's id and version.
    pub(super) fn reference(&self) -> Option<&ItemRef> {
        self.item.as_ref()
    }

    /// Returns its folder.
    pub(super) fn parent(&self) -> Option<&FolderId> {
        self.parent.as_ref()
    }

    /// Returns the whole item, or why it cannot be synced.
    pub(super) fn into_item(self) -> Result<MailboxItem, Failure> {
        let refuse = |reason: String| Failure::new(ErrorClass::Refused, Code::ExchangeItemRefused, reason);
        if self.kind != "Task" {
            return Err(refuse(format!(
                "the item is a {}, not a task",
                for_message(&self.kind, 40)
            )));
        }
        if let Some(problem) = self.problem {
            return Err(refuse(problem));
        }
        let item = self.item.ok_or_else(|| refuse("an item without id".to_owned()))?;
        let created = self.created.or(self.modified).unwrap_or_default();
        Ok(MailboxItem {
            item,
            marker: self.key.map(|key| Marker {
                key,
                marked_for: properties::marked_for(self.owner.as_deref()),
            }),
            folder: self.parent,
            task: self.task,
            modified: self.modified.unwrap_or(created),
            created,
            recurring: self.recurring,
            private: self.private,
            write_id: self.write_id,
        })
    }
}

/// Reads an `ItemId`.
pub(super) fn item_ref(element: &super::xml::Element<'_>) -> Parsed<ItemRef> {
    let [id, change_key] = element.attributes(["Id", "ChangeKey"])?;
    Ok(ItemRef {
        id: element.present("Id", id)?,
        change_key: element.short("ChangeKey", change_key)?.unwrap_or_default(),
    })
}

/// Reads an opened item element with the name `kind`.
pub(super) fn read(kind: &str, xml: &mut Xml<'_>, zone: &TimeZone) -> Parsed<ReadItem> {
    let mut read = ReadItem {
        kind: kind.to_owned(),
        ..ReadItem::default()
    };
    while let Some(part) = xml.child()? {
        match part.name() {
            "ItemId" => {
                read.item = Some(item_ref(&part)?);
                xml.skip()?;
            }
            "ParentFolderId" => {
                read.parent = Some(FolderId(part.required("Id")?));
                xml.skip()?;
            }
            "Subject" => read.task.title = text(xml)?,
            "Body" => read_body(&part, xml, &mut read)?,
            "Sensitivity" => {
                let value = xml.text()?;
                match value.trim() {
                    "" | "Normal" | "Personal" => read.private = false,
                    "Private" | "Confidential" => read.private = true,
                    other => read.problem = Some(unknown_value("sensitivity", other)),
                }
            }
            "Categories" => {
                while let Some(category) = xml.child()? {
                    if category.name() == "String" {
                        let category = text(xml)?;
                        if !category.is_empty() {
                            read.task.categories.insert(category);
                        }
                    } else {
                        xml.skip()?;
                    }
                }
            }
            "Importance" => match xml.text()?.trim() {
                "Low" => read.task.importance = Importance::Low,
                "" | "Normal" => read.task.importance = Importance::Normal,
                "High" => read.task.importance = Importance::High,
                other => read.problem = Some(unknown_value("importance", other)),
            },
            "ExtendedProperty" => match properties::read(xml)? {
                Some((Property::SourceKey, value)) => {
                    read.key = Some(SourceKey::from_stored(&value)).filter(|key| !key.as_str().is_empty());
                }
                Some((Property::Owner, value)) => read.owner = Some(value.into_owned()),
                Some((Property::WriteId, value)) => read.write_id = Some(value.into_owned()),
                _ => {}
            },
            "DateTimeCreated" => {
                read.created = value(xml, "creation time", &mut read.problem, dates::instant)?;
            }
            "LastModifiedTime" => {
                read.modified = value(xml, "modification time", &mut read.problem, dates::instant)?;
            }
            "CompleteDate" => {
                read.task.completed_at = value(xml, "completion time", &mut read.problem, dates::instant)?;
            }
            "DueDate" => {
                read.task.due = value(xml, "due date", &mut read.problem, |text| dates::day(text, zone))?;
            }
            "StartDate" => {
                read.task.start = value(xml, "start date", &mut read.problem, |text| {
                    dates::day(text, zone)
                })?;
            }
            "ActualWork" => read.task.actual_work = number(xml, "actual work", &mut read.problem)?,
            "TotalWork" => read.task.total_work = number(xml, "total work", &mut read.problem)?,
            "PercentComplete" => {
                if let Some(percent) = value(xml, "percentage", &mut read.problem, percentage)? {
                    read.task.percent = percent;
                }
            }
            "Status" => match xml.text()?.trim() {
                "" | "NotStarted" => read.task.status = Status::NotStarted,
                "InProgress" => read.task.status = Status::InProgress,
                "Completed" => read.task.status = Status::Completed,
                "WaitingOnOthers" => read.task.status = Status::WaitingOnOthers,
                "Deferred" => read.task.status = Status::Deferred,
                other => read.problem = Some(unknown_value("status", other)),
            },
            "IsRecurring" => {
                read.recurring |= value(xml, "recurrence", &mut read.problem, boolean)?.unwrap_or(false);
            }
            "Recurrence" => {
                read.recurring = true;
                xml.skip()?;
            }
            _ => xml.skip()?,
        }
    }
    Ok(read)
}

fn read_body(element: &super::xml::Element<'_>, xml: &mut Xml<'_>, read: &mut ReadItem) -> Parsed<()> {
    let html = match element.attribute("BodyType")?.as_deref() {
        None | Some("HTML") => true,
        Some("Text") => false,
        Some(other) => {
            read.problem = Some(unknown_value("body type", other));
            false
        }
    };
    read.task.body = body(html, &text(xml)?);
    Ok(())
}

/// Reads text in the form in which both sides are compared.
fn text(xml: &mut Xml<'_>) -> Parsed<String> {
    Ok(normal_text(&xml.text()?).into_owned())
}

/// Returns the problem of an item whose `what` has a value that the schema does not define. Reading it as a
/// default would write the default to the source.
fn unknown_value(what: &str, value: &str) -> String {
    format!("the {what} \"{}\" is not known", for_message(value, 40))
}

fn percentage(text: &str) -> Result<Percent, BadAnswer> {
    match text.trim().parse::<f64>() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Percent::from_percent(percent)),
        Ok(_) => Err(BadAnswer(format!(
            "\"{}\" is not between 0 and 100",
            for_message(text, 40)
        ))),
        Err(_) => Err(not_a_number(text)),
    }
}

fn not_a_number(text: &str) -> BadAnswer {
    BadAnswer(format!("\"{}\" is not a number", for_message(text, 40)))
}

/// Returns the body, cleaned; `None` if it has neither text nor pictures.
fn body(html: bool, content: &str) -> Option<Body> {
    if content.trim().is_empty() {
        return None;
    }
    if !html {
        return Some(Body {
            kind: BodyKind::Text,
            content: content.to_owned(),
        });
    }
    let content = clean_html(content);
    if text_of_html(&content).is_empty() && !content.contains("<img") {
        return None;
    }
    Some(Body {
        kind: BodyKind::Html,
        content,
    })
}

/// Returns the parsed value of the current element, or `None` if it is empty. A value that cannot be parsed
/// is a problem of the item: reading it as `None` would clear it at the source.
fn value<T>(
    xml: &mut Xml<'_>,
    what: &str,
    problem: &mut Option<String>,
    parse: impl FnOnce(&str) -> Result<T, BadAnswer>,
) -> Parsed<Option<T>> {
    let text = xml.text()?;
    if text.trim().is_empty() {
        return Ok(None);
    }
    match parse(&text) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            *problem = Some(format!("its {what} cannot be read: {error}"));
            Ok(None)
        }
    }
}

fn number<T: std::str::FromStr>(
    xml: &mut Xml<'_>,
    what: &str,
    problem: &mut Option<String>,
) -> Parsed<Option<T>> {
    value(xml, what, problem, |text| {
        text.trim().parse().map_err(|_| not_a_number(text))
    })
}
