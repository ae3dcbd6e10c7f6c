//! `DeleteFolder`: into the deleted items, where people can take it back.

use bytes::Bytes;

use super::envelope::Header;
use super::folders;
use super::messages::Message;
use super::operation::{self, Operation, operation};
use super::xml::{Parsed, Xml};

/// The operation.
pub(super) const OPERATION: Operation = operation!("DeleteFolder", writes: true);

/// Moves a folder to the deleted items.
pub(super) fn request(header: &Header<'_>, folder: &str) -> Bytes {
    header.envelope(200 + folder.len(), |out| {
        out.push_str("<m:DeleteFolder DeleteType=\"MoveToDeletedItems\"><m:FolderIds>");
        folders::write_id(out, folder);
        out.push_str("</m:FolderIds></m:DeleteFolder>");
    })
}

/// Reads whether it was done.
pub(super) fn read(xml: &mut Xml<'_>) -> Parsed<Vec<Message<()>>> {
    operation::done(xml, &OPERATION)
}
