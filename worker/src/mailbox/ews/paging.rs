//! Indexed paging: where a listing continues, whether it is complete, and how its pages shrink if answers are
//! too large.

use tasksync_common::error::{Code, ErrorClass, Failure};

use super::response_messages::EwsError;
use super::xml::{Element, Parsed, Xml, boolean};

/// The end of a page as its `RootFolder` element reports it. Every part is optional in Microsoft's schema.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct PageEnd {
    /// `IncludesLastItemInRange`.
    last: Option<bool>,
    /// `IndexedPagingOffset`.
    next: Option<u32>,
    /// `TotalItemsInView`.
    total: Option<u32>,
}

/// Reads the end of a page from its `RootFolder` element.
fn page_end(root: &Element<'_>) -> Parsed<PageEnd> {
    let [last, next, total] = root.attributes([
        "IncludesLastItemInRange",
        "IndexedPagingOffset",
        "TotalItemsInView",
    ])?;
    Ok(PageEnd {
        last: last.as_deref().map(boolean).transpose()?,
        next: next.and_then(|offset| offset.trim().parse().ok()),
        total: total.and_then(|total| total.trim().parse().ok()),
    })
}

/// Reads one part of a response message. If it is the page's `RootFolder`, passes each child of its list
/// `list` to `entry` and returns the page's end. Returns `None` for another part.
pub(super) fn read_page<'a>(
    part: &Element<'_>,
    xml: &mut Xml<'a>,
    list: &str,
    mut entry: impl FnMut(&str, &mut Xml<'a>) -> Parsed<()>,
) -> Parsed<Option<PageEnd>> {
    if part.name() != "RootFolder" {
        xml.skip()?;
        return Ok(None);
    }
    let end = page_end(part)?;
    while let Some(child) = xml.child()? {
        if child.name() != list {
            xml.skip()?;
            continue;
        }
        while let Some(child) = xml.child()? {
            entry(child.name(), xml)?;
        }
    }
    Ok(Some(end))
}

/// The position of a page in a listing, and its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Paging {
    /// Entries before the page.
    pub(super) offset: u32,
    /// The most entries of one page.
    pub(super) size: u32,
    pages_left: u32,
}

impl Paging {
    /// Returns the first page of a listing of at most `pages` pages of `size` entries.
    pub(super) fn new(size: u32, pages: u32) -> Self {
        Self {
            offset: 0,
            size: size.max(1),
            pages_left: pages,
        }
    }

    /// Returns the position of the page after this one, or `None` if the listing is complete. The page had
    /// `count` entries; `any_new` says whether at least one was new. `end` is `None` if the server sent no
    /// page, which means no entries.
    pub(super) fn after(
        self,
        end: Option<PageEnd>,
        count: usize,
        any_new: bool,
        operation: &str,
    ) -> Result<Option<Self>, EwsError> {
        let Some(end) = end else { return Ok(None) };
        let counted = self
            .offset
            .saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
        let complete = match (end.last, end.total) {
            (Some(last), _) => last,
            (None, Some(total)) => counted >= total,
            (None, None) => !any_new,
        };
        if complete {
            return Ok(None);
        }
        // An incomplete listing is useless: entries that it does not show would count as missing.
        if count == 0 || self.pages_left <= 1 {
            return Err(incomplete(operation));
        }
        Ok(Some(Self {
            // Continue where the server says, if that is further on.
            offset: end.next.filter(|&next| next > self.offset).unwrap_or(counted),
            size: self.size,
            pages_left: self.pages_left - 1,
        }))
    }

    /// Returns the same position with pages of half the size, or `None` if a page has only one entry already.
    pub(super) fn smaller(self) -> Option<Self> {
        (self.size > 1).then(|| Self {
            offset: self.offset,
            size: self.size / 2,
            pages_left: self.pages_left.saturating_mul(2),
        })
    }
}

/// Returns whether the server's answer exceeded the limit, so that a smaller request may succeed.
pub(super) fn is_too_large(error: &EwsError) -> bool {
    error.failure.code == Code::ExchangeAnswerTooLarge
}

/// Returns the failure of a listing that does not end.
pub(super) fn incomplete(operation: &str) -> EwsError {
    Failure::new(
        ErrorClass::Transient,
        Code::ExchangeBadAnswer,
        format!("{operation}: the answer does not end"),
    )
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(end: PageEnd, count: usize, any_new: bool) -> Result<Option<u32>, EwsError> {
        let paging = Paging {
            offset: 10,
            size: 5,
            pages_left: 3,
        };
        paging
            .after(Some(end), count, any_new, "FindItem")
            .map(|next| next.map(|next| next.offset))
    }

    #[test]
    fn a_listing_ends_where_the_server_says_or_counts_or_has_nothing_new() {
        let end = |last, next, total| PageEnd { last, next, total };
        assert_eq!(after(end(Some(true), None, Some(99)), 5, true), Ok(None));
        assert_eq!(after(end(Some(false), None, None), 5, true), Ok(Some(15)));
        assert_eq!(after(end(Some(false), Some(12), None), 5, true), Ok(Some(12)));
        assert_eq!(after(end(Some(false), Some(10), None), 5, true), Ok(Some(15)));
        assert_eq!(after(end(None, None, Some(15)), 5, true), Ok(None));
        assert_eq!(after(end(None, None, Some(16)), 5, true), Ok(Some(15)));
        assert_eq!(after(end(None, None, None), 5, false), Ok(None));
        assert_eq!(after(end(None, None, None), 0, false), Ok(None));
        assert_eq!(after(end(None, None, None), 5, true), Ok(Some(15)));
        assert!(
            after(end(Some(false), None, None), 0, false).is_err(),
            "no progress"
        );
        let paging = Paging::new(5, 1);
        assert!(
            paging
                .after(Some(PageEnd::default()), 5, true, "FindItem")
                .is_err()
        );
        assert_eq!(paging.after(None, 0, false, "FindItem").unwrap(), None);
    }

    #[test]
    fn pages_shrink_down_to_one_entry_and_reach_as_far() {
        let mut paging = Paging::new(9, 4);
        let mut sizes = Vec::new();
        while let Some(smaller) = paging.smaller() {
            paging = smaller;
            sizes.push((paging.size, paging.pages_left));
        }
        assert_eq!(sizes, [(4, 8), (2, 16), (1, 32)]);
    }
}
