//! The misconfigurations, and which check must name each.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tasksync_loadtest::accounts::MailboxScope;
use tasksync_loadtest::sharepoint::{AccountLevel, Closed};
use tasksync_loadtest::sim::answers::{Answer, Tamper};
use tasksync_loadtest::sim::faults::{Aim, Fault};

use super::Ward;

/// One misconfiguration.
pub(super) struct Seed {
    pub(super) name: &'static str,
    /// Changes the servers, or the tenant's settings.
    pub(super) plant: fn(&Ward, &mut Value),
    /// The check that must name it.
    pub(super) check: &'static str,
    /// What the finding must contain, in lower case.
    pub(super) text: &'static str,
}

const fn seed(
    name: &'static str,
    plant: fn(&Ward, &mut Value),
    check: &'static str,
    text: &'static str,
) -> Seed {
    Seed {
        name,
        plant,
        check,
        text,
    }
}

/// Sends mailbox requests to one of the further listeners.
fn exchange_at(ward: &Ward, settings: &mut Value, at: usize) {
    settings["mailbox"]["url"] = json!(format!("{}/EWS/Exchange.asmx", ward.exchange[at]));
}

fn exchange_meets(ward: &Ward, fault: Fault) {
    ward.farm.exchange.faults.aim(Aim::every_request(), fault);
}

fn sharepoint_meets(ward: &Ward, operation: &str, fault: Fault) {
    ward.farm.sharepoint.faults.aim(Aim::at(operation), fault);
}

/// Lets Exchange name another build.
fn exchange_build(ward: &Ward, major_minor_build: (u32, u32, u32)) {
    let (major, minor, build) = major_minor_build;
    let named = |major, minor, build| {
        format!("MajorVersion=\"{major}\" MinorVersion=\"{minor}\" MajorBuildNumber=\"{build}\"")
    };
    let tamper = Tamper::replace(&named(15, 2, 2_562), &named(major, minor, build));
    exchange_meets(ward, Fault::Tamper(tamper));
}

/// Changes every list in SharePoint's answers about lists.
fn lists_show(ward: &Ward, key: &'static str, value: &Value) {
    let value = value.clone();
    let tamper = Tamper::new(move |answer| {
        let Ok(mut body) = serde_json::from_slice::<Value>(&answer.body) else {
            return answer;
        };
        for list in body["value"].as_array_mut().into_iter().flatten() {
            if list.get(key).is_some() {
                list[key] = value.clone();
            }
        }
        answer.with_body(body.to_string())
    });
    sharepoint_meets(ward, "lists", Fault::Tamper(tamper));
}

const UNKNOWN_PERSON: &str = r#"{"odata.error":{"code":"-2146232832, Microsoft.SharePoint.SPException","message":{"lang":"en-US","value":"User cannot be found."}}}"#;

