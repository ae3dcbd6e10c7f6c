//! Checks of one tenant: its sites, its mailbox server (by a sample of mailboxes), its clocks, its users and its
//! alerts.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::facts::SiteCheck;
use tasksync_common::registry::Tenant;

use super::catalogue::tenant as check;
use super::mailboxes::MailboxChecks;
use super::sample::{self, SampledUser, TenantSample};
use super::servers::MailboxServerAnswer;
use super::sites::Discovery;
use super::{CheckResult, DoctorFinding, ask_store, judge_clock, people, servers, sites};
use crate::limits::DispatchLimits;
use crate::parts::ServiceParts;
use crate::pauses::{self, TenantPause};

/// Timeout for all servers of one tenant together.
const TENANT_TIMEOUT: Duration = Duration::from_secs(25);
/// Most entries listed by name; further ones are only counted.
const NAMED: usize = 5;
/// Most alerts counted.
const COUNTED: u32 = 1_000;

pub(super) async fn examine(parts: &ServiceParts, tenant: &Tenant) -> Vec<DoctorFinding> {
    let subject = format!("tenant {}", tenant.id);
    let mut found = vec![if tenant.enabled {
        DoctorFinding::new(
            &check::TENANT_ENABLED,
            &subject,
            CheckResult::Ok,
            "the tenant is enabled",
        )
    } else {
        DoctorFinding::new(
            &check::TENANT_ENABLED,
            &subject,
            CheckResult::Warning,
            "the tenant is disabled: none of its users is synced",
        )
    }];
    let (of_servers, of_stores) = futures::join!(
        examine_servers(parts, tenant, &subject),
        people::examine(parts, tenant, &subject)
    );
    found.extend(of_servers);
    found.extend(of_stores);
    found.push(match ask_store(pauses::pauses_of_tenant(parts, tenant)).await {
        Ok(pauses) => judge_pauses(&subject, &pauses),
        Err(problem) => problem.finding(&check::TENANT_PAUSES, &subject),
    });
    found.push(
        match ask_store(parts.registry.enrolment_counts(Some(&tenant.id))).await {
            Ok(counts) => match ask_store(parts.registry.oldest_success(Some(&tenant.id))).await {
                Ok(oldest) => {
                    let late_after = DispatchLimits::of(&parts.settings).late_after;
                    let late = oldest.filter(|at| {
                        Duration::try_from(parts.clock.now().duration_since(*at)).unwrap_or_default()
                            > late_after
                    });
                    judge_users(&subject, counts.enabled, counts.disabled, late)
                }
                Err(problem) => problem.finding(&check::TENANT_USERS, &subject),
            },
            Err(problem) => problem.finding(&check::TENANT_USERS, &subject),
        },
    );
    found.push(
        match ask_store(parts.registry.alerts(Some(&tenant.id), COUNTED)).await {
            Ok(alerts) if alerts.is_empty() => DoctorFinding::new(
                &check::TENANT_ALERTS,
                &subject,
                CheckResult::Ok,
                "no alert is open",
            ),
            Ok(alerts) => DoctorFinding::new(
                &check::TENANT_ALERTS,
                &subject,
                CheckResult::Warning,
                format!("{} alerts are open", alerts.len()),
            )
            .with_information(shortened(alerts.iter().map(|alert| {
                let whose = alert
                    .user
                    .as_ref()
                    .map_or_else(String::new, |user| format!("{user}: "));
                format!("{whose}{}", alert.failure)
            }))),
            Err(problem) => problem.finding(&check::TENANT_ALERTS, &subject),
        },
    );
    found
}

