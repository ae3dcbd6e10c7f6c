//! Checks of the installation itself: settings, stores, leader, workers, capacity, freshness, clock.

use jiff::{SignedDuration, Timestamp};
use tasksync_common::queue::{QueueDepth, QueueName};
use tasksync_common::schedule::Summary;
use tasksync_common::settings::Settings;

use super::catalogue::installation as check;
use super::{CheckResult, DoctorFinding, StoreProblem, ask_store, care, judge_clock, processes};
use crate::load::Load;
use crate::parts::{LeadershipStatus, ServiceParts};

const SUBJECT: &str = "installation";
/// Most alerts counted.
const COUNTED: u32 = 1_000;
/// Most dead letters whose reasons are shown.
const DEAD_LETTERS_SHOWN: usize = 3;
/// Most tenants whose sizes count for the capacity.
const TENANTS_COUNTED: u32 = 10_000;

pub(super) async fn examine(parts: &ServiceParts) -> Vec<DoctorFinding> {
    let mut found = settings(&parts.settings);
    found.push(match ask_store(parts.registry.check_writable()).await {
        Ok(()) => ok(
            &check::REGISTRY,
            format!("{} accepted a write", kind(&parts.settings.registry.url)),
        ),
        Err(problem) => problem.finding(&check::REGISTRY, SUBJECT),
    });
    let schedule_now = ask_store(parts.schedule.now()).await;
    found.push(match &schedule_now {
        Ok(_) => ok(
            &check::SCHEDULE,
            format!("{} answered", kind(&parts.settings.schedule.url)),
        ),
        Err(problem) => problem.finding(&check::SCHEDULE, SUBJECT),
    });
    found.push(match ask_store(parts.leadership()).await {
        Ok(leadership) => leader(&leadership),
        Err(problem) => problem.finding(&check::LEADER, SUBJECT),
    });
    found.extend(queues(parts).await);
    let largest = ask_store(parts.registry.active_tenants(None, TENANTS_COUNTED)).await;
    found.push(match largest {
        Ok(tenants) => {
            let users = || tenants.iter().map(|(_, members)| members.users);
            let (users, largest) = (users().sum(), users().max().unwrap_or(0));
            capacity(&parts.settings, tenants.len() as u64, users, largest)
        }
        Err(problem) => problem.finding(&check::CAPACITY, SUBJECT),
    });
    let counts = ask_store(parts.registry.enrolment_counts(None)).await;
    let people = counts.as_ref().ok().map(|counts| counts.enabled);
    let members = ask_store(parts.fleet.members()).await;
    found.extend(processes::judge(
        &parts.settings,
        &members,
        parts.fleet.is_shared(),
        people,
    ));
    found.push(match ask_store(parts.schedule.summary(None)).await {
        Ok(summary) => freshness(&parts.settings, &summary),
        Err(problem) => problem.finding(&check::FRESHNESS, SUBJECT),
    });
    found.push(clock(parts.clock.now(), &schedule_now));
    found.push(match ask_store(parts.registry.alerts(None, COUNTED)).await {
        Ok(alerts) if alerts.is_empty() => ok(&check::ALERTS, "no alert is open"),
        Ok(alerts) => warning(&check::ALERTS, format!("{} alerts are open", alerts.len())),
        Err(problem) => problem.finding(&check::ALERTS, SUBJECT),
    });
    let now = parts.clock.now();
    let last_backup = ask_store(parts.registry.last_backup()).await;
    let all_people = counts
        .as_ref()
        .ok()
        .map(|counts| counts.enabled + counts.disabled);
    found.push(care::judge_backup(last_backup, all_people, now));
    found.push(care::judge_move(ask_store(parts.registry.moved_away()).await));
    found.push(care::judge_people(counts));
    found.extend(care::judge_settings(&parts.settings, now));
    found
}

fn ok(definition: &super::Definition, explanation: impl Into<String>) -> DoctorFinding {
    DoctorFinding::new(definition, SUBJECT, CheckResult::Ok, explanation)
}

