//! Restrictions, sort order and paging of `FindItem` and `FindFolder`.

use std::cmp::Ordering;

use super::error::EwsError;
use super::properties::{Properties, PropertyPath};
use super::schema::{XsDateTime, date_time};
use super::shape::Style;
use super::store::{Folder, Item};
use super::tasks::instant_of;
use super::xml::Element;

/// An object whose properties can be searched.
pub(crate) trait Searchable {
    /// Returns the value of a property by URI, or `None` if it has no value.
    ///
    /// # Errors
    /// `ErrorUnsupportedPathForQuery` for a property that cannot be searched.
    fn plain(&self, uri: &str, style: &Style<'_>) -> Result<Option<String>, EwsError>;
    fn properties(&self) -> &Properties;
}

impl Searchable for Item {
    fn plain(&self, uri: &str, style: &Style<'_>) -> Result<Option<String>, EwsError> {
        let instant = |at: jiff::Timestamp| Some(at.to_string());
        let date = |date: Option<jiff::civil::Date>| {
            date.map(|date| super::tasks::date_text(date, None, &style.date_zone))
        };
        Ok(match uri {
            "item:Subject" => self.subject.clone(),
            "item:ItemClass" => Some(self.class.to_string()),
            "item:Importance" => Some(self.importance.to_string()),
            "item:Sensitivity" => Some(self.sensitivity.to_string()),
            "item:DateTimeCreated" | "item:DateTimeReceived" => instant(self.created),
            "item:LastModifiedTime" => instant(self.modified),
            "item:ReminderIsSet" => Some(self.reminder_is_set.to_string()),
            "task:DueDate" => date(self.dates.due),
            "task:StartDate" => date(self.dates.start),
            "task:CompleteDate" => self.progress.completed.and_then(instant),
            "task:ActualWork" => self.actual_work.map(|work| work.to_string()),
            "task:TotalWork" => self.total_work.map(|work| work.to_string()),
            "task:IsComplete" => Some(self.progress.completed.is_some().to_string()),
            "task:IsRecurring" => Some(self.is_recurring.to_string()),
            _ => return Err(unsupported(uri)),
        })
    }

    fn properties(&self) -> &Properties {
        &self.properties
    }
}

impl Searchable for Folder {
    fn plain(&self, uri: &str, _: &Style<'_>) -> Result<Option<String>, EwsError> {
        Ok(match uri {
            "folder:DisplayName" => Some(self.name.to_string()),
            "folder:FolderClass" => Some(self.class.to_string()),
            "folder:TotalCount" => Some(self.items.len().to_string()),
            _ => return Err(unsupported(uri)),
        })
    }

