//! The normal form in which texts of both sides are compared, and a macro for types that are stored as text.

use std::borrow::Cow;

/// Implements the conversions for a type that serde stores as text:
/// `#[serde(try_from = "String", into = "String")]`.
macro_rules! stored_as_text {
    ($name:ident, $error:ty) => {
        impl TryFrom<String> for $name {
            type Error = $error;
            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}
pub(crate) use stored_as_text;

/// Returns `text` in the form both sides can hold: line breaks are `\n`; control characters other than tab
/// and `\n`, and the noncharacters U+FFFE and U+FFFF, are dropped.
///
/// SharePoint stores characters that XML, and therefore Exchange, cannot carry. Each adapter normalises every
/// text it reads, so a character that only one side can hold is never taken for an edit.
#[must_use]
pub fn normal_text(text: &str) -> Cow<'_, str> {
    if !text.contains(|character: char| character == '\r' || !is_portable(character)) {
        return Cow::Borrowed(text);
    }
    let mut normal = String::with_capacity(text.len());
    // Dropped characters go first: "\r\0\n" is one line break.
    let kept = |character: &char| *character == '\r' || is_portable(*character);
    let mut characters = text.chars().filter(kept).peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' if characters.peek() == Some(&'\n') => {}
            '\r' => normal.push('\n'),
            other => normal.push(other),
        }
    }
    Cow::Owned(normal)
}

/// Returns whether both servers keep the character.
fn is_portable(character: char) -> bool {
    match character {
        '\t' | '\n' => true,
        '\u{FFFE}' | '\u{FFFF}' => false,
        other => !other.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_side_can_hold_is_left_out_and_line_breaks_are_alike() {
        for (text, normal) in [
            ("It\u{92}s due", "Its due"),
            ("a\u{7F}b\u{B}c\u{FFFF}d\u{FFFE}e\u{0}f", "abcdef"),
            ("one\r\ntwo\rthree\nfour\r", "one\ntwo\nthree\nfour\n"),
            ("one\r\u{0}\ntwo", "one\ntwo"),
            ("tab\tstays", "tab\tstays"),
            ("\u{FFFD} \u{1F600} é \u{A0}", "\u{FFFD} \u{1F600} é \u{A0}"),
            ("", ""),
        ] {
            assert_eq!(normal_text(text), normal);
            assert_eq!(normal_text(normal), normal, "stable");
        }
        assert!(matches!(normal_text("plain"), Cow::Borrowed(_)));
    }
}