/// Checks the servers of a tenant, which need not be stored.
pub(super) async fn examine_servers(
    parts: &ServiceParts,
    tenant: &Tenant,
    subject: &str,
) -> Vec<DoctorFinding> {
    let checks = MailboxChecks::of(&tenant.mailbox);
    let asked = async {
        futures::join!(
            parts.checks.check_tenant(tenant),
            sample::ask(parts, tenant),
            parts.checks.facts_without_sign_in(tenant)
        )
    };
    let Ok((sites, sample, look)) = tokio::time::timeout(TENANT_TIMEOUT, asked).await else {
        return vec![DoctorFinding::new(
            &check::TENANT_ANSWERS,
            subject,
            CheckResult::Failed,
            format!(
                "the tenant's servers took longer than {} s",
                TENANT_TIMEOUT.as_secs()
            ),
        )];
    };
    let now = parts.clock.now();
    let mut found = judge_sites(subject, &sites).to_vec();
    let discovery = Discovery {
        last: look.last_discovery,
        // A tenant without changes is searched only by full checks.
        late_after: parts.settings.worker.full_check_interval * 2
            + parts.settings.schedule.discovery_interval,
    };
    found.extend(sites::judge(
        subject,
        &tenant.policy,
        &tenant.time_zone,
        &sites,
        discovery,
        now,
    ));
    let source_signed_in = sites.iter().any(|site| site.result.is_ok());
    let answer = sample
        .as_ref()
        .map_or_else(|_| MailboxServerAnswer::default(), TenantSample::answer);
    found.extend(servers::judge(
        subject,
        tenant,
        &look,
        source_signed_in,
        &answer,
        now,
    ));
    match sample {
        Ok(sample) => {
            found.extend(sample::judge(subject, &checks, &sample));
            found.push(judge_clocks(
                subject,
                tenant.mailbox.product(),
                &sites,
                sample.users(),
            ));
        }
        Err(problem) => found.push(problem.finding(checks.server, subject)),
    }
    found
}

fn judge_sites(subject: &str, sites: &[SiteCheck]) -> [DoctorFinding; 3] {
    let refused: Vec<_> = sites
        .iter()
        .filter_map(|site| site.result.as_ref().err().map(|failure| (&site.site, failure)))
        .collect();
    let open: Vec<_> = sites
        .iter()
        .filter_map(|site| site.result.as_ref().ok().map(|facts| (&site.site, facts)))
        .collect();
    let reached = match refused.first() {
        None => DoctorFinding::new(
            &check::SITES,
            subject,
            CheckResult::Ok,
            format!("{} sites answered", open.len()),
        )
        .with_information(shortened(
            open.iter()
                .map(|(site, facts)| format!("{site} ({})", facts.title)),
        )),
        Some((_, first)) => DoctorFinding::of_failure(&check::SITES, subject, first).with_information(
            shortened(refused.iter().map(|(site, failure)| format!("{site}: {failure}"))),
        ),
    };
    if open.is_empty() {
        let unknown = |definition| {
            DoctorFinding::new(
                definition,
                subject,
                CheckResult::NotApplicable,
                "cannot be known while no site answers",
            )
        };
        return [reached, unknown(&check::SITES_EDIT), unknown(&check::SITES_LISTS)];
    }
    let read_only: Vec<_> = open
        .iter()
        .filter(|(_, facts)| !facts.may_edit)
        .map(|(site, _)| (*site).clone())
        .collect();
    let edit = if read_only.is_empty() {
        DoctorFinding::new(
            &check::SITES_EDIT,
            subject,
            CheckResult::Ok,
            "the service account may edit on every site that answered",
        )
    } else {
        DoctorFinding::new(
            &check::SITES_EDIT,
            subject,
            CheckResult::Failed,
            format!("the service account may only read on {} sites", read_only.len()),
        )
        .with_information(shortened(read_only))
    };
    let lists: usize = open.iter().map(|(_, facts)| facts.lists).sum();
    let lists = DoctorFinding::new(
        &check::SITES_LISTS,
        subject,
        if lists == 0 {
            CheckResult::Warning
        } else {
            CheckResult::Ok
        },
        format!("{lists} task lists were found"),
    );
    [reached, edit, lists]
}