    fn properties(&self) -> &Properties {
        &self.properties
    }
}

fn unsupported(uri: &str) -> EwsError {
    let text = "The property path cannot be used in a restriction or sort order.";
    EwsError::new("ErrorUnsupportedPathForQuery", text).field(uri)
}

fn value(path: &Element, candidate: &impl Searchable, style: &Style<'_>) -> Result<Option<String>, EwsError> {
    match path.name.as_str() {
        "FieldURI" => candidate.plain(path.attribute("FieldURI").unwrap_or_default(), style),
        "ExtendedFieldURI" => {
            let path = PropertyPath::read(path)?;
            let found = candidate
                .properties()
                .get(&path.key)
                .filter(|value| value.kind == path.kind);
            Ok(found.and_then(|value| value.values.first().cloned()))
        }
        _ => Err(EwsError::new(
            "ErrorUnsupportedPathForQuery",
            "Indexed properties cannot be used here.",
        )),
    }
}

/// Compares two values as times, else as numbers, else as text.
fn compare(left: &str, right: &str) -> Ordering {
    let instant = |text: &str| date_time(text).map(|value: XsDateTime| instant_of(value, None));
    if let (Some(left), Some(right)) = (instant(left), instant(right)) {
        return left.cmp(&right);
    }
    if let (Ok(left), Ok(right)) = (left.parse::<f64>(), right.parse::<f64>()) {
        return left.total_cmp(&right);
    }
    left.cmp(right)
}

/// Returns whether a candidate satisfies an expression (the child of `Restriction`).
///
/// # Errors
/// The response code for an expression that this server cannot evaluate.
pub(crate) fn passes(
    expression: &Element,
    candidate: &impl Searchable,
    style: &Style<'_>,
) -> Result<bool, EwsError> {
    let parts = &expression.children;
    match expression.name.as_str() {
        "And" | "Or" => {
            let all = expression.name == "And";
            for part in parts {
                if passes(part, candidate, style)? != all {
                    return Ok(!all);
                }
            }
            Ok(all)
        }
        "Not" => match parts.first() {
            Some(part) => Ok(!passes(part, candidate, style)?),
            None => Ok(true),
        },
        "Exists" => match parts.first() {
            Some(path) => Ok(value(path, candidate, style)?.is_some()),
            None => Ok(false),
        },
        "Contains" => contains(expression, candidate, style),
        "IsEqualTo"
        | "IsNotEqualTo"
        | "IsGreaterThan"
        | "IsGreaterThanOrEqualTo"
        | "IsLessThan"
        | "IsLessThanOrEqualTo" => {
            let (Some(path), Some(operand)) = (
                parts.first(),
                parts.get(1).and_then(|operand| operand.children.first()),
            ) else {
                return Ok(false);
            };
            let right = match operand.name.as_str() {
                "Constant" => operand.attribute("Value").map(str::to_owned),
                _ => value(operand, candidate, style)?,
            };
            let (Some(left), Some(right)) = (value(path, candidate, style)?, right) else {
                // A property without a value is unequal to every value, and neither greater nor less.
                return Ok(expression.name == "IsNotEqualTo");
            };
            let order = compare(&left, &right);
            Ok(match expression.name.as_str() {
                "IsEqualTo" => order.is_eq(),
                "IsNotEqualTo" => order.is_ne(),
                "IsGreaterThan" => order.is_gt(),
                "IsGreaterThanOrEqualTo" => order.is_ge(),
                "IsLessThan" => order.is_lt(),
                _ => order.is_le(),
            })
        }
        _ => Err(EwsError::new(
            "ErrorUnsupportedQueryFilter",
            "The restriction is not supported.",
        )),
    }
}

fn contains(expression: &Element, candidate: &impl Searchable, style: &Style<'_>) -> Result<bool, EwsError> {
    let Some(path) = expression.children.first() else {
        return Ok(false);
    };
    let wanted = expression
        .child("Constant")
        .and_then(|constant| constant.attribute("Value"))
        .unwrap_or_default();
    let Some(found) = value(path, candidate, style)? else {
        return Ok(false);
    };
    let exact = matches!(
        expression.attribute("ContainmentComparison"),
        None | Some("Exact")
    );
    let (found, wanted) = if exact {
        (found, wanted.to_owned())
    } else {
        (found.to_lowercase(), wanted.to_lowercase())
    };
    Ok(match expression.attribute("ContainmentMode") {
        None | Some("FullString") => found == wanted,
        Some("Prefixed") => found.starts_with(&wanted),
        Some("PrefixOnWords") => found.split_whitespace().any(|word| word.starts_with(&wanted)),
        Some(_) => found.contains(&wanted),
    })
}

/// Sorts items by `SortOrder`.
///
/// # Errors
/// The response code for a property that cannot be used for sorting.
pub(crate) fn sort(items: &mut [&Item], order: &Element, style: &Style<'_>) -> Result<(), EwsError> {
    // Sort by the least important field first, because the sort is stable.
    for field in order.children.iter().rev() {
        let Some(path) = field.children.first() else {
            continue;
        };
        let descending = field.attribute("Order") == Some("Descending");
        let mut keyed = Vec::with_capacity(items.len());
        for item in items.iter() {
            keyed.push((value(path, *item, style)?, *item));
        }
        keyed.sort_by(|(left, _), (right, _)| {
            let order = match (left, right) {
                (Some(left), Some(right)) => compare(left, right),
                (left, right) => left.is_some().cmp(&right.is_some()),
            };
            if descending { order.reverse() } else { order }
        });
        for (slot, (_, item)) in items.iter_mut().zip(keyed) {
            *slot = item;
        }
    }
    Ok(())
}

/// One page of a list of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Page {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Offset of the next page.
    pub(crate) next: usize,
    pub(crate) last: bool,
}

