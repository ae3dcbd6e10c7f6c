//! `CreateItem` for tasks.

use super::entries;
use crate::exchange::context::{Context, FolderRef, OperationResponse};
use crate::exchange::error::EwsError;
use crate::exchange::fields::{Reading, set};
use crate::exchange::shape::write_item_id;
use crate::exchange::store::{Item, TASKS};
use crate::exchange::xml::Element;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let mut answer = OperationResponse::new(context, "CreateItem", "<m:Items/>");
    for wanted in entries(request, "Items") {
        answer.entry(|out| create(context, request, wanted, out));
    }
    answer.finish()
}

fn create(
    context: &Context<'_>,
    request: &Element,
    wanted: &Element,
    out: &mut String,
) -> Result<(), EwsError> {
    let lost = |text: String| EwsError::new("ErrorSavedItemFolderNotFound", text);
    let target = match context.folder_in(request, "SavedItemFolderId") {
        Some(Err(error)) if error.code == "ErrorFolderNotFound" => return Err(lost(error.text)),
        Some(target) => target?,
        None => FolderRef {
            mailbox: context.default_mailbox()?,
            number: TASKS,
        },
    };
    let mailbox = &target.mailbox;
    let now = context.now();
    let reading = Reading {
        now,
        request_zone: context.session.zone.as_ref(),
        date_zone: context.date_zone(mailbox),
    };
    let mut item = Item::new(now, context.session.name());
    // Apply the elements in the order of the schema: CompleteDate, PercentComplete, Status.
    for value in &wanted.children {
        set(&mut item, value, &reading)?;
    }
    let mut store = mailbox.store();
    let folder = store
        .folder(target.number)
        .ok_or_else(|| lost("The folder could not be found.".to_owned()))?;
    if !folder.holds_tasks() {
        let text = "Tasks can only be created in task folders.";
        return Err(EwsError::new("ErrorCannotCreateTaskInNonTaskFolder", text));
    }
    let number = store.add_item(item, target.number, now)?;
    context.count_write();
    let item = store.item(number).ok_or_else(EwsError::item_not_found)?;
    out.push_str("<m:Items><t:Task>");
    write_item_id(out, mailbox, item);
    out.push_str("</t:Task></m:Items>");
    Ok(())
}
