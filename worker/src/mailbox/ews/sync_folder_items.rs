//! `SyncFolderItems`: reads what changed in a folder since a `SyncState`.

use std::fmt::Write as _;

use bytes::Bytes;

use super::envelope::Header;
use super::folders;
use super::operation::{Operation, operation, write_field};
use super::response_messages::{self, ResponseMessage};
use super::task_fields::item_ref;
use super::xml::{BadAnswer, Parsed, Xml, boolean, element};
use crate::mailbox::{ChangePage, ItemChange};

pub(super) const OPERATION: Operation = operation!("SyncFolderItems", writes: false);

/// The most changes of one page; the schema's own limit.
pub(super) const MAXIMUM_CHANGES: u32 = 512;

/// Bytes of the longest `SyncState` that is read; large folders have some 10,000.
const LONGEST_CURSOR: usize = 256 * 1_024;

/// Returns the request for at most `most` changes.
pub(super) fn request(header: &Header<'_>, folder: &str, cursor: Option<&str>, most: u32) -> Bytes {
    header.envelope(600 + folder.len() + cursor.map_or(0, str::len), |out| {
        out.push_str(
            "<m:SyncFolderItems><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>",
        );
        write_field(out, "item:ParentFolderId");
        out.push_str("</t:AdditionalProperties></m:ItemShape><m:SyncFolderId>");
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

/// A page while it is read.
#[derive(Debug, Default)]
pub(super) struct ReadPage {
    cursor: Option<String>,
    last: Option<bool>,
    changes: Vec<ItemChange>,
    /// The folders of the items, as far as the server reports them; each once.
    parents: Vec<String>,
}

impl ReadPage {
    /// Returns whether the page shows an item of another folder.
    pub(super) fn is_about_another(&self, folder: &str) -> bool {
        self.parents.iter().any(|parent| parent != folder)
    }

    /// Returns the page, if it has a cursor.
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
pub(super) fn read(xml: &mut Xml<'_>) -> Parsed<Vec<ResponseMessage<ReadPage>>> {
    response_messages::read(xml, OPERATION.message, 1, |part, xml, page: &mut ReadPage| {
        match part.name() {
            "SyncState" => {
                let cursor = xml.text()?;
                if cursor.len() > LONGEST_CURSOR {
                    return Err(BadAnswer(format!(
                        "a SyncState of {} bytes, where at most {LONGEST_CURSOR} are read",
                        cursor.len()
                    )));
                }
                page.cursor = Some(cursor.trim().to_owned());
            }
            "IncludesLastItemInRange" => page.last = Some(boolean(&xml.text()?)?),
            "Changes" => {
                while let Some(change) = xml.child()? {
                    if page.changes.len() >= MAXIMUM_CHANGES as usize {
                        return Err(BadAnswer(format!("more than {MAXIMUM_CHANGES} changes")));
                    }
                    match change.name() {
                        "Create" | "Update" => read_present_item(xml, page)?,
                        "Delete" => read_deleted_item(xml, &mut page.changes)?,
                        // Read flags do not concern a task; the version they bring shows at the next write.
                        _ => xml.skip()?,
                    }
                }
            }
            _ => xml.skip()?,
        }
        Ok(())
    })
}

fn read_present_item(xml: &mut Xml<'_>, page: &mut ReadPage) -> Parsed<()> {
    while let Some(item) = xml.child()? {
        // Items of other kinds in a task folder are not ours.
        if item.name() != "Task" {
            xml.skip()?;
            continue;
        }
        let mut found = None;
        while let Some(part) = xml.child()? {
            match part.name() {
                "ItemId" => found = Some(item_ref(&part)?),
                "ParentFolderId" => {
                    let parent = part.required("Id")?;
                    if !page.parents.contains(&parent) {
                        page.parents.push(parent);
                    }
                }
                _ => {}
            }
            xml.skip()?;
        }
        page.changes.push(ItemChange::Present(
            found.ok_or_else(|| BadAnswer("a change without ItemId".to_owned()))?,
        ));
    }
    Ok(())
}

fn read_deleted_item(xml: &mut Xml<'_>, changes: &mut Vec<ItemChange>) -> Parsed<()> {
    let mut found = None;
    while let Some(part) = xml.child()? {
        if part.name() == "ItemId" {
            found = Some(part.required("Id")?);
        }
        xml.skip()?;
    }
    let id = found.ok_or_else(|| BadAnswer("a deletion without ItemId".to_owned()))?;
    changes.push(ItemChange::Gone { id });
    Ok(())
}
