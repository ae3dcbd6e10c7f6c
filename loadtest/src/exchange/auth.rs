//! Determines the caller of a request, the impersonated user, and the mailboxes that the request may open.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use jiff::tz::TimeZone;

use super::Exchange;
use super::error::EwsError;
use super::mailbox::Mailbox;
use super::schema_tables::VERSIONS;
use super::tasks::zone_by_name;
use super::xml::Element;
use crate::accounts::{AccountRights, MailboxScope, ServiceAccount};

/// The contents of the SOAP header and the credentials.
pub(crate) struct Session {
    pub(crate) account: Arc<ServiceAccount>,
    /// The caller's own mailbox.
    pub(crate) own_mailbox: Option<Arc<Mailbox>>,
    pub(crate) impersonated: Option<Arc<Mailbox>>,
    /// Time zone of `TimeZoneContext`.
    pub(crate) zone: Option<TimeZone>,
    /// Whether `DateTimePrecision` is `Milliseconds`.
    pub(crate) precise: bool,
}

impl Session {
    /// Returns whether this request may open the mailbox.
    pub(crate) fn may_open(&self, mailbox: &Mailbox) -> bool {
        if let Some(person) = &self.impersonated {
            return person.number == mailbox.number;
        }
        self.own_mailbox
            .as_ref()
            .is_some_and(|own| own.number == mailbox.number)
            || self.account.rights.full_access.holds(&mailbox.smtp)
    }

    /// Returns the name that is stored in `LastModifiedName`.
    pub(crate) fn name(&self) -> &str {
        self.impersonated
            .as_ref()
            .map_or(&self.account.user, |mailbox| &mailbox.display_name)
    }
}

/// Returns the account that the credentials belong to, or `None` if they are missing or wrong.
pub(crate) fn authenticate(exchange: &Exchange, headers: &HeaderMap) -> Option<Arc<ServiceAccount>> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("Bearer") {
        let name = exchange.validate_token(credentials.trim())?;
        let account_without_rights = || ServiceAccount {
            user: name.clone(),
            password: String::new(),
            rights: AccountRights::default(),
        };
        return Some(
            exchange
                .account(&name)
                .unwrap_or_else(|| Arc::new(account_without_rights())),
        );
    }
    if !scheme.eq_ignore_ascii_case("Basic") || !exchange.settings.basic_enabled {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    let account = exchange.account(user)?;
    (!password.is_empty() && account.password == password).then_some(account)
}

/// Parses the SOAP header of a request made by `account`.
///
/// # Errors
/// The error with which the whole request fails.
pub(crate) fn session(
    exchange: &Exchange,
    account: Arc<ServiceAccount>,
    header: Option<&Element>,
) -> Result<Session, EwsError> {
    let mut session = Session {
        own_mailbox: exchange.mailbox(&account.user),
        account,
        impersonated: None,
        zone: None,
        precise: false,
    };
    for part in header.iter().flat_map(|header| &header.children) {
        match part.name.as_str() {
            "RequestServerVersion" if !VERSIONS.contains(&part.attribute("Version").unwrap_or_default()) => {
                return Err(EwsError::new(
                    "ErrorInvalidServerVersion",
                    "The specified server version is invalid.",
                ));
            }
            "ExchangeImpersonation" => {
                session.impersonated = Some(impersonate(exchange, &session.account, part)?);
            }
            "TimeZoneContext" => {
                let id = part
                    .child("TimeZoneDefinition")
                    .and_then(|zone| zone.attribute("Id"))
                    .unwrap_or_default();
                let zone = zone_by_name(id);
                let text = "The time zone is not known on this server.";
                session.zone =
                    Some(zone.ok_or_else(|| EwsError::new("ErrorTimeZone", text).value("Id", id))?);
            }
            "DateTimePrecision" => session.precise = part.text.trim() == "Milliseconds",
            _ => {}
        }
    }
    Ok(session)
}

fn impersonate(
    exchange: &Exchange,
    account: &ServiceAccount,
    header: &Element,
) -> Result<Arc<Mailbox>, EwsError> {
    if account.rights.impersonate == MailboxScope::None {
        let text = "The requesting account does not have permission to impersonate.";
        return Err(EwsError::new("ErrorImpersonationDenied", text));
    }
    let sid = header.child("ConnectingSID").and_then(|sid| sid.children.first());
    let text = "The ExchangeImpersonation header is not valid.";
    let sid = sid.ok_or_else(|| EwsError::new("ErrorInvalidExchangeImpersonationHeaderData", text))?;
    let address = sid.text.trim();
    let mailbox = match sid.name.as_str() {
        "PrimarySmtpAddress" => exchange.primary_mailbox(address)?,
        "SmtpAddress" => exchange
            .mailbox(address)
            .ok_or_else(|| EwsError::no_mailbox(address))?,
        "PrincipalName" => exchange.mailbox(address).ok_or_else(|| {
            EwsError::new(
                "ErrorInvalidUserPrincipalName",
                "The user principal name (UPN) is not valid.",
            )
        })?,
        // No mailbox here has a security identifier.
        _ => return Err(EwsError::new("ErrorInvalidUserSid", "The SID is not valid.")),
    };
    if !account.rights.impersonate.holds(&mailbox.smtp) {
        let text = "The account does not have permission to impersonate the requested user.";
        return Err(EwsError::new("ErrorImpersonateUserDenied", text));
    }
    Ok(mailbox)
}
