//! `FindFolder`: every folder below the mailbox's task folder, page by page.

use std::fmt::Write as _;

use bytes::Bytes;

use super::envelope::Header;
use super::folders::{self, ReadFolder};
use super::messages::{self, Message};
use super::operation::{Operation, operation, write_field};
use super::paging::page_end;
use super::properties::Property;
use super::xml::{Parsed, Xml};

/// The operation.
pub(super) const OPERATION: Operation = operation!("FindFolder", writes: false);

/// One page of folders.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The folders.
    pub(super) folders: Vec<ReadFolder>,
    /// `IncludesLastItemInRange`.
    pub(super) last: bool,
    /// Where the next page begins, if the server says so.
    pub(super) next: Option<u32>,
}

/// Asks for a page of at most `size` folders below the mailbox's task folder, from `offset` on.
pub(super) fn request(header: &Header<'_>, offset: u32, size: u32) -> Bytes {
    below(header, "tasks", offset, size)
}

/// Asks for a page of at most `size` folders below the deleted items, from `offset` on.
pub(super) fn request_deleted(header: &Header<'_>, offset: u32, size: u32) -> Bytes {
    below(header, "deleteditems", offset, size)
}

fn below(header: &Header<'_>, root: &str, offset: u32, size: u32) -> Bytes {
    header.envelope(900, |out| {
        out.push_str(
            "<m:FindFolder Traversal=\"Deep\"><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>",
        );
        write_field(out, "folder:DisplayName");
        write_field(out, "folder:FolderClass");
        write_field(out, "folder:ParentFolderId");
        Property::Location.write_uri(out);
        Property::LatestCommit.write_uri(out);
        Property::Deletions.write_uri(out);
        out.push_str("</t:AdditionalProperties></m:FolderShape>");
        let _ = write!(
            out,
            "<m:IndexedPageFolderView MaxEntriesReturned=\"{size}\" Offset=\"{offset}\" BasePoint=\"Beginning\"/>"
        );
        out.push_str("<m:ParentFolderIds>");
        folders::write_distinguished(out, header, root);
        out.push_str("</m:ParentFolderIds></m:FindFolder>");
    })
}

/// Reads a page.
pub(super) fn read(xml: &mut Xml<'_>) -> Parsed<Vec<Message<Page>>> {
    messages::read(xml, OPERATION.message, 1, |part, xml, page: &mut Page| {
        if part.name() != "RootFolder" {
            return xml.skip();
        }
        (page.last, page.next) = page_end(part)?;
        while let Some(list) = xml.child()? {
            if list.name() != "Folders" {
                xml.skip()?;
                continue;
            }
            while let Some(folder) = xml.child()? {
                page.folders.push(folders::read(folder.name(), xml)?);
            }
        }
        Ok(())
    })
}