/// Misconfigurations that can be taken out again without a trace.
pub(super) const SEEDS: &[Seed] = &[
    seed(
        "Exchange's certificate has expired",
        |ward, settings| exchange_at(ward, settings, 0),
        "tls-expiry",
        "expired",
    ),
    seed(
        "Exchange's certificate expires soon",
        |ward, settings| exchange_at(ward, settings, 1),
        "tls-expiry",
        "expires in 9 days",
    ),
    seed(
        "Exchange's certificate is for another name",
        |ward, settings| exchange_at(ward, settings, 2),
        "tls-name",
        "another host name",
    ),
    seed(
        "an unknown authority issued Exchange's certificate",
        |ward, settings| exchange_at(ward, settings, 5),
        "tls-trusted",
        "authority that is not trusted",
    ),
    seed(
        "another authority of the same name issued Exchange's certificate",
        |ward, settings| exchange_at(ward, settings, 3),
        "tls-trusted",
        "not signed by the authority of that name",
    ),
    seed(
        "the way to Exchange is not encrypted",
        |ward, settings| exchange_at(ward, settings, 4),
        "tls-used",
        "is not encrypted",
    ),
    seed(
        "Exchange offers NTLM alone",
        |ward, _| ward.farm.exchange.offer_only(Some(&["Negotiate", "NTLM"])),
        "mailbox-sign-in",
        "offers negotiate and ntlm and not basic",
    ),
    seed(
        "SharePoint offers NTLM alone",
        |ward, _| ward.farm.sharepoint.offer_only(Some(&["NTLM"])),
        "source-sign-in",
        "offers ntlm and not basic",
    ),
    seed(
        "Exchange is older than 2013 SP1",
        |ward, _| exchange_build(ward, (15, 0, 775)),
        "mailbox-version",
        "2013 before service pack 1",
    ),
    seed(
        "Exchange is no longer maintained",
        |ward, _| exchange_build(ward, (15, 1, 2_507)),
        "mailbox-version",
        "maintained until 2025-10-14",
    ),
    seed(
        "the mailboxes are in Exchange Online",
        |ward, _| exchange_build(ward, (15, 20, 9_000)),
        "exchange-online-ews",
        "ends on 2027-04-01",
    ),
    seed(
        "EWS is blocked",
        |ward, _| {
            let blocked = Answer::new(403).with_header("X-CasErrorCode", "EwsBlocked");
            exchange_meets(ward, Fault::Instead(blocked));
        },
        "exchange-online-ews",
        "ewsallowedappids",
    ),
    seed(
        "SharePoint is older than 2013",
        |ward, _| ward.farm.sharepoint.set_version("14.0.0.4762"),
        "source-version",
        "does not work",
    ),
    seed(
        "SharePoint is no longer maintained",
        |ward, _| ward.farm.sharepoint.set_version("15.0.0.4569"),
        "source-version",
        "maintained until 2023-04-11",
    ),
    seed(
        "the service account may only read",
        |ward, _| ward.farm.sharepoint.set_account_level(AccountLevel::Read),
        "source-edit",
        "may only read on 1 sites",
    ),
    seed(
        "the service account may not delete",
        |ward, _| {
            ward.farm
                .sharepoint
                .set_account_level(AccountLevel::WithoutDelete);
        },
        "source-delete",
        "may not delete tasks",
    ),
    seed(
        "the service account may not ask about people",
        |ward, _| ward.farm.sharepoint.set_account_level(AccountLevel::Contribute),
        "source-enumerate",
        "lacks enumerate permissions",
    ),
    seed(
        "the service account has full control",
        |ward, _| ward.farm.sharepoint.set_account_level(AccountLevel::FullControl),
        "source-rights-not-needed",
        "manage web site",
    ),
    seed(
        "the service account administers the site collection",
        |ward, _| {
            ward.farm
                .sharepoint
                .set_account_level(AccountLevel::Administrator);
        },
        "source-rights-not-needed",
        "site collection administrator",
    ),
    seed(
        "a list is larger than the threshold",
        |ward, _| lists_show(ward, "ItemCount", &json!(6_001)),
        "source-large-lists",
        "6001 items",
    ),
    seed(
        "a list has content approval",
        |ward, _| lists_show(ward, "EnableModeration", &json!(true)),
        "source-approval",
        "content approval",
    ),
    seed(
        "there are no task lists",
        |ward, _| {
            sharepoint_meets(
                ward,
                "lists",
                Fault::Instead(Answer::json(200, r#"{"value":[]}"#)),
            );
        },
        "source-lists",
        "0 task lists",
    ),
    seed(
        "a task list is closed to the service account",
        |ward, _| sharepoint_meets(ward, "fields", Fault::Error("-2147024891".to_owned())),
        "source-discovery",
        "left out",
    ),
    seed(
        "the site's time zone cannot be read",
        |ward, _| sharepoint_meets(ward, "timezone", Fault::Instead(Answer::json(200, "{}"))),
        "source-time-zone",
        "names no time zone",
    ),
    seed(
        "the tenant has another time zone",
        |_, settings| settings["time_zone"] = json!("Pacific/Honolulu"),
        "tenant-time-zones",
        "the tenant is in pacific/honolulu",
    ),
    seed(
        "the password of Exchange is wrong",
        |_, settings| settings["mailbox"]["credentials"]["password"] = json!("file:wrong.password"),
        "mailbox-server",
        "exchange-sign-in-refused",
    ),
    seed(
        "the password of SharePoint is wrong",
        |_, settings| settings["source"]["credentials"]["password"] = json!("file:wrong.password"),
        "source-sites",
        "sharepoint-sign-in-refused",
    ),
    seed(
        "the site is closed to the service account",
        |ward, _| {
            let closed = Some(Closed::Forbidden);
            ward.farm.sharepoint.close_web(ward.site(), closed).unwrap();
        },
        "source-sites",
        "sharepoint-denied",
    ),
    seed(
        "the site's address is wrong",
        |_, settings| {
            let site = settings["source"]["sites"][0].as_str().unwrap();
            settings["source"]["sites"][0] = json!(format!("{site}-of-yesterday"));
        },
        "source-sites",
        "sharepoint-site-missing",
    ),
    seed(
        "a secret is missing",
        |_, settings| settings["source"]["credentials"]["password"] = json!("file:no-such-secret"),
        "tenant-secrets",
        "source.credentials.password names file:no-such-secret",
    ),
    seed(
        "the certificate for signing in has expired",
        |ward, settings| {
            settings["mailbox"]["credentials"] = json!({
                "kind": "oauth_certificate",
                "token_url": format!("{}/token", ward.exchange[1]),
                "client_id": "00000000-0000-4000-8000-000000000001",
                "scope": "https://outlook.office365.com/.default",
                "private_key": "file:wrong.password",
                "certificate": "file:expired.certificate",
            });
        },
        "tenant-client-certificate",
        "expired at 2020",
    ),
    seed(
        "Exchange's clock is off",
        |ward, _| ward.farm.exchange.clock.set_skew(SignedDuration::from_secs(400)),
        "tenant-clock",
        "differ by up to",
    ),
    seed(
        "the site does not know a person",
        |ward, _| {
            sharepoint_meets(
                ward,
                "siteusers",
                Fault::Instead(Answer::json(404, UNKNOWN_PERSON)),
            );
        },
        "people-known",
        "do not know 1 of 1 people",
    ),
    seed(
        "a mailbox does not exist",
        |ward, _| exchange_meets(ward, Fault::Error("ErrorNonExistentMailbox".to_owned())),
        "mailbox-server",
        "exchange-mailbox-missing",
    ),
    seed(
        "an address is that of a distribution list",
        |ward, _| {
            let tamper = Tamper::replace("MailboxType>Mailbox<", "MailboxType>PublicDL<");
            exchange_meets(ward, Fault::Tamper(tamper));
        },
        "mailbox-kind",
        "is a distribution list",
    ),
    seed(
        "the service account may open no mailbox",
        |ward, _| ward.set_rights(MailboxScope::None, MailboxScope::None),
        "mailbox-server",
        "exchange-",
    ),
    seed(
        "mailboxes open by impersonation alone",
        |ward, _| ward.set_rights(MailboxScope::All, MailboxScope::None),
        "mailbox-access",
        "opened by impersonation",
    ),
    seed(
        "another tenant uses the same account",
        |_, settings| settings["id"] = json!("fabrikam"),
        "tenant-shared-account",
        "tenant fabrikam",
    ),
    seed(
        "the tenant is disabled",
        |_, settings| settings["enabled"] = json!(false),
        "tenant-enabled",
        "disabled",
    ),
];

/// Misconfigurations that stay visible.
pub(super) const LASTING: &[Seed] = &[
    seed(
        "a mailbox was removed and the person is disabled",
        |ward, _| exchange_meets(ward, Fault::Error("ErrorNonExistentMailbox".to_owned())),
        "mailboxes-found",
        "exchange-mailbox-missing",
    ),
    seed(
        "Exchange asks for pauses",
        |ward, _| {
            ward.farm.exchange.faults.clear();
            exchange_meets(
                ward,
                Fault::Busy {
                    pause: Some(Duration::from_mins(5)),
                    inside: false,
                    status: 503,
                },
            );
        },
        "tenant-throttled",
        "1 times, last at",
    ),
    seed(
        "Exchange is paused",
        |_, _| {},
        "tenant-pauses",
        "1 servers of the tenant are paused",
    ),
];
