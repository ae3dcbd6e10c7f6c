//! `GetFolder`: reads folders of any number of mailboxes.

use super::entries;
use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::folder_shape::FolderShape;
use crate::exchange::store::folder_not_found;
use crate::exchange::xml::Element;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let shape = FolderShape::read(request.child("FolderShape"));
    let mut answer = OperationResponse::new(context, "GetFolder", "<m:Folders/>");
    for id in entries(request, "FolderIds") {
        answer.entry(|out| {
            let shape = shape.as_ref().map_err(Clone::clone)?;
            let target = context.folder(id)?;
            let store = target.mailbox.store();
            let folder = store.folder(target.number).ok_or_else(folder_not_found)?;
            out.push_str("<m:Folders>");
            shape.write(out, &context.style(&target.mailbox), &store, folder);
            out.push_str("</m:Folders>");
            Ok(())
        });
    }
    answer.finish()
}
