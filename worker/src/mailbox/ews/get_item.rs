//! `GetItem`: reads whole tasks, or the folders of items.

use bytes::Bytes;
use jiff::tz::TimeZone;

use super::envelope::Header;
use super::operation::{Operation, operation, write_field, write_item_id};
use super::properties::Property;
use super::response_messages::{self, ResponseMessage};
use super::task_fields::{self, ReadItem};
use super::xml::{Parsed, Xml};

pub(super) const OPERATION: Operation = operation!("GetItem", writes: false);

/// The fields of a task that tasksync reads. Never add `item:UniqueBody`: Exchange Online fails on it for
/// tasks.
const FIELDS: [&str; 17] = [
    "item:Subject",
    "item:Sensitivity",
    "item:Body",
    "item:Categories",
    "item:Importance",
    "item:DateTimeCreated",
    "item:LastModifiedTime",
    "item:ParentFolderId",
    "task:ActualWork",
    "task:CompleteDate",
    "task:DueDate",
    "task:IsRecurring",
    "task:PercentComplete",
    "task:Recurrence",
    "task:StartDate",
    "task:Status",
    "task:TotalWork",
];

/// Returns the request for these items; at least one.
pub(super) fn request(header: &Header<'_>, ids: &[&str]) -> Bytes {
    header.envelope(1_700 + ids.iter().map(|id| id.len() + 30).sum::<usize>(), |out| {
        out.push_str(
            "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:BodyType>Best</t:BodyType><t:AdditionalProperties>",
        );
        for field in FIELDS {
            write_field(out, field);
        }
        Property::SourceKey.write_uri(out);
        Property::Owner.write_uri(out);
        Property::WriteId.write_uri(out);
        out.push_str("</t:AdditionalProperties></m:ItemShape><m:ItemIds>");
        for id in ids {
            write_item_id(out, id, "");
        }
        out.push_str("</m:ItemIds></m:GetItem>");
    })
}

/// Returns the request for the folders of these items; at least one.
pub(super) fn request_parents(header: &Header<'_>, ids: &[&str]) -> Bytes {
    header.envelope(500 + ids.iter().map(|id| id.len() + 30).sum::<usize>(), |out| {
        out.push_str("<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>");
        write_field(out, "item:ParentFolderId");
        out.push_str("</t:AdditionalProperties></m:ItemShape><m:ItemIds>");
        for id in ids {
            write_item_id(out, id, "");
        }
        out.push_str("</m:ItemIds></m:GetItem>");
    })
}

/// Reads one message for each requested item, in the order of the request, with dates in the owner's zone.
pub(super) fn read(
    xml: &mut Xml<'_>,
    expected: usize,
    zone: &TimeZone,
) -> Parsed<Vec<ResponseMessage<Option<ReadItem>>>> {
    response_messages::read(xml, OPERATION.message, expected, |part, xml, read| {
        if part.name() != "Items" {
            return xml.skip();
        }
        while let Some(item) = xml.child()? {
            *read = Some(task_fields::read(item.name(), xml, zone)?);
        }
        Ok(())
    })
}

/// Returns whether the answer shows, at any place, another item than the requested one.
pub(super) fn is_foreign(messages: &[ResponseMessage<Option<ReadItem>>], asked: &[&str]) -> bool {
    messages.iter().zip(asked).any(|(message, asked)| {
        let shown = message.as_ref().ok().and_then(Option::as_ref);
        shown
            .and_then(ReadItem::reference)
            .is_some_and(|found| found.id != *asked)
    })
}
