//! Judges what the sites report beyond whether they answer: rights, lists, discovery, time zones.

use std::time::Duration;

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::facts::{SiteCheck, SiteFacts, SiteRights};
use tasksync_common::model::zone_named;
use tasksync_common::plan::{DeletionPolicy, Policy};

use super::catalogue::tenant as check;
use super::tenant::shortened;
use super::{CheckResult, Definition, DoctorFinding};

/// SharePoint's list view threshold: queries that touch more items may be refused.
const LARGE_LIST: u64 = 5_000;
/// The time after which a zone with daylight saving time has its other offset.
const HALF_A_YEAR: SignedDuration = SignedDuration::from_hours(182 * 24);

/// When syncs last searched for task lists with success, as far as this process knows, and when that is too long ago.
#[derive(Debug, Clone, Copy)]
pub(super) struct Discovery {
    pub(super) last: Option<Timestamp>,
    pub(super) late_after: Duration,
}

/// Judges every site that answers. `policy` and `zone` are the tenant's.
pub(super) fn judge(
    subject: &str,
    policy: &Policy,
    zone: &str,
    sites: &[SiteCheck],
    discovery: Discovery,
    now: Timestamp,
) -> Vec<DoctorFinding> {
    let open: Vec<(&str, &SiteFacts)> = sites
        .iter()
        .filter_map(|site| Some((site.site.as_str(), site.result.as_ref().ok()?)))
        .collect();
    if open.is_empty() {
        let all = [
            &check::SOURCE_DELETE,
            &check::SOURCE_PEOPLE_RIGHTS,
            &check::SOURCE_TOO_MUCH,
            &check::SOURCE_DISCOVERY,
            &check::SOURCE_LARGE_LISTS,
            &check::SOURCE_APPROVAL,
            &check::SOURCE_ZONE,
            &check::ZONES_AGREE,
        ];
        return all
            .map(|definition| not_applicable(definition, subject, "cannot be known while no site answers"))
            .to_vec();
    }
    let mut found = judge_rights(subject, policy, &open);
    found.extend([
        judge_discovery(subject, &open, discovery, now),
        judge_large_lists(subject, &open),
        judge_approval(subject, &open),
        judge_zones(subject, &open),
        judge_zones_agree(subject, zone, &open, now),
    ]);
    found
}

fn not_applicable(definition: &Definition, subject: &str, reason: &str) -> DoctorFinding {
    DoctorFinding::new(definition, subject, CheckResult::NotApplicable, reason)
}

/// Returns `ok` with `all_well` if there are no entries, otherwise `result` with `problem` and the entries.
fn of_entries(
    (definition, subject): (&Definition, &str),
    entries: Vec<String>,
    all_well: impl Into<String>,
    result: CheckResult,
    problem: impl Into<String>,
) -> DoctorFinding {
    if entries.is_empty() {
        return DoctorFinding::new(definition, subject, CheckResult::Ok, all_well);
    }
    DoctorFinding::new(definition, subject, result, problem).with_information(shortened(entries))
}

fn judge_rights(subject: &str, policy: &Policy, open: &[(&str, &SiteFacts)]) -> Vec<DoctorFinding> {
    let known: Vec<(&str, &SiteRights)> = open
        .iter()
        .filter_map(|(site, facts)| Some((*site, facts.rights.as_ref()?)))
        .collect();
    if known.is_empty() {
        return [
            &check::SOURCE_DELETE,
            &check::SOURCE_PEOPLE_RIGHTS,
            &check::SOURCE_TOO_MUCH,
        ]
        .map(|definition| not_applicable(definition, subject, "no site reported the account's rights"))
        .to_vec();
    }
    let sites_without = |has: fn(&SiteRights) -> bool| -> Vec<String> {
        let lacking = known.iter().filter(|(_, rights)| !has(rights));
        lacking.map(|(site, _)| (*site).to_owned()).collect()
    };
    let delete = match policy.mailbox_deletions {
        DeletionPolicy::Complete | DeletionPolicy::Ignore => not_applicable(
            &check::SOURCE_DELETE,
            subject,
            "the tenant's policy deletes nothing at the source",
        ),
        DeletionPolicy::Propagate => of_entries(
            (&check::SOURCE_DELETE, subject),
            sites_without(|rights| rights.may_delete),
            "the service account may delete tasks on every site that answered",
            CheckResult::Failed,
            "the service account may not delete tasks, so tasks that people delete in Outlook come back",
        ),
    };
    let ask = of_entries(
        (&check::SOURCE_PEOPLE_RIGHTS, subject),
        sites_without(|rights| rights.may_ask_about_people),
        "the service account has Enumerate Permissions on every site that answered",
        CheckResult::Warning,
        "the service account lacks Enumerate Permissions",
    );
    let mut too_much: Vec<String> = known
        .iter()
        .filter(|(_, rights)| rights.administrator == Some(true))
        .map(|(site, _)| format!("{site}: site collection administrator"))
        .collect();
    too_much.extend(
        known
            .iter()
            .filter(|(_, rights)| !rights.not_needed.is_empty())
            .map(|(site, rights)| format!("{site}: {}", rights.not_needed.join(", "))),
    );
    let is_administrator = known.iter().any(|(_, rights)| rights.administrator == Some(true));
    let problem = if is_administrator {
        "the service account administers a site collection, which no sync needs"
    } else {
        "the service account has rights that no sync needs"
    };
    let too_much = of_entries(
        (&check::SOURCE_TOO_MUCH, subject),
        too_much,
        "the service account has no more rights than it needs",
        CheckResult::Warning,
        problem,
    );
    vec![delete, ask, too_much]
}

