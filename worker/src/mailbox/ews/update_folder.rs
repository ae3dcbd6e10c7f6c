//! `UpdateFolder`: a new name.

use bytes::Bytes;

use super::envelope::Header;
use super::folders;
use super::messages::Message;
use super::operation::{self, Operation, operation};
use super::xml::{Parsed, Xml, element};

/// The operation.
pub(super) const OPERATION: Operation = operation!("UpdateFolder", writes: true);

/// Renames a task folder.
pub(super) fn request(header: &Header<'_>, folder: &str, name: &str) -> Bytes {
    header.envelope(500 + folder.len() + name.len(), |out| {
        out.push_str("<m:UpdateFolder><m:FolderChanges><t:FolderChange>");
        folders::write_id(out, folder);
        out.push_str(
            "<t:Updates><t:SetFolderField><t:FieldURI FieldURI=\"folder:DisplayName\"/><t:TasksFolder>",
        );
        element(out, "t:DisplayName", name);
        out.push_str(
            "</t:TasksFolder></t:SetFolderField></t:Updates></t:FolderChange></m:FolderChanges></m:UpdateFolder>",
        );
    })
}

/// Reads whether it was done.
pub(super) fn read(xml: &mut Xml<'_>) -> Parsed<Vec<Message<()>>> {
    operation::done(xml, &OPERATION)
}
