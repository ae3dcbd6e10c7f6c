//! `SyncFolderItems`: what changed in a folder since a `SyncState`.

use std::fmt::Write as _;

use bytes::Bytes;

use super::envelope::Header;
use super::folders;
use super::messages::{self, Message};
use super::operation::{Operation, operation};
use super::task_fields::item_ref;
use super::xml::{BadAnswer, Parsed, Xml, boolean, element};
use crate::mailbox::{ChangePage, ItemChange};

/// The operation.
pub(super) const OPERATION: Operation = operation!("SyncFolderItems", writes: false);

/// Most changes of one page; the schema's own limit.
pub(super) const MAXIMUM_CHANGES: u32 = 512;

/// Asks for at most `most` changes.
pub(super) fn request(header: &Header<'_>, folder: &str, cursor: Option<&str>, most: u32) -> Bytes {
    header.envelope(500 + folder.len() + cursor.map_or(0, str::len), |out| {
        out.push_str(
            "<m:SyncFolderItems><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape><m:SyncFolderId>",
        );
        folders::write_id(out, folder);
        out.push_str("</m:SyncFolderId>");
        if let Some(cursor) = cursor {
            element(out, "m:SyncState", cursor);
        }
        let _ = write!(
            out,
            "<m:MaxChangesReturned>{}</m:MaxChangesReturned><m:SyncScope>NormalItems</m:SyncScope></m:SyncFolderItems>",
            most.clamp(1, MAXIMUM_CHANGES)
        );
    })
}

/// A page as it is being read.
#[derive(Debug, Default)]
pub(super) struct ReadPage {
    cursor: Option<String>,
    last: Option<bool>,
    changes: Vec<ItemChange>,
}

impl ReadPage {
    /// The page, if it is whole.
    pub(super) fn into_page(self) -> Parsed<ChangePage> {
        let cursor = self
            .cursor
            .filter(|cursor| !cursor.is_empty())
            .ok_or_else(|| BadAnswer("a page of changes without SyncState".to_owned()))?;
        let last = self.last.unwrap_or(self.changes.is_empty());
        Ok(ChangePage {
            changes: self.changes,
            cursor,
            last,
        })
    }
}

/// Reads a page of changes.
pub(super) fn read(xml: &mut Xml<'_>) -> Parsed<Vec<Message<ReadPage>>> {
    messages::read(xml, OPERATION.message, 1, |part, xml, page: &mut ReadPage| {
        match part.name() {
            "SyncState" => page.cursor = Some(xml.text()?.trim().to_owned()),
            "IncludesLastItemInRange" => page.last = Some(boolean(&xml.text()?)?),
            "Changes" => {
                while let Some(change) = xml.child()? {
                    if page.changes.len() >= MAXIMUM_CHANGES as usize {
                        return Err(BadAnswer(format!("more than {MAXIMUM_CHANGES} changes")));
                    }
                    match change.name() {
                        "Create" | "Update" => present(xml, &mut page.changes)?,
                        "Delete" => gone(xml, &mut page.changes)?,
                        // Read flags say nothing about a task; the version they bring is met again at the next write.
                        _ => xml.skip()?,
                    }
                }
            }
            _ => xml.skip()?,
        }
        Ok(())
    })
}

fn present(xml: &mut Xml<'_>, changes: &mut Vec<ItemChange>) -> Parsed<()> {
    while let Some(item) = xml.child()? {
        // Other kinds of items may lie in a task folder; they are not ours to touch.
        if item.name() != "Task" {
            xml.skip()?;
            continue;
        }
        let mut found = None;
        while let Some(part) = xml.child()? {
            if part.name() == "ItemId" {
                found = Some(item_ref(&part)?);
            }
            xml.skip()?;
        }
        changes.push(ItemChange::Present(
            found.ok_or_else(|| BadAnswer("a change without ItemId".to_owned()))?,
        ));
    }
    Ok(())
}

fn gone(xml: &mut Xml<'_>, changes: &mut Vec<ItemChange>) -> Parsed<()> {
    while let Some(part) = xml.child()? {
        if part.name() == "ItemId" {
            changes.push(ItemChange::Gone {
                id: part.required("Id")?,
            });
        }
        xml.skip()?;
    }
    Ok(())
}
