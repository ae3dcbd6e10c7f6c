//! `GetItem`.

use super::entries;
use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::error::EwsError;
use crate::exchange::shape::ItemShape;
use crate::exchange::xml::Element;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let shape = ItemShape::read(request.child("ItemShape"), true);
    let mut answer = OperationResponse::new(context, "GetItem", "<m:Items/>");
    for id in entries(request, "ItemIds") {
        answer.entry(|out| {
            let shape = shape.as_ref().map_err(Clone::clone)?;
            let (mailbox, number) = context.item(id)?;
            let store = mailbox.store();
            let item = store.item(number).ok_or_else(EwsError::item_not_found)?;
            out.push_str("<m:Items>");
            shape.write(out, &context.style(&mailbox), item);
            out.push_str("</m:Items>");
            Ok(())
        });
    }
    answer.finish()
}