/// Returns the kind of store that a URL names. The rest of the URL may have a password.
fn kind(url: &str) -> &str {
    url.split(':').next().unwrap_or_default()
}

fn warning(definition: &super::Definition, explanation: impl Into<String>) -> DoctorFinding {
    DoctorFinding::new(definition, SUBJECT, CheckResult::Warning, explanation)
}

fn settings(settings: &Settings) -> Vec<DoctorFinding> {
    let mut found = vec![match tasksync_common::settings::check(settings) {
        Ok(()) => ok(
            &check::SETTINGS,
            "the deadlines nest and every number is inside its bounds",
        ),
        Err(error) => DoctorFinding::new(&check::SETTINGS, SUBJECT, CheckResult::Failed, error.to_string()),
    }];
    found.push(if settings.schedule.top_up_interval.is_zero() {
        warning(
            &check::TOP_UP,
            format!(
                "schedule.top_up_interval is 0: workers that finish early wait for the next run, up to {} s",
                settings.schedule.run_interval.as_secs()
            ),
        )
    } else {
        ok(
            &check::TOP_UP,
            format!(
                "the leader checks every {} ms whether workers want more jobs",
                settings.schedule.top_up_interval.as_millis()
            ),
        )
    });
    found.push(if settings.outbound.allow_plain_http {
        warning(
            &check::PLAIN_HTTP,
            "outbound.allow_plain_http is set: tenants may have http:// addresses, whose traffic can be read on the network",
        )
    } else {
        ok(&check::PLAIN_HTTP, "only https:// addresses are called")
    });
    found
}

fn leader(leadership: &LeadershipStatus) -> DoctorFinding {
    match leadership {
        LeadershipStatus::Leading { epoch, .. } => ok(
            &check::LEADER,
            format!("this process leads, leadership number {epoch}"),
        ),
        LeadershipStatus::NotHere { holder } => ok(&check::LEADER, format!("{holder} leads")),
        LeadershipStatus::Nobody => DoctorFinding::new(
            &check::LEADER,
            SUBJECT,
            CheckResult::Failed,
            "no process leads: the schedule's store was not asked yet or did not answer",
        ),
    }
}

async fn queues(parts: &ServiceParts) -> Vec<DoctorFinding> {
    let background = ask_store(parts.queue.depth(QueueName::Background)).await;
    let interactive = ask_store(parts.queue.depth(QueueName::Interactive)).await;
    let mut found = Vec::new();
    match (background, interactive) {
        (Ok(background), Ok(interactive)) => {
            found.push(ok(
                &check::QUEUE,
                match background.unacknowledged.zip(interactive.unacknowledged) {
                    Some((one, other)) => format!(
                        "{} jobs wait, {} are being worked on",
                        background.ready + interactive.ready,
                        one + other
                    ),
                    None => format!("{} jobs wait", background.ready + interactive.ready),
                },
            ));
            found.push(if parts.fleet.is_shared() {
                match ask_store(parts.fleet.members()).await {
                    Ok(members) => live_workers(&Load::of(&members)),
                    Err(problem) => problem.finding(&check::WORKERS, SUBJECT),
                }
            } else {
                workers(background, interactive)
            });
        }
        (Err(problem), _) | (_, Err(problem)) => {
            found.push(problem.finding(&check::QUEUE, SUBJECT));
            found.push(DoctorFinding::new(
                &check::WORKERS,
                SUBJECT,
                CheckResult::NotApplicable,
                "cannot be known while the queue does not answer",
            ));
        }
    }
    let letters = async {
        let count = parts.queue.dead_letter_count().await?;
        let first = if count == 0 {
            Vec::new()
        } else {
            parts.queue.dead_letters(DEAD_LETTERS_SHOWN).await?
        };
        Ok((count, first))
    };
    found.push(match ask_store(letters).await {
        Ok((0, _)) => ok(&check::DEAD_LETTERS, "there are no dead letters"),
        Ok((count, first)) => warning(&check::DEAD_LETTERS, format!("there are {count} dead letters"))
            .with_information(first.into_iter().map(|letter| letter.reason)),
        Err(problem) => problem.finding(&check::DEAD_LETTERS, SUBJECT),
    });
    found
}

