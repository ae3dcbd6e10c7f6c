//! Judges what a tenant's servers and secrets show without a sign-in: certificates, sign-in schemes, versions.

use jiff::civil::date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{Code, Failure};
use tasksync_common::facts::{
    CertificateFacts, CertificateProblem, MailboxFacts, SecretCheck, ServerCheck, ServerFacts, ServerKind,
    ServerRefusal, TenantLook,
};
use tasksync_common::registry::{Credentials, MailboxConnection, SourceConnection, Tenant};
use tasksync_common::versions::{Edition, Support, sharepoint_product};

use super::catalogue::tenant as check;
use super::tenant::shortened;
use super::{CheckResult, Definition, DoctorFinding};

/// The shortest rest of a certificate's life that is not reported.
const RENEW_BEFORE: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What is known about the mailbox server from a signed-in request.
#[derive(Debug, Default)]
pub(super) struct MailboxServerAnswer<'a> {
    /// The facts of the mailboxes that were opened.
    pub(super) opened: Vec<&'a MailboxFacts>,
    /// The first failure.
    pub(super) failure: Option<&'a Failure>,
    /// Whether the server accepted the sign-in.
    pub(super) signed_in: bool,
}

/// Judges everything about the tenant's servers. `source_signed_in` says whether a site accepted the sign-in.
pub(super) fn judge(
    subject: &str,
    tenant: &Tenant,
    look: &TenantLook,
    source_signed_in: bool,
    mailbox: &MailboxServerAnswer<'_>,
    now: Timestamp,
) -> Vec<DoctorFinding> {
    let SourceConnection::SharePoint(source) = &tenant.source;
    let MailboxConnection::Ews { url, credentials, .. } = &tenant.mailbox;
    let mut found: Vec<DoctorFinding> = judge_tls(subject, &look.servers, now)
        .into_iter()
        .map(|finding| finding.with_information(left_out(look.servers_left_out)))
        .collect();
    found.push(judge_schemes(
        (&check::SOURCE_SIGN_IN, subject),
        ServerKind::Source,
        &source.credentials,
        source_signed_in,
        &look.servers,
    ));
    found.push(judge_schemes(
        (&check::MAILBOX_SIGN_IN, subject),
        ServerKind::Mailbox,
        credentials,
        mailbox.signed_in,
        &look.servers,
    ));
    found.push(judge_source_version(subject, &look.servers, now));
    found.push(judge_mailbox_version(subject, mailbox, now));
    let online = is_exchange_online(url, mailbox);
    found.push(judge_exchange_online(subject, online, mailbox));
    found.push(judge_topology(subject, &look.servers, online, mailbox));
    found.push(judge_secrets(subject, &look.secrets));
    found.push(judge_client_certificates(subject, &look.secrets, now));
    found
}

/// Returns a line about the servers that were not looked at, if there are any.
fn left_out(servers: usize) -> Option<String> {
    (servers > 0).then(|| format!("{servers} further servers of the tenant were not looked at"))
}

fn answered(servers: &[ServerCheck]) -> impl Iterator<Item = (&ServerCheck, &ServerFacts)> {
    servers
        .iter()
        .filter_map(|server| Some((server, server.result.as_ref().ok()?)))
}

/// Returns a finding with the worst of several entries, or that all is well.
fn of_entries(
    (definition, subject): (&Definition, &str),
    entries: &[(CheckResult, String)],
    all_well: impl Into<String>,
) -> DoctorFinding {
    let worst = entries.iter().max_by_key(|(result, _)| *result);
    match worst {
        None => DoctorFinding::new(definition, subject, CheckResult::Ok, all_well),
        Some((result, first)) => DoctorFinding::new(definition, subject, *result, first.clone())
            .with_information(shortened(
                entries
                    .iter()
                    .filter(|(_, entry)| entry != first)
                    .map(|(_, entry)| entry.clone()),
            )),
    }
}

fn not_applicable(definition: &Definition, subject: &str, reason: &str) -> DoctorFinding {
    DoctorFinding::new(definition, subject, CheckResult::NotApplicable, reason)
}

