//! Selects the folder properties of an answer and writes them.

use std::fmt::Write as _;

use super::error::EwsError;
use super::ids::ObjectKind;
use super::properties::{DELETED_COUNT_TOTAL, LOCAL_COMMIT_TIME_MAX, PropertyPath, additional_properties};
use super::shape::{Style, effective_rights, write_extended, write_folder_id, write_id};
use super::store::{Folder, FolderParent, Store};
use super::xml::{Element, leaf};

/// The folder properties that a request asks for.
#[derive(Debug)]
pub(crate) struct FolderShape {
    fields: u64,
    extended: Vec<PropertyPath>,
}

const FOLDER_FIELDS: &[Option<&str>] = &[
    Some("folder:ParentFolderId"),
    Some("folder:FolderClass"),
    Some("folder:DisplayName"),
    Some("folder:TotalCount"),
    Some("folder:ChildFolderCount"),
    None,
    Some("folder:EffectiveRights"),
    Some("folder:DistinguishedFolderId"),
    Some("folder:UnreadCount"),
];
/// The properties of base shape `Default`: display name, total count, child folder count and unread count, as bits of
/// [`FOLDER_FIELDS`].
const DEFAULT_FOLDER_FIELDS: u64 = 0b1_0001_1100;

impl FolderShape {
    /// Parses a `FolderShape`.
    ///
    /// # Errors
    /// `ErrorInvalidPropertyRequest` for a property of items, or `ErrorInvalidExtendedProperty`.
    pub(crate) fn read(element: Option<&Element>) -> Result<Self, EwsError> {
        let fields = match element.and_then(|shape| shape.child_text("BaseShape")) {
            Some("AllProperties") => u64::MAX,
            Some("Default") => DEFAULT_FOLDER_FIELDS,
            _ => 0,
        };
        let mut shape = Self {
            fields,
            extended: Vec::new(),
        };
        for path in additional_properties(element) {
            match path.name.as_str() {
                "ExtendedFieldURI" => shape.extended.push(PropertyPath::read(path)?),
                "FieldURI" => {
                    let uri = path.attribute("FieldURI").unwrap_or_default();
                    if !uri.starts_with("folder:") {
                        return Err(EwsError::invalid_property(uri));
                    }
                    let position = FOLDER_FIELDS.iter().position(|field| *field == Some(uri));
                    shape.fields |= position.map_or(0, |index| 1 << index);
                }
                _ => {}
            }
        }
        Ok(shape)
    }

    /// Writes `t:TasksFolder`, or the element for the folder's class, with the requested properties.
    pub(crate) fn write(&self, out: &mut String, style: &Style<'_>, store: &Store, folder: &Folder) {
        let element = match folder.class.split('.').nth(1) {
            Some("Task") => "TasksFolder",
            Some("Appointment") => "CalendarFolder",
            Some("Contact") => "ContactsFolder",
            _ => "Folder",
        };
        let _ = write!(out, "<t:{element}>");
        write_folder_id(out, style.mailbox, folder);
        for (index, field) in FOLDER_FIELDS.iter().enumerate() {
            match field {
                Some(uri) if self.fields & (1 << index) != 0 => {
                    write_folder_field(out, style, store, folder, uri);
                }
                Some(_) => {}
                None => write_extended(out, &self.extended, &folder.properties, |path| {
                    probe(path, style, folder)
                }),
            }
        }
        let _ = write!(out, "</t:{element}>");
    }
}

fn probe(path: &PropertyPath, style: &Style<'_>, folder: &Folder) -> Option<String> {
    if style.omit_probe_tags {
        return None;
    }
    match path.kind.as_str() {
        "SystemTime" if path.key == LOCAL_COMMIT_TIME_MAX => Some(style.instant(folder.committed)),
        "Integer" if path.key == DELETED_COUNT_TOTAL => Some(folder.deletions.to_string()),
        _ => None,
    }
}

fn write_folder_field(out: &mut String, style: &Style<'_>, store: &Store, folder: &Folder, uri: &str) {
    match uri {
        "folder:ParentFolderId" => {
            // The root is its own parent, as on a real server.
            let parent = match folder.parent() {
                FolderParent::Under(parent) => parent,
                FolderParent::Nowhere | FolderParent::Gone => folder.number,
            };
            let change = store.folder(parent).map(|parent| parent.change);
            write_id(
                out,
                "ParentFolderId",
                style.mailbox,
                ObjectKind::Folder,
                parent,
                change,
            );
        }
        "folder:FolderClass" if !folder.class.is_empty() => leaf(out, "FolderClass", &folder.class),
        "folder:DisplayName" => leaf(out, "DisplayName", &folder.name),
        "folder:TotalCount" => leaf(out, "TotalCount", &folder.items.len().to_string()),
        "folder:ChildFolderCount" => leaf(
            out,
            "ChildFolderCount",
            &store.children(folder.number).count().to_string(),
        ),
        "folder:EffectiveRights" => effective_rights(out),
        "folder:DistinguishedFolderId" => {
            if let Some(name) = folder.distinguished {
                leaf(out, "DistinguishedFolderId", name);
            }
        }
        // Calendar and contacts folders have no unread count: their schema does not contain it.
        "folder:UnreadCount"
            if !folder.class.starts_with("IPF.Appointment") && !folder.class.starts_with("IPF.Contact") =>
        {
            leaf(out, "UnreadCount", "0");
        }
        _ => {}
    }
}
