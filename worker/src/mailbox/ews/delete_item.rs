//! `DeleteItem`: moves an item to the deleted items, from where people can restore it.

use bytes::Bytes;

use super::envelope::Header;
use super::operation::{self, Operation, operation, write_item_id};
use super::response_messages::ResponseMessage;
use super::xml::{Parsed, Xml};
use crate::mailbox::ItemRef;

pub(super) const OPERATION: Operation = operation!("DeleteItem", writes: true);

/// Returns the request that moves an item to the deleted items. Exchange requires `AffectedTaskOccurrences`
/// for tasks.
pub(super) fn request(header: &Header<'_>, item: &ItemRef) -> Bytes {
    header.envelope(300 + item.id.len() + item.change_key.len(), |out| {
        out.push_str(
            "<m:DeleteItem DeleteType=\"MoveToDeletedItems\" AffectedTaskOccurrences=\"AllOccurrences\"><m:ItemIds>",
        );
        write_item_id(out, &item.id, &item.change_key);
        out.push_str("</m:ItemIds></m:DeleteItem>");
    })
}

/// Reads whether the item was moved.
pub(super) fn read(xml: &mut Xml<'_>) -> Parsed<Vec<ResponseMessage<()>>> {
    operation::read_without_content(xml, &OPERATION)
}