fn judge_clocks(
    subject: &str,
    mailboxes: &str,
    sites: &[SiteCheck],
    sample: &[SampledUser],
) -> DoctorFinding {
    let clocks: Vec<(String, Option<SignedDuration>)> = sites
        .iter()
        .filter_map(|site| Some((site.site.clone(), site.result.as_ref().ok()?.clock_offset)))
        .chain(sample.iter().filter_map(|one| {
            Some((
                format!("{mailboxes}, asked for {}", one.user.mailbox),
                one.found.mailbox.as_ref().ok()?.clock_offset,
            ))
        }))
        .collect();
    let offsets = || clocks.iter().filter_map(|(_, offset)| *offset);
    let worst = offsets().max_by_key(|offset| offset.unsigned_abs());
    let unknown = clocks.iter().filter(|(_, offset)| offset.is_none()).count();
    let (result, explanation) = match (worst, unknown) {
        (None, 0) => (
            CheckResult::NotApplicable,
            "cannot be known while no server answers".to_owned(),
        ),
        (None, _) => (
            CheckResult::Warning,
            "unknown: no server reports its time; edits within five minutes of each other count as made at the same time"
                .to_owned(),
        ),
        (Some(worst), unknown) => {
            let differ = format!("the clocks differ by up to {} s", worst.unsigned_abs().as_secs());
            if unknown == 0 {
                (judge_clock(worst), differ)
            } else {
                let result = judge_clock(worst).max(CheckResult::Warning);
                (result, format!("{differ}; {unknown} servers do not report their time"))
            }
        }
    };
    DoctorFinding::new(&check::TENANT_CLOCK, subject, result, explanation).with_information(shortened(
        clocks.iter().filter_map(|(server, offset)| match offset {
            None => Some(format!("{server}: unknown")),
            Some(offset) if judge_clock(*offset) == CheckResult::Ok => None,
            Some(offset) => Some(format!("{server}: {} s ahead of this machine", offset.as_secs())),
        }),
    ))
}

fn judge_pauses(subject: &str, pauses: &[TenantPause]) -> DoctorFinding {
    if pauses.is_empty() {
        return DoctorFinding::new(
            &check::TENANT_PAUSES,
            subject,
            CheckResult::Ok,
            "no server of the tenant is paused",
        );
    }
    let unknown = || "unknown".to_owned();
    DoctorFinding::new(
        &check::TENANT_PAUSES,
        subject,
        CheckResult::Warning,
        format!("{} servers of the tenant are paused", pauses.len()),
    )
    .with_information(shortened(pauses.iter().map(|pause| {
        format!(
            "{} ({}, as {}): paused since {} until {:.0}; reason: {}",
            pause.server,
            pause.service,
            pause.account,
            pause.since.map_or_else(unknown, |since| format!("{since:.0}")),
            pause.until,
            pause.why.clone().unwrap_or_else(unknown),
        )
    })))
}

/// Judges the numbers of users. `late` is the oldest last success if it is too long ago; for a user who was never
/// synced, the opt-in's time counts.
fn judge_users(subject: &str, enabled: u64, disabled: u64, late: Option<Timestamp>) -> DoctorFinding {
    let (result, explanation) = match (enabled, disabled, late) {
        (0, 0, _) => (CheckResult::Warning, "no user is opted in".to_owned()),
        (enabled, disabled, Some(since)) => (
            CheckResult::Warning,
            format!(
                "{disabled} users are disabled, {enabled} are enabled, and not all of these are synced: the oldest success is of \
                 {since}; `tasksync user list` shows the reasons"
            ),
        ),
        (enabled, 0, None) => (CheckResult::Ok, format!("{enabled} users are synced")),
        (enabled, disabled, None) => (
            CheckResult::Warning,
            format!("{disabled} users are disabled, {enabled} are synced"),
        ),
    };
    DoctorFinding::new(&check::TENANT_USERS, subject, result, explanation)
}

/// Returns the first [`NAMED`] entries, and how many more there are.
pub(super) fn shortened(entries: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut entries: Vec<_> = entries.into_iter().collect();
    if entries.len() > NAMED {
        let more = entries.len() - NAMED;
        entries.truncate(NAMED);
        entries.push(format!("and {more} more"));
    }
    entries
}

