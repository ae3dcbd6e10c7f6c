//! The operator's commands. Each makes one or two calls and shows the answer as JSON or text.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::{ApiCommand, DeadLettersCommand, InstallationCommand, UserCommand, WhichLetters};
use crate::client::{ApiClient, pretty};
use crate::exit::{CommandEnd, CommandError, print};
use crate::{import, journal, preview, show, tenants, watch};

/// Entries of one page.
const PAGE: &str = "1000";
/// Most pages of one list.
const MAXIMUM_PAGES: usize = 10_000;

pub(crate) async fn run(client: &ApiClient, command: ApiCommand) -> Result<CommandEnd, CommandError> {
    match command {
        ApiCommand::Tenant(command) => tenants::run(client, command).await,
        ApiCommand::User(command) => user(client, command).await,
        ApiCommand::SyncNow { tenant, user, wait } => sync_now(client, &tenant, &user, wait).await,
        ApiCommand::Status { top: Some(count), .. } => {
            let answer = client
                .get(&["status", "tenants"], &[("limit", &count.to_string())])
                .await?;
            show_answer(client, &answer, show::top)
        }
        ApiCommand::Status {
            tenant,
            watch,
            top: None,
        } => {
            let query = tenant_query(tenant.as_deref());
            if let Some(every) = watch {
                return watch::status(client, &query, every).await;
            }
            let answer = client.get(&["status"], &query).await?;
            show_answer(client, &answer, show::status)?;
            let result = answer.get("result").and_then(Value::as_str);
            Ok(if result == Some("attention") {
                CommandEnd::BadAnswer
            } else {
                CommandEnd::Success
            })
        }
        ApiCommand::Doctor { tenant } => {
            let answer = client.get(&["doctor"], &tenant_query(tenant.as_deref())).await?;
            show_answer(client, &answer, show::doctor)?;
            let result = answer.get("result").and_then(Value::as_str);
            Ok(if result == Some("failed") {
                CommandEnd::BadAnswer
            } else {
                CommandEnd::Success
            })
        }
        ApiCommand::Alerts {
            tenant,
            code,
            since,
            list,
            limit,
            after,
        } => {
            let since = since.map(|since| since.to_string());
            let limit = limit.to_string();
            let mut query = tenant_query(tenant.as_deref());
            query.extend(code.as_deref().map(|code| ("code", code)));
            query.extend(since.as_deref().map(|since| ("since", since)));
            if list {
                query.push(("limit", &limit));
                query.extend(after.as_deref().map(|after| ("after", after)));
                let answer = client.get(&["alerts"], &query).await?;
                return show_answer(client, &answer, show::alerts);
            }
            let answer = client.get(&["alerts", "causes"], &query).await?;
            show_answer(client, &answer, show::alert_causes)
        }
        ApiCommand::DeadLetters(command) => dead_letters(client, command).await,
        ApiCommand::Installation(command) => installation(client, command).await,
    }
}

/// Asks for a sync, and waits for its end if `wait` says how long.
async fn sync_now(
    client: &ApiClient,
    tenant: &str,
    user: &str,
    wait: Option<Duration>,
) -> Result<CommandEnd, CommandError> {
    let path = ["tenants", tenant, "users", user];
    let before = match wait {
        Some(_) => client.get(&path, &[]).await?,
        None => Value::Null,
    };
    let answer = client.post(&["tenants", tenant, "users", user, "sync"]).await?;
    let Some(limit) = wait else {
        return show_answer(client, &answer, |answer| show::sync_now(answer, tenant, user));
    };
    if !client.json() {
        print(&show::sync_now(&answer, tenant, user))?;
    }
    watch::sync(client, &path, &before, limit).await
}

async fn installation(client: &ApiClient, command: InstallationCommand) -> Result<CommandEnd, CommandError> {
    let answer = match command {
        InstallationCommand::Show => client.get(&["installation"], &[]).await?,
        InstallationCommand::Set { id, yes } => {
            let body = json!({ "id": id, "confirmed": yes });
            client.put(&["installation"], &[], &body).await?
        }
    };
    show_answer(client, &answer, |answer| {
        format!(
            "installation {}, {} people are opted in\n",
            show::cell(&answer["id"]),
            show::cell(&answer["people"])
        )
    })
}

async fn dead_letters(client: &ApiClient, command: DeadLettersCommand) -> Result<CommandEnd, CommandError> {
    match command {
        DeadLettersCommand::List { limit } => {
            let limit = limit.to_string();
            let answer = client.get(&["dead-letters"], &[("limit", &limit)]).await?;
            show_answer(client, &answer, show::dead_letters)
        }
        DeadLettersCommand::Replay(which) => {
            let answer = match letters(&which) {
                (Some(id), _) => client.post(&["dead-letters", id, "replay"]).await?,
                (None, limit) => {
                    client
                        .post_with(&["dead-letters", "replay"], &[("limit", &limit)])
                        .await?
                }
            };
            show_answer(client, &answer, |answer| {
                format!(
                    "{} put back; jobs whose claim is gone do nothing.\n",
                    answer["replayed"]
                )
            })
        }
        DeadLettersCommand::Discard(which) => {
            let answer = match letters(&which) {
                (Some(id), _) => client.delete(&["dead-letters", id]).await?,
                (None, limit) => {
                    client
                        .delete_with(&["dead-letters"], &[("limit", &limit)])
                        .await?
                }
            };
            show_answer(client, &answer, |answer| {
                format!("{} removed for good.\n", answer["discarded"])
            })
        }
    }
}

