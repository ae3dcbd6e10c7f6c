//! Indexed paging: where a listing goes on and whether it is complete.

use tasksync_common::error::{Code, ErrorClass, Failure};

use super::messages::EwsError;
use super::xml::{Element, Parsed, boolean};

/// Reads from a `RootFolder` element whether the page is the last one (`IncludesLastItemInRange`) and where the next begins
/// (`IndexedPagingOffset`), if the server says so.
pub(super) fn page_end(root: &Element<'_>) -> Parsed<(bool, Option<u32>)> {
    let [last, next] = root.attributes(["IncludesLastItemInRange", "IndexedPagingOffset"])?;
    let last = last.as_deref().map(boolean).transpose()?.unwrap_or(false);
    let next = next.and_then(|offset| offset.trim().parse().ok());
    Ok((last, next))
}

/// Where the next page begins: where the server says, if that is further on, else after what came.
pub(super) fn next_offset(offset: u32, count: usize, said: Option<u32>) -> u32 {
    let counted = offset.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
    said.filter(|&said| said > offset).unwrap_or(counted)
}

/// A listing that ends before its end.
pub(super) fn incomplete(operation: &str) -> EwsError {
    Failure::new(
        ErrorClass::Transient,
        Code::ExchangeBadAnswer,
        format!("{operation}: the answer does not come to an end"),
    )
    .into()
}
