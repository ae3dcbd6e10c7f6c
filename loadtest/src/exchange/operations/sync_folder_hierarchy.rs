//! `SyncFolderHierarchy`: returns the changes in the tree below a folder.

use std::fmt::Write as _;

use crate::exchange::context::{Context, FolderRef, OperationResponse};
use crate::exchange::error::EwsError;
use crate::exchange::folder_shape::FolderShape;
use crate::exchange::ids::{ObjectId, ObjectKind, SyncState};
use crate::exchange::store::ROOT;
use crate::exchange::sync::{FolderChange, folder_changes};
use crate::exchange::xml::{Element, escape_into};

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let mut answer = OperationResponse::new(
        context,
        "SyncFolderHierarchy",
        "<m:IncludesLastFolderInRange>true</m:IncludesLastFolderInRange>",
    );
    answer.entry(|out| sync(context, request, out));
    answer.finish()
}

fn sync(context: &Context<'_>, request: &Element, out: &mut String) -> Result<(), EwsError> {
    let shape = FolderShape::read(request.child("FolderShape"))?;
    // A sync state without a folder is not valid for the root and vice versa, so "no folder" is stored as 0.
    let (target, remembered) = match context.folder_in(request, "SyncFolderId") {
        Some(target) => {
            let target = target?;
            let number = target.number;
            (target, number)
        }
        None => (
            FolderRef {
                mailbox: context.default_mailbox()?,
                number: ROOT,
            },
            0,
        ),
    };
    let mailbox = &target.mailbox;
    let store = mailbox.store();
    if store.folder(target.number).is_none() {
        return Err(EwsError::new(
            "ErrorSyncFolderNotFound",
            "The folder to be synchronized could not be found.",
        ));
    }
    let fresh = SyncState {
        kind: ObjectKind::Folder,
        mailbox: mailbox.number,
        folder: remembered,
        epoch: store.epoch,
        base: 0,
        top: 0,
        phase: 0,
        cursor: 0,
    };
    let presented = request
        .child_text("SyncState")
        .filter(|state| !state.trim().is_empty());
    let base = match presented {
        None => 0,
        Some(text) => {
            let decoded = SyncState::decode(text).filter(|state| SyncState { base: 0, ..*state } == fresh);
            let valid = decoded.filter(|state| state.base <= store.change() && !context.expires_cursor());
            valid.ok_or_else(EwsError::invalid_sync_state)?.base
        }
    };
    let changes = folder_changes(&store, target.number, base);
    // An unchanged tree keeps its sync state, so that a client sees at once that nothing has changed.
    let next = if changes.is_empty() && base != 0 {
        base
    } else {
        store.change()
    };
    out.push_str("<m:SyncState>");
    escape_into(out, &SyncState { base: next, ..fresh }.encode());
    out.push_str("</m:SyncState><m:IncludesLastFolderInRange>true</m:IncludesLastFolderInRange><m:Changes>");
    let style = context.style(mailbox);
    for change in changes {
        match change {
            FolderChange::Create(number) | FolderChange::Update(number) => {
                let name = if matches!(change, FolderChange::Create(_)) {
                    "Create"
                } else {
                    "Update"
                };
                if let Some(folder) = store.folder(number) {
                    let _ = write!(out, "<t:{name}>");
                    shape.write(out, &style, &store, folder);
                    let _ = write!(out, "</t:{name}>");
                }
            }
            FolderChange::Delete(number) => {
                let id = ObjectId {
                    mailbox: mailbox.number,
                    kind: ObjectKind::Folder,
                    number,
                }
                .encode();
                let _ = write!(out, "<t:Delete><t:FolderId Id=\"{id}\"/></t:Delete>");
            }
        }
    }
    out.push_str("</m:Changes>");
    Ok(())
}
