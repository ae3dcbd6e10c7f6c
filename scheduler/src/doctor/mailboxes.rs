//! Checks of a tenant's servers by a sample of its users and their mailboxes.

use std::collections::BTreeSet;

use tasksync_common::error::Code;
use tasksync_common::facts::MailboxKind;
use tasksync_common::registry::MailboxConnection;

use super::catalogue::tenant as check;
use super::sample::SampledUser;
use super::{CheckResult, Definition, DoctorFinding};

/// The checks of the server that holds the tenant's mailboxes.
pub(super) struct MailboxChecks {
    pub(super) server: &'static Definition,
    access: &'static Definition,
    idle_check: &'static Definition,
    kind: &'static Definition,
}

pub(super) const EXCHANGE: MailboxChecks = MailboxChecks {
    server: &check::MAILBOX,
    access: &check::MAILBOX_ACCESS,
    idle_check: &check::IDLE_CHECK,
    kind: &check::MAILBOX_KIND,
};

impl MailboxChecks {
    pub(super) fn of(mailbox: &MailboxConnection) -> Self {
        match mailbox {
            MailboxConnection::Ews { .. } => EXCHANGE,
        }
    }

    /// Returns the check that needs a mailbox's address, with the reason why it was not made.
    pub(super) fn kind_not_applicable(&self, subject: &str, reason: &str) -> DoctorFinding {
        DoctorFinding::new(self.kind, subject, CheckResult::NotApplicable, reason)
    }

    /// Returns the checks that need an opened mailbox, with the reason why they were not made.
    pub(super) fn not_applicable(&self, subject: &str, reason: &str) -> [DoctorFinding; 2] {
        [self.access, self.idle_check]
            .map(|definition| DoctorFinding::new(definition, subject, CheckResult::NotApplicable, reason))
    }
}

pub(super) fn judge_sample(
    subject: &str,
    checks: &MailboxChecks,
    sample: &[SampledUser],
) -> Vec<DoctorFinding> {
    let all = [
        &check::PEOPLE,
        checks.server,
        checks.access,
        checks.idle_check,
        checks.kind,
    ];
    if sample.is_empty() {
        return all
            .iter()
            .map(|definition| {
                DoctorFinding::new(
                    definition,
                    subject,
                    CheckResult::NotApplicable,
                    "no user is opted in, so there is no mailbox and no person to check",
                )
            })
            .collect();
    }
    let closed: Vec<_> = sample
        .iter()
        .filter_map(|one| one.found.mailbox.as_ref().err().map(|failure| (one, failure)))
        .collect();
    let open: Vec<_> = sample
        .iter()
        .filter_map(|one| one.found.mailbox.as_ref().ok().map(|facts| (one, facts)))
        .collect();
    let mailbox = match closed.first() {
        None => DoctorFinding::new(
            checks.server,
            subject,
            CheckResult::Ok,
            format!("{} mailboxes were opened", open.len()),
        ),
        Some((_, first)) => DoctorFinding::of_failure(checks.server, subject, first).with_information(
            closed
                .iter()
                .map(|(one, failure)| format!("{}: {failure}", one.user.mailbox)),
        ),
    }
    .with_information(open.first().map(|(_, facts)| facts.version.clone()));
    let kinds = judge_kinds((checks.kind, subject), sample);
    let mut found = vec![judge_people(subject, sample), mailbox];
    if open.is_empty() {
        found.extend(checks.not_applicable(subject, "cannot be known while no mailbox opens"));
        found.push(kinds);
        return found;
    }
    let ways: BTreeSet<_> = open.iter().map(|(_, facts)| facts.access.as_str()).collect();
    let ways: Vec<_> = ways.into_iter().collect();
    found.push(DoctorFinding::new(
        checks.access,
        subject,
        if ways.len() == 1 && open.iter().all(|(_, facts)| facts.shares_requests) {
            CheckResult::Ok
        } else {
            CheckResult::Warning
        },
        format!("mailboxes are opened by {}", ways.join(" and ")),
    ));
    let without: Vec<_> = open
        .iter()
        .filter(|(_, facts)| !facts.idle_check)
        .map(|(one, _)| one.user.mailbox.to_string())
        .collect();
    found.push(if without.is_empty() {
        DoctorFinding::new(
            checks.idle_check,
            subject,
            CheckResult::Ok,
            "the server shows changes in folder properties",
        )
    } else {
        DoctorFinding::new(
            checks.idle_check,
            subject,
            CheckResult::Warning,
            format!(
                "the server does not return the folder properties for {} of {} mailboxes",
                without.len(),
                open.len()
            ),
        )
        .with_information(without)
    });
    found.push(kinds);
    found
}

/// Returns whether the addresses of the sample are those of mailboxes.
fn judge_kinds((definition, subject): (&Definition, &str), sample: &[SampledUser]) -> DoctorFinding {
    let others: Vec<_> = sample
        .iter()
        .filter_map(|one| {
            let kind = match one.kind {
                MailboxKind::Mailbox | MailboxKind::Unknown => return None,
                MailboxKind::DistributionList => "a distribution list",
                MailboxKind::Contact => "a contact, whose mailbox is elsewhere",
                MailboxKind::PublicFolder => "a public folder",
                MailboxKind::Group => "the mailbox of a group",
                MailboxKind::NotListed => "not in the directory",
            };
            Some(format!("{} is {kind}", one.user.mailbox))
        })
        .collect();
    if let Some(first) = others.first() {
        return DoctorFinding::new(definition, subject, CheckResult::Warning, first.clone())
            .with_information(others.into_iter().skip(1));
    }
    let known = sample
        .iter()
        .filter(|one| one.kind == MailboxKind::Mailbox)
        .count();
    if known == 0 {
        let reason = "the server's directory did not say what the addresses are";
        return DoctorFinding::new(definition, subject, CheckResult::NotApplicable, reason);
    }
    DoctorFinding::new(
        definition,
        subject,
        CheckResult::Ok,
        format!("{known} addresses are those of mailboxes"),
    )
}

/// Returns whether the source knows the people of the sample.
fn judge_people(subject: &str, sample: &[SampledUser]) -> DoctorFinding {
    let unknown: Vec<_> = sample
        .iter()
        .filter_map(|one| one.found.person.as_ref().err().map(|failure| (one, failure)))
        .collect();
    match unknown.first() {
        None => DoctorFinding::new(
            &check::PEOPLE,
            subject,
            CheckResult::Ok,
            format!("{} people are known", sample.len()),
        ),
        Some((_, first)) => {
            // A person whom the site has not met yet is added by the first sync. Only a failure to ask is the site's.
            let failed = unknown
                .iter()
                .map(|(_, failure)| *failure)
                .find(|failure| failure.code != Code::SharePointUserUnknown);
            let finding = match failed {
                Some(failure) => DoctorFinding::of_failure(&check::PEOPLE, subject, failure),
                None => DoctorFinding::new(
                    &check::PEOPLE,
                    subject,
                    CheckResult::Warning,
                    format!(
                        "the sites do not know {} of {} people yet: {first}",
                        unknown.len(),
                        sample.len()
                    ),
                ),
            };
            finding.with_information(unknown.iter().map(|(one, failure)| {
                format!("{} as {}: {failure}", one.user.key.user, one.user.source_login)
            }))
        }
    }
}
