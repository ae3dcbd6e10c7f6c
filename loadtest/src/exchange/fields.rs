//! Sets and clears the properties of a task.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::error::EwsError;
use super::properties::{PropertyPath, read_property};
use super::schema::date_time;
use super::store::{Body, Item};
use super::tasks::{TaskStatus, date_of, instant_of};
use super::xml::Element;

/// The context in which values of a request are interpreted.
pub(crate) struct Reading<'a> {
    pub(crate) now: Timestamp,
    /// Time zone of the request's `TimeZoneContext`.
    pub(crate) request_zone: Option<&'a TimeZone>,
    /// Time zone in which the store keeps a task's dates.
    pub(crate) date_zone: TimeZone,
}

/// Properties that a client may set. The part after the colon is the name of the element.
const SETTABLE: &[&str] = &[
    "item:ItemClass",
    "item:Subject",
    "item:Sensitivity",
    "item:Body",
    "item:Categories",
    "item:Importance",
    "item:InReplyTo",
    "item:ReminderDueBy",
    "item:ReminderIsSet",
    "item:ReminderMinutesBeforeStart",
    "item:Culture",
    "task:ActualWork",
    "task:BillingInformation",
    "task:Companies",
    "task:CompleteDate",
    "task:Contacts",
    "task:DueDate",
    "task:Mileage",
    "task:PercentComplete",
    "task:Recurrence",
    "task:StartDate",
    "task:Status",
    "task:TotalWork",
];

/// Returns the URI of the property that a child of `t:Task` sets; for an extended property, its path.
///
/// # Errors
/// `ErrorInvalidPropertySet` for a read-only property, or `ErrorInvalidExtendedProperty`.
pub(crate) fn uri_of(element: &Element) -> Result<String, EwsError> {
    if element.name == "ExtendedProperty" {
        return read_property(element).map(|(path, _)| path.text());
    }
    let found = SETTABLE
        .iter()
        .find(|uri| uri.split_once(':').is_some_and(|(_, name)| name == element.name));
    found.map(|uri| (*uri).to_owned()).ok_or_else(|| {
        let text = "Set action is invalid for property.";
        let error = EwsError::new("ErrorInvalidPropertySet", text);
        let candidates = [format!("task:{}", element.name), format!("item:{}", element.name)];
        match candidates.iter().find(|uri| super::field_uris::is_known(uri)) {
            Some(uri) => error.field(uri),
            None => error,
        }
    })
}

/// Sets the property that a child of `t:Task` contains.
///
/// # Errors
/// The response code for a value that the server refuses.
pub(crate) fn set(item: &mut Item, element: &Element, reading: &Reading<'_>) -> Result<(), EwsError> {
    let text = element.text.as_str();
    let number = || text.trim().parse::<i32>().ok();
    let instant = || date_time(text).map(|value| instant_of(value, reading.request_zone));
    let date = || date_time(text).map(|value| date_of(value, reading.request_zone, &reading.date_zone));
    let strings = || {
        element
            .children
            .iter()
            .map(|value| value.text.clone())
            .collect::<Vec<_>>()
    };
    match uri_of(element)?.as_str() {
        "item:ItemClass" => {
            if text != "IPM.Task" && !text.starts_with("IPM.Task.") {
                return Err(
                    EwsError::new("ErrorObjectTypeChanged", "The item class does not fit a task.")
                        .field("item:ItemClass"),
                );
            }
            item.class = fixed_value(text, &["IPM.Task"]);
        }
        "item:Subject" => item.subject = Some(text.to_owned()),
        "item:Sensitivity" => {
            item.sensitivity = fixed_value(text, &["Normal", "Personal", "Private", "Confidential"]);
        }
        "item:Body" => {
            item.body = Some(Body {
                html: element.attribute("BodyType") == Some("HTML"),
                text: text.to_owned(),
            });
        }
        "item:Categories" => item.categories = strings(),
        "item:Importance" => item.importance = fixed_value(text, &["Low", "Normal", "High"]),
        "item:InReplyTo" => item.in_reply_to = Some(text.to_owned()),
        "item:ReminderDueBy" => item.reminder_due = instant(),
        "item:ReminderIsSet" => item.reminder_is_set = matches!(text.trim(), "true" | "1"),
        "item:ReminderMinutesBeforeStart" => item.reminder_minutes = number().unwrap_or_default(),
        "item:Culture" => item.culture = Some(text.to_owned()),
        "task:ActualWork" => item.actual_work = number(),
        "task:TotalWork" => item.total_work = number(),
        "task:BillingInformation" => item.billing = Some(text.to_owned()),
        "task:Mileage" => item.mileage = Some(text.to_owned()),
        "task:Companies" => item.companies = strings(),
        "task:Contacts" => item.contacts = strings(),
        "task:CompleteDate" => item
            .progress
            .set_completed(instant().unwrap_or(reading.now), reading.now)?,
        "task:PercentComplete" => {
            item.progress
                .set_percent(text.trim().parse().unwrap_or(f64::NAN), reading.now)?;
        }
        "task:Status" => {
            item.progress.set_status(
                TaskStatus::from_name(text.trim()).unwrap_or_default(),
                reading.now,
            );
        }
        "task:StartDate" => item.dates.set_start(date()),
        "task:DueDate" => item.dates.set_due(date()),
        "task:Recurrence" => item.is_recurring = true,
        _ => {
            let (path, value) = read_property(element)?;
            item.properties.insert(path.key, value);
        }
    }
    Ok(())
}

