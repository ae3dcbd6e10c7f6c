//! The text of an HTML description as a reader sees it, for comparing descriptions.

/// Returns the text between tags with common entities resolved, without comments, styles and scripts.
pub(super) fn visible_text(html: &str) -> String {
    let mut text = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&']) {
        let (before, after) = rest.split_at(at);
        text.push_str(before);
        rest = if after.starts_with('<') {
            skip_tag(after)
        } else {
            take_entity(after, &mut text)
        };
    }
    text.push_str(rest);
    text
}

/// Returns what follows the tag at the start of `html`. Comments, styles, scripts and the head are skipped
/// whole.
fn skip_tag(html: &str) -> &str {
    let end_of = |close: &str| {
        html.find(close)
            .map(|at| html.get(at + close.len()..).unwrap_or(""))
    };
    if html.starts_with("<!--") {
        return end_of("-->").unwrap_or("");
    }
    for hidden in ["style", "script", "head", "title"] {
        let tag = html.get(1..).unwrap_or("");
        let named = tag
            .get(..hidden.len())
            .is_some_and(|name| name.eq_ignore_ascii_case(hidden));
        let ends = tag
            .get(hidden.len()..)
            .is_some_and(|rest| rest.starts_with([' ', '>', '\n', '\t', '\r']));
        if named && ends {
            let lower = html.to_ascii_lowercase();
            let close = format!("</{hidden}>");
            return lower
                .find(&close)
                .and_then(|at| html.get(at + close.len()..))
                .unwrap_or("");
        }
    }
    end_of(">").unwrap_or("")
}

/// Appends the character of the entity at the start of `html` and returns what follows the entity.
fn take_entity<'a>(html: &'a str, text: &mut String) -> &'a str {
    let end = html
        .char_indices()
        .take(12)
        .find(|&(_, character)| character == ';')
        .map(|(at, _)| at);
    let resolved = end.and_then(|end| {
        let name = html.get(1..end)?;
        let character = match name {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            "nbsp" => ' ',
            _ => {
                let number = name.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)?
            }
        };
        Some((character, html.get(end + 1..)?))
    });
    if let Some((character, rest)) = resolved {
        text.push(character);
        rest
    } else {
        text.push('&');
        html.get(1..).unwrap_or("")
    }
}
