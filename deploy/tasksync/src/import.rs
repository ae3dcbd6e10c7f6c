//! `tasksync user opt-in TENANT --file users.csv`: opts in many users.

use std::fmt::Write as _;
use std::fs::File;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::client::{ApiClient, pretty};
use crate::exit::{CommandEnd, CommandError, print};
use crate::show::entries;

/// Users of one request.
const AT_ONCE: usize = 500;
/// Most refused users listed by name; further ones are only counted.
const NAMED: usize = 20;

/// A line of the file.
#[derive(Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct ImportLine {
    user: String,
    source_login: String,
    mailbox: String,
    #[serde(default)]
    time_zone: Option<String>,
}

pub(crate) async fn users(client: &ApiClient, tenant: &str, file: &Path) -> Result<CommandEnd, CommandError> {
    // Reads the whole file before sending anything, so that a wrong line enrols no user.
    let lines = read(file)?;
    let (mut added, mut updated, mut scheduled) = (0, 0, true);
    let mut refused = Vec::new();
    for (round, some) in lines.chunks(AT_ONCE).enumerate() {
        let answer = client
            .post_body(&["tenants", tenant, "users"], &json!({ "users": some }))
            .await
            .map_err(|stop| match stop {
                CommandError::Answer(text) => CommandError::Answer(format!(
                    "{} users before these were enrolled; {text}",
                    round * AT_ONCE
                )),
                other @ (CommandError::Settings(_) | CommandError::Unreachable(_)) => other,
            })?;
        let count = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
        added += count("added");
        updated += count("updated");
        scheduled &= answer.get("scheduled").and_then(Value::as_bool) != Some(false);
        refused.extend_from_slice(entries(&answer, "refused"));
    }
    if client.json() {
        let summary =
            json!({ "added": added, "updated": updated, "refused": refused, "scheduled": scheduled });
        print(&pretty(&summary))?;
    } else {
        print(&summary(tenant, added, updated, scheduled, &refused))?;
    }
    Ok(if refused.is_empty() {
        CommandEnd::Success
    } else {
        CommandEnd::BadAnswer
    })
}

fn read(file: &Path) -> Result<Vec<ImportLine>, CommandError> {
    let wrong = |what: &dyn std::fmt::Display| CommandError::settings(format!("{}: {what}", file.display()));
    let source = File::open(file).map_err(|error| wrong(&error))?;
    let lines: Vec<ImportLine> = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(source)
        .into_deserialize()
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(&error))?;
    if lines.is_empty() {
        return Err(wrong(
            &"no user is listed; the first line must name the columns user, source_login, mailbox, time_zone",
        ));
    }
    Ok(lines)
}

fn summary(tenant: &str, added: u64, updated: u64, scheduled: bool, refused: &[Value]) -> String {
    let mut text = format!("{added} users were added and {updated} updated.\n");
    if !scheduled {
        let _ = writeln!(
            text,
            "{tenant} is disabled; nothing is synced until it is enabled."
        );
    }
    if !refused.is_empty() {
        let _ = writeln!(text, "{} were refused:", refused.len());
        for one in refused.iter().take(NAMED) {
            let field = |name: &str| one[name].as_str().unwrap_or_default();
            let _ = writeln!(
                text,
                "  {}: {} [{}]",
                field("user"),
                field("detail"),
                field("code")
            );
        }
        if refused.len() > NAMED {
            let _ = writeln!(text, "  … and {} more; --json lists all", refused.len() - NAMED);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_file_is_read_with_and_without_time_zones() {
        let file = file(
            "user,source_login,mailbox,time_zone\nana,\"i:0#.w|contoso\\ana\",ana@contoso.example,\nben, b ,ben@contoso.example,Europe/Berlin\n",
        );
        let lines = read(file.path()).unwrap();
        assert_eq!(
            (lines[0].user.as_str(), lines[0].time_zone.as_deref()),
            ("ana", None)
        );
        assert_eq!(
            (lines[1].source_login.as_str(), lines[1].time_zone.as_deref()),
            ("b", Some("Europe/Berlin"))
        );
    }

    #[test]
    fn a_wrong_file_is_refused_with_its_line() {
        let refused = |text: &str| read(file(text).path()).unwrap_err().to_string();
        assert!(
            refused("user,source_login,mailbox\na,b\n").contains("line: 2"),
            "{}",
            refused("user,source_login,mailbox\na,b\n")
        );
        assert!(refused("user,source_login,mailbox,colour\na,b,c,d\n").contains("colour"));
        assert!(refused("user,source_login,mailbox\n").contains("no user is listed"));
    }

    #[test]
    fn the_summary_names_refused_users_and_counts_the_rest() {
        let one = json!({ "user": "ana", "code": "mailbox-taken", "detail": "taken" });
        let text = summary("contoso", 1, 0, false, &vec![one; 22]);
        assert!(
            text.contains("22 were refused")
                && text.contains("… and 2 more")
                && text.contains("contoso is disabled")
        );
    }
}
