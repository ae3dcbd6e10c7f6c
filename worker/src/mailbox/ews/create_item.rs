//! `CreateItem`: creates a task. It is not idempotent: after a lost answer the task is searched for by its
//! key.

use bytes::Bytes;

use super::envelope::Header;
use super::folders;
use super::operation::{self, Operation, operation};
use super::response_messages::ResponseMessage;
use super::task_fields;
use super::xml::{Parsed, Xml};
use crate::mailbox::{ItemRef, NewItem};

pub(super) const OPERATION: Operation = operation!("CreateItem", writes: true);

/// Returns the request that creates a task in a folder, marked for `owner`.
pub(super) fn request(header: &Header<'_>, folder: &str, item: &NewItem<'_>, owner: &str) -> Bytes {
    let body = item.task.body.as_ref();
    let text = item.task.title.len() + body.map_or(0, |body| body.content.len() * 5 / 4);
    header.envelope(1_800 + folder.len() + text, |out| {
        out.push_str("<m:CreateItem MessageDisposition=\"SaveOnly\"><m:SavedItemFolderId>");
        folders::write_id(out, folder);
        out.push_str("</m:SavedItemFolderId><m:Items>");
        task_fields::write_new(out, item, owner);
        out.push_str("</m:Items></m:CreateItem>");
    })
}

/// Reads the new item's reference.
pub(super) fn read(xml: &mut Xml<'_>) -> Parsed<Vec<ResponseMessage<Option<ItemRef>>>> {
    operation::written_items(xml, &OPERATION, 1)
}