/// Judges by the heartbeats of all processes whether there are workers.
fn live_workers(load: &Load) -> DoctorFinding {
    if load.workers > 0 {
        ok(
            &check::WORKERS,
            format!(
                "{} workers are alive and would take {} more jobs",
                load.workers,
                load.background.free + load.interactive.free
            ),
        )
    } else {
        DoctorFinding::new(
            &check::WORKERS,
            SUBJECT,
            CheckResult::Failed,
            "no live worker has reported",
        )
    }
}

/// Judges by the queues' depths whether there are workers: by the jobs they would take now and those they have.
fn workers(background: QueueDepth, interactive: QueueDepth) -> DoctorFinding {
    let taken = |depth: QueueDepth| depth.unacknowledged.unwrap_or(0);
    let (wanted, taken) = (
        background.wanted + interactive.wanted,
        taken(background) + taken(interactive),
    );
    if wanted + taken > 0 {
        ok(
            &check::WORKERS,
            format!("workers have {taken} jobs and would take {wanted} more"),
        )
    } else {
        DoctorFinding::new(
            &check::WORKERS,
            SUBJECT,
            CheckResult::Failed,
            "no worker has a job, and none would take one",
        )
    }
}

/// Compares the settings' caps with the number of users: all must get a turn within
/// `maximum_time_between_user_syncs`.
///
/// Without top-up, the caps limit what one run sends. With top-up, the leader acts whenever workers want more, so
/// that they only limit one look.
fn capacity(settings: &Settings, tenants: u64, users: u64, largest: u64) -> DoctorFinding {
    let schedule = &settings.schedule;
    let round = if schedule.top_up_interval.is_zero() {
        schedule.run_interval
    } else {
        schedule.top_up_interval
    };
    let promise = schedule.maximum_time_between_user_syncs;
    let rounds = (promise.as_millis() / round.as_millis().max(1)).max(1);
    let rounds = u64::try_from(rounds).unwrap_or(u64::MAX);
    let tenants_served = rounds.saturating_mul(schedule.tenants_per_run as u64);
    let largest_served = rounds.saturating_mul(schedule.users_per_batch as u64);
    let users_served = tenants_served.saturating_mul(schedule.users_per_batch as u64);
    let facts = [
        format!("There are {tenants} tenants and {users} users; the largest tenant has {largest} users."),
        format!(
            "In {} s the limits allow {tenants_served} tenants and {users_served} users, and {largest_served} users of one tenant.",
            promise.as_secs()
        ),
    ];
    let beyond = if tenants > tenants_served {
        Some(format!("{tenants} tenants need more runs than that time has"))
    } else if largest > largest_served {
        Some(format!(
            "the largest tenant has {largest} users, and {largest_served} of one tenant can have a turn in time"
        ))
    } else if users > users_served {
        Some(format!("{users} users are more than {users_served}"))
    } else {
        None
    };
    match beyond {
        None => ok(
            &check::CAPACITY,
            "the limits of one run allow for all users; the check `freshness` shows whether the workers keep up",
        ),
        Some(reason) => warning(
            &check::CAPACITY,
            format!(
                "not every user can have a turn every {} s: {reason}",
                promise.as_secs()
            ),
        ),
    }
    .with_information(facts)
}

fn freshness(settings: &Settings, summary: &Summary) -> DoctorFinding {
    let promise = settings.schedule.maximum_time_between_user_syncs.as_secs();
    let facts = [
        format!(
            "{} users, {} due, {} being synced.",
            summary.users, summary.due, summary.claimed
        ),
        format!(
            "Time between two syncs of a user: half below {} s, 99 % below {} s.",
            summary
                .interval_p50_seconds
                .map_or_else(|| "?".to_owned(), |seconds| seconds.to_string()),
            summary
                .interval_p99_seconds
                .map_or_else(|| "?".to_owned(), |seconds| seconds.to_string()),
        ),
    ];
    let waiting = summary.oldest_due_seconds.unwrap_or(0);
    if summary.users == 0 {
        DoctorFinding::new(
            &check::FRESHNESS,
            SUBJECT,
            CheckResult::NotApplicable,
            "no user is in the schedule",
        )
    } else if waiting > promise {
        warning(
            &check::FRESHNESS,
            format!("a user has been due for {waiting} s; every user should have a turn every {promise} s"),
        )
        .with_information(facts)
    } else {
        ok(
            &check::FRESHNESS,
            format!("no user has been due for more than {waiting} s"),
        )
        .with_information(facts)
    }
}

