//! HTML from outside: cleaned of everything active, or reduced to its text.

use std::collections::HashSet;
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
/// Elements whose text is nobody's: it is removed with them.
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
        // Relative addresses are harmless, and dropping them would lose a link for good when the text is written back.
        .url_relative(UrlRelative::PassThrough)
        // An attribute of ours would come back as somebody's edit.
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

/// The HTML without scripts, forms, embedded content, styles and addresses that are not plain links; well-formed,
/// and the same when it is cleaned again.
#[must_use]
pub fn clean_html(html: &str) -> String {
    CLEANER.clean(html).to_string().trim().to_owned()
}

/// The text a person reads: one line per block, blanks collapsed, entities resolved.
#[must_use]
pub fn text_of_html(html: &str) -> String {
    let cleaned = LINES.clean(html).to_string();
    let mut text = String::with_capacity(cleaned.len());
    let mut rest = cleaned.as_str();
    while let Some(at) = rest.find('<') {
        add_text(&mut text, &rest[..at]);
        // The serialiser writes a bare `<` only where a tag begins, and these tags have no attributes.
        let Some(end) = rest[at..].find('>') else {
            rest = "";
            break;
        };
        let name = rest[at + 1..at + end].trim_start_matches('/');
        if matches!(name, "td" | "th") {
            add_text(&mut text, " ");
        } else {
            end_line(&mut text);
        }
        rest = &rest[at + end + 1..];
    }
    add_text(&mut text, rest);
    text.truncate(text.trim_end().len());
    text
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
            .map_or((character, character.len_utf8()), |&(entity, meant)| {
                (meant, entity.len())
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
    fn deep_nesting_is_survived() {
        let deep = format!("{}x", "<div>".repeat(20_000));
        assert!(text_of_html(&deep).ends_with('x'));
        assert!(clean_html(&deep).contains('x'));
    }
}
