//! The parts that all operations share.

use tasksync_common::model::SourceKey;

use super::response_messages::{self, ResponseMessage};
use super::task_fields::item_ref;
use super::xml::{BadAnswer, Element, Parsed, Xml, escape};
use crate::http::service::Intent;
use crate::mailbox::ItemRef;

/// An operation of EWS, and the element names of its answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Operation {
    /// Its name, for messages.
    pub(super) name: &'static str,
    /// The element in the answer's body.
    pub(super) response: &'static str,
    /// The element of each response message.
    pub(super) message: &'static str,
    /// The `SOAPAction` header.
    pub(super) action: &'static str,
    /// Whether it reads or writes.
    pub(super) intent: Intent,
}

macro_rules! operation {
    ($name:literal, writes: $writes:literal) => {
        $crate::mailbox::ews::operation::Operation {
            name: $name,
            response: concat!($name, "Response"),
            message: concat!($name, "ResponseMessage"),
            action: concat!(
                "\"http://schemas.microsoft.com/exchange/services/2006/messages/",
                $name,
                "\""
            ),
            intent: if $writes {
                $crate::http::service::Intent::Write
            } else {
                $crate::http::service::Intent::Read
            },
        }
    };
}
pub(super) use operation;

/// Appends a `t:ItemId`; the version is omitted if it is empty.
pub(super) fn write_item_id(out: &mut String, id: &str, change_key: &str) {
    out.push_str("<t:ItemId Id=\"");
    escape(out, id);
    if !change_key.is_empty() {
        out.push_str("\" ChangeKey=\"");
        escape(out, change_key);
    }
    out.push_str("\"/>");
}

/// Appends one `t:FieldURI`.
pub(super) fn write_field(out: &mut String, uri: &str) {
    out.push_str("<t:FieldURI FieldURI=\"");
    out.push_str(uri);
    out.push_str("\"/>");
}

/// Reads the response messages of an operation that writes `expected` items. Returns each item's new
/// reference.
pub(super) fn written_items(
    xml: &mut Xml<'_>,
    operation: &Operation,
    expected: usize,
) -> Parsed<Vec<ResponseMessage<Option<ItemRef>>>> {
    response_messages::read(
        xml,
        operation.message,
        expected,
        |part, xml, written: &mut Option<ItemRef>| {
            if part.name() != "Items" {
                return xml.skip();
            }
            while xml.child()?.is_some() {
                while let Some(inner) = xml.child()? {
                    if inner.name() == "ItemId" {
                        *written = Some(item_ref(&inner)?);
                    }
                    xml.skip()?;
                }
            }
            Ok(())
        },
    )
}

/// Reads response messages without payload.
pub(super) fn read_without_content(
    xml: &mut Xml<'_>,
    operation: &Operation,
) -> Parsed<Vec<ResponseMessage<()>>> {
    response_messages::read(xml, operation.message, 1, |_: &Element<'_>, xml, (): &mut ()| {
        xml.skip()
    })
}

/// Returns the single message of an answer to a request for one object.
pub(super) fn only<T>(messages: Vec<T>) -> Parsed<T> {
    let mut messages = messages.into_iter();
    match (messages.next(), messages.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(BadAnswer("not exactly one response message".to_owned())),
    }
}

/// Appends the `TaskSyncSourceKey` restriction. Its form is always the same, because the server makes an
/// index for each form.
pub(super) fn write_key_restriction(out: &mut String, key: &SourceKey) {
    out.push_str("<m:Restriction><t:IsEqualTo>");
    super::properties::Property::SourceKey.write_uri(out);
    out.push_str("<t:FieldURIOrConstant><t:Constant Value=\"");
    escape(out, key.as_str());
    out.push_str("\"/></t:FieldURIOrConstant></t:IsEqualTo></m:Restriction>");
}
