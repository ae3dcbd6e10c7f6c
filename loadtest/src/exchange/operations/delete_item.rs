//! `DeleteItem` for tasks.

use super::entries;
use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::error::EwsError;
use crate::exchange::store::DELETED_ITEMS;
use crate::exchange::xml::Element;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let mut answer = OperationResponse::new(context, "DeleteItem", "");
    for id in entries(request, "ItemIds") {
        answer.entry(|_| {
            let (mailbox, number) = context.item(id)?;
            let now = context.now();
            let mut store = mailbox.store();
            let folder = store.item(number).ok_or_else(EwsError::item_not_found)?.folder;
            if request.attribute("AffectedTaskOccurrences").is_none() {
                let text = "AffectedTaskOccurrences attribute must be specified for Task items.";
                return Err(EwsError::new("ErrorAffectedTaskOccurrencesRequired", text));
            }
            let bin = folder == DELETED_ITEMS || store.was_below(folder, DELETED_ITEMS, store.change());
            if request.attribute("DeleteType") == Some("MoveToDeletedItems") && !bin {
                store.move_item(number, DELETED_ITEMS, now)?;
            } else {
                store
                    .remove_item(number, now)
                    .ok_or_else(EwsError::item_not_found)?;
            }
            context.count_write();
            Ok(())
        });
    }
    answer.finish()
}