/// Returns the static text if `text` is one of `values`. This saves memory for values that are nearly always one of a
/// few.
fn fixed_value(text: &str, values: &[&'static str]) -> Cow<'static, str> {
    match values.iter().find(|value| **value == text) {
        Some(value) => Cow::Borrowed(value),
        None => Cow::Owned(text.to_owned()),
    }
}

/// Clears a property.
///
/// # Errors
/// `ErrorInvalidPropertyDelete` for a property that always has a value or is computed, or
/// `ErrorInvalidExtendedProperty`.
pub(crate) fn clear(item: &mut Item, path: &Element) -> Result<(), EwsError> {
    if path.name == "ExtendedFieldURI" {
        item.properties.remove(&PropertyPath::read(path)?.key);
        return Ok(());
    }
    let uri = path.attribute("FieldURI").unwrap_or_default();
    match uri {
        "item:Subject" => item.subject = None,
        "item:Body" => item.body = None,
        "item:Categories" => item.categories.clear(),
        "item:InReplyTo" => item.in_reply_to = None,
        "item:Culture" => item.culture = None,
        "item:ReminderDueBy" => item.reminder_due = None,
        "task:ActualWork" => item.actual_work = None,
        "task:TotalWork" => item.total_work = None,
        "task:BillingInformation" => item.billing = None,
        "task:Mileage" => item.mileage = None,
        "task:Companies" => item.companies.clear(),
        "task:Contacts" => item.contacts.clear(),
        "task:CompleteDate" => item.progress.clear_completed(),
        "task:StartDate" => item.dates.set_start(None),
        "task:DueDate" => item.dates.set_due(None),
        "task:Recurrence" => item.is_recurring = false,
        _ => {
            let text = "Delete action is invalid for property.";
            return Err(EwsError::new("ErrorInvalidPropertyDelete", text).field(uri));
        }
    }
    Ok(())
}

/// Appends to the body. No other property can be appended to.
///
/// # Errors
/// `ErrorInvalidPropertyAppend` for any other property.
pub(crate) fn append(item: &mut Item, element: &Element, reading: &Reading<'_>) -> Result<(), EwsError> {
    if element.name != "Body" {
        let text = "Append action is invalid for property.";
        return Err(EwsError::new("ErrorInvalidPropertyAppend", text));
    }
    match &mut item.body {
        Some(body) => body.text.push_str(&element.text),
        None => set(item, element, reading)?,
    }
    Ok(())
}
