//! HTML from outside: cleaned of all active content, or reduced to its text.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};

/// Elements that begin a new line of text.
const LINE_ELEMENTS: [&str; 25] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "br",
    "dd",
    "div",
    "dl",
    "dt",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hr",
    "li",
    "ol",
    "p",
    "pre",
    "section",
    "tr",
    "ul",
];
/// Elements whose text no person reads; it is removed with them.
const SILENT_ELEMENTS: [&str; 12] = [
    "script", "style", "title", "iframe", "object", "embed", "noscript", "template", "svg", "math",
    "textarea", "select",
];

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::default();
    builder
        .rm_tags(SILENT_ELEMENTS)
        .clean_content_tags(HashSet::from(SILENT_ELEMENTS))
        .url_schemes(HashSet::from(["http", "https", "mailto", "tel"]))
        // Relative addresses are harmless. Dropping them would lose a link for good when the text is written
        // back.
        .url_relative(UrlRelative::PassThrough)
        // An attribute that we add would come back as a person's edit.
        .link_rel(None);
    builder
});

static LINES: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::empty();
    let mut tags = HashSet::from(LINE_ELEMENTS);
    tags.extend(["td", "th"]);
    builder
        .tags(tags)
        .clean_content_tags(HashSet::from(SILENT_ELEMENTS));
    builder
});

/// The deepest nesting that is parsed; people's texts stay below 50.
const MAXIMUM_NESTING: usize = 256;
/// The most parsing work accepted, in tags times the elements open at each; people's texts stay below
/// 200,000.
const MAXIMUM_WORK: usize = 2_000_000;
/// The most attributes of one tag: a parser compares each with all before it.
const MAXIMUM_ATTRIBUTES: usize = 500;
/// Elements that never contain anything.
const VOID_ELEMENTS: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];
/// Elements whose end tag may be omitted. They nest only inside other elements, which are counted.
const OPEN_ENDED_ELEMENTS: [&str; 11] = [
    "dd", "dt", "li", "option", "p", "tbody", "td", "tfoot", "th", "thead", "tr",
];
/// Bytes of an element's name that are read.
const LONGEST_NAME: usize = 16;

/// Returns the HTML without scripts, forms, embedded content, styles and addresses that are not plain links.
/// The result is well-formed, and cleaning it again returns the same. HTML made to exhaust a parser is
/// reduced to its text.
#[must_use]
pub fn clean_html(html: &str) -> String {
    if is_hostile(html) {
        let mut text = String::with_capacity(html.len());
        for piece in pieces(html) {
            if let Piece::Text(part) = piece {
                // Entities stay as they are; nothing else is left that could begin a tag.
                text.push_str(&part.replace('<', "&lt;").replace('>', "&gt;"));
            }
        }
        return text.trim().to_owned();
    }
    CLEANER.clean(html).to_string().trim().to_owned()
}

