//! Judges what tasksync's own stores know about a tenant: people who are not found, pauses of the last day, accounts
//! that tenants share.

use std::collections::BTreeMap;

use jiff::Timestamp;
use tasksync_common::error::{Code, Failure};
use tasksync_common::fleet::{Member, ServerName};
use tasksync_common::registry::{Enrolment, EnrolmentState, Tenant};

use super::catalogue::tenant as check;
use super::tenant::shortened;
use super::{CheckResult, Definition, DoctorFinding, StoreProblem, ask_store};
use crate::parts::ServiceParts;

/// Users and tenants read per page, and at most.
const PAGE: u32 = 500;
const USERS: usize = 20_000;
const TENANTS: usize = 10_000;

/// A person who is not synced because one end does not know the person.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NotFound {
    person: String,
    failure: Failure,
}

/// Checks the people, pauses and accounts of a stored tenant.
pub(super) async fn examine(parts: &ServiceParts, tenant: &Tenant, subject: &str) -> Vec<DoctorFinding> {
    let (people, members, sharing) = futures::join!(
        disabled(parts, tenant),
        ask_store(parts.fleet.members()),
        tenants_sharing(parts, tenant)
    );
    let mut found = match people {
        Ok(people) => judge_people(subject, &people).to_vec(),
        Err(problem) => [&check::LOGINS_FOUND, &check::MAILBOXES_FOUND]
            .map(|definition| problem.finding(definition, subject))
            .to_vec(),
    };
    found.push(match members {
        Ok(members) => judge_throttled(subject, &ServerName::of_tenant(tenant), &members),
        Err(problem) => problem.finding(&check::THROTTLED, subject),
    });
    found.push(match sharing {
        Ok(sharing) => judge_sharing(subject, &sharing),
        Err(problem) => problem.finding(&check::SHARED_ACCOUNT, subject),
    });
    found
}

/// Returns the disabled users among the first 20,000 of the tenant.
async fn disabled(parts: &ServiceParts, tenant: &Tenant) -> Result<Vec<Enrolment>, StoreProblem> {
    let mut disabled = Vec::new();
    let (mut after, mut read) = (None, 0);
    while read < USERS {
        let page = ask_store(parts.registry.enrolments(&tenant.id, after.as_ref(), PAGE)).await?;
        read += page.len();
        let is_last = page.len() < PAGE as usize;
        after = page.last().map(|user| user.key.user.clone());
        disabled.extend(
            page.into_iter()
                .filter(|user| matches!(user.state, EnrolmentState::Disabled { .. })),
        );
        if is_last {
            break;
        }
    }
    Ok(disabled)
}

/// Returns the other tenants, among the first 10,000, that call one of the tenant's servers under the same account.
/// Each has one server as an example.
async fn tenants_sharing(
    parts: &ServiceParts,
    tenant: &Tenant,
) -> Result<BTreeMap<String, ServerName>, StoreProblem> {
    let own = ServerName::of_tenant(tenant);
    let mut sharing = BTreeMap::new();
    let (mut after, mut read) = (None, 0);
    while read < TENANTS {
        let page = ask_store(parts.registry.tenants(after.as_ref(), PAGE)).await?;
        read += page.len();
        for other in page.iter().filter(|other| other.id != tenant.id) {
            let shared = ServerName::of_tenant(other)
                .into_iter()
                .find(|server| own.contains(server));
            sharing.extend(shared.map(|server| (other.id.to_string(), server)));
        }
        after = page.last().map(|last| last.id.clone());
        if page.len() < PAGE as usize {
            break;
        }
    }
    Ok(sharing)
}

/// Judges which people are disabled because one end does not find them.
fn judge_people(subject: &str, disabled: &[Enrolment]) -> [DoctorFinding; 2] {
    let with_code = |codes: &[Code]| -> Vec<NotFound> {
        disabled
            .iter()
            .filter_map(|user| match &user.state {
                EnrolmentState::Disabled { failure, .. } if codes.contains(&failure.code) => {
                    Some((user, failure))
                }
                EnrolmentState::Disabled { .. } | EnrolmentState::Enabled => None,
            })
            .map(|(user, failure)| NotFound {
                person: format!("{} ({}, {})", user.key.user, user.source_login, user.mailbox),
                failure: failure.clone(),
            })
            .collect()
    };
    [
        of_people(
            (&check::LOGINS_FOUND, subject),
            &with_code(&[Code::SharePointUserUnknown]),
            "no user is disabled because SharePoint does not know the person",
            "people are not synced because SharePoint does not know them",
        ),
        of_people(
            (&check::MAILBOXES_FOUND, subject),
            &with_code(&[
                Code::ExchangeMailboxMissing,
                Code::ExchangeMailboxDenied,
                Code::ExchangeImpersonationDenied,
                Code::MailboxOfAnotherInstallation,
            ]),
            "no user is disabled because of a mailbox that is missing or closed",
            "people are not synced because their mailboxes are missing or closed",
        ),
    ]
}

fn of_people(
    (definition, subject): (&Definition, &str),
    people: &[NotFound],
    all_well: &str,
    problem: &str,
) -> DoctorFinding {
    if people.is_empty() {
        return DoctorFinding::new(definition, subject, CheckResult::Ok, all_well);
    }
    let explanation = format!("{} {problem}", people.len());
    DoctorFinding::new(definition, subject, CheckResult::Warning, explanation).with_information(shortened(
        people
            .iter()
            .map(|one| format!("{}: {}", one.person, one.failure)),
    ))
}

/// Judges the pauses that the running processes met within the last day.
fn judge_throttled(subject: &str, servers: &[ServerName], members: &[Member]) -> DoctorFinding {
    let throttled: Vec<(&ServerName, u64, Timestamp)> = servers
        .iter()
        .filter_map(|server| {
            let name = server.to_string();
            let reports = || {
                let all = members.iter().flat_map(|member| &member.throttled);
                all.filter(|reported| reported.name == name)
            };
            let times: u64 = reports().map(|reported| reported.times).sum();
            let last = reports().map(|reported| reported.last_at).max()?;
            (times > 0).then_some((server, times, last))
        })
        .collect();
    if throttled.is_empty() {
        return DoctorFinding::new(
            &check::THROTTLED,
            subject,
            CheckResult::Ok,
            "no running process met a pause within the last day",
        );
    }
    let times: u64 = throttled.iter().map(|(_, times, _)| times).sum();
    DoctorFinding::new(
        &check::THROTTLED,
        subject,
        CheckResult::Warning,
        format!("the tenant's servers asked the running processes for {times} pauses within the last day"),
    )
    .with_information(shortened(throttled.iter().map(|(server, times, last)| {
        format!(
            "{} ({}, as {}): {times} times, last at {last:.0}",
            server.host,
            server.service(),
            server.account
        )
    })))
}

fn judge_sharing(subject: &str, sharing: &BTreeMap<String, ServerName>) -> DoctorFinding {
    if sharing.is_empty() {
        return DoctorFinding::new(
            &check::SHARED_ACCOUNT,
            subject,
            CheckResult::Ok,
            "no other tenant uses the same server with the same account",
        );
    }
    DoctorFinding::new(
        &check::SHARED_ACCOUNT,
        subject,
        CheckResult::Warning,
        format!(
            "{} other tenants use the same server with the same account, and share its limits and pauses",
            sharing.len()
        ),
    )
    .with_information(shortened(sharing.iter().map(|(tenant, server)| {
        format!("tenant {tenant}: {} as {}", server.host, server.account)
    })))
}

#[cfg(test)]
mod tests;