/// Returns the id, or else the number of oldest letters. The command line requires exactly one of them.
fn letters(which: &WhichLetters) -> (Option<&str>, String) {
    (which.id.as_deref(), which.oldest.unwrap_or(0).to_string())
}

async fn user(client: &ApiClient, command: UserCommand) -> Result<CommandEnd, CommandError> {
    match command {
        UserCommand::OptIn {
            tenant,
            file: Some(file),
            ..
        } => import::users(client, &tenant, &file).await,
        UserCommand::OptIn {
            tenant,
            user,
            source_login,
            mailbox,
            time_zone,
            unchecked,
            file: None,
        } => {
            let user = user.unwrap_or_default();
            let body = json!({
                "source_login": source_login,
                "mailbox": mailbox,
                "time_zone": time_zone,
            });
            let query: &[_] = if unchecked { &[("unchecked", "true")] } else { &[] };
            let answer = client
                .put(&["tenants", &tenant, "users", &user], query, &body)
                .await?;
            show_answer(client, &answer, |answer| {
                let what = answer["result"].as_str().unwrap_or("stored");
                if answer["scheduled"] == false {
                    format!(
                        "{user} was {what}, but {tenant} is disabled; nothing is synced until it is enabled.\n"
                    )
                } else {
                    format!("{user} was {what} and is due now.\n")
                }
            })
        }
        UserCommand::OptOut { tenant, user } => {
            let answer = client.delete(&["tenants", &tenant, "users", &user]).await?;
            show_answer(client, &answer, |_| {
                format!("{user} was opted out; tasks stay where they are.\n")
            })
        }
        UserCommand::List { tenant } => {
            let answer = fetch_all_pages(client, &["tenants", &tenant, "users"], "users").await?;
            show_answer(client, &answer, show::users)
        }
        UserCommand::Status { tenant, user } => {
            let answer = client.get(&["tenants", &tenant, "users", &user], &[]).await?;
            show_answer(client, &answer, show::user)
        }
        UserCommand::Plan { tenant, user } => {
            let answer = client
                .get(&["tenants", &tenant, "users", &user, "plan"], &[])
                .await?;
            show_answer(client, &answer, preview::text)
        }
        UserCommand::AllowDeletions { tenant, user, plan } => {
            let query: Vec<(&str, &str)> = plan.iter().map(|plan| ("plan", plan.as_str())).collect();
            let answer = client
                .post_with(
                    &["tenants", &tenant, "users", &user, "deletions", "allow"],
                    &query,
                )
                .await?;
            show_answer(client, &answer, |answer| {
                format!(
                    "{} held deletions of {user} may pass, once, until {} (plan {}).\n",
                    show::cell(&answer["deletions"]),
                    show::cell(&answer["until"]),
                    show::cell(&answer["plan"])
                )
            })
        }
        UserCommand::Journal { tenant, user, limit } => {
            let answer = client
                .get(
                    &["tenants", &tenant, "users", &user, "journal"],
                    &[("limit", &limit.to_string())],
                )
                .await?;
            show_answer(client, &answer, journal::text)
        }
    }
}

pub(crate) fn tenant_query(tenant: Option<&str>) -> Vec<(&str, &str)> {
    tenant.map(|tenant| ("tenant", tenant)).into_iter().collect()
}

/// Reads every page of a list.
pub(crate) async fn fetch_all_pages(
    client: &ApiClient,
    path: &[&str],
    field: &str,
) -> Result<Value, CommandError> {
    match fetch_entries(client, path, field, usize::MAX).await? {
        Some(entries) => Ok(json!({ field: entries })),
        None => Err(CommandError::Answer(format!("the list of {field} does not end"))),
    }
}

/// Returns the entries of every page of a list; `None` if there are more than `maximum`, or the pages do not end.
pub(crate) async fn fetch_entries(
    client: &ApiClient,
    path: &[&str],
    field: &str,
    maximum: usize,
) -> Result<Option<Vec<Value>>, CommandError> {
    let mut entries = Vec::new();
    let mut after: Option<String> = None;
    for _ in 0..MAXIMUM_PAGES {
        let mut query = vec![("limit", PAGE)];
        query.extend(after.as_deref().map(|after| ("after", after)));
        let mut page = client.get(path, &query).await?;
        if let Some(more) = page.get_mut(field).and_then(Value::as_array_mut) {
            entries.append(more);
        }
        if entries.len() > maximum {
            return Ok(None);
        }
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = Some(next.to_owned()),
            None => return Ok(Some(entries)),
        }
    }
    Ok(None)
}

pub(crate) fn show_answer(
    client: &ApiClient,
    answer: &Value,
    text: impl FnOnce(&Value) -> String,
) -> Result<CommandEnd, CommandError> {
    if client.json() {
        print(&pretty(answer))
    } else {
        print(&text(answer))
    }
}
