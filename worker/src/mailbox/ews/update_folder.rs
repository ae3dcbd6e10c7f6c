//! `UpdateFolder`: renames a folder, or writes the owner of its marker.

use bytes::Bytes;

use super::envelope::Header;
use super::folders::{self, ReadFolder};
use super::operation::{Operation, operation};
use super::properties::Property;
use super::response_messages::ResponseMessage;
use super::xml::{Parsed, Xml, element};

pub(super) const OPERATION: Operation = operation!("UpdateFolder", writes: true);

/// Returns the request that renames a task folder.
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

/// Returns the request that writes the owner of our marker into each of these folders; at least one.
pub(super) fn request_owner(header: &Header<'_>, folders: &[&str], owner: &str) -> Bytes {
    let folder_bytes = folders.iter().map(|folder| 550 + folder.len() + owner.len());
    header.envelope(200 + folder_bytes.sum::<usize>(), |out| {
        out.push_str("<m:UpdateFolder><m:FolderChanges>");
        for folder in folders {
            out.push_str("<t:FolderChange>");
            folders::write_id(out, folder);
            out.push_str("<t:Updates><t:SetFolderField>");
            Property::Owner.write_uri(out);
            out.push_str("<t:TasksFolder>");
            Property::Owner.write(out, owner);
            out.push_str("</t:TasksFolder></t:SetFolderField></t:Updates></t:FolderChange>");
        }
        out.push_str("</m:FolderChanges></m:UpdateFolder>");
    })
}

/// Reads each of the `expected` changed folders, if the server shows it.
pub(super) fn read(xml: &mut Xml<'_>, expected: usize) -> Parsed<Vec<ResponseMessage<Option<ReadFolder>>>> {
    folders::read_messages(xml, &OPERATION, expected)
}
