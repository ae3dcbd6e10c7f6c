//! HTML from outside: cleaned of everything active, or reduced to its text.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Elements that end a line of text.
const LINES: [&str; 12] = [
    "br",
    "p",
    "div",
    "li",
    "tr",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "blockquote",
];

static CLEANER: LazyLock<ammonia::Builder<'static>> = LazyLock::new(|| {
    let mut builder = ammonia::Builder::default();
    builder
        .url_schemes(HashSet::from(["http", "https", "mailto", "tel"]))
        // An attribute of ours would come back as somebody's edit.
        .link_rel(None);
    builder
});

static STRIPPER: LazyLock<ammonia::Builder<'static>> = LazyLock::new(|| {
    let mut builder = ammonia::Builder::empty();
    builder.tags(HashSet::from(LINES));
    builder.clean_content_tags(HashSet::from(["script", "style"]));
    builder
});

/// HTML without scripts, styles, forms, event handlers and unknown addresses.
#[must_use]
pub fn clean_html(html: &str) -> String {
    CLEANER.clean(html).to_string()
}

/// The text a reader of the HTML sees; blocks and line breaks end lines.
#[must_use]
pub fn text_of_html(html: &str) -> String {
    let reduced = STRIPPER.clean(html).to_string();
    let mut text = String::with_capacity(reduced.len());
    let mut rest = reduced.as_str();
    while let Some((before, tail)) = rest.split_once('<') {
        text.push_str(before);
        let (tag, after) = tail.split_once('>').unwrap_or((tail, ""));
        if (tag.starts_with('/') || tag.starts_with("br")) && !text.ends_with('\n') || tag.starts_with("br") {
            text.push('\n');
        }
        rest = after;
    }
    text.push_str(rest);
    // Only these are left escaped by the cleaner.
    let text = text
        .replace("&nbsp;", " ")
        .replace('\u{a0}', " ")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&amp;", "&");
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_content_goes_and_text_stays() {
        assert_eq!(clean_html("<p onclick=\"x\">a</p><script>b</script>"), "<p>a</p>");
        assert_eq!(clean_html("<a href=\"javascript:x\">a</a>"), "<a>a</a>");
    }

    #[test]
    fn text_keeps_lines_and_characters() {
        assert_eq!(
            text_of_html("<p>a &lt; b</p><p>c<br>d&nbsp;e</p><style>x</style>"),
            "a < b\nc\nd e"
        );
    }
}
