//! Adding the owner to markers of earlier builds, which name none.

use tasksync_common::error::Failure;

use super::client::throttled;
use super::operation::Operation;
use super::request::{EwsRequest, operation_refused, unclear_success};
use super::response_messages::EwsError;
use super::{EwsMailbox, update_folder, update_item};
use crate::mailbox::{FolderId, ItemRef, Owner};

/// Items or folders written per request.
const WRITTEN_PER_REQUEST: usize = 50;

impl EwsMailbox {
    /// Writes the owner into the markers of these items. Returns their new versions in the order of `items`.
    pub(super) async fn name_owner_of_items(
        &self,
        owner: &Owner,
        items: &[ItemRef],
    ) -> Result<Vec<Result<ItemRef, Failure>>, EwsError> {
        let operation = &update_item::OPERATION;
        let text = owner.marker.to_string();
        let mut written = Vec::with_capacity(items.len());
        for batch in items.chunks(WRITTEN_PER_REQUEST) {
            let count = batch.len();
            let request = EwsRequest::new(operation, &owner.mailbox, move |xml| {
                update_item::read(xml, count)
            });
            let answered = self
                .run(request, |header| update_item::request_owner(header, batch, &text))
                .await?;
            if let Some(error) = throttled(&answered.messages) {
                return Err(error);
            }
            for (item, message) in batch.iter().zip(answered.messages) {
                written.push(match message {
                    Ok(Some(shown)) if shown.id != item.id => {
                        return Err(self.foreign_answer(operation, "another item"));
                    }
                    Ok(Some(shown)) if shown.change_key != item.change_key => Ok(shown),
                    Ok(Some(_) | None) => Err(without_proof(operation)),
                    Err(error) => Err(operation_refused(operation, error).failure),
                });
            }
        }
        Ok(written)
    }

    /// Writes the owner into the markers of these folders. Returns the results in the order of `folders`.
    pub(super) async fn name_owner_of_folders(
        &self,
        owner: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<Result<(), Failure>>, EwsError> {
        let operation = &update_folder::OPERATION;
        let text = owner.marker.to_string();
        let mut written = Vec::with_capacity(folders.len());
        for batch in folders.chunks(WRITTEN_PER_REQUEST) {
            let ids: Vec<&str> = batch.iter().map(|folder| folder.0.as_str()).collect();
            let count = ids.len();
            let request = EwsRequest::new(operation, &owner.mailbox, move |xml| {
                update_folder::read(xml, count)
            });
            let answered = self
                .run(request, |header| {
                    update_folder::request_owner(header, &ids, &text)
                })
                .await?;
            if let Some(error) = throttled(&answered.messages) {
                return Err(error);
            }
            for (asked, message) in ids.into_iter().zip(answered.messages) {
                written.push(match message {
                    Ok(shown) => match shown.and_then(|shown| shown.id) {
                        Some(id) if id != asked => {
                            return Err(self.foreign_answer(operation, "another folder"));
                        }
                        Some(_) => Ok(()),
                        None => Err(without_proof(operation)),
                    },
                    Err(error) => Err(operation_refused(operation, error).failure),
                });
            }
        }
        Ok(written)
    }
}

/// Returns the failure of a success that does not show what was written.
fn without_proof(operation: &Operation) -> Failure {
    unclear_success(operation, "a success that does not show what was written").failure
}
