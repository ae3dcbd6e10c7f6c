//! Tenant files: TOML in which people connect a tenant. A refusal names keys and lines and repeats no value, because a
//! value may be a misplaced secret.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tasksync_common::refusals::without_values;
use tasksync_common::registry::{SecretRef, Tenant};

use crate::exit::CommandError;

/// The keys of credentials that name secrets.
const SECRETS: [&str; 4] = ["password", "secret", "private_key", "certificate"];

/// Bytes of the longest text that is read. A tenant with 1,000 sites has about 100 KiB.
const MAXIMUM_BYTES: u64 = 1024 * 1024;

/// Returns the tenant of a file, or of standard input if the file is `-`.
///
/// # Errors
/// The file cannot be read, or [`parse`] refuses its text.
pub(crate) fn read(file: &Path) -> Result<Tenant, CommandError> {
    let (origin, text) = if file == Path::new("-") {
        ("standard input".to_owned(), read_all(std::io::stdin().lock()))
    } else {
        let text = File::open(file).and_then(read_all);
        (format!("tenant file {}", file.display()), text)
    };
    let text = text.map_err(|error| CommandError::settings(format!("{origin}: {error}")))?;
    parse(&text, &origin)
}

fn read_all(source: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(MAXIMUM_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAXIMUM_BYTES {
        return Err(std::io::Error::other(format!(
            "it is larger than {MAXIMUM_BYTES} bytes"
        )));
    }
    Ok(text)
}

/// Returns the tenant that a text describes. `origin` names the text in errors.
///
/// # Errors
/// The text is not TOML, or not that of a tenant.
pub(crate) fn parse(text: &str, origin: &str) -> Result<Tenant, CommandError> {
    toml::from_str(text).map_err(|error| {
        let place = match error.span() {
            Some(span) => format!("line {}: ", line_of(text, span.start)),
            None => String::new(),
        };
        let hint = match misplaced_secret(text) {
            Some(key) => format!(
                "\n  {key} does not name a secret. Put the secret into a file below the folder secrets.folder of the \
                 service and write \"file:NAME\"."
            ),
            None => String::new(),
        };
        CommandError::settings(format!(
            "{origin}: {place}{}{hint}",
            without_values(error.message())
        ))
    })
}

/// Returns the number of the line that holds the byte at `position`.
pub(crate) fn line_of(text: &str, position: usize) -> usize {
    let before = text.as_bytes().iter().take(position);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// Returns the path of the first key that should name a secret and does not. Errors of parsers do not have it.
fn misplaced_secret(text: &str) -> Option<String> {
    let table: toml::Table = toml::from_str(text).ok()?;
    ["source", "mailbox"].into_iter().find_map(|side| {
        let credentials = table.get(side)?.get("credentials")?.as_table()?;
        let wrong = SECRETS.into_iter().find(|key| {
            credentials.get(*key).is_some_and(|value| {
                value
                    .as_str()
                    .is_none_or(|text| text.parse::<SecretRef>().is_err())
            })
        })?;
        Some(format!("{side}.credentials.{wrong}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../examples/tenant.toml");

    fn refused(text: &str) -> String {
        parse(text, "tenant file x.toml").unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_names_key_and_line_and_no_value() {
        parse(EXAMPLE, "x").unwrap();
        for (from, to, named) in [
            (
                "\"env:TASKSYNC_SECRET_CONTOSO_SHAREPOINT\"",
                "\"hunter2-Correct\"",
                "source.credentials.password",
            ),
            (
                "\"file:contoso-exchange\"",
                "4711",
                "mailbox.credentials.password",
            ),
            ("\"file:contoso-exchange\"", "hunter2", "line "),
            ("\"file:contoso-exchange\"", "\"hunter2-Correct", "line "),
            (
                "\"https://mail.contoso.example/EWS/Exchange.asmx\"",
                "\"hunter2-Correct\"",
                "x.toml",
            ),
            ("kind = \"basic\"", "kind = \"hunter2-Correct\"", "x.toml"),
            ("access = \"auto\"", "access = \"hunter2-Correct\"", "x.toml"),
            ("display_name", "displayname", "displayname"),
        ] {
            assert!(EXAMPLE.contains(from), "{from}");
            let error = refused(&EXAMPLE.replace(from, to));
            assert!(error.contains(named), "{named}: {error}");
            for part in ["hunter2", "4711", "Correct"] {
                assert!(!error.contains(part), "{error}");
            }
        }
    }
}
