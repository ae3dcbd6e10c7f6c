//! `tasksync explain CODE`: what an error code means and what to do, from the program's own catalogue.

use std::fmt::Write as _;

use serde::Serialize;
use tasksync_common::error::Code;
use tasksync_scheduler::api::ApiCode;

use crate::exit::{CommandEnd, CommandError, print};

/// What is known about a code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Explanation {
    code: &'static str,
    message: &'static str,
    cause: &'static str,
    /// How much of the work stops; `None` for an answer of the API, which stops only its own request.
    #[serde(skip_serializing_if = "Option::is_none")]
    stops: Option<String>,
    who_acts: &'static str,
    action: &'static str,
    /// The HTTP status of the answer; `None` if the code is no answer of the API's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    http_status: Option<u16>,
    reference: String,
}

impl From<Code> for Explanation {
    fn from(code: Code) -> Self {
        Self {
            code: code.as_str(),
            message: code.message(),
            cause: code.cause(),
            stops: Some(code.stops()),
            who_acts: code.actor().name(),
            action: code.action(),
            http_status: None,
            reference: reference(code.as_str()),
        }
    }
}

impl From<ApiCode> for Explanation {
    fn from(code: ApiCode) -> Self {
        Self {
            code: code.as_str(),
            message: code.message(),
            cause: code.cause(),
            stops: None,
            who_acts: code.actor().name(),
            action: code.action(),
            http_status: Some(code.status().as_u16()),
            reference: reference(code.as_str()),
        }
    }
}

fn reference(code: &str) -> String {
    format!("docs/errors.md#{code}")
}

/// Returns the explanation of every code, in order of the reference page.
fn catalogue() -> Vec<Explanation> {
    let codes = Code::ALL.iter().map(|code| Explanation::from(*code));
    let of_api = ApiCode::ALL.iter().map(|code| Explanation::from(*code));
    codes.chain(of_api).collect()
}

/// Prints what a code means, or all codes.
///
/// # Errors
/// There is no such code; the error names the nearest one.
pub(crate) fn run(code: Option<&str>, json: bool) -> Result<CommandEnd, CommandError> {
    let catalogue = catalogue();
    let Some(code) = code else {
        return print(&if json {
            pretty(&catalogue)
        } else {
            list(&catalogue)
        });
    };
    let found = find(&catalogue, code)?;
    print(&if json { pretty(found) } else { text(found) })
}

fn pretty(value: &(impl Serialize + ?Sized)) -> String {
    serde_json::to_value(value).map_or_else(|_| String::new(), |value| crate::client::pretty(&value))
}

/// Returns the explanation of a code. Case does not matter, nor the brackets around it in other output.
fn find<'a>(catalogue: &'a [Explanation], code: &str) -> Result<&'a Explanation, CommandError> {
    let wanted = code
        .trim()
        .trim_matches(['[', ']', '.', ',', ':'])
        .to_ascii_lowercase()
        .replace('_', "-");
    catalogue
        .iter()
        .find(|entry| entry.code == wanted)
        .ok_or_else(|| {
            let names = catalogue.iter().map(|entry| entry.code);
            let nearest = tasksync_common::nearest_name(&wanted, names);
            let hint = nearest.map_or_else(String::new, |name| format!(" Did you mean {name}?"));
            CommandError::settings(format!(
                "there is no error code \"{code}\".{hint} `tasksync explain` lists all codes."
            ))
        })
}

fn list(catalogue: &[Explanation]) -> String {
    let width = catalogue.iter().map(|entry| entry.code.len()).max().unwrap_or(0);
    let mut text = String::new();
    for entry in catalogue {
        let _ = writeln!(text, "{:<width$}  {}", entry.code, entry.message);
    }
    text
}

fn text(entry: &Explanation) -> String {
    let mut text = format!(
        "{}\n  {}.\n  Cause:      {}\n  Who acts:   {}\n  What to do: {}\n",
        entry.code, entry.message, entry.cause, entry.who_acts, entry.action
    );
    if let Some(stops) = &entry.stops {
        let _ = writeln!(text, "  Stops:      {stops}");
    }
    if let Some(status) = entry.http_status {
        let _ = writeln!(text, "  HTTP:       {status}");
    }
    let _ = writeln!(text, "  See         {}", entry.reference);
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_explained_with_cause_actor_and_action() {
        let catalogue = catalogue();
        let codes: BTreeSet<&str> = catalogue.iter().map(|entry| entry.code).collect();
        assert_eq!(codes.len(), Code::ALL.len() + ApiCode::ALL.len());
        let page = tasksync_common::error_catalogue_markdown() + &tasksync_scheduler::api::errors_markdown();
        for entry in &catalogue {
            let text = text(find(&catalogue, entry.code).unwrap());
            for part in [entry.message, entry.cause, entry.who_acts, entry.action] {
                assert!(!part.is_empty() && text.contains(part), "{text}");
            }
            // The link leads to a section of the page, and the page says the same.
            let section = page
                .split_once(&format!("\n## {}\n", entry.code))
                .map(|(_, rest)| rest);
            let section = section.unwrap_or_else(|| panic!("{} has no section", entry.code));
            let section = section.split("\n## ").next().unwrap_or_default();
            for part in [entry.cause, entry.who_acts, entry.action] {
                assert!(section.contains(part), "{}: {section}", entry.code);
            }
        }
    }

    #[test]
    fn a_wrong_code_names_the_nearest_one() {
        let catalogue = catalogue();
        assert_eq!(
            find(&catalogue, "[Exchange_Busy]:").unwrap().code,
            "exchange-busy"
        );
        let error = find(&catalogue, "exchange-bussy").unwrap_err().to_string();
        assert!(error.contains("Did you mean exchange-busy?"), "{error}");
        let error = find(&catalogue, "zzzzzz").unwrap_err().to_string();
        assert!(!error.contains("Did you mean"), "{error}");
    }
}