/// Returns the text that a person reads: one line per block, whitespace collapsed, entities resolved.
#[must_use]
pub fn text_of_html(html: &str) -> String {
    let cleaned = if is_hostile(html) {
        html.to_owned()
    } else {
        LINES.clean(html).to_string()
    };
    let mut text = String::with_capacity(cleaned.len());
    for piece in pieces(&cleaned) {
        match piece {
            Piece::Text(part) => add_text(&mut text, part),
            Piece::Tag {
                name: "td" | "th", ..
            } => add_text(&mut text, " "),
            Piece::Tag { name, .. } if LINE_ELEMENTS.iter().any(|line| name.eq_ignore_ascii_case(line)) => {
                end_line(&mut text);
            }
            Piece::Tag { .. } => {}
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// A part of HTML, as found by a scanner that knows no grammar.
enum Piece<'a> {
    /// Text between tags.
    Text(&'a str),
    /// A tag, a comment or a declaration.
    Tag {
        /// The element's name as written; empty for comments and declarations.
        name: &'a str,
        /// Whether it is an end tag.
        end: bool,
        /// The number of its attributes.
        attributes: usize,
    },
}

fn pieces(html: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = html;
    std::iter::from_fn(move || {
        let begins_tag = |at: usize| {
            rest[at + 1..]
                .starts_with(|next: char| next.is_ascii_alphabetic() || matches!(next, '/' | '!' | '?'))
        };
        if rest.is_empty() {
            return None;
        }
        if rest.starts_with('<') && begins_tag(0) {
            let (length, attributes) = tag(rest);
            let (inside, after) = rest.split_at(length);
            rest = after;
            let (name, end) = match inside.strip_prefix("</") {
                Some(name) => (name, true),
                None => (inside.get(1..).unwrap_or_default(), false),
            };
            let length = name
                .find(|character: char| !character.is_ascii_alphanumeric())
                .unwrap_or(name.len());
            return Some(Piece::Tag {
                name: &name[..length],
                end,
                attributes,
            });
        }
        let length = rest
            .match_indices('<')
            .map(|(at, _)| at)
            .find(|&at| begins_tag(at))
            .unwrap_or(rest.len());
        let (text, after) = rest.split_at(length);
        rest = after;
        Some(Piece::Text(text))
    })
}

/// Returns the length in bytes and the number of attributes of the tag at the beginning of `html`. Quoted
/// values, which may contain `>`, are skipped as by HTML's own tokenizer.
fn tag(html: &str) -> (usize, usize) {
    let bytes = html.as_bytes();
    let (mut at, mut attributes, mut between) = (1, 0, false);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match byte {
            b'>' => return (at, attributes),
            b'=' if attributes > 0 => {
                at += bytes
                    .iter()
                    .skip(at)
                    .take_while(|byte| byte.is_ascii_whitespace())
                    .count();
                match bytes.get(at) {
                    Some(&quote @ (b'"' | b'\'')) => {
                        at += 1;
                        at += bytes.iter().skip(at).take_while(|&&byte| byte != quote).count() + 1;
                    }
                    _ => {
                        at += bytes
                            .iter()
                            .skip(at)
                            .take_while(|&&byte| !byte.is_ascii_whitespace() && byte != b'>')
                            .count();
                    }
                }
                between = true;
            }
            b'/' | b' ' | b'\t' | b'\n' | b'\r' | 0x0C => between = true,
            _ if between => {
                attributes += 1;
                between = false;
            }
            _ => {}
        }
    }
    (html.len(), attributes)
}

/// Returns whether parsing would take more work than any person's text: parsers walk up the open elements at
/// every tag.
fn is_hostile(html: &str) -> bool {
    // The shortest tag has three bytes.
    if html.len() < 3 * MAXIMUM_NESTING {
        return false;
    }
    let (mut open, mut depth, mut work) = (HashMap::<String, usize>::new(), 0_usize, 0_usize);
    for piece in pieces(html) {
        let Piece::Tag {
            name,
            end,
            attributes,
        } = piece
        else {
            continue;
        };
        work += depth + 1;
        if work > MAXIMUM_WORK || attributes > MAXIMUM_ATTRIBUTES {
            return true;
        }
        let name = name.get(..LONGEST_NAME).unwrap_or(name).to_ascii_lowercase();
        if name.is_empty()
            || VOID_ELEMENTS.contains(&name.as_str())
            || OPEN_ENDED_ELEMENTS.contains(&name.as_str())
        {
            continue;
        }
        let count = open.entry(name).or_default();
        if end {
            // An end tag without its start tag closes nothing.
            if *count > 0 {
                *count -= 1;
                depth -= 1;
            }
        } else {
            *count += 1;
            depth += 1;
            if depth > MAXIMUM_NESTING {
                return true;
            }
        }
    }
    false
}

fn end_line(text: &mut String) {
    text.truncate(text.trim_end_matches(' ').len());
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
}

fn add_text(text: &mut String, escaped: &str) {
    let mut rest = escaped;
    while let Some(character) = rest.chars().next() {
        let entities = [
            ("&amp;", '&'),
            ("&lt;", '<'),
            ("&gt;", '>'),
            ("&quot;", '"'),
            ("&nbsp;", ' '),
        ];
        let (character, length) = entities
            .iter()
            .find(|(entity, _)| character == '&' && rest.starts_with(entity))
            .map_or((character, character.len_utf8()), |&(entity, decoded)| {
                (decoded, entity.len())
            });
        rest = &rest[length..];
        if !character.is_whitespace() {
            text.push(character);
        } else if !text.is_empty() && !text.ends_with([' ', '\n']) {
            text.push(' ');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_active_survives() {
        let nasty = r#"<html><head><title>t</title><style>p{}</style><script>alert(1)</script></head>
            <body onload="x()"><p onclick="y()" style="background:url(javascript:z)">See
            <a href="javascript:alert(1)">bad</a> <a href="https://sp.contoso.example/t/1">good</a>
            <img src="cid:1"><iframe src="https://e.example">in</iframe><form><input name=a></form>
            <svg><script>1</script></svg><object data=x>o</object></p></body></html>"#;
        let clean = clean_html(nasty);
        for word in [
            "script", "onclick", "onload", "style", "iframe", "form", "input", "cid:", "svg", "object",
            "alert",
        ] {
            assert!(!clean.contains(word), "{word} in {clean}");
        }
        assert!(
            clean.contains("<a href=\"https://sp.contoso.example/t/1\">good</a>"),
            "{clean}"
        );
        assert_eq!(clean_html(&clean), clean);
    }

    #[test]
    fn text_is_what_a_person_reads() {
        assert_eq!(
            text_of_html(
                "<p>One &amp; <b>two</b></p><p>three<br>four &lt;five&gt;&nbsp;six</p><ul><li>a<li>b</ul>"
            ),
            "One & two\nthree\nfour <five> six\na\nb"
        );
        assert_eq!(
            text_of_html("<style>p{}</style><p> \r\n </p><script>1</script>"),
            ""
        );
        assert_eq!(
            text_of_html("<table><tr><td>a</td><td>b</td></tr></table>"),
            "a b"
        );
        assert_eq!(text_of_html("plain &amp;amp; text"), "plain &amp; text");
    }

    #[test]
    fn html_made_to_exhaust_a_parser_is_reduced_to_its_text() {
        let numbered = |count: usize, text: fn(usize) -> String| (0..count).map(text).collect::<String>();
        let fonts = numbered(250, |number| format!("<font color=a{number}>"));
        let attributes = numbered(100_000, |number| format!(" a{number}"));
        let hostile = [
            format!("<a title=\">\"{attributes}>x &amp; 1 < 2 <b>z"),
            format!("{}x &amp; 1 < 2 <b onclick=y>z", "<div>".repeat(100_000)),
            format!("{}x &amp; 1 < 2 <b>z", "<div></x>".repeat(1_000)),
            format!("{fonts}{}x &amp; 1 < 2 <b>z", "<p>".repeat(100_000)),
        ];
        for html in hostile {
            assert!(is_hostile(&html));
            assert_eq!(clean_html(&html), "x &amp; 1 &lt; 2 z");
            assert_eq!(text_of_html(&html).replace('\n', ""), "x & 1 < 2 z");
        }
        let ordinary = format!(
            "<table>{}</table>{}",
            "<tr><td><p><b>1</b><td>2".repeat(2_000),
            "<p>3<br>".repeat(2_000)
        );
        assert!(!is_hostile(&ordinary));
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics_and_cleaning_is_stable(html in "[<>/a-c!?&;=\"' é]{0,2000}") {
            let clean = clean_html(&html);
            proptest::prop_assert_eq!(clean_html(&clean), clean);
            let _ = text_of_html(&html);
            let _ = is_hostile(&html);
        }
    }
}
