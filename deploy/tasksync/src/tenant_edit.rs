//! `tasksync tenant edit`: a tenant as a file in the person's editor. A text that is not stored is kept.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use tasksync_common::random::unique_id;
use tasksync_common::registry::Tenant;

use crate::cli::Testing;
use crate::client::ApiClient;
use crate::exit::{CommandEnd, CommandError, print};
use crate::tenants::{StoreSteps, name_test_person, store};
use crate::{tenant_file, token};

/// The editor of a person who names none.
const EDITOR: &str = "vi";

pub(crate) async fn run(
    client: &ApiClient,
    id: &str,
    testing: Testing,
    yes: bool,
) -> Result<CommandEnd, CommandError> {
    let stored = client.get(&["tenants", id], &[]).await?;
    let stored: Tenant = serde_json::from_value(stored).map_err(|_| {
        CommandError::settings(format!(
            "{id} has settings that this build does not know; use the build of the service"
        ))
    })?;
    let text = as_file(&stored)?;
    let file = write_temporary(id, &text)?;
    let kept = |stop: CommandError| keep(stop, &file);
    let edited = edit(&file).map_err(kept)?;
    let mut tenant = if edited == text {
        stored.clone()
    } else {
        tenant_file::parse(&edited, &format!("tenant file {}", file.display())).map_err(kept)?
    };
    if tenant.id != stored.id {
        return Err(kept(CommandError::settings(format!(
            "the id says \"{}\", but the tenant is {id}; an id cannot be changed",
            tenant.id
        ))));
    }
    let steps = StoreSteps {
        test: !testing.no_test,
        ask: !yes,
        store: true,
    };
    name_test_person(&mut tenant, testing);
    if tenant == stored {
        std::fs::remove_file(&file).ok();
        return print(&format!("Nothing was changed in {id}.\n"));
    }
    let end = store(client, &tenant, steps).await.map_err(kept)?;
    std::fs::remove_file(&file).ok();
    Ok(end)
}

/// Returns the tenant as the text of a file.
pub(crate) fn as_file(tenant: &Tenant) -> Result<String, CommandError> {
    let text = toml::to_string_pretty(tenant).map_err(|error| {
        CommandError::settings(format!("{} cannot be written as a file: {error}", tenant.id))
    })?;
    Ok(format!(
        "# Tenant {}. Secrets are named and never written here: file:NAME or env:TASKSYNC_SECRET_NAME.\n\
         # Save and leave the editor to see the difference. Without a change nothing is stored.\n\n{text}",
        tenant.id
    ))
}

/// Writes the text to a new file that only this person may read.
fn write_temporary(id: &str, text: &str) -> Result<PathBuf, CommandError> {
    let path = std::env::temp_dir().join(format!("tasksync-{id}-{}.toml", unique_id().simple()));
    File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| CommandError::settings(format!("{}: {error}", path.display())))?;
    Ok(path)
}

/// Opens the file in the editor and returns its text afterwards.
fn edit(file: &Path) -> Result<String, CommandError> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(token::variable)
        .unwrap_or_else(|| EDITOR.to_owned());
    // A shell, because the variable may hold arguments.
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(file)
        .status()
        .map_err(|error| CommandError::settings(format!("the editor {editor} cannot be started: {error}")))?;
    if !status.success() {
        return Err(CommandError::settings(format!(
            "the editor {editor} ended with {status}; set VISUAL or EDITOR"
        )));
    }
    std::fs::read_to_string(file)
        .map_err(|error| CommandError::settings(format!("{}: {error}", file.display())))
}

/// Returns the error with the place of the person's text.
fn keep(stop: CommandError, file: &Path) -> CommandError {
    let kept = format!(
        "\n  The text is kept in {}; correct it and run `tasksync tenant add {0}`.",
        file.display()
    );
    match stop {
        CommandError::Answer(text) => CommandError::Answer(text + &kept),
        CommandError::Settings(text) => CommandError::Settings(text + &kept),
        CommandError::Unreachable(text) => CommandError::Unreachable(text + &kept),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_as_a_file_is_the_same_tenant() {
        let mut tenant: Tenant = toml::from_str(include_str!("../examples/tenant.toml")).unwrap();
        for _ in 0..2 {
            let text = as_file(&tenant).unwrap();
            assert_eq!(tenant_file::parse(&text, "x").unwrap(), tenant, "{text}");
            tenant.test.get_or_insert_default().mailbox = Some("test@contoso.example".parse().unwrap());
        }
    }
}