impl Page {
    /// Returns the entries of the page.
    pub(crate) fn of<'a, T>(&self, found: &'a [T]) -> &'a [T] {
        found.get(self.start..self.end).unwrap_or_default()
    }
}

/// Returns the page that a view asks for, with at most `limit` entries.
///
/// # Errors
/// `ErrorInvalidIndexedPagingParameters` or `ErrorInvalidPagingMaxRows`.
pub(crate) fn page(request: &Element, total: usize, limit: usize) -> Result<Page, EwsError> {
    let view = request.children.iter().find(|child| child.name.ends_with("View"));
    let number = |name: &str| {
        view.and_then(|view| view.attribute(name))
            .and_then(|text| text.trim().parse::<i64>().ok())
    };
    let wanted = match number("MaxEntriesReturned") {
        Some(wanted) if wanted <= 0 => {
            return Err(EwsError::new(
                "ErrorInvalidPagingMaxRows",
                "MaxEntriesReturned must be greater than zero.",
            ));
        }
        Some(wanted) => usize::try_from(wanted).unwrap_or(limit).min(limit),
        None => limit,
    };
    let offset = match (number("Numerator"), number("Denominator")) {
        (Some(numerator), Some(denominator)) if denominator > 0 && (0..=denominator).contains(&numerator) => {
            let share = i128::from(numerator) * total as i128 / i128::from(denominator);
            usize::try_from(share).unwrap_or(total)
        }
        (None, None) => match number("Offset") {
            Some(offset) if offset < 0 => {
                return Err(EwsError::new(
                    "ErrorInvalidIndexedPagingParameters",
                    "The offset must not be negative.",
                ));
            }
            offset => usize::try_from(offset.unwrap_or(0)).unwrap_or(total),
        },
        _ => {
            return Err(EwsError::new(
                "ErrorInvalidIndexedPagingParameters",
                "The fraction is not valid.",
            ));
        }
    };
    if view.and_then(|view| view.attribute("BasePoint")) == Some("End") {
        let end = total.saturating_sub(offset);
        let start = end.saturating_sub(wanted);
        return Ok(Page {
            start,
            end,
            next: total - start,
            last: start == 0,
        });
    }
    let start = offset.min(total);
    let end = start.saturating_add(wanted).min(total);
    Ok(Page {
        start,
        end,
        next: end,
        last: end == total,
    })
}

#[cfg(test)]
mod tests {
    use super::super::xml::parse;
    use super::*;

    #[test]
    fn pages_cover_everything_once() {
        let view = |text: &str| parse(&format!("<a><IndexedPageItemView {text}/></a>")).unwrap();
        let first = page(
            &view("MaxEntriesReturned='2' Offset='0' BasePoint='Beginning'"),
            5,
            100,
        )
        .unwrap();
        assert_eq!(
            first,
            Page {
                start: 0,
                end: 2,
                next: 2,
                last: false
            }
        );
        let last = page(
            &view("MaxEntriesReturned='9' Offset='4' BasePoint='Beginning'"),
            5,
            3,
        )
        .unwrap();
        assert_eq!(
            last,
            Page {
                start: 4,
                end: 5,
                next: 5,
                last: true
            }
        );
        let from_end = page(&view("MaxEntriesReturned='2' Offset='0' BasePoint='End'"), 5, 100).unwrap();
        assert_eq!((from_end.start, from_end.end, from_end.last), (3, 5, false));
        assert!(page(&view("MaxEntriesReturned='0' Offset='0' BasePoint='End'"), 5, 100).is_err());
        assert!(page(&view("Offset='-1' BasePoint='Beginning'"), 5, 100).is_err());
    }

    #[test]
    fn values_compare_by_their_kind() {
        assert!(compare("9", "10").is_lt());
        assert!(compare("2026-01-01T00:00:00Z", "2025-12-31T23:00:00-02:00").is_lt());
        assert!(compare("b", "a").is_gt());
    }
}
