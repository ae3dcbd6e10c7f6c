//! Text from servers, made safe for messages.

/// Returns the text as one line without control characters, cut to `limit` characters.
pub(crate) fn for_message(text: &str, limit: usize) -> String {
    let mut line = String::with_capacity(limit.min(text.len()) + 4);
    let (mut count, mut blank) = (0, true);
    for character in text.chars() {
        let shown = if character.is_control() || character.is_whitespace() || character == '\u{FFFD}' {
            ' '
        } else {
            character
        };
        if shown == ' ' && blank {
            continue;
        }
        if count == limit {
            line.push('…');
            break;
        }
        blank = shown == ' ';
        line.push(shown);
        count += 1;
    }
    line.truncate(line.trim_end().len());
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_show_one_short_clean_line() {
        assert_eq!(for_message(" <html>\r\n\t<body>\u{7}", 80), "<html> <body>");
        assert_eq!(for_message("abcdef", 3), "abc…");
    }
}
