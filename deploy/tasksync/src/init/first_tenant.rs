//! The first tenant: from options, answers, a file, and what an earlier run stored.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use serde_json::{Value, json};
use tasksync_common::registry::{Access, Credentials, MailboxConnection, SourceConnection, Tenant};
use tasksync_common::settings::Settings;
use url::Url;

use super::InitArguments;
use super::files::{self, PlannedFile};
use super::questions::{self, Facts, Respondent};
use crate::exit::CommandError;
use crate::{difference, tenant_edit, tenant_file, tenants};

/// The first tenant, and the password that its file names.
pub(super) struct FirstTenant {
    pub(super) tenant: Tenant,
    password: Option<SecretString>,
    /// Where the tenant's file is written; `None` for a file of the operator's own.
    file: Option<PathBuf>,
}

/// Returns the tenant that the arguments and the person describe; `None` if there is none to connect.
pub(super) fn first_tenant(
    arguments: &InitArguments,
    folder: &Path,
    mut person: Option<&mut dyn Respondent>,
) -> Result<Option<FirstTenant>, CommandError> {
    if let Some(file) = &arguments.tenant_file {
        let tenant = tenant_file::read(file)?;
        return Ok(Some(FirstTenant {
            tenant: with_test_person(tenant, arguments)?,
            password: None,
            file: None,
        }));
    }
    let mut given = [
        arguments.tenant.clone(),
        arguments.name.clone(),
        arguments.time_zone.clone(),
        (!arguments.site.is_empty()).then(|| arguments.site.join(" ")),
        arguments.ews_url.clone(),
        arguments.account.clone(),
        arguments.mailbox.clone(),
        arguments.source_login.clone(),
    ];
    if given.iter().all(Option::is_none) {
        let Some(person) = &mut person else {
            return Ok(None);
        };
        let answer = person.ask("Connect a tenant now (its SharePoint and Exchange)? [Y/n] ")?;
        if matches!(answer.to_lowercase().as_str(), "n" | "no") {
            return Ok(None);
        }
    }
    let id = questions::tenant_id(
        arguments.tenant.clone(),
        only_tenant(folder).as_deref(),
        &mut person,
    )?;
    given[0] = Some(id.clone());
    let file = folder.join(format!("{id}.toml"));
    let stored = stored_tenant(&file)?
        .map(|tenant| facts_of(&tenant))
        .unwrap_or_default();
    let facts = questions::complete(given, &stored, &mut person)?;
    let [id, name, zone, sites, ews, account, mailbox, login] = facts;
    let secret = format!("file:{id}");
    let credentials = json!({ "kind": "basic", "user": account, "password": secret });
    let mut document = json!({
        "id": id,
        "display_name": if name.is_empty() { &id } else { &name },
        "time_zone": zone,
        "source": { "kind": "sharepoint", "sites": sites.split_whitespace().collect::<Vec<_>>(), "credentials": credentials },
        "mailbox": { "kind": "ews", "url": ews, "credentials": credentials, "access": "auto" },
    });
    let test: serde_json::Map<String, Value> = [("mailbox", mailbox), ("source_login", login)]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(key, text)| (key.to_owned(), text.into()))
        .collect();
    if let (false, Some(fields)) = (test.is_empty(), document.as_object_mut()) {
        fields.insert("test".to_owned(), test.into());
    }
    let tenant: Tenant = serde_json::from_value(document)
        .map_err(|error| CommandError::settings(format!("the tenant's facts are refused: {error}")))?;
    let password = match (&arguments.password_file, person) {
        (Some(path), _) => Some(read_password(path)?),
        (None, Some(person)) => questions::password(&account, file.exists(), person)?,
        // A password that was stored before need not be given again.
        (None, None) if file.exists() => None,
        (None, None) => {
            return Err(CommandError::settings(
                "missing: --password-file, the file with the account's password; - reads standard input",
            ));
        }
    };
    Ok(Some(FirstTenant {
        tenant,
        password,
        file: Some(file),
    }))
}

/// Returns the name of the only tenant whose file is in the folder.
fn only_tenant(folder: &Path) -> Option<String> {
    let mut names = std::fs::read_dir(folder).ok()?.filter_map(|entry| {
        let path = entry.ok()?.path();
        if path.extension()? != "toml" {
            return None;
        }
        Some(stored_tenant(&path).ok()??.id.to_string())
    });
    names.next().filter(|_| names.next().is_none())
}

/// Returns the tenant of a file; `None` if there is no file.
fn stored_tenant(file: &Path) -> Result<Option<Tenant>, CommandError> {
    let Some(text) = files::read(file)? else {
        return Ok(None);
    };
    tenant_file::parse(&text, &format!("tenant file {}", file.display())).map(Some)
}

