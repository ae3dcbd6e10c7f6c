//! `CreateFolder`.

use super::entries;
use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::error::EwsError;
use crate::exchange::properties::{Properties, read_property};
use crate::exchange::shape::write_folder_id;
use crate::exchange::store::folder_not_found;
use crate::exchange::xml::Element;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let mut answer = OperationResponse::new(context, "CreateFolder", "<m:Folders/>");
    for wanted in entries(request, "Folders") {
        answer.entry(|out| {
            let parent = context.folder_in(request, "ParentFolderId").ok_or_else(|| {
                EwsError::new("ErrorParentFolderIdRequired", "The parent folder is missing.")
            })?;
            let parent = parent.map_err(|error| match error.code.as_ref() {
                "ErrorFolderNotFound" => EwsError::new("ErrorParentFolderNotFound", error.text),
                _ => error,
            })?;
            let name = wanted.child_text("DisplayName").unwrap_or_default();
            if name.is_empty() {
                let text = "The folder has no display name.";
                return Err(EwsError::new("ErrorFolderSave", text).field("folder:DisplayName"));
            }
            let class = class_of(wanted)?;
            let mut properties = Properties::new();
            for property in wanted
                .children
                .iter()
                .filter(|child| child.name == "ExtendedProperty")
            {
                let (path, value) = read_property(property)?;
                properties.insert(path.key, value);
            }
            let now = context.now();
            let mut store = parent.mailbox.store();
            let number = store.create_folder(parent.number, name, class, properties, now)?;
            context.count_write();
            let folder = store.folder(number).ok_or_else(folder_not_found)?;
            let element = &wanted.name;
            out.push_str("<m:Folders><t:");
            out.push_str(element);
            out.push('>');
            write_folder_id(out, &parent.mailbox, folder);
            out.push_str("</t:");
            out.push_str(element);
            out.push_str("></m:Folders>");
            Ok(())
        });
    }
    answer.finish()
}

/// Returns the folder class that the element implies. Only the generic `Folder` may name a class of its own.
fn class_of(wanted: &Element) -> Result<&str, EwsError> {
    let named = wanted.child_text("FolderClass");
    let implied = match wanted.name.as_str() {
        "TasksFolder" => "IPF.Task",
        "CalendarFolder" => "IPF.Appointment",
        "ContactsFolder" => "IPF.Contact",
        _ => return Ok(named.unwrap_or("IPF.Note")),
    };
    if named.is_some_and(|class| class != implied) {
        let text = "The folder class cannot be set on a folder of this kind.";
        return Err(EwsError::new("ErrorInvalidPropertySet", text).field("folder:FolderClass"));
    }
    Ok(implied)
}
