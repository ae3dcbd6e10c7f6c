//! Checks of the processes that share the work: what they must agree on, their clocks, and whether there are enough.

use std::collections::BTreeSet;

use tasksync_common::fleet::{Member, Role, differing_settings};
use tasksync_common::settings::Settings;

use super::catalogue::installation as check;
use super::tenant::shortened;
use super::{CheckResult, DoctorFinding, StoreProblem, judge_clock};
use crate::sizing;

const SUBJECT: &str = "installation";

/// Judges the processes of a fleet. `people` is the number of those who are opted in, if it is known.
pub(super) fn judge(
    settings: &Settings,
    members: &Result<Vec<Member>, StoreProblem>,
    is_shared: bool,
    people: Option<u64>,
) -> Vec<DoctorFinding> {
    let definitions = [
        &check::PROCESS_SETTINGS,
        &check::PROCESS_CLOCKS,
        &check::PROCESS_VERSIONS,
        &check::SPARE_PROCESSES,
    ];
    let mut found: Vec<DoctorFinding> = match members {
        _ if !is_shared => definitions
            .map(|definition| not_applicable(definition, "one process does everything"))
            .into(),
        Err(problem) => definitions
            .map(|definition| problem.finding(definition, SUBJECT))
            .into(),
        Ok(members) => vec![
            agreement(members),
            clocks(members),
            versions(members),
            spare(members),
        ],
    };
    let workers = match members {
        Ok(members) if is_shared => members
            .iter()
            .filter(|member| member.role != Role::Scheduler)
            .count(),
        Ok(_) | Err(_) => 1,
    };
    found.push(match (members, people) {
        (Err(problem), _) if is_shared => problem.finding(&check::WORKERS_ENOUGH, SUBJECT),
        (_, Some(people)) => enough_workers(settings, people, workers as u64),
        (_, None) => not_applicable(&check::WORKERS_ENOUGH, "the number of people is not known"),
    });
    found
}

fn not_applicable(definition: &super::Definition, reason: &str) -> DoctorFinding {
    DoctorFinding::new(definition, SUBJECT, CheckResult::NotApplicable, reason)
}

fn agreement(members: &[Member]) -> DoctorFinding {
    let differing = differing_settings(members);
    if differing.is_empty() {
        return DoctorFinding::new(
            &check::PROCESS_SETTINGS,
            SUBJECT,
            CheckResult::Ok,
            format!("{} processes have the same settings", members.len()),
        );
    }
    DoctorFinding::new(
        &check::PROCESS_SETTINGS,
        SUBJECT,
        CheckResult::Failed,
        format!("the processes differ in {} settings", differing.len()),
    )
    .with_information(differing.into_iter().map(|difference| {
        format!(
            "{}: {} differ from most processes",
            difference.key,
            shortened(difference.differing).join(", ")
        )
    }))
}

fn clocks(members: &[Member]) -> DoctorFinding {
    let offsets: Vec<(&str, jiff::SignedDuration)> = members
        .iter()
        .filter_map(|member| {
            let offset = jiff::SignedDuration::from_millis(member.clock_offset_ms?);
            Some((member.name.as_str(), offset))
        })
        .collect();
    let worst = offsets.iter().map(|(_, offset)| judge_clock(*offset)).max();
    let wrong = offsets
        .iter()
        .filter(|(_, offset)| judge_clock(*offset) != CheckResult::Ok)
        .map(|(name, offset)| format!("{name}: {:+} s", offset.as_secs()));
    match worst {
        None => not_applicable(&check::PROCESS_CLOCKS, "no process has compared its clock yet"),
        Some(CheckResult::Ok) => DoctorFinding::new(
            &check::PROCESS_CLOCKS,
            SUBJECT,
            CheckResult::Ok,
            format!("the clocks of {} processes agree with the store's", offsets.len()),
        ),
        Some(result) => DoctorFinding::new(
            &check::PROCESS_CLOCKS,
            SUBJECT,
            result,
            "clocks of processes differ from that of the schedule's store",
        )
        .with_information(shortened(wrong)),
    }
}