/// Returns what a stored tenant says about each fact.
fn facts_of(tenant: &Tenant) -> Facts {
    let SourceConnection::SharePoint(sharepoint) = &tenant.source;
    let MailboxConnection::Ews { url, credentials, .. } = &tenant.mailbox;
    let sites: Vec<&str> = sharepoint.sites.iter().map(Url::as_str).collect();
    let account = credentials.user().map(str::to_owned);
    let test = tenant.test.as_ref();
    [
        Some(tenant.id.to_string()),
        Some(tenant.display_name.clone()),
        Some(tenant.time_zone.clone()),
        Some(sites.join(" ")),
        Some(url.to_string()),
        account,
        test.and_then(|test| test.mailbox.as_ref())
            .map(ToString::to_string),
        test.and_then(|test| test.source_login.clone()),
    ]
}

fn with_test_person(mut tenant: Tenant, arguments: &InitArguments) -> Result<Tenant, CommandError> {
    let mailbox = arguments.mailbox.as_deref().map(str::parse).transpose();
    let test_mailbox = mailbox.map_err(|error| CommandError::settings(format!("--mailbox: {error}")))?;
    tenants::name_test_person(
        &mut tenant,
        crate::cli::Testing {
            test_mailbox,
            test_login: arguments.source_login.clone(),
            no_test: false,
        },
    );
    Ok(tenant)
}

/// Returns the password of a file, without the line break at its end.
fn read_password(path: &Path) -> Result<SecretString, CommandError> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin().lock())
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| CommandError::settings(format!("--password-file: {error}")))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(CommandError::settings("--password-file: it is empty"));
    }
    Ok(password.to_owned().into())
}

/// Adds the tenant's file and its password to the plan.
pub(super) fn plan_tenant(
    first: &mut FirstTenant,
    settings: &Settings,
    planned: &mut Vec<PlannedFile>,
) -> Result<(), CommandError> {
    let Some(file) = &first.file else {
        return Ok(());
    };
    let secret = settings.secrets.folder.join(first.tenant.id.as_str());
    match first.password.take() {
        Some(password) => planned.push(PlannedFile::secret(secret, password)?),
        None if secret.is_file() => planned.push(PlannedFile::present_secret(secret)),
        None => {
            return Err(CommandError::settings(format!(
                "missing: --password-file; {} does not exist",
                secret.display()
            )));
        }
    }
    let present = files::read(file)?;
    let changes = match stored_tenant(file)? {
        None => Vec::new(),
        Some(stored) => {
            if !has_simple_credentials(&stored) {
                return Err(CommandError::settings(format!(
                    "{} has other credentials or another access than the questions describe, and they would be lost; edit the \
                     file and run `tasksync init --tenant-file {0}`",
                    file.display()
                )));
            }
            // What the file says beside the facts asked for here stays, such as policies.
            first.tenant.policy = stored.policy;
            first.tenant.enabled = stored.enabled;
            first.tenant.test = first.tenant.test.take().or_else(|| stored.test.clone());
            differences(&stored, &first.tenant)?
        }
    };
    let text = tenant_edit::as_file(&first.tenant)?;
    planned.push(PlannedFile::text(file.clone(), present.as_deref(), text, changes));
    Ok(())
}

/// Returns whether both ends have one account whose password is the file with the tenant's name, and the access that
/// the questions lead to.
fn has_simple_credentials(tenant: &Tenant) -> bool {
    let SourceConnection::SharePoint(sharepoint) = &tenant.source;
    let MailboxConnection::Ews {
        credentials, access, ..
    } = &tenant.mailbox;
    let is_simple = match credentials {
        Credentials::Basic { password, .. } => password.to_string() == format!("file:{}", tenant.id),
        Credentials::Ntlm { .. }
        | Credentials::Kerberos { .. }
        | Credentials::Negotiate { .. }
        | Credentials::OauthSecret { .. }
        | Credentials::OauthCertificate { .. } => false,
    };
    is_simple && sharepoint.credentials == *credentials && *access == Access::Auto
}

fn differences(before: &Tenant, after: &Tenant) -> Result<Vec<String>, CommandError> {
    let document = |tenant: &Tenant| {
        serde_json::to_value(tenant)
            .map_err(|error| CommandError::settings(format!("the tenant cannot be compared: {error}")))
    };
    let lines = difference::text(&document(before)?, &document(after)?);
    Ok(lines.lines().map(|line| line.trim_start().to_owned()).collect())
}
