//! `DeleteFolder`.

use super::entries;
use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::xml::Element;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let to_deleted_items = request.attribute("DeleteType") == Some("MoveToDeletedItems");
    let mut answer = OperationResponse::new(context, "DeleteFolder", "");
    for id in entries(request, "FolderIds") {
        answer.entry(|_| {
            let target = context.folder(id)?;
            let now = context.now();
            target
                .mailbox
                .store()
                .delete_folder(target.number, to_deleted_items, now)?;
            context.count_write();
            Ok(())
        });
    }
    answer.finish()
}
