//! `UpdateItem`: writes one change description per property, only if the item's version is still the one that
//! was read.

use bytes::Bytes;

use super::envelope::Header;
use super::operation::{self, Operation, operation, write_item_id};
use super::properties::Property;
use super::response_messages::ResponseMessage;
use super::task_fields;
use super::xml::{Parsed, Xml};
use crate::mailbox::{ItemChanges, ItemRef};

pub(super) const OPERATION: Operation = operation!("UpdateItem", writes: true);

const BEGINNING: &str =
    "<m:UpdateItem ConflictResolution=\"NeverOverwrite\" MessageDisposition=\"SaveOnly\"><m:ItemChanges>";

fn write(header: &Header<'_>, item: &ItemRef, capacity: usize, updates: impl FnOnce(&mut String)) -> Bytes {
    header.envelope(400 + item.id.len() + item.change_key.len() + capacity, |out| {
        out.push_str(BEGINNING);
        out.push_str("<t:ItemChange>");
        write_item_id(out, &item.id, &item.change_key);
        out.push_str("<t:Updates>");
        updates(out);
        out.push_str("</t:Updates></t:ItemChange></m:ItemChanges></m:UpdateItem>");
    })
}

/// Returns the request that writes fields of a task; at least one.
pub(super) fn request(header: &Header<'_>, item: &ItemRef, changes: &ItemChanges) -> Bytes {
    let task = &changes.task;
    let text = task.title.len() + task.body.as_ref().map_or(0, |body| body.content.len() * 5 / 4);
    write(header, item, 1_900 + text, |out| {
        task_fields::write_updates(out, task, changes.fields);
        task_fields::write_property(out, Property::WriteId, &changes.write_id);
    })
}

/// Returns the request that removes our key.
pub(super) fn request_disown(header: &Header<'_>, item: &ItemRef) -> Bytes {
    write(header, item, 300, |out| {
        out.push_str("<t:DeleteItemField>");
        Property::SourceKey.write_uri(out);
        out.push_str("</t:DeleteItemField>");
    })
}

/// Returns the request that writes the owner of our marker into each of these items; at least one.
pub(super) fn request_owner(header: &Header<'_>, items: &[ItemRef], owner: &str) -> Bytes {
    let item_bytes = items
        .iter()
        .map(|item| 550 + item.id.len() + item.change_key.len() + owner.len());
    header.envelope(200 + item_bytes.sum::<usize>(), |out| {
        out.push_str(BEGINNING);
        for item in items {
            out.push_str("<t:ItemChange>");
            write_item_id(out, &item.id, &item.change_key);
            out.push_str("<t:Updates>");
            task_fields::write_property(out, Property::Owner, owner);
            out.push_str("</t:Updates></t:ItemChange>");
        }
        out.push_str("</m:ItemChanges></m:UpdateItem>");
    })
}

/// Reads the new version of each of the `expected` items.
pub(super) fn read(xml: &mut Xml<'_>, expected: usize) -> Parsed<Vec<ResponseMessage<Option<ItemRef>>>> {
    operation::written_items(xml, &OPERATION, expected)
}
