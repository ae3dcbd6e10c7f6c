//! `UpdateItem` for tasks. It checks change keys.

use jiff::ToSpan as _;

use super::entries;
use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::error::EwsError;
use crate::exchange::fields::{Reading, append, clear, set, uri_of};
use crate::exchange::ids::change_of_key;
use crate::exchange::properties::PropertyPath;
use crate::exchange::shape::write_item_id;
use crate::exchange::store::{Item, Store};
use crate::exchange::tasks::{TaskProgress, TaskStatus};
use crate::exchange::xml::Element;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let resolution = request
        .attribute("ConflictResolution")
        .unwrap_or("NeverOverwrite");
    let mut answer = OperationResponse::new(context, "UpdateItem", "<m:Items/>");
    for change in entries(request, "ItemChanges") {
        answer.entry(|out| update(context, change, resolution, out));
    }
    answer.finish()
}

fn update(
    context: &Context<'_>,
    change: &Element,
    resolution: &str,
    out: &mut String,
) -> Result<(), EwsError> {
    let id = change.child("ItemId").ok_or_else(EwsError::item_not_found)?;
    let (mailbox, number) = context.item(id)?;
    let now = context.now();
    let mut store = mailbox.store();
    let before = store.item(number).ok_or_else(EwsError::item_not_found)?;
    let updates = entries(change, "Updates");
    let fields: Vec<String> = updates.iter().map(field_of).collect::<Result<_, _>>()?;
    let conflicts = check_version(before, id.attribute("ChangeKey"), resolution, &fields)?;
    let reading = Reading {
        now,
        request_zone: context.session.zone.as_ref(),
        date_zone: context.date_zone(&mailbox),
    };
    let mut item = before.clone();
    for (update, field) in updates.iter().zip(&fields) {
        if !context.ignores(field) {
            apply(&mut item, update, &reading)?;
        }
    }
    let completed =
        item.progress.status == TaskStatus::Completed && before.progress.status != TaskStatus::Completed;
    if item.is_recurring && completed {
        complete_occurrence(&mut store, &mut item, now)?;
    }
    if !context.ignores_updates() {
        store.commit_item(item, &fields, context.session.name(), now);
        context.count_write();
    }
    let item = store.item(number).ok_or_else(EwsError::item_not_found)?;
    out.push_str("<m:Items><t:Task>");
    write_item_id(out, &mailbox, item);
    out.push_str("</t:Task></m:Items><m:ConflictResults><t:Count>");
    out.push_str(&conflicts.to_string());
    out.push_str("</t:Count></m:ConflictResults>");
    Ok(())
}

/// Returns the property that an update changes. The element inside must contain that property and no other.
fn field_of(update: &Element) -> Result<String, EwsError> {
    let mismatch = |text: &str| EwsError::new("ErrorUpdatePropertyMismatch", text);
    let path = update
        .children
        .first()
        .ok_or_else(|| mismatch("The update names no property."))?;
    let named = match path.name.as_str() {
        "ExtendedFieldURI" => PropertyPath::read(path)?.text(),
        _ => path.attribute("FieldURI").unwrap_or_default().to_owned(),
    };
    if update.name == "DeleteItemField" {
        return Ok(named);
    }
    let values = update
        .children
        .get(1)
        .map_or(&[][..], |item| item.children.as_slice());
    let [value] = values else {
        let text = "The update must hold exactly one property.";
        return Err(EwsError::new("ErrorIncorrectUpdatePropertyCount", text));
    };
    let short = named.split_once(':').map_or("", |(_, name)| name);
    if path.name != "ExtendedFieldURI" && value.name == short {
        // The names agree. If the property is read-only, `uri_of` reports that.
        return uri_of(value);
    }
    if uri_of(value)? != named {
        return Err(mismatch("The property in the update does not match its path.").field(&named));
    }
    Ok(named)
}

/// Compares the version that the client knows with the stored one. Returns the number of conflicting fields that are
/// overwritten.
fn check_version(
    before: &Item,
    key: Option<&str>,
    resolution: &str,
    fields: &[String],
) -> Result<u32, EwsError> {
    let Some(key) = key.filter(|key| !key.is_empty()) else {
        if resolution == "AlwaysOverwrite" {
            return Ok(0);
        }
        return Err(EwsError::new(
            "ErrorChangeKeyRequired",
            "The required change key was not supplied.",
        ));
    };
    let given_change = change_of_key(key).filter(|known| *known <= before.change);
    let given_change =
        given_change.ok_or_else(|| EwsError::new("ErrorInvalidChangeKey", "The change key is invalid."))?;
    if given_change == before.change {
        return Ok(0);
    }
    let touched = |field: &&String| {
        before
            .field_changes
            .get(field.as_str())
            .is_some_and(|change| *change > given_change)
    };
    let conflicts = u32::try_from(fields.iter().filter(touched).count()).unwrap_or(u32::MAX);
    match resolution {
        "AlwaysOverwrite" => Ok(conflicts),
        "AutoResolve" if conflicts == 0 => Ok(0),
        _ => Err(EwsError::new(
            "ErrorIrresolvableConflict",
            "The send or update operation could not be performed because the change key passed in the request does not match the current change key for the item.",
        )),
    }
}

fn apply(item: &mut Item, update: &Element, reading: &Reading<'_>) -> Result<(), EwsError> {
    let value = update.children.get(1).and_then(|item| item.children.first());
    match (update.name.as_str(), update.children.first(), value) {
        ("SetItemField", _, Some(value)) => set(item, value, reading),
        ("AppendToItemField", _, Some(value)) => append(item, value, reading),
        ("DeleteItemField", Some(path), _) => clear(item, path),
        _ => Err(EwsError::new(
            "ErrorIncorrectUpdatePropertyCount",
            "The update must hold exactly one property.",
        )),
    }
}

/// Completes one occurrence of a recurring task. This leaves a completed one-off task under a new identifier. The
/// recurring task itself stays and is open again, a week later (the recurrence pattern is not stored).
fn complete_occurrence(store: &mut Store, item: &mut Item, now: jiff::Timestamp) -> Result<(), EwsError> {
    let done = Item {
        is_recurring: false,
        ..item.clone()
    };
    store.add_item(done, item.folder, now)?;
    item.progress = TaskProgress::default();
    let later = |date: Option<jiff::civil::Date>| date.map(|date| date.saturating_add(7.days()));
    item.dates.start = later(item.dates.start);
    item.dates.due = later(item.dates.due);
    Ok(())
}