/// Judges encryption, authority, name and life of every server's certificate.
fn judge_tls(subject: &str, servers: &[ServerCheck], now: Timestamp) -> Vec<DoctorFinding> {
    let certificates: Vec<(&str, &CertificateFacts)> = answered(servers)
        .filter_map(|(server, facts)| Some((server.host.as_str(), facts.certificate.as_ref()?)))
        .collect();
    let refused = |wanted: CertificateProblem| {
        servers.iter().filter_map(move |server| match &server.result {
            Err(ServerRefusal::Certificate(problem, text)) if *problem == wanted => {
                Some((CheckResult::Failed, text.clone()))
            }
            Ok(_) | Err(_) => None,
        })
    };
    let plain: Vec<_> = answered(servers)
        .filter(|(_, facts)| !facts.encrypted)
        .map(|(server, _)| {
            let text = format!("the connection to {} is not encrypted", server.host);
            (CheckResult::Warning, text)
        })
        .collect();
    let any_answer = answered(servers).next().is_some();
    let mut found = vec![if any_answer || !plain.is_empty() {
        of_entries(
            (&check::TLS_USED, subject),
            &plain,
            "every server that answers speaks TLS",
        )
    } else {
        not_applicable(
            &check::TLS_USED,
            subject,
            "cannot be known while no server answers",
        )
    }];
    let nothing_seen = "cannot be known while no server shows a certificate";
    for (definition, problem, all_well) in [
        (
            &check::TLS_TRUSTED,
            CertificateProblem::Untrusted,
            format!("{} certificates are trusted", certificates.len()),
        ),
        (
            &check::TLS_NAME,
            CertificateProblem::OtherName,
            format!("{} certificates are for the servers' names", certificates.len()),
        ),
    ] {
        let problems: Vec<_> = refused(problem).collect();
        found.push(if problems.is_empty() && certificates.is_empty() {
            not_applicable(definition, subject, nothing_seen)
        } else {
            of_entries((definition, subject), &problems, all_well).with_information(shortened(
                certificates
                    .iter()
                    .map(|(host, facts)| format!("{host}: issued by {}", facts.issuer)),
            ))
        });
    }
    let mut lives: Vec<_> = refused(CertificateProblem::Expired).collect();
    lives.extend(certificates.iter().filter_map(|(host, facts)| {
        judge_life(&format!("the certificate of {host}"), facts.expires_at, now)
    }));
    found.push(if lives.is_empty() && certificates.is_empty() {
        not_applicable(&check::TLS_EXPIRY, subject, nothing_seen)
    } else {
        let days = certificates
            .iter()
            .map(|(_, facts)| facts.expires_at.duration_since(now).as_hours() / 24)
            .min()
            .unwrap_or(0);
        of_entries(
            (&check::TLS_EXPIRY, subject),
            &lives,
            format!("the first certificate expires in {days} days"),
        )
    });
    found
}

/// Returns what is to be said about a life that ends at `expires_at`; `None` if it is long enough.
fn judge_life(what: &str, expires_at: Timestamp, now: Timestamp) -> Option<(CheckResult, String)> {
    let left = expires_at.duration_since(now);
    if left.is_negative() || left.is_zero() {
        Some((CheckResult::Failed, format!("{what} expired at {expires_at}")))
    } else if left < RENEW_BEFORE {
        let days = left.as_hours() / 24;
        let text = format!("{what} expires in {days} days, at {expires_at}");
        Some((CheckResult::Warning, text))
    } else {
        None
    }
}

fn judge_schemes(
    (definition, subject): (&Definition, &str),
    kind: ServerKind,
    credentials: &Credentials,
    signed_in: bool,
    servers: &[ServerCheck],
) -> DoctorFinding {
    let used = credentials.scheme();
    if signed_in {
        let text = format!("the server accepted the sign-in by {used}");
        return DoctorFinding::new(definition, subject, CheckResult::Ok, text);
    }
    let offering: Vec<_> = answered(servers)
        .filter(|(server, facts)| server.kind == kind && !facts.schemes.is_empty())
        .collect();
    if offering.is_empty() {
        let reason = "the server names no scheme to a caller who does not sign in";
        return not_applicable(definition, subject, reason);
    }
    let lacking: Vec<_> = offering
        .iter()
        .filter(|(_, facts)| {
            !facts
                .schemes
                .iter()
                .any(|scheme| scheme.eq_ignore_ascii_case(used))
        })
        .map(|(server, facts)| {
            let text = format!(
                "{} offers {} and not {used}, which the tenant's credentials use",
                server.host,
                facts.schemes.join(" and "),
            );
            (CheckResult::Failed, text)
        })
        .collect();
    of_entries(
        (definition, subject),
        &lacking,
        format!("the server offers {used}"),
    )
}

fn judge_support(
    (definition, subject): (&Definition, &str),
    (name, support): (&str, Support),
    version: &str,
    now: Timestamp,
) -> DoctorFinding {
    let today = now.to_zoned(TimeZone::UTC).date();
    let (result, explanation) = match support {
        Support::Maintained => (CheckResult::Ok, format!("it is {name} ({version})")),
        Support::Until(end) if today <= end => (
            CheckResult::Ok,
            format!("it is {name} ({version}), maintained until {end}"),
        ),
        Support::Until(end) => (
            CheckResult::Warning,
            format!("it is {name} ({version}), which Microsoft maintained until {end}"),
        ),
        Support::TooOld => (
            CheckResult::Failed,
            format!("it is {name} ({version}), with which tasksync does not work"),
        ),
        Support::Unknown => (
            CheckResult::Warning,
            format!("it is {name} ({version}), which this build of tasksync does not know"),
        ),
    };
    DoctorFinding::new(definition, subject, result, explanation)
}

fn judge_source_version(subject: &str, servers: &[ServerCheck], now: Timestamp) -> DoctorFinding {
    answered(servers)
        .filter(|(server, _)| server.kind == ServerKind::Source)
        .filter_map(|(server, facts)| Some((server, facts.sharepoint_version.as_deref()?)))
        .map(|(server, version)| {
            let (name, support, _) = sharepoint_product(version);
            let finding = (&check::SOURCE_VERSION, subject);
            judge_support(finding, (name, support), version, now).with_information([server.host.clone()])
        })
        .max_by_key(|finding| finding.result)
        .unwrap_or_else(|| {
            not_applicable(
                &check::SOURCE_VERSION,
                subject,
                "no site that answers names its version",
            )
        })
}

