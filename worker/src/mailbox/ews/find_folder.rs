//! `FindFolder`: lists every folder below the folders that each mailbox has, page by page.

use std::fmt::Write as _;

use bytes::Bytes;

use super::envelope::Header;
use super::folders::{self, ReadFolder};
use super::operation::{Operation, operation, write_field};
use super::paging::{PageEnd, Paging, read_page};
use super::properties::Property;
use super::response_messages::{self, ResponseMessage};
use super::xml::{Parsed, Xml};

pub(super) const OPERATION: Operation = operation!("FindFolder", writes: false);

/// A folder that every mailbox has, below which others are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Root {
    /// The top of the folders that people see.
    Top,
    /// The mailbox's own task folder.
    Tasks,
    /// The deleted items.
    DeletedItems,
    /// The top of the archive mailbox, which not every mailbox has.
    Archive,
}

impl Root {
    /// Returns Microsoft's `DistinguishedFolderId`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Top => "msgfolderroot",
            Self::Tasks => "tasks",
            Self::DeletedItems => "deleteditems",
            Self::Archive => "archivemsgfolderroot",
        }
    }
}

/// The kind of folders that are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FolderKind {
    /// All.
    Any,
    /// Folders of class `IPF.Task` and its subclasses. The server may list others, too.
    Tasks,
}

/// One page of folders.
#[derive(Debug, Default)]
pub(super) struct FolderPage {
    pub(super) folders: Vec<ReadFolder>,
    /// The page's end as the server reported it; `None` if it sent no page, which means no folders.
    pub(super) end: Option<PageEnd>,
}

/// Returns the request for a page of the folders below each of `roots`.
pub(super) fn request(header: &Header<'_>, roots: &[Root], kind: FolderKind, paging: Paging) -> Bytes {
    header.envelope(1_150 + 160 * roots.len(), |out| {
        out.push_str(
            "<m:FindFolder Traversal=\"Deep\"><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>",
        );
        write_field(out, "folder:DisplayName");
        write_field(out, "folder:FolderClass");
        write_field(out, "folder:ParentFolderId");
        Property::Location.write_uri(out);
        Property::Owner.write_uri(out);
        Property::LatestCommit.write_uri(out);
        Property::Deletions.write_uri(out);
        out.push_str("</t:AdditionalProperties></m:FolderShape>");
        let Paging { offset, size, .. } = paging;
        let _ = write!(
            out,
            "<m:IndexedPageFolderView MaxEntriesReturned=\"{size}\" Offset=\"{offset}\" BasePoint=\"Beginning\"/>"
        );
        if kind == FolderKind::Tasks {
            out.push_str(
                "<m:Restriction><t:Contains ContainmentMode=\"Prefixed\" ContainmentComparison=\"Exact\">\
                 <t:FieldURI FieldURI=\"folder:FolderClass\"/><t:Constant Value=\"IPF.Task\"/></t:Contains></m:Restriction>",
            );
        }
        out.push_str("<m:ParentFolderIds>");
        for root in roots {
            folders::write_distinguished(out, header, root.name());
        }
        out.push_str("</m:ParentFolderIds></m:FindFolder>");
    })
}

/// Reads one page for each requested root, in the order of the request.
pub(super) fn read(xml: &mut Xml<'_>, expected: usize) -> Parsed<Vec<ResponseMessage<FolderPage>>> {
    response_messages::read(
        xml,
        OPERATION.message,
        expected,
        |part, xml, page: &mut FolderPage| {
            let folders = &mut page.folders;
            let end = read_page(part, xml, "Folders", |kind, xml| {
                folders.push(folders::read(kind, xml)?);
                Ok(())
            })?;
            page.end = end.or(page.end.take());
            Ok(())
        },
    )
}
