//! Task descriptions as SharePoint stores them: HTML in a wrapper of its own, or plain text.

use tasksync_common::model::{Body, BodyKind, normal_text};

use crate::sanitise;

/// Bytes of a description that are read; the rest is cut off at a character boundary.
const LONGEST: usize = 1024 * 1024;

/// Returns the description in a column of rich or plain text.
pub(super) fn from_column(content: &str, rich: bool) -> Option<Body> {
    if rich {
        from_html(content)
    } else {
        from_text(content)
    }
}

/// Returns the description in a rich text column, cleaned and without SharePoint's wrapper. Returns `None` if
/// nothing in it is visible.
fn from_html(html: &str) -> Option<Body> {
    let cleaned = sanitise::clean_html(unwrap(&normal_text(cut(html, LONGEST))).trim());
    let cleaned = cleaned.trim();
    if sanitise::text_of_html(cleaned).trim().is_empty() && !cleaned.contains("<img") {
        return None;
    }
    Some(Body {
        kind: BodyKind::Html,
        content: cleaned.to_owned(),
    })
}

/// Returns the description in a plain text column.
fn from_text(text: &str) -> Option<Body> {
    let text = normal_text(cut(text, LONGEST));
    let text = text.trim();
    (!text.is_empty()).then(|| Body {
        kind: BodyKind::Text,
        content: text.to_owned(),
    })
}

/// Returns the description in the column's form: HTML for rich text, text for plain text.
pub(super) fn to_column(body: &Body, rich: bool) -> String {
    match (body.kind, rich) {
        (BodyKind::Html, true) | (BodyKind::Text, false) => body.content.clone(),
        (BodyKind::Html, false) => sanitise::text_of_html(&body.content),
        (BodyKind::Text, true) => {
            let mut html = String::with_capacity(body.content.len() + 16);
            for character in body.content.chars() {
                match character {
                    '&' => html.push_str("&amp;"),
                    '<' => html.push_str("&lt;"),
                    '>' => html.push_str("&gt;"),
                    '\n' => html.push_str("<br>"),
                    '\r' => {}
                    other => html.push(other),
                }
            }
            html
        }
    }
}

/// Returns the text cut to `limit` bytes at a character boundary.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Removes `<div class="ExternalClass…">…</div>`, as often as SharePoint added it, if it encloses everything.
fn unwrap(html: &str) -> &str {
    let mut inner = html.trim();
    for _ in 0..8 {
        let Some(content) = unwrap_once(inner) else {
            return inner;
        };
        inner = content.trim();
    }
    inner
}

fn unwrap_once(html: &str) -> Option<&str> {
    let rest = html.strip_prefix("<div").or_else(|| html.strip_prefix("<DIV"))?;
    let (attributes, rest) = rest.split_once('>')?;
    if !attributes.starts_with(char::is_whitespace)
        || !attributes.to_ascii_lowercase().contains("externalclass")
    {
        return None;
    }
    let content = rest
        .trim_end()
        .strip_suffix("</div>")
        .or_else(|| rest.trim_end().strip_suffix("</DIV>"))?;
    // The last end tag belongs to this div only if the content is balanced and never closes more divs than it
    // opened.
    let lower = content.to_ascii_lowercase();
    let mut depth = 0_i32;
    let mut at = 0;
    while let Some(found) = lower.get(at..).and_then(|rest| rest.find("div")) {
        let position = at + found;
        let before = lower.get(..position).unwrap_or_default();
        if before.ends_with("</") {
            depth -= 1;
        } else if before.ends_with('<') {
            depth += 1;
        }
        if depth < 0 {
            return None;
        }
        at = position + 3;
    }
    (depth == 0).then_some(content)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_wrapper_goes_and_only_the_wrapper() {
        for (html, inner) in [
            (r#"<div class="ExternalClass0A1B"><p>a</p></div>"#, "<p>a</p>"),
            (
                r#"<div class="ExternalClass1"><div class="ExternalClass2">a</div></div>"#,
                "a",
            ),
            (
                r#"<div class="ExternalClass1">a</div><div>b</div>"#,
                r#"<div class="ExternalClass1">a</div><div>b</div>"#,
            ),
            ("<div>a</div>", "<div>a</div>"),
            ("a", "a"),
        ] {
            assert_eq!(unwrap(html), inner);
        }
    }

    #[test]
    fn nothing_visible_is_no_description() {
        assert_eq!(
            from_html(r#"<div class="ExternalClass1"><p>&#160;</p><br></div>"#),
            None
        );
        assert_eq!(from_text(" \r\n"), None);
        let body = from_html(r#"<div class="ExternalClass1"><p onclick="x()">a</p><script>b</script></div>"#)
            .unwrap();
        assert_eq!(body.content, "<p>a</p>");
    }

    #[test]
    fn of_an_overlong_description_the_beginning_is_read() {
        let long = "x".repeat(LONGEST + 1);
        for rich in [false, true] {
            assert_eq!(from_column(&long, rich).unwrap().content.len(), LONGEST, "{rich}");
        }
    }

    #[test]
    fn each_column_gets_its_own_form() {
        let text = Body {
            kind: BodyKind::Text,
            content: "a < b\r\nc".into(),
        };
        assert_eq!(to_column(&text, true), "a &lt; b<br>c");
        assert_eq!(to_column(&text, false), "a < b\r\nc");
        let html = Body {
            kind: BodyKind::Html,
            content: "<p>a &lt; b</p>".into(),
        };
        assert_eq!(to_column(&html, true), "<p>a &lt; b</p>");
        assert_eq!(to_column(&html, false).trim(), "a < b");
    }

    proptest! {
        #[test]
        fn no_body_panics(html in "(<div class=\"ExternalClass1\">|</div>|<div>|<p>|&amp;|&|ä|x){0,30}") {
            let _ = from_html(&html);
        }
    }
}