fn judge_mailbox_version(subject: &str, mailbox: &MailboxServerAnswer<'_>, now: Timestamp) -> DoctorFinding {
    let finding = (&check::MAILBOX_VERSION, subject);
    let builds = mailbox.opened.iter().filter_map(|facts| facts.exchange_build);
    builds
        .map(|build| {
            let (name, support, _) = build.product();
            let version = format!(
                "{}.{}.{}.{}",
                build.major, build.minor, build.build, build.revision
            );
            judge_support(finding, (name, support), &version, now)
        })
        .max_by_key(|finding| finding.result)
        .unwrap_or_else(|| not_applicable(finding.0, subject, "cannot be known while no mailbox opens"))
}

/// Returns whether the mailboxes are in Exchange Online, by the build or else by the address.
fn is_exchange_online(url: &url::Url, mailbox: &MailboxServerAnswer<'_>) -> bool {
    let build = mailbox.opened.iter().find_map(|facts| facts.exchange_build);
    match build {
        Some(build) => build.product().2 == Edition::Online,
        None => url
            .host_str()
            .is_some_and(|host| host == "outlook.office365.com" || host.ends_with(".office365.com")),
    }
}

fn judge_exchange_online(subject: &str, online: bool, mailbox: &MailboxServerAnswer<'_>) -> DoctorFinding {
    let definition = &check::EXCHANGE_ONLINE;
    let forbidden = mailbox
        .failure
        .filter(|failure| failure.code == Code::ExchangeForbidden);
    match (online, forbidden) {
        (_, Some(failure)) => DoctorFinding::new(
            definition,
            subject,
            CheckResult::Failed,
            format!("EWS is blocked for this application or organisation: {failure}"),
        ),
        (true, None) => DoctorFinding::new(
            definition,
            subject,
            CheckResult::Warning,
            format!("EWS in Exchange Online ends on {}", date(2027, 4, 1)),
        ),
        (false, None) => not_applicable(definition, subject, "the mailboxes are not in Exchange Online"),
    }
}

fn judge_topology(
    subject: &str,
    servers: &[ServerCheck],
    online: bool,
    mailbox: &MailboxServerAnswer<'_>,
) -> DoctorFinding {
    let definition = &check::TOPOLOGY;
    let version = answered(servers).find_map(|(_, facts)| facts.sharepoint_version.as_deref());
    let (Some(version), false) = (version, mailbox.opened.is_empty()) else {
        return not_applicable(
            definition,
            subject,
            "cannot be known while one end does not answer",
        );
    };
    let place = |online| if online { "in the cloud" } else { "on premises" };
    let (name, _, edition) = sharepoint_product(version);
    let source_online = edition == Edition::Online;
    let explanation = if source_online == online {
        format!("both ends are {}", place(online))
    } else {
        format!(
            "a hybrid: the sites are {}, the mailboxes {}",
            place(source_online),
            place(online)
        )
    };
    let exchange = mailbox.opened.first().map(|facts| facts.version.clone());
    DoctorFinding::new(definition, subject, CheckResult::Ok, explanation)
        .with_information([name.to_owned()].into_iter().chain(exchange))
}

fn judge_secrets(subject: &str, secrets: &[SecretCheck]) -> DoctorFinding {
    let definition = &check::SECRETS;
    let failed: Vec<_> = secrets
        .iter()
        .filter_map(|secret| Some((secret, secret.result.as_ref().err()?)))
        .collect();
    match failed.first() {
        None if secrets.is_empty() => not_applicable(definition, subject, "no secret was read"),
        None => DoctorFinding::new(
            definition,
            subject,
            CheckResult::Ok,
            format!("{} secrets can be read", secrets.len()),
        ),
        Some((_, first)) => DoctorFinding::of_failure(definition, subject, first).with_information(
            failed
                .iter()
                .map(|(secret, _)| format!("{} names {}", secret.key, secret.reference)),
        ),
    }
}

fn judge_client_certificates(subject: &str, secrets: &[SecretCheck], now: Timestamp) -> DoctorFinding {
    let definition = &check::CLIENT_CERTIFICATE;
    let certificates: Vec<_> = secrets
        .iter()
        .filter_map(|secret| Some((secret, secret.result.as_ref().ok()?.as_ref()?)))
        .collect();
    if certificates.is_empty() {
        return not_applicable(definition, subject, "no certificate is used for signing in");
    }
    let lives: Vec<_> = certificates
        .iter()
        .filter_map(|(secret, facts)| {
            judge_life(
                &format!("{} ({})", secret.reference, secret.key),
                facts.expires_at,
                now,
            )
        })
        .collect();
    let all_well = format!(
        "{} certificates are valid for 30 days and longer",
        certificates.len()
    );
    of_entries((definition, subject), &lives, all_well)
}

#[cfg(test)]
mod tests;
