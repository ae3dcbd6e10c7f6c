//! The commands about tenants. A tenant is stored after its difference was shown and both ends were tested.

use serde_json::{Value, json};
use tasksync_common::registry::Tenant;

use crate::cli::{TenantCommand, Testing};
use crate::client::{ApiClient, pretty};
use crate::commands::{fetch_all_pages, show_answer};
use crate::exit::{CommandEnd, CommandError, note, print};
use crate::{confirm, difference, show, tenant_edit, tenant_file};

/// What happens before and after a tenant is stored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreSteps {
    /// Test both ends first, and store nothing if a test fails.
    pub(crate) test: bool,
    /// Ask the person at the terminal first.
    pub(crate) ask: bool,
    /// Store at all.
    pub(crate) store: bool,
}

pub(crate) async fn run(client: &ApiClient, command: TenantCommand) -> Result<CommandEnd, CommandError> {
    match command {
        TenantCommand::Add {
            file,
            testing,
            check_only,
        } => {
            let mut tenant = tenant_file::read(&file)?;
            let steps = StoreSteps {
                test: !testing.no_test,
                ask: false,
                store: !check_only,
            };
            name_test_person(&mut tenant, testing);
            store(client, &tenant, steps).await
        }
        TenantCommand::Edit { tenant, testing, yes } => tenant_edit::run(client, &tenant, testing, yes).await,
        TenantCommand::List => {
            let answer = fetch_all_pages(client, &["tenants"], "tenants").await?;
            show_answer(client, &answer, show::tenants)
        }
        TenantCommand::Show { tenant } => {
            let answer = client.get(&["tenants", &tenant], &[]).await?;
            show_answer(client, &answer, show::tenant)
        }
        TenantCommand::Remove { tenant, yes } => remove(client, &tenant, yes).await,
        TenantCommand::Pauses { tenant } => {
            let answer = client.get(&["tenants", &tenant, "pauses"], &[]).await?;
            show_answer(client, &answer, show::pauses)
        }
        TenantCommand::EndPauses { tenant, server } => {
            let query: Vec<(&str, &str)> = server.iter().map(|server| ("server", server.as_str())).collect();
            let answer = client
                .delete_with(&["tenants", &tenant, "pauses"], &query)
                .await?;
            show_answer(client, &answer, |answer| {
                format!(
                    "{} pauses were ended; {} users who waited for that are due now.\n",
                    show::cell(&answer["ended"]),
                    show::cell(&answer["due"])
                )
            })
        }
        TenantCommand::Enable { tenant } => switch(client, &tenant, true).await,
        TenantCommand::Disable { tenant } => switch(client, &tenant, false).await,
    }
}

/// Sets the test person that the command line names.
pub(crate) fn name_test_person(tenant: &mut Tenant, testing: Testing) {
    if let Some(mailbox) = testing.test_mailbox {
        tenant.test.get_or_insert_default().mailbox = Some(mailbox);
    }
    if let Some(login) = testing.test_login {
        tenant.test.get_or_insert_default().source_login = Some(login);
    }
}

/// Shows what changes, tests both ends, and stores the tenant.
pub(crate) async fn store(
    client: &ApiClient,
    tenant: &Tenant,
    steps: StoreSteps,
) -> Result<CommandEnd, CommandError> {
    let id = tenant.id.as_str();
    let body = serde_json::to_value(tenant)
        .map_err(|error| CommandError::settings(format!("the tenant cannot be written as JSON: {error}")))?;
    let stored = client.find(&["tenants", id]).await?;
    let mut said = json!({ "result": "checked" });
    if !client.json() {
        print(&changes(id, stored.as_ref(), &body))?;
    }
    if steps.test {
        let report = client.post_body(&["tenants", id, "test"], &body).await?;
        let failed = report.get("result").and_then(Value::as_str) == Some("failed");
        if !client.json() {
            print(&show::doctor(&report))?;
        }
        insert(&mut said, "test", report);
        if failed {
            insert(&mut said, "result", json!("refused"));
            if client.json() {
                print(&pretty(&said))?;
            }
            return Err(CommandError::Answer(format!(
                "{id} was not stored, because a test failed. Correct what the test names and repeat the command, or \
                 store the tenant untested with --no-test."
            )));
        }
    }
    if !steps.store {
        return finish(
            client,
            &said,
            &format!("Nothing was stored; {id} was only tested.\n"),
        );
    }
    if steps.ask && !confirm::person_agrees(&format!("Store {id}?"))? {
        return Err(CommandError::settings(format!("{id} was not stored")));
    }
    let answer = client.put(&["tenants", id], &[], &body).await?;
    for field in ["result", "tenant"] {
        insert(&mut said, field, answer.get(field).cloned().unwrap_or_default());
    }
    let untested = if steps.test { "" } else { " It was not tested." };
    let text = format!(
        "{id} was {}.{untested} Next: `tasksync doctor --tenant {id}`, then `tasksync user opt-in {id} USER …`.\n",
        answer.get("result").and_then(Value::as_str).unwrap_or("stored")
    );
    finish(client, &said, &text)
}

fn finish(client: &ApiClient, said: &Value, text: &str) -> Result<CommandEnd, CommandError> {
    if client.json() {
        print(&pretty(said))
    } else {
        print(text)
    }
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(members) = object.as_object_mut() {
        members.insert(key.to_owned(), value);
    }
}

/// Returns what storing changes, key by key.
fn changes(id: &str, stored: Option<&Value>, body: &Value) -> String {
    let Some(stored) = stored else {
        return format!("{id} is new.\n");
    };
    let lines = difference::text(stored, body);
    if lines.is_empty() {
        format!("{id} is stored in this form already.\n")
    } else {
        format!("{id} changes:\n{lines}")
    }
}

async fn remove(client: &ApiClient, tenant: &str, yes: bool) -> Result<CommandEnd, CommandError> {
    let status = client.get(&["status"], &[("tenant", tenant)]).await?;
    let count = |field: &str| status.get(field).and_then(Value::as_u64).unwrap_or(0);
    let people = match count("enabled") + count("disabled") {
        1 => "1 person".to_owned(),
        people => format!("{people} people"),
    };
    if !yes {
        note(&format!(
            "{tenant} has {people}. Removing it opts them out and removes their sync states; tasks stay where they are."
        ));
        if !confirm::person_types("Type the tenant's name to remove it: ", tenant)? {
            return Err(CommandError::settings(format!(
                "that is not the name; {tenant} was not removed"
            )));
        }
    }
    let answer = client.delete(&["tenants", tenant]).await?;
    show_answer(client, &answer, |_| {
        format!("{tenant} was removed, with {people}; tasks stay where they are.\n")
    })
}

async fn switch(client: &ApiClient, tenant: &str, enabled: bool) -> Result<CommandEnd, CommandError> {
    let mut body = client.get(&["tenants", tenant], &[]).await?;
    insert(&mut body, "enabled", Value::Bool(enabled));
    let answer = client.put(&["tenants", tenant], &[], &body).await?;
    show_answer(client, &answer, |_| {
        if enabled {
            format!("{tenant} is enabled.\n")
        } else {
            format!("{tenant} is disabled; none of its users is synced, and nothing was removed.\n")
        }
    })
}
