//! `UpdateFolder`: changes display name and extended properties.

use super::entries;
use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::error::EwsError;
use crate::exchange::folder_shape::FolderShape;
use crate::exchange::properties::{PropertyPath, read_property};
use crate::exchange::store::{Folder, folder_not_found};
use crate::exchange::xml::Element;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let mut answer = OperationResponse::new(context, "UpdateFolder", "<m:Folders/>");
    for change in entries(request, "FolderChanges") {
        answer.entry(|out| {
            let id = change.children.first().ok_or_else(folder_not_found)?;
            let target = context.folder(id)?;
            let mut store = target.mailbox.store();
            let mut folder = store.folder(target.number).ok_or_else(folder_not_found)?.clone();
            for update in entries(change, "Updates") {
                apply(&mut folder, update)?;
            }
            store.update_folder(target.number, &folder.name, folder.properties)?;
            context.count_write();
            let folder = store.folder(target.number).ok_or_else(folder_not_found)?;
            out.push_str("<m:Folders>");
            FolderShape::read(None)?.write(out, &context.style(&target.mailbox), &store, folder);
            out.push_str("</m:Folders>");
            Ok(())
        });
    }
    answer.finish()
}

fn apply(folder: &mut Folder, update: &Element) -> Result<(), EwsError> {
    let mismatch = || {
        EwsError::new(
            "ErrorUpdatePropertyMismatch",
            "The property does not fit the path.",
        )
    };
    let path = update.children.first().ok_or_else(mismatch)?;
    let uri = path.attribute("FieldURI").unwrap_or_default();
    match update.name.as_str() {
        "SetFolderField" => {
            let values = update
                .children
                .get(1)
                .map_or(&[][..], |folder| folder.children.as_slice());
            let [value] = values else {
                let text = "An update holds exactly one property.";
                return Err(EwsError::new("ErrorIncorrectUpdatePropertyCount", text));
            };
            match (path.name.as_str(), value.name.as_str()) {
                ("ExtendedFieldURI", "ExtendedProperty") => {
                    let (written, content) = read_property(value)?;
                    if PropertyPath::read(path)? != written {
                        return Err(mismatch());
                    }
                    folder.properties.insert(written.key, content);
                }
                ("FieldURI", "DisplayName") if uri == "folder:DisplayName" => {
                    if folder.distinguished.is_some() {
                        let text = "Folders every mailbox has cannot be renamed.";
                        return Err(EwsError::new("ErrorInvalidOperation", text));
                    }
                    folder.name = value.text.clone().into();
                }
                ("FieldURI", name) if uri.strip_prefix("folder:") != Some(name) => return Err(mismatch()),
                ("FieldURI", _) => {
                    return Err(EwsError::new(
                        "ErrorInvalidPropertySet",
                        "Set action is invalid for property.",
                    )
                    .field(uri));
                }
                _ => return Err(mismatch()),
            }
        }
        "DeleteFolderField" if path.name == "ExtendedFieldURI" => {
            folder.properties.remove(&PropertyPath::read(path)?.key);
        }
        "DeleteFolderField" => {
            return Err(EwsError::new(
                "ErrorInvalidPropertyDelete",
                "Delete action is invalid for property.",
            )
            .field(uri));
        }
        _ => {
            return Err(EwsError::new(
                "ErrorInvalidPropertyAppend",
                "Append action is invalid for property.",
            )
            .field(uri));
        }
    }
    Ok(())
}
