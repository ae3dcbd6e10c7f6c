//! `FindItem`: finds items by our key, or every item that has one.

use std::fmt::Write as _;

use bytes::Bytes;
use jiff::Timestamp;
use tasksync_common::model::SourceKey;

use super::dates;
use super::envelope::Header;
use super::find_folder::Root;
use super::folders;
use super::operation::{Operation, operation, write_field, write_key_restriction};
use super::paging::{PageEnd, Paging, read_page};
use super::properties::{self, Property};
use super::response_messages::{self, ResponseMessage};
use super::task_fields::item_ref;
use super::xml::{Parsed, Xml};
use crate::mailbox::{ItemRef, Marker};

pub(super) const OPERATION: Operation = operation!("FindItem", writes: false);

/// An item that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundItem {
    pub(super) item: ItemRef,
    /// When it was created, if the server reports it.
    pub(super) created: Option<Timestamp>,
    /// Its marker, if the server shows it.
    pub(super) marker: Option<Marker<SourceKey>>,
    /// The id of tasksync's last write into it.
    pub(super) write_id: Option<String>,
    /// Its folder, if the server reports it.
    pub(super) parent: Option<String>,
}

/// A place in which items are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SearchFolder<'a> {
    /// A folder by its id.
    Folder(&'a str),
    /// The mailbox's own task folder.
    Tasks,
    /// The mailbox's deleted items.
    DeletedItems,
}

/// One page of one folder.
#[derive(Debug, Default)]
pub(super) struct FoundItemPage {
    pub(super) items: Vec<FoundItem>,
    /// The page's end as the server reported it; `None` if it sent no page, which means no items.
    pub(super) end: Option<PageEnd>,
}

/// The items that are searched for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// Items with this key.
    Key(&'a SourceKey),
    /// Items with any key of ours.
    AnyKey,
}

/// Returns the request for a page of the wanted items in each of these places.
pub(super) fn request(
    header: &Header<'_>,
    search_folders: &[SearchFolder<'_>],
    wanted: Wanted<'_>,
    paging: Paging,
) -> Bytes {
    let ids = search_folders.iter().map(|folder| match folder {
        SearchFolder::Folder(id) => id.len() + 24,
        SearchFolder::Tasks | SearchFolder::DeletedItems => 160,
    });
    header.envelope(1_350 + ids.sum::<usize>(), |out| {
        out.push_str(
            "<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>",
        );
        write_field(out, "item:ParentFolderId");
        write_field(out, "item:DateTimeCreated");
        Property::SourceKey.write_uri(out);
        Property::Owner.write_uri(out);
        Property::WriteId.write_uri(out);
        out.push_str("</t:AdditionalProperties></m:ItemShape>");
        let Paging { offset, size, .. } = paging;
        let _ = write!(
            out,
            "<m:IndexedPageItemView MaxEntriesReturned=\"{size}\" Offset=\"{offset}\" BasePoint=\"Beginning\"/>"
        );
        match wanted {
            Wanted::Key(key) => write_key_restriction(out, key),
            Wanted::AnyKey => {
                out.push_str("<m:Restriction><t:Exists>");
                Property::SourceKey.write_uri(out);
                out.push_str("</t:Exists></m:Restriction>");
            }
        }
        out.push_str("<m:ParentFolderIds>");
        for folder in search_folders {
            match folder {
                SearchFolder::Folder(id) => folders::write_id(out, id),
                SearchFolder::Tasks => folders::write_tasks_folder(out, header),
                SearchFolder::DeletedItems => {
                    folders::write_distinguished(out, header, Root::DeletedItems.name());
                }
            }
        }
        out.push_str("</m:ParentFolderIds></m:FindItem>");
    })
}

/// Reads one page for each requested place, in the order of the request.
pub(super) fn read(xml: &mut Xml<'_>, expected: usize) -> Parsed<Vec<ResponseMessage<FoundItemPage>>> {
    response_messages::read(
        xml,
        OPERATION.message,
        expected,
        |part, xml, page: &mut FoundItemPage| {
            let items = &mut page.items;
            let end = read_page(part, xml, "Items", |kind, xml| {
                if kind != "Task" {
                    return xml.skip();
                }
                items.extend(read_found_item(xml)?);
                Ok(())
            })?;
            page.end = end.or(page.end.take());
            Ok(())
        },
    )
}

fn read_found_item(xml: &mut Xml<'_>) -> Parsed<Option<FoundItem>> {
    let (mut item, mut parent, mut created) = (None, None, None);
    let (mut key, mut owner, mut write_id) = (None, None, None);
    while let Some(part) = xml.child()? {
        match part.name() {
            "ItemId" => {
                item = Some(item_ref(&part)?);
                xml.skip()?;
            }
            "ParentFolderId" => {
                parent = Some(part.required("Id")?);
                xml.skip()?;
            }
            "DateTimeCreated" => created = dates::instant(&xml.text()?).ok(),
            "ExtendedProperty" => match properties::read(xml)? {
                Some((Property::SourceKey, value)) => key = Some(SourceKey::from_stored(&value)),
                Some((Property::Owner, value)) => owner = Some(value.into_owned()),
                Some((Property::WriteId, value)) => write_id = Some(value.into_owned()),
                _ => {}
            },
            _ => xml.skip()?,
        }
    }
    Ok(item.map(|item| FoundItem {
        item,
        created,
        marker: key
            .filter(|key: &SourceKey| !key.as_str().is_empty())
            .map(|key| Marker {
                key,
                marked_for: properties::marked_for(owner.as_deref()),
            }),
        write_id,
        parent,
    }))
}