fn judge_discovery(
    subject: &str,
    open: &[(&str, &SiteFacts)],
    discovery: Discovery,
    now: Timestamp,
) -> DoctorFinding {
    let lists: usize = open.iter().map(|(_, facts)| facts.lists).sum();
    let left_out: Vec<String> = open
        .iter()
        .flat_map(|(site, facts)| facts.left_out.iter().map(move |what| format!("{site}: {what}")))
        .collect();
    let finding = (&check::SOURCE_DISCOVERY, subject);
    let last = match discovery.last {
        Some(last) => format!("the syncs' last search that succeeded was at {last:.0}"),
        None => "no sync of this process has searched yet".to_owned(),
    };
    let is_late = discovery.last.is_some_and(|last| {
        let age = Duration::try_from(now.duration_since(last)).unwrap_or_default();
        age > discovery.late_after
    });
    if left_out.is_empty() && is_late {
        let explanation = format!("the search of just now saw everything, but {last}");
        return DoctorFinding::new(finding.0, subject, CheckResult::Warning, explanation);
    }
    let problem = format!(
        "the search of just now left out {} lists or webs; {last}",
        left_out.len()
    );
    of_entries(
        finding,
        left_out,
        format!("the search of just now saw everything: {lists} task lists; {last}"),
        CheckResult::Warning,
        problem,
    )
}

fn judge_large_lists(subject: &str, open: &[(&str, &SiteFacts)]) -> DoctorFinding {
    let lists = || open.iter().flat_map(|(_, facts)| &facts.task_lists);
    let Some(largest) = lists().map(|list| list.items).max() else {
        return not_applicable(
            &check::SOURCE_LARGE_LISTS,
            subject,
            "no task list reported its size",
        );
    };
    let large: Vec<String> = lists()
        .filter(|list| list.items > LARGE_LIST)
        .map(|list| format!("{}: {} items", list.name, list.items))
        .collect();
    let problem = format!("{} task lists have more than {LARGE_LIST} items", large.len());
    of_entries(
        (&check::SOURCE_LARGE_LISTS, subject),
        large,
        format!("the largest task list has {largest} items"),
        CheckResult::Warning,
        problem,
    )
}

fn judge_approval(subject: &str, open: &[(&str, &SiteFacts)]) -> DoctorFinding {
    let lists = || open.iter().flat_map(|(_, facts)| &facts.task_lists);
    if lists().next().is_none() {
        return not_applicable(
            &check::SOURCE_APPROVAL,
            subject,
            "no task list reported its settings",
        );
    }
    let approved: Vec<String> = lists()
        .filter(|list| list.needs_approval)
        .map(|list| list.name.clone())
        .collect();
    let problem = format!(
        "{} task lists have content approval: edits wait for a person",
        approved.len()
    );
    of_entries(
        (&check::SOURCE_APPROVAL, subject),
        approved,
        "no task list has content approval",
        CheckResult::Warning,
        problem,
    )
}

fn judge_zones(subject: &str, open: &[(&str, &SiteFacts)]) -> DoctorFinding {
    let without: Vec<String> = open
        .iter()
        .flat_map(|(_, facts)| facts.webs_without_zone.clone())
        .collect();
    let known: usize = open.iter().map(|(_, facts)| facts.zones.len()).sum();
    if known == 0 && without.is_empty() {
        return not_applicable(&check::SOURCE_ZONE, subject, "no web with task lists was found");
    }
    let problem = format!("the time zones of {} webs cannot be read", without.len());
    of_entries(
        (&check::SOURCE_ZONE, subject),
        without,
        format!("the time zones of {known} webs are known"),
        CheckResult::Failed,
        problem,
    )
}

fn judge_zones_agree(
    subject: &str,
    zone: &str,
    open: &[(&str, &SiteFacts)],
    now: Timestamp,
) -> DoctorFinding {
    let definition = &check::ZONES_AGREE;
    let Some(known) = zone_named(zone) else {
        let text = format!("the tenant's time zone \"{zone}\" is not known; dates are those of UTC");
        return DoctorFinding::new(definition, subject, CheckResult::Failed, text);
    };
    let later = now.checked_add(HALF_A_YEAR).unwrap_or(now);
    let mut own: [Offset; 2] = [known.to_offset(now), known.to_offset(later)];
    own.sort();
    let zones = || open.iter().flat_map(|(_, facts)| &facts.zones);
    if zones().next().is_none() {
        return not_applicable(definition, subject, "no site reported its time zone");
    }
    let others: Vec<String> = zones()
        .filter(|site| site.offsets != own)
        .map(|site| format!("{} is in {}", site.web, site.name))
        .collect();
    of_entries(
        (definition, subject),
        others,
        format!("the tenant and its sites are in {zone}, or in zones with the same times"),
        CheckResult::Warning,
        format!("the tenant is in {zone}, and sites are in other zones"),
    )
}

#[cfg(test)]
mod tests;
