//! Compares descriptions by their readable text.

/// Returns the letters and digits that a person would read, without markup and blanks.
pub(super) fn readable(body: &str) -> String {
    let mut text = String::new();
    let mut tag: Option<String> = None;
    let mut hidden = false;
    let mut entity: Option<String> = None;
    for character in body.chars() {
        match (&mut tag, &mut entity, character) {
            (Some(name), _, '>') => {
                let name = name.to_ascii_lowercase();
                if ["style", "head", "title"]
                    .iter()
                    .any(|word| name.starts_with(word))
                {
                    hidden = true;
                } else if ["/style", "/head", "/title"]
                    .iter()
                    .any(|word| name.starts_with(word))
                {
                    hidden = name.starts_with("/style") && hidden && body.contains("<head");
                }
                tag = None;
            }
            (Some(name), _, other) => name.push(other),
            (None, None, '<') => tag = Some(String::new()),
            (None, Some(name), ';') => {
                text.push_str(&resolve(name));
                entity = None;
            }
            (None, Some(name), other) if name.len() < 10 => name.push(other),
            (None, Some(name), other) => {
                text.push('&');
                text.push_str(name);
                text.push(other);
                entity = None;
            }
            (None, None, '&') if body.contains('<') || body.contains(';') => entity = Some(String::new()),
            (None, None, other) if !hidden => text.push(other),
            (None, None, _) => {}
        }
    }
    text.chars()
        .filter(|character| character.is_alphanumeric())
        .collect()
}

fn resolve(name: &str) -> String {
    let code = match name.strip_prefix('#') {
        Some(number) => match number.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16).ok(),
            None => number.parse().ok(),
        },
        None => None,
    };
    code.and_then(char::from_u32)
        .map(String::from)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn markup_makes_no_difference() {
        assert_eq!(
            readable("<div class=\"x\"><p>One&#32;two &amp; three</p></div>"),
            "Onetwothree"
        );
        assert_eq!(
            readable("<html><head><style>p { a: b }</style></head><body>One two &amp; three</body></html>"),
            "Onetwothree"
        );
        assert_eq!(readable("One two & three"), "Onetwothree");
    }
}
