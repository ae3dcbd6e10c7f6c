//! Checks of the installation itself: settings, stores, leader, workers, capacity, freshness, clock.

use jiff::{SignedDuration, Timestamp};
use tasksync_common::queue::{Depth, QueueName};
use tasksync_common::schedule::Summary;
use tasksync_common::settings::Settings;

use super::catalogue::definitions as check;
use super::{Finding, Outcome, Trouble, judge_clock, own};
use crate::load::Load;
use crate::parts::{Leadership, Parts};

const SUBJECT: &str = "installation";
/// Most alerts counted.
const COUNTED: u32 = 1_000;
/// Most dead letters whose reasons are shown.
const DEAD_LETTERS_SHOWN: usize = 3;
/// Most tenants whose sizes count for the capacity.
const TENANTS_COUNTED: u32 = 10_000;

pub(super) async fn examine(parts: &Parts) -> Vec<Finding> {
    let mut found = settings(&parts.settings);
    found.push(match own(parts.registry.check_writable()).await {
        Ok(()) => ok(
            &check::REGISTRY,
            format!("{} accepted a write", kind(&parts.settings.registry.url)),
        ),
        Err(trouble) => trouble.finding(&check::REGISTRY, SUBJECT),
    });
    let schedule_now = own(parts.schedule.now()).await;
    found.push(match &schedule_now {
        Ok(_) => ok(
            &check::SCHEDULE,
            format!("{} answered", kind(&parts.settings.schedule.url)),
        ),
        Err(trouble) => trouble.finding(&check::SCHEDULE, SUBJECT),
    });
    found.push(match own(parts.leadership()).await {
        Ok(leadership) => leader(&leadership),
        Err(trouble) => trouble.finding(&check::LEADER, SUBJECT),
    });
    found.extend(queues(parts).await);
    let largest = own(parts.registry.active_tenants(None, TENANTS_COUNTED)).await;
    found.push(match largest {
        Ok(tenants) => {
            let users = || tenants.iter().map(|(_, members)| members.users);
            let (users, largest) = (users().sum(), users().max().unwrap_or(0));
            capacity(&parts.settings, tenants.len() as u64, users, largest)
        }
        Err(trouble) => trouble.finding(&check::CAPACITY, SUBJECT),
    });
    found.push(match own(parts.schedule.summary(None)).await {
        Ok(summary) => freshness(&parts.settings, &summary),
        Err(trouble) => trouble.finding(&check::FRESHNESS, SUBJECT),
    });
    found.push(clock(parts.clock.now(), &schedule_now));
    found.push(match own(parts.registry.alerts(None, COUNTED)).await {
        Ok(alerts) if alerts.is_empty() => ok(&check::ALERTS, "no alert is open"),
        Ok(alerts) => warning(&check::ALERTS, format!("{} alerts are open", alerts.len())),
        Err(trouble) => trouble.finding(&check::ALERTS, SUBJECT),
    });
    found
}

fn ok(definition: &super::Definition, explanation: impl Into<String>) -> Finding {
    Finding::new(definition, SUBJECT, Outcome::Ok, explanation)
}

/// Returns the kind of store that a URL names. The rest of the URL may have a password.
fn kind(url: &str) -> &str {
    url.split(':').next().unwrap_or_default()
}

fn warning(definition: &super::Definition, explanation: impl Into<String>) -> Finding {
    Finding::new(definition, SUBJECT, Outcome::Warning, explanation)
}

