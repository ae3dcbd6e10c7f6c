//! `GetFolder`: the cheap question whether folders changed, for many folders and mailboxes at once.

use bytes::Bytes;

use super::envelope::Header;
use super::folders::{self, ReadFolder};
use super::messages::{self, Message};
use super::operation::{Operation, operation, write_field};
use super::properties::Property;
use super::xml::{BadAnswer, Parsed, Xml};

/// The operation.
pub(super) const OPERATION: Operation = operation!("GetFolder", writes: false);

/// What a folder id adds to a request at most, as an estimate.
const BYTES_PER_FOLDER: usize = 200;

fn write(header: &Header<'_>, count: usize, ids: impl FnOnce(&mut String)) -> Bytes {
    header.envelope(500 + count * BYTES_PER_FOLDER, |out| {
        out.push_str("<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>");
        write_field(out, "folder:ParentFolderId");
        Property::LatestCommit.write_uri(out);
        Property::Deletions.write_uri(out);
        out.push_str("</t:AdditionalProperties></m:FolderShape><m:FolderIds>");
        ids(out);
        out.push_str("</m:FolderIds></m:GetFolder>");
    })
}

/// Asks for the signs of change of these folders; at least one.
pub(super) fn request(header: &Header<'_>, folders: &[&str]) -> Bytes {
    write(header, folders.len(), |out| {
        for folder in folders {
            folders::write_id(out, folder);
        }
    })
}

/// Asks for the mailbox's own task folder.
pub(super) fn request_tasks_folder(header: &Header<'_>) -> Bytes {
    write(header, 1, |out| folders::write_tasks_folder(out, header))
}

/// Asks for the mailbox's deleted items.
pub(super) fn request_deleted_items(header: &Header<'_>) -> Bytes {
    write(header, 1, |out| {
        folders::write_distinguished(out, header, "deleteditems");
    })
}

/// Reads one message per folder asked for, in that order.
pub(super) fn read(xml: &mut Xml<'_>, expected: usize) -> Parsed<Vec<Message<Option<ReadFolder>>>> {
    messages::read(xml, OPERATION.message, expected, |part, xml, folder| {
        if part.name() == "Folders" {
            folders::read_only(xml, folder)
        } else {
            xml.skip()
        }
    })
}

/// Refuses an answer that is about other folders than those asked for.
pub(super) fn check(messages: &[Message<Option<ReadFolder>>], asked: &[&str]) -> Parsed<()> {
    for (message, asked) in messages.iter().zip(asked) {
        match message {
            Ok(Some(folder)) if folder.id.as_deref() == Some(asked) => {}
            Ok(Some(_)) => return Err(BadAnswer("a folder that was not asked for".to_owned())),
            Ok(None) => return Err(BadAnswer("a success without folder".to_owned())),
            Err(_) => {}
        }
    }
    Ok(())
}