fn versions(members: &[Member]) -> DoctorFinding {
    let versions: BTreeSet<&str> = members.iter().map(|member| member.version.as_str()).collect();
    let named = versions.iter().copied().collect::<Vec<_>>().join(", ");
    let (result, explanation) = match versions.len() {
        0 => return not_applicable(&check::PROCESS_VERSIONS, "no process has reported"),
        1 => (CheckResult::Ok, format!("every process runs {named}")),
        _ => (CheckResult::Warning, format!("processes run {named}")),
    };
    DoctorFinding::new(&check::PROCESS_VERSIONS, SUBJECT, result, explanation)
}

fn spare(members: &[Member]) -> DoctorFinding {
    let of = |role: Role| members.iter().filter(|member| member.role == role).count();
    let (schedulers, workers) = (of(Role::Scheduler), of(Role::Worker));
    let result = if schedulers >= 2 && workers >= 2 {
        CheckResult::Ok
    } else {
        CheckResult::Warning
    };
    DoctorFinding::new(
        &check::SPARE_PROCESSES,
        SUBJECT,
        result,
        format!("schedulers: {schedulers}, workers: {workers}"),
    )
}

fn enough_workers(settings: &Settings, people: u64, workers: u64) -> DoctorFinding {
    let needed = sizing::workers(&settings.worker, &settings.schedule, people);
    let (result, explanation) = if workers >= needed {
        (
            CheckResult::Ok,
            format!("{people} people need {needed} workers, and {workers} run"),
        )
    } else {
        (
            CheckResult::Warning,
            format!("{people} people need {needed} workers, and only {workers} run"),
        )
    };
    DoctorFinding::new(&check::WORKERS_ENOUGH, SUBJECT, result, explanation)
        .with_information([sizing::ASSUMPTIONS.to_owned()])
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn member(name: &str, role: Role) -> Member {
        Member::new(name, role, Timestamp::UNIX_EPOCH)
    }

    fn fleet() -> Vec<Member> {
        vec![
            member("s1", Role::Scheduler),
            member("s2", Role::Scheduler),
            member("w1", Role::Worker),
            member("w2", Role::Worker),
        ]
    }

    fn result_of(found: &[DoctorFinding], id: &str) -> CheckResult {
        found.iter().find(|finding| finding.id == id).unwrap().result
    }

    fn judged(change: impl FnOnce(&mut Vec<Member>), people: u64) -> Vec<DoctorFinding> {
        let mut members = fleet();
        change(&mut members);
        judge(&Settings::default(), &Ok(members), true, Some(people))
    }

    #[test]
    fn each_difference_between_processes_is_named_by_its_check() {
        let well = judged(|members| members[0].clock_offset_ms = Some(10), 1_000);
        assert!(
            well.iter().all(|finding| finding.result == CheckResult::Ok),
            "{well:?}"
        );
        let seeds: [(&str, CheckResult, Vec<DoctorFinding>); 6] = [
            (
                "processes-settings",
                CheckResult::Failed,
                judged(
                    |members| {
                        for (number, member) in members.iter_mut().enumerate() {
                            let digest = u32::from(number == 3);
                            member.agreement.0.insert("guard.deletions".to_owned(), digest);
                        }
                    },
                    1,
                ),
            ),
            (
                "processes-clocks",
                CheckResult::Warning,
                judged(|members| members[2].clock_offset_ms = Some(-61_000), 1),
            ),
            (
                "processes-clocks",
                CheckResult::Failed,
                judged(|members| members[2].clock_offset_ms = Some(600_000), 1),
            ),
            (
                "processes-versions",
                CheckResult::Warning,
                judged(|members| members[1].version = "0.0.1".to_owned(), 1),
            ),
            (
                "processes-spare",
                CheckResult::Warning,
                judged(|members| drop(members.remove(0)), 1),
            ),
            ("workers-enough", CheckResult::Warning, judged(|_| {}, 1_000_000)),
        ];
        for (id, expected, found) in seeds {
            assert_eq!(result_of(&found, id), expected, "{id}: {found:?}");
        }
    }

    #[test]
    fn one_process_has_no_others_to_agree_with() {
        let found = judge(&Settings::default(), &Ok(Vec::new()), false, Some(10));
        for finding in &found[..4] {
            assert_eq!(finding.result, CheckResult::NotApplicable, "{finding:?}");
        }
        assert_eq!(result_of(&found, "workers-enough"), CheckResult::Ok);
    }
}
