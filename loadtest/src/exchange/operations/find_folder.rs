//! `FindFolder`: searches the direct subfolders of a folder, or all folders below it.

use std::fmt::Write as _;

use super::entries;
use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::folder_shape::FolderShape;
use crate::exchange::restriction::{page, passes};
use crate::exchange::store::{Folder, FolderParent, folder_not_found};
use crate::exchange::xml::Element;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let shape = FolderShape::read(request.child("FolderShape"));
    let restriction = request
        .child("Restriction")
        .and_then(|restriction| restriction.children.first());
    let mut answer = OperationResponse::new(context, "FindFolder", "");
    for id in entries(request, "ParentFolderIds") {
        answer.entry(|out| {
            let shape = shape.as_ref().map_err(Clone::clone)?;
            let target = context.folder(id)?;
            let store = target.mailbox.store();
            store.folder(target.number).ok_or_else(folder_not_found)?;
            let style = context.style(&target.mailbox);
            let mut found: Vec<&Folder> = Vec::new();
            for folder in store.folders() {
                let below = match request.attribute("Traversal") {
                    Some("Deep") => store.was_below(folder.number, target.number, store.change()),
                    Some("SoftDeleted") => false,
                    _ => folder.parent() == FolderParent::Under(target.number),
                };
                if below && restriction.map_or(Ok(true), |expression| passes(expression, folder, &style))? {
                    found.push(folder);
                }
            }
            let page = page(request, found.len(), context.exchange.settings.find_page)?;
            let _ = write!(
                out,
                "<m:RootFolder IndexedPagingOffset=\"{}\" TotalItemsInView=\"{}\" IncludesLastItemInRange=\"{}\"><t:Folders>",
                page.next,
                found.len(),
                page.last
            );
            for folder in page.of(&found) {
                shape.write(out, &style, &store, folder);
            }
            out.push_str("</t:Folders></m:RootFolder>");
            Ok(())
        });
    }
    answer.finish()
}