fn settings(settings: &Settings) -> Vec<Finding> {
    let mut found = vec![match tasksync_common::settings::check(settings) {
        Ok(()) => ok(
            &check::SETTINGS,
            "the deadlines nest and every number is inside its bounds",
        ),
        Err(error) => Finding::new(&check::SETTINGS, SUBJECT, Outcome::Failed, error.to_string()),
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

fn leader(leadership: &Leadership) -> Finding {
    match leadership {
        Leadership::Leading { epoch, .. } => ok(
            &check::LEADER,
            format!("this process leads, leadership number {epoch}"),
        ),
        Leadership::NotHere { holder } => ok(&check::LEADER, format!("{holder} leads")),
        Leadership::Nobody => Finding::new(
            &check::LEADER,
            SUBJECT,
            Outcome::Failed,
            "no process leads: the schedule's store was not asked yet or did not answer",
        ),
    }
}

async fn queues(parts: &Parts) -> Vec<Finding> {
    let background = own(parts.queue.depth(QueueName::Background)).await;
    let interactive = own(parts.queue.depth(QueueName::Interactive)).await;
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
                match own(parts.fleet.members()).await {
                    Ok(members) => live_workers(&Load::of(&members)),
                    Err(trouble) => trouble.finding(&check::WORKERS, SUBJECT),
                }
            } else {
                workers(background, interactive)
            });
        }
        (Err(trouble), _) | (_, Err(trouble)) => {
            found.push(trouble.finding(&check::QUEUE, SUBJECT));
            found.push(Finding::new(
                &check::WORKERS,
                SUBJECT,
                Outcome::NotApplicable,
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
    found.push(match own(letters).await {
        Ok((0, _)) => ok(&check::DEAD_LETTERS, "there are no dead letters"),
        Ok((count, first)) => warning(&check::DEAD_LETTERS, format!("there are {count} dead letters"))
            .informed(first.into_iter().map(|letter| letter.reason)),
        Err(trouble) => trouble.finding(&check::DEAD_LETTERS, SUBJECT),
    });
    found
}

/// Judges by the heartbeats of all processes whether there are workers.
fn live_workers(load: &Load) -> Finding {
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
        Finding::new(
            &check::WORKERS,
            SUBJECT,
            Outcome::Failed,
            "no live worker has reported",
        )
    }
}

/// Judges by the queues' depths whether there are workers: by the jobs they would take now and those they have.
fn workers(background: Depth, interactive: Depth) -> Finding {
    let taken = |depth: Depth| depth.unacknowledged.unwrap_or(0);
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
        Finding::new(
            &check::WORKERS,
            SUBJECT,
            Outcome::Failed,
            "no worker has a job, and none would take one",
        )
    }
}

/// Compares the settings' caps with the number of users: all must get a turn within
/// `maximum_time_between_user_syncs`.
///
/// Without top-up, the caps limit what one run sends. With top-up, the leader acts whenever workers want more, so
/// that they only limit one look.
fn capacity(settings: &Settings, tenants: u64, users: u64, largest: u64) -> Finding {
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
    .informed(facts)
}

fn freshness(settings: &Settings, summary: &Summary) -> Finding {
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
        Finding::new(
            &check::FRESHNESS,
            SUBJECT,
            Outcome::NotApplicable,
            "no user is in the schedule",
        )
    } else if waiting > promise {
        warning(
            &check::FRESHNESS,
            format!("a user has been due for {waiting} s; every user should have a turn every {promise} s"),
        )
        .informed(facts)
    } else {
        ok(
            &check::FRESHNESS,
            format!("no user has been due for more than {waiting} s"),
        )
        .informed(facts)
    }
}

fn clock(ours: Timestamp, schedule: &Result<Timestamp, Trouble>) -> Finding {
    let Ok(theirs) = schedule else {
        return Finding::new(
            &check::CLOCK,
            SUBJECT,
            Outcome::NotApplicable,
            "cannot be known while the schedule's store does not answer",
        );
    };
    let offset: SignedDuration = theirs.duration_since(ours);
    Finding::new(
        &check::CLOCK,
        SUBJECT,
        judge_clock(offset),
        format!("the schedule's store is {} s ahead", offset.as_secs()),
    )
    .informed(["The clocks of the tenants' servers are compared per tenant.".to_owned()])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn limits_too_low_for_the_fleet_are_reported() {
        let mut settings = Settings::default();
        settings.schedule.top_up_interval = Duration::ZERO;
        settings.schedule.maximum_time_between_user_syncs = Duration::from_secs(30 * 60);
        // 30 runs serve 1,500 tenants, and 3,000 users of one tenant.
        assert_eq!(capacity(&settings, 1_500, 1_500, 3_000).result, Outcome::Ok);
        let many = capacity(&settings, 1_501, 1_501, 1);
        assert_eq!(many.result, Outcome::Warning);
        assert!(many.solution.contains("tenants_per_run"), "{many:?}");
        assert_eq!(capacity(&settings, 1, 3_001, 3_001).result, Outcome::Warning);
        settings.schedule.top_up_interval = Duration::from_secs(1);
        assert_eq!(capacity(&settings, 1_501, 3_001, 3_001).result, Outcome::Ok);
    }

    #[test]
    fn a_worker_shows_by_what_it_takes() {
        let none = Depth::default();
        assert_eq!(workers(Depth { ready: 5, ..none }, none).result, Outcome::Failed);
        assert_eq!(workers(Depth { wanted: 1, ..none }, none).result, Outcome::Ok);
        assert_eq!(
            workers(
                none,
                Depth {
                    unacknowledged: Some(1),
                    ..none
                }
            )
            .result,
            Outcome::Ok
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
        assert_eq!(freshness(&settings, &summary(720)).result, Outcome::Ok);
        assert_eq!(freshness(&settings, &summary(721)).result, Outcome::Warning);
        assert_eq!(
            freshness(&settings, &Summary::default()).result,
            Outcome::NotApplicable
        );
    }

    #[test]
    fn risky_settings_are_warnings_and_wrong_ones_fail() {
        let results = |settings: &Settings| -> Vec<Outcome> {
            super::settings(settings)
                .iter()
                .map(|found| found.result)
                .collect()
        };
        assert_eq!(results(&Settings::default()), [Outcome::Ok; 3]);
        let mut changed = Settings::default();
        changed.schedule.top_up_interval = Duration::ZERO;
        changed.outbound.allow_plain_http = true;
        changed.worker.user_budget = changed.worker.batch_budget;
        assert_eq!(
            results(&changed),
            [Outcome::Failed, Outcome::Warning, Outcome::Warning]
        );
    }
}
