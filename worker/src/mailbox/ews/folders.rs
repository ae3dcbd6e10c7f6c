//! Folder elements in the answers of the folder operations.

use tasksync_common::model::{LocationKey, digest};

use super::dates;
use super::operation::Operation;
use super::properties::{self, Property};
use super::response_messages::{self, ResponseMessage};
use super::xml::{Parsed, Xml, escape};
use crate::mailbox::{Folder, FolderId, Marker, Signs};

/// A folder while it is read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ReadFolder {
    pub(super) id: Option<String>,
    pub(super) name: String,
    location: Option<LocationKey>,
    owner: Option<String>,
    holds_tasks: bool,
    latest_commit_us: Option<i64>,
    deletions: Option<i64>,
    parent: u64,
    pub(super) parent_id: Option<String>,
}

impl ReadFolder {
    /// Returns the signs of change, if the server reported both and the folder's id.
    pub(super) fn signs(&self) -> Option<Signs> {
        self.id.as_ref()?;
        Some(Signs {
            latest_commit_us: self.latest_commit_us?,
            deletions: self.deletions?,
            parent: self.parent,
        })
    }

    /// Returns the folder, if it holds tasks or has our marker.
    pub(super) fn into_folder(self) -> Option<Folder> {
        let signs = self.signs();
        if !self.holds_tasks && self.location.is_none() {
            return None;
        }
        Some(Folder {
            id: FolderId(self.id?),
            name: self.name,
            marker: self.location.map(|key| Marker {
                key,
                marked_for: properties::marked_for(self.owner.as_deref()),
            }),
            signs,
        })
    }
}

/// Reads an opened folder element with the name `kind` (`TasksFolder`, `Folder`, …).
pub(super) fn read(kind: &str, xml: &mut Xml<'_>) -> Parsed<ReadFolder> {
    let mut read = ReadFolder {
        holds_tasks: kind == "TasksFolder",
        ..ReadFolder::default()
    };
    while let Some(part) = xml.child()? {
        match part.name() {
            "FolderId" => {
                read.id = Some(part.required("Id")?);
                xml.skip()?;
            }
            "ParentFolderId" => {
                let parent = part.required("Id")?;
                read.parent = digest(parent.bytes());
                read.parent_id = Some(parent);
                xml.skip()?;
            }
            "DisplayName" => read.name = xml.text()?.into_owned(),
            "FolderClass" => {
                let class = xml.text()?;
                read.holds_tasks |= class == "IPF.Task" || class.starts_with("IPF.Task.");
            }
            "ExtendedProperty" => match properties::read(xml)? {
                Some((Property::Location, value)) if !value.is_empty() => {
                    read.location = Some(LocationKey::from_stored(&value));
                }
                Some((Property::Owner, value)) => read.owner = Some(value.into_owned()),
                // A sign that cannot be read counts as missing; the changes are read instead.
                Some((Property::LatestCommit, value)) => {
                    read.latest_commit_us = dates::instant(&value).ok().map(jiff::Timestamp::as_microsecond);
                }
                Some((Property::Deletions, value)) => read.deletions = value.trim().parse().ok(),
                _ => {}
            },
            _ => xml.skip()?,
        }
    }
    Ok(read)
}

/// Reads the `expected` response messages of `operation`, in the order of the request: one folder each, if
/// the server shows it.
pub(super) fn read_messages(
    xml: &mut Xml<'_>,
    operation: &Operation,
    expected: usize,
) -> Parsed<Vec<ResponseMessage<Option<ReadFolder>>>> {
    response_messages::read(xml, operation.message, expected, |part, xml, into| {
        if part.name() != "Folders" {
            return xml.skip();
        }
        while let Some(folder) = xml.child()? {
            *into = Some(read(folder.name(), xml)?);
        }
        Ok(())
    })
}

/// Appends a `t:FolderId`.
pub(super) fn write_id(out: &mut String, folder: &str) {
    out.push_str("<t:FolderId Id=\"");
    escape(out, folder);
    out.push_str("\"/>");
}

/// Appends the id of the mailbox's task folder.
pub(super) fn write_tasks_folder(out: &mut String, header: &super::envelope::Header<'_>) {
    write_distinguished(out, header, "tasks");
}

/// Appends the id of a folder that every mailbox has, by its fixed name.
pub(super) fn write_distinguished(out: &mut String, header: &super::envelope::Header<'_>, name: &str) {
    out.push_str("<t:DistinguishedFolderId Id=\"");
    out.push_str(name);
    match header.named_mailbox() {
        Some(mailbox) => {
            out.push_str("\"><t:Mailbox>");
            super::xml::element(out, "t:EmailAddress", mailbox.as_str());
            out.push_str("</t:Mailbox></t:DistinguishedFolderId>");
        }
        None => out.push_str("\"/>"),
    }
}
