//! `FindItem`: searches folders. The answer has one response message per folder.

use std::fmt::Write as _;

use super::entries;
use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::error::EwsError;
use crate::exchange::restriction::{page, passes, sort};
use crate::exchange::shape::ItemShape;
use crate::exchange::store::{Item, folder_not_found};
use crate::exchange::xml::Element;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let shape = ItemShape::read(request.child("ItemShape"), false);
    let mut answer = OperationResponse::new(context, "FindItem", "");
    for id in entries(request, "ParentFolderIds") {
        answer.entry(|out| {
            let shape = shape.as_ref().map_err(Clone::clone)?;
            find(context, request, id, shape, out)
        });
    }
    answer.finish()
}

fn find(
    context: &Context<'_>,
    request: &Element,
    id: &Element,
    shape: &ItemShape,
    out: &mut String,
) -> Result<(), EwsError> {
    let settings = &context.exchange.settings;
    let restriction = request
        .child("Restriction")
        .and_then(|restriction| restriction.children.first());
    let limit = if restriction.is_some() {
        settings.restricted_find_page
    } else {
        settings.find_page
    };
    if request
        .child("QueryString")
        .is_some_and(|query| !query.text.is_empty())
    {
        return Err(EwsError::new(
            "ErrorUnsupportedQueryFilter",
            "Query strings are not supported.",
        ));
    }
    let target = context.folder(id)?;
    let store = target.mailbox.store();
    let folder = store.folder(target.number).ok_or_else(folder_not_found)?;
    let style = context.style(&target.mailbox);
    let mut found: Vec<&Item> = Vec::new();
    if request.attribute("Traversal") == Some("Shallow") {
        // Newest first, which is the store's default order.
        for item in folder.items.iter().rev().filter_map(|number| store.item(*number)) {
            if restriction.map_or(Ok(true), |expression| passes(expression, item, &style))? {
                found.push(item);
            }
        }
    }
    if let Some(order) = request.child("SortOrder") {
        sort(&mut found, order, &style)?;
    }
    let page = page(request, found.len(), limit)?;
    let _ = write!(
        out,
        "<m:RootFolder IndexedPagingOffset=\"{}\" TotalItemsInView=\"{}\" IncludesLastItemInRange=\"{}\"><t:Items>",
        page.next,
        found.len(),
        page.last
    );
    for item in page.of(&found) {
        shape.write(out, &style, item);
    }
    out.push_str("</t:Items></m:RootFolder>");
    Ok(())
}
