//! Texts about documents that were refused. They name keys and lines; values may be misplaced secrets.

/// What stands before a value in the messages of serde, and the mark around the value.
const BEFORE_VALUES: &[&str] = &[
    "unknown variant `",
    "integer `",
    "floating point `",
    "boolean `",
    "character `",
];

/// Returns the message of a parser without the values of the document: quoted text, numbers and names of variants
/// become `…`. Names of keys stay.
#[must_use]
pub fn without_values(message: &str) -> String {
    let mut shown = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(first) = rest.chars().next() {
        let value = BEFORE_VALUES.iter().find(|before| rest.starts_with(**before));
        let (kept, mark) = match (value, first) {
            (Some(before), _) => (*before, '`'),
            (None, '"') => ("\"", '"'),
            (None, _) => {
                shown.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
                continue;
            }
        };
        shown.push_str(kept);
        shown.push('…');
        rest = rest.get(kept.len()..).unwrap_or_default();
        // A value without an end is left out to the end of the message.
        rest = value_end(rest, mark)
            .and_then(|end| rest.get(end..))
            .unwrap_or_default();
        shown.push(mark);
    }
    shown
}

/// Returns the position after the mark that ends a value; a mark after a backslash belongs to the value.
fn value_end(text: &str, mark: char) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if letter == mark => return Some(at + letter.len_utf8()),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_and_values_are_not() {
        for (message, shown) in [
            (
                "mailbox: invalid type: string \"hunter2\", expected a map",
                "mailbox: invalid type: string \"…\", expected a map",
            ),
            (
                "relative URL without a base: \"hun\\\"ter2\" at line 3",
                "relative URL without a base: \"…\" at line 3",
            ),
            (
                "unknown variant `hunter2`, expected one of `basic`, `oauth_secret`",
                "unknown variant `…`, expected one of `basic`, `oauth_secret`",
            ),
            (
                "invalid type: integer `4711`, expected a string",
                "invalid type: integer `…`, expected a string",
            ),
            (
                "unknown field `displayname`, expected `id`",
                "unknown field `displayname`, expected `id`",
            ),
            ("invalid value: string \"hunter2", "invalid value: string \"…\""),
            ("", ""),
        ] {
            assert_eq!(without_values(message), shown);
        }
    }
}
