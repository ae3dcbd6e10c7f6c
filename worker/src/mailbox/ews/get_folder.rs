//! `GetFolder`: checks cheaply whether folders changed, for many folders and mailboxes with one request.

use bytes::Bytes;

use super::envelope::Header;
use super::find_folder::Root;
use super::folders::{self, ReadFolder};
use super::operation::{Operation, operation, write_field};
use super::properties::Property;
use super::response_messages::ResponseMessage;
use super::xml::{Parsed, Xml};

pub(super) const OPERATION: Operation = operation!("GetFolder", writes: false);

/// Estimated bytes that one folder id adds to a request.
const BYTES_PER_FOLDER: usize = 200;

fn write(header: &Header<'_>, count: usize, ids: impl FnOnce(&mut String)) -> Bytes {
    let signs = |out: &mut String| {
        write_field(out, "folder:ParentFolderId");
        Property::LatestCommit.write_uri(out);
        Property::Deletions.write_uri(out);
    };
    write_fields(header, count, signs, ids)
}

fn write_fields(
    header: &Header<'_>,
    count: usize,
    fields: impl FnOnce(&mut String),
    ids: impl FnOnce(&mut String),
) -> Bytes {
    header.envelope(500 + count * BYTES_PER_FOLDER, |out| {
        out.push_str("<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>");
        fields(out);
        out.push_str("</t:AdditionalProperties></m:FolderShape><m:FolderIds>");
        ids(out);
        out.push_str("</m:FolderIds></m:GetFolder>");
    })
}

/// Returns the request for the signs of change of these folders; at least one.
pub(super) fn request(header: &Header<'_>, folders: &[&str]) -> Bytes {
    write(header, folders.len(), |out| {
        for folder in folders {
            folders::write_id(out, folder);
        }
    })
}

/// Returns the request for the name of a folder.
pub(super) fn request_name(header: &Header<'_>, folder: &str) -> Bytes {
    write_fields(
        header,
        1,
        |out| write_field(out, "folder:DisplayName"),
        |out| folders::write_id(out, folder),
    )
}

/// Returns the request for the mailbox's own task folder.
pub(super) fn request_tasks_folder(header: &Header<'_>) -> Bytes {
    write(header, 1, |out| folders::write_tasks_folder(out, header))
}

/// The number of folders that [`request_roots`] names.
pub(super) const ROOTS: usize = 2;

/// Returns the request for the mailbox's own task folder and its deleted items, in this order.
pub(super) fn request_roots(header: &Header<'_>) -> Bytes {
    write(header, ROOTS, |out| {
        folders::write_tasks_folder(out, header);
        folders::write_distinguished(out, header, Root::DeletedItems.name());
    })
}

/// Reads one message for each requested folder, in the order of the request.
pub(super) fn read(xml: &mut Xml<'_>, expected: usize) -> Parsed<Vec<ResponseMessage<Option<ReadFolder>>>> {
    folders::read_messages(xml, &OPERATION, expected)
}

/// Returns whether the answer shows, at any place, another folder than the requested one.
pub(super) fn is_foreign(messages: &[ResponseMessage<Option<ReadFolder>>], asked: &[&str]) -> bool {
    messages.iter().zip(asked).any(|(message, asked)| {
        let shown = message.as_ref().ok().and_then(Option::as_ref);
        shown
            .and_then(|folder| folder.id.as_deref())
            .is_some_and(|id| id != *asked)
    })
}
