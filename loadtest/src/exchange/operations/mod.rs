//! The operations. Each is a function from a validated request to the body of its answer.

mod create_folder;
mod create_item;
mod delete_folder;
mod delete_item;
mod find_folder;
mod find_item;
mod get_folder;
mod get_item;
mod resolve_names;
mod sync_folder_hierarchy;
mod sync_folder_items;
mod update_folder;
mod update_item;

use super::context::Context;
use super::error::EwsError;
use super::xml::Element;

/// Carries out a request. Returns the body of the answer, or the error with which the whole request fails.
pub(crate) fn run(context: &Context<'_>, request: &Element) -> Result<String, EwsError> {
    Ok(match request.name.as_str() {
        "GetFolder" => get_folder::run(context, request),
        "FindFolder" => find_folder::run(context, request),
        "CreateFolder" => create_folder::run(context, request),
        "UpdateFolder" => update_folder::run(context, request),
        "DeleteFolder" => delete_folder::run(context, request),
        "SyncFolderHierarchy" => sync_folder_hierarchy::run(context, request),
        "SyncFolderItems" => sync_folder_items::run(context, request),
        "GetItem" => get_item::run(context, request),
        "FindItem" => find_item::run(context, request),
        "ResolveNames" => resolve_names::run(context, request),
        "CreateItem" => create_item::run(context, request),
        "UpdateItem" => update_item::run(context, request),
        "DeleteItem" => delete_item::run(context, request),
        _ => {
            return Err(EwsError::new(
                "ErrorInvalidOperation",
                "The operation is not supported.",
            ));
        }
    })
}

/// Returns the entries of a batch: the children of the child with this name.
fn entries<'r>(request: &'r Element, list: &str) -> &'r [Element] {
    request.child(list).map_or(&[], |list| list.children.as_slice())
}