fn clock(local_time: Timestamp, schedule_time: &Result<Timestamp, StoreProblem>) -> DoctorFinding {
    let Ok(store_time) = schedule_time else {
        return DoctorFinding::new(
            &check::CLOCK,
            SUBJECT,
            CheckResult::NotApplicable,
            "cannot be known while the schedule's store does not answer",
        );
    };
    let offset: SignedDuration = store_time.duration_since(local_time);
    DoctorFinding::new(
        &check::CLOCK,
        SUBJECT,
        judge_clock(offset),
        format!("the schedule's store is {} s ahead", offset.as_secs()),
    )
    .with_information(["The clocks of the tenants' servers are compared per tenant.".to_owned()])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn limits_too_low_for_the_fleet_are_reported() {
        let mut settings = Settings::default();
        settings.schedule.top_up_interval = Duration::ZERO;
        settings.schedule.maximum_time_between_user_syncs = Duration::from_mins(30);
        // 30 runs serve 1,500 tenants, and 3,000 users of one tenant.
        assert_eq!(capacity(&settings, 1_500, 1_500, 3_000).result, CheckResult::Ok);
        let many = capacity(&settings, 1_501, 1_501, 1);
        assert_eq!(many.result, CheckResult::Warning);
        assert!(many.solution.contains("tenants_per_run"), "{many:?}");
        assert_eq!(capacity(&settings, 1, 3_001, 3_001).result, CheckResult::Warning);
        settings.schedule.top_up_interval = Duration::from_secs(1);
        assert_eq!(capacity(&settings, 1_501, 3_001, 3_001).result, CheckResult::Ok);
    }

    #[test]
    fn a_worker_shows_by_what_it_takes() {
        let none = QueueDepth::default();
        assert_eq!(
            workers(QueueDepth { ready: 5, ..none }, none).result,
            CheckResult::Failed
        );
        assert_eq!(
            workers(QueueDepth { wanted: 1, ..none }, none).result,
            CheckResult::Ok
        );
        assert_eq!(
            workers(
                none,
                QueueDepth {
                    unacknowledged: Some(1),
                    ..none
                }
            )
            .result,
            CheckResult::Ok
        );
    }

    #[test]
    fn waiting_longer_than_promised_is_a_warning() {
        let settings = Settings::default();
        let summary = |oldest| Summary {
            users: 3,
            oldest_due_seconds: Some(oldest),
            ..Summary::default()
        };
        assert_eq!(freshness(&settings, &summary(720)).result, CheckResult::Ok);
        assert_eq!(freshness(&settings, &summary(721)).result, CheckResult::Warning);
        assert_eq!(
            freshness(&settings, &Summary::default()).result,
            CheckResult::NotApplicable
        );
    }

    #[test]
    fn risky_settings_are_warnings_and_wrong_ones_fail() {
        let results = |settings: &Settings| -> Vec<CheckResult> {
            super::settings(settings)
                .iter()
                .map(|found| found.result)
                .collect()
        };
        assert_eq!(results(&Settings::default()), [CheckResult::Ok; 3]);
        let mut changed = Settings::default();
        changed.schedule.top_up_interval = Duration::ZERO;
        changed.outbound.allow_plain_http = true;
        changed.worker.user_budget = changed.worker.batch_budget;
        assert_eq!(
            results(&changed),
            [CheckResult::Failed, CheckResult::Warning, CheckResult::Warning]
        );
    }
}
