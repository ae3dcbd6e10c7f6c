//! What is wrong with a document that a person wrote, without the values in it.
//!
//! Libraries that read documents repeat the wrong value, or the whole line. A tenant's file may hold a password
//! where the name of a secret belongs, so no text of such a library is shown as it is.

/// Returns what is wrong with a TOML document, with `file` and the line in front.
#[must_use]
pub fn toml_fault(file: &str, text: &str, error: &toml::de::Error) -> String {
    let fault = without_values(error.message());
    match error.span() {
        Some(span) => format!("{file}:{}: {fault}", line_of(text, span.start)),
        None => format!("{file}: {fault}"),
    }
}

/// Returns the line of a place in a text. Lines begin with 1, places are numbers of bytes.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    1 + text.get(..at).unwrap_or(text).matches('\n').count()
}

/// Returns the text of an error about a document without the values that it repeats. Names of fields stay, and
/// so does what is allowed.
#[must_use]
pub fn without_values(message: &str) -> String {
    let named = ["unknown field `", "missing field `", "duplicate field `"];
    let fault = if named.iter().any(|begin| message.starts_with(begin)) {
        None
    } else if message.starts_with("unknown variant ") {
        Some("the value is not one of the choices")
    } else if message.starts_with("invalid type: ") {
        Some("the value has the wrong type")
    } else if message.starts_with("invalid value: ") || message.starts_with("invalid length ") {
        Some("the value is not allowed")
    } else {
        return without_quoted(message);
    };
    // The last "expected" is the library's own, whatever the value contains.
    match message.rsplit_once(", expected ") {
        Some((found, allowed)) => format!("{}; allowed: {allowed}", fault.unwrap_or(found)),
        None => fault.unwrap_or(message).to_owned(),
    }
}

/// Returns the text without what is between its first and its last quote or back quote. A single one hides the rest.
fn without_quoted(text: &str) -> String {
    const QUOTES: [char; 2] = ['"', '`'];
    let Some((before, rest)) = text.split_once(QUOTES) else {
        return text.to_owned();
    };
    let after = rest.rsplit_once(QUOTES).map_or("", |(_, after)| after);
    format!("{before}…{after}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Tenant;

    #[test]
    fn names_and_what_is_allowed_stay_and_values_go() {
        for (message, shown) in [
            (
                "unknown field `pasword`, expected `user` or `password`",
                "unknown field `pasword`; allowed: `user` or `password`",
            ),
            ("missing field `url`", "missing field `url`"),
            (
                "unknown variant `geheim`, expected `basic` or `oauth_secret`",
                "the value is not one of the choices; allowed: `basic` or `oauth_secret`",
            ),
            (
                "invalid type: string \"geheim, expected\", expected a boolean",
                "the value has the wrong type; allowed: a boolean",
            ),
            (
                "invalid type: integer `12345678`, expected a string",
                "the value has the wrong type; allowed: a string",
            ),
            (
                "relative URL without a base: \"geheim\"",
                "relative URL without a base: …",
            ),
            ("\"ge\"heim\" is no name", "… is no name"),
            ("`geheim", "…"),
        ] {
            assert_eq!(without_values(message), shown);
        }
    }

    #[test]
    fn a_password_written_where_its_name_belongs_is_shown_nowhere() {
        const CANARY: &str = "hunter2";
        let right = r#"
            id = "contoso"
            display_name = "Contoso"
            [source]
            kind = "sharepoint"
            sites = ["https://sp.contoso.example/sites/projects"]
            credentials = { kind = "basic", user = "svc", password = "env:CONTOSO_SP" }
            [mailbox]
            kind = "ews"
            url = "https://mail.contoso.example/EWS/Exchange.asmx"
            access = "auto"
            credentials = { kind = "basic", user = "svc", password = "file:/run/secrets/ews" }
        "#;
        toml::from_str::<Tenant>(right).unwrap();
        let mut refused = 0;
        // Every value is replaced by the password, in every form in which it may be written.
        let values: Vec<&str> = right.split('"').skip(1).step_by(2).collect();
        for value in values {
            for written in [
                format!("\"{CANARY}-{CANARY}\""),
                format!("\"{CANARY}\\\"{CANARY}, expected `{CANARY}`\""),
                CANARY.to_owned(),
                format!("\"{CANARY}"),
                format!("[\"{CANARY}\"]"),
                format!("{{ {CANARY} = \"{CANARY}\" }}"),
                "22222222".to_owned(),
            ] {
                let text = right.replacen(&format!("\"{value}\""), &written, 1);
                let Err(error) = toml::from_str::<Tenant>(&text) else {
                    continue;
                };
                let shown = toml_fault("tenant.toml", &text, &error);
                // A password as the name of a field is shown: names must be.
                let is_field =
                    written.starts_with('{') && shown.contains(&format!("unknown field `{CANARY}`"));
                assert!(
                    is_field || !shown.contains(CANARY) && !shown.contains("22222222"),
                    "{written}: {shown}"
                );
                refused += 1;
            }
        }
        assert!(refused > 60, "{refused}");
    }
}