#[cfg(test)]
mod tests {
    use tasksync_common::error::{Code, ErrorClass, Failure};

    use super::super::mailboxes::{EXCHANGE, judge_sample};
    use super::*;
    use tasksync_common::facts::SiteFacts;

    fn site(name: &str, may_edit: bool, offset: impl Into<Option<i64>>) -> SiteCheck {
        SiteCheck {
            site: name.to_owned(),
            result: Ok(SiteFacts {
                title: "Projects".to_owned(),
                lists: 1,
                may_edit,
                clock_offset: offset.into().map(SignedDuration::from_secs),
                ..SiteFacts::default()
            }),
        }
    }

    #[test]
    fn a_site_that_refuses_is_failed_with_the_catalogues_solution() {
        let refused = SiteCheck {
            site: "https://b".to_owned(),
            result: Err(Failure::new(
                ErrorClass::Refused,
                Code::SharePointSignInRefused,
                "401",
            )),
        };
        let [reached, edit, lists] = judge_sites("tenant t", &[site("https://a", true, 0), refused.clone()]);
        assert_eq!(reached.result, CheckResult::Failed);
        assert_eq!(reached.solution, Code::SharePointSignInRefused.action());
        assert!(
            reached
                .additional_information
                .iter()
                .any(|line| line.starts_with("https://b"))
        );
        assert_eq!((edit.result, lists.result), (CheckResult::Ok, CheckResult::Ok));
        let [_, edit, lists] = judge_sites("tenant t", &[refused]);
        assert_eq!(
            (edit.result, lists.result),
            (CheckResult::NotApplicable, CheckResult::NotApplicable)
        );
        let [_, edit, _] = judge_sites("tenant t", &[site("https://a", false, 0)]);
        assert_eq!(edit.result, CheckResult::Failed);
    }

    #[test]
    fn the_worst_clock_decides() {
        let sites = [site("https://a", true, 2), site("https://b", true, -400)];
        let finding = judge_clocks("tenant t", "Exchange", &sites, &[]);
        assert_eq!(finding.result, CheckResult::Failed);
        assert_eq!(finding.additional_information.len(), 1);
        assert_eq!(
            judge_clocks("tenant t", "Exchange", &[], &[]).result,
            CheckResult::NotApplicable
        );
    }

    #[test]
    fn a_clock_that_was_never_measured_is_unknown_and_not_zero() {
        let silent = site("https://a", true, None);
        let finding = judge_clocks("tenant t", "Exchange", std::slice::from_ref(&silent), &[]);
        assert_eq!(finding.result, CheckResult::Warning);
        assert!(
            finding.explanation.starts_with("unknown"),
            "{}",
            finding.explanation
        );
        assert_eq!(finding.additional_information, ["https://a: unknown"]);
        let finding = judge_clocks(
            "tenant t",
            "Exchange",
            &[silent.clone(), site("https://b", true, 2)],
            &[],
        );
        assert_eq!(finding.result, CheckResult::Warning);
        assert!(
            finding.explanation.contains("up to 2 s; 1 servers"),
            "{}",
            finding.explanation
        );
        let finding = judge_clocks(
            "tenant t",
            "Exchange",
            &[silent, site("https://b", true, 400)],
            &[],
        );
        assert_eq!(finding.result, CheckResult::Failed);
    }

    #[test]
    fn a_tenant_without_people_is_not_a_silent_pass() {
        assert!(
            judge_sample("tenant t", &EXCHANGE, &[])
                .iter()
                .all(|found| found.result == CheckResult::NotApplicable)
        );
        assert_eq!(judge_users("tenant t", 0, 0, None).result, CheckResult::Warning);
        assert_eq!(judge_users("tenant t", 5, 1, None).result, CheckResult::Warning);
        assert_eq!(judge_users("tenant t", 5, 0, None).result, CheckResult::Ok);
        let late = judge_users("tenant t", 5, 0, Some(Timestamp::UNIX_EPOCH));
        assert_eq!(late.result, CheckResult::Warning);
    }
}
