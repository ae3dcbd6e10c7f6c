//! `SyncFolderItems`: returns the changes among the items of a folder.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::entries;
use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::error::EwsError;
use crate::exchange::ids::{ObjectId, ObjectKind, SyncState};
use crate::exchange::shape::{ItemShape, write_gone_item_id};
use crate::exchange::sync::{ItemChange, item_page};
use crate::exchange::xml::{Element, escape_into};

/// Largest `MaxChangesReturned` that the protocol allows.
const MAXIMUM_PAGE: usize = 512;

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let mut answer = OperationResponse::new(
        context,
        "SyncFolderItems",
        "<m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>",
    );
    answer.entry(|out| sync(context, request, out));
    answer.finish()
}

fn sync(context: &Context<'_>, request: &Element, out: &mut String) -> Result<(), EwsError> {
    let not_found = || {
        EwsError::new(
            "ErrorSyncFolderNotFound",
            "The folder to be synchronized could not be found.",
        )
    };
    let shape = ItemShape::read(request.child("ItemShape"), false)?;
    let target = context
        .folder_in(request, "SyncFolderId")
        .ok_or_else(not_found)??;
    let mailbox = &target.mailbox;
    let store = mailbox.store();
    let folder = store.folder(target.number).ok_or_else(not_found)?;
    let fresh = SyncState {
        kind: ObjectKind::Item,
        mailbox: mailbox.number,
        folder: target.number,
        epoch: store.epoch,
        base: 0,
        top: 0,
        phase: 0,
        cursor: 0,
    };
    let state = match request
        .child_text("SyncState")
        .filter(|state| !state.trim().is_empty())
    {
        None => fresh,
        Some(text) => {
            let same = |state: &SyncState| {
                SyncState {
                    base: 0,
                    top: 0,
                    phase: 0,
                    cursor: 0,
                    ..*state
                } == fresh
            };
            let decoded = SyncState::decode(text).filter(same);
            let valid = decoded.filter(|state| {
                state.base.max(state.top) <= store.change()
                    && (state.base == 0 || state.base >= folder.forgotten)
                    && !context.expires_cursor()
            });
            valid.ok_or_else(EwsError::invalid_sync_state)?
        }
    };
    let wanted = request
        .child_text("MaxChangesReturned")
        .and_then(|text| text.trim().parse::<usize>().ok());
    let limit = wanted
        .unwrap_or(MAXIMUM_PAGE)
        .min(context.exchange.settings.sync_page)
        .clamp(1, MAXIMUM_PAGE);
    let ignored: BTreeSet<u64> = entries(request, "Ignore")
        .iter()
        .filter_map(|id| ObjectId::decode(id.attribute("Id").unwrap_or_default()).ok())
        .filter(|id| id.mailbox == mailbox.number && id.kind == ObjectKind::Item)
        .map(|id| id.number)
        .collect();
    let page = item_page(&store, folder, state, limit, &ignored);
    out.push_str("<m:SyncState>");
    escape_into(out, &page.state.encode());
    let _ = write!(
        out,
        "</m:SyncState><m:IncludesLastItemInRange>{}</m:IncludesLastItemInRange><m:Changes>",
        page.last
    );
    let style = context.style(mailbox);
    for change in &page.changes {
        match *change {
            ItemChange::Create(number) | ItemChange::Update(number) => {
                let name = if matches!(change, ItemChange::Create(_)) {
                    "Create"
                } else {
                    "Update"
                };
                if let Some(item) = store.item(number) {
                    let _ = write!(out, "<t:{name}>");
                    shape.write(out, &style, item);
                    let _ = write!(out, "</t:{name}>");
                }
            }
            ItemChange::Delete(number, change) => {
                out.push_str("<t:Delete>");
                write_gone_item_id(out, mailbox, number, change);
                out.push_str("</t:Delete>");
            }
        }
    }
    out.push_str("</m:Changes>");
    Ok(())
}
