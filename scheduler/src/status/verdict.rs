//! What is wrong, from the facts of the status: the most urgent first, one line each.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use tasksync_common::error::Failure;
use tasksync_common::fleet::differing_settings;

use super::StatusFacts;
use crate::parts::LeadershipStatus;

/// Name of the problem that alerts ask the operator to act.
pub(crate) const ALERTS_FOR_OPERATOR: &str = "alerts-for-operator";
/// Most tenants, settings or processes named in one line.
const NAMED: usize = 3;
/// Difference between two clocks that is no problem.
const CLOCK_TOLERANCE_SECONDS: u64 = 60;

/// Something that is wrong or noteworthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct StatusProblem {
    /// Stable name: that of an error of the catalogue, or one of the status's own.
    pub(crate) id: String,
    /// What is wrong, in one line.
    pub(crate) what: String,
    /// What to do.
    pub(crate) action: String,
    /// The operator has to act. Without such a problem all is well.
    pub(crate) needs_operator: bool,
}

impl StatusProblem {
    fn new(id: &str, what: impl Into<String>, action: impl Into<String>) -> Self {
        Self {
            id: id.to_owned(),
            what: what.into(),
            action: action.into(),
            needs_operator: true,
        }
    }

    fn notice(self) -> Self {
        Self {
            needs_operator: false,
            ..self
        }
    }
}

/// Returns what is wrong, the most urgent first. `promise` is the time within which every user should have a turn.
pub(crate) fn problems(facts: &StatusFacts, promise: Duration) -> Vec<StatusProblem> {
    let mut found = silent_stores(facts);
    found.extend(processes(facts));
    found.extend(lateness(facts, promise));
    found.extend(disagreement(facts));
    found.extend(circuits(facts));
    found.extend(dead_letters(facts));
    found.extend(alerts(facts));
    found.extend(disabled(facts));
    // Stable: the order within each half stays.
    found.sort_by_key(|problem| !problem.needs_operator);
    found
}

fn silent_stores(facts: &StatusFacts) -> Vec<StatusProblem> {
    let StatusFacts {
        registry,
        schedule,
        fleet,
        queue,
    } = facts;
    let silent = |what: &str, failure: &Failure| {
        StatusProblem::new(
            failure.code.as_str(),
            format!("{what} does not answer: {}", failure.detail),
            failure.code.action(),
        )
    };
    let schedule = schedule.facts.as_ref().err().or(fleet.facts.as_ref().err());
    [
        registry
            .facts
            .as_ref()
            .err()
            .map(|failure| silent("The registry", failure)),
        schedule.map(|failure| silent("The schedule's store", failure)),
        queue
            .facts
            .as_ref()
            .err()
            .map(|failure| silent("The queue", failure)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn processes(facts: &StatusFacts) -> Vec<StatusProblem> {
    let mut found = Vec::new();
    if let Some(schedule) = facts.schedule.value()
        && schedule.leader == LeadershipStatus::Nobody
    {
        found.push(StatusProblem::new(
            "no-leader",
            "No scheduler leads, so no one is synced.",
            "Start a scheduler. If one runs, `tasksync health` on its machine and its log say what it waits for.",
        ));
    }
    if let Some(fleet) = facts.fleet.value()
        && fleet.workers() == 0
    {
        found.push(StatusProblem::new(
            "no-worker",
            "No worker runs, so no one is synced.",
            "Start a worker. If one runs, `tasksync health` on its machine and its log say what it waits for.",
        ));
    }
    found
}

/// Returns in what the processes differ that must agree: settings, clocks and, as a notice, versions.
fn disagreement(facts: &StatusFacts) -> Vec<StatusProblem> {
    let Some(fleet) = facts.fleet.value() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let differing = differing_settings(&fleet.members);
    if !differing.is_empty() {
        let named: Vec<String> = differing
            .iter()
            .map(|difference| format!("{} ({})", difference.key, shortened(&difference.differing)))
            .collect();
        found.push(StatusProblem::new(
            "settings-differ",
            format!("Processes have different settings: {}.", shortened(&named)),
            "Give all processes the same settings and the same operator token, and start those named again.",
        ));
    }
    let wrong: Vec<String> = fleet
        .members
        .iter()
        .filter_map(|member| {
            let seconds = member.clock_offset_ms? / 1_000;
            (seconds.unsigned_abs() > CLOCK_TOLERANCE_SECONDS)
                .then(|| format!("{} ({seconds:+} s)", member.name))
        })
        .collect();
    if !wrong.is_empty() {
        found.push(StatusProblem::new(
            "clocks-differ",
            format!(
                "Clocks differ from that of the schedule's store: {}.",
                shortened(&wrong)
            ),
            "Set these machines' clocks (NTP): conflicts are decided by times.",
        ));
    }
    let versions: BTreeSet<&str> = fleet
        .members
        .iter()
        .map(|member| member.version.as_str())
        .collect();
    if versions.len() > 1 {
        let versions: Vec<String> = versions.into_iter().map(ToOwned::to_owned).collect();
        let notice = StatusProblem::new(
            "versions-differ",
            format!("Processes run different versions: {}.", shortened(&versions)),
            "Finish the upgrade.",
        );
        found.push(notice.notice());
    }
    found
}

/// Returns the first names, and how many others there are.
fn shortened(names: &[String]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
    let others = names.len().saturating_sub(shown.len());
    if others > 0 {
        format!("{} and {others} more", shown.join(", "))
    } else {
        shown.join(", ")
    }
}

fn lateness(facts: &StatusFacts, promise: Duration) -> Option<StatusProblem> {
    let summary = &facts.schedule.value()?.summary;
    let waits = summary
        .oldest_due_seconds
        .filter(|waits| *waits > promise.as_secs())?;
    Some(StatusProblem::new(
        "people-late",
        format!(
            "{} people are due, the first of them for {}; every user should have a turn every {}.",
            summary.due,
            minutes(waits),
            minutes(promise.as_secs())
        ),
        "If workers run, add workers, or see which tenants take the time (`tasksync status --top`).",
    ))
}

fn circuits(facts: &StatusFacts) -> Option<StatusProblem> {
    let open = &facts.fleet.value()?.circuits;
    let named: Vec<String> = open
        .iter()
        .take(NAMED)
        .filter_map(|update| {
            let circuit = update.circuit.as_ref()?;
            Some(format!("{} ({})", update.tenant, circuit.failure.code))
        })
        .collect();
    if named.is_empty() {
        return None;
    }
    let more = open.len().saturating_sub(named.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    Some(StatusProblem::new(
        "circuit-open",
        format!(
            "The servers of these tenants fail for all their people: {}{more}.",
            named.join(", ")
        ),
        "See `tasksync alerts --tenant TENANT` and `tasksync doctor --tenant TENANT`, and tell the tenant's administrator.",
    ))
}

fn dead_letters(facts: &StatusFacts) -> Option<StatusProblem> {
    let count = facts.queue.value()?.dead_letters;
    (count > 0).then(|| {
        StatusProblem::new(
            "dead-letters",
            format!("{count} jobs are dead letters."),
            "See `tasksync dead-letters list`; later jobs sync their people.",
        )
    })
}

fn alerts(facts: &StatusFacts) -> Vec<StatusProblem> {
    let Some(registry) = facts.registry.value() else {
        return Vec::new();
    };
    let counts = registry.alerts;
    let others = counts.open.saturating_sub(counts.for_operator);
    let at_least = if counts.more { "at least " } else { "" };
    let mut found = Vec::new();
    if counts.for_operator > 0 {
        found.push(StatusProblem::new(
            ALERTS_FOR_OPERATOR,
            format!(
                "{at_least}{} alerts ask the operator to act.",
                counts.for_operator
            ),
            "See `tasksync alerts`.",
        ));
    }
    if others > 0 {
        let notice = StatusProblem::new(
            "alerts-for-others",
            format!("{at_least}{others} alerts ask a tenant's administrator or a person to act."),
            "See `tasksync alerts`.",
        );
        found.push(notice.notice());
    }
    found
}

fn disabled(facts: &StatusFacts) -> Option<StatusProblem> {
    let count = facts.registry.value()?.enrolled.disabled;
    (count > 0).then(|| {
        StatusProblem::new(
            "people-disabled",
            format!("{count} people are disabled because their syncs failed; they are tested at growing intervals."),
            "`tasksync user list TENANT` has the reasons.",
        )
        .notice()
    })
}

/// Returns a number of seconds in words, in whole minutes from two minutes on.
fn minutes(seconds: u64) -> String {
    if seconds < 120 {
        format!("{seconds} s")
    } else {
        format!("{} min", seconds / 60)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tasksync_common::error::{Code, ErrorClass};
    use tasksync_common::fleet::{CircuitUpdate, Member, OpenCircuit, Role};
    use tasksync_common::queue::QueueDepth;
    use tasksync_common::registry::{EnrolmentCounts, TenantCounts};
    use tasksync_common::schedule::Summary;

    use super::*;
    use crate::status::{AlertCounts, FleetFacts, QueueFacts, RegistryFacts, ScheduleFacts, StoreAnswer};

    const PROMISE: Duration = Duration::from_mins(12);

    fn answered<T>(facts: T) -> StoreAnswer<T> {
        StoreAnswer {
            at: Timestamp::UNIX_EPOCH,
            facts: Ok(facts),
        }
    }

    fn silent<T>(code: Code) -> StoreAnswer<T> {
        StoreAnswer {
            at: Timestamp::UNIX_EPOCH,
            facts: Err(Failure::new(ErrorClass::Transient, code, "no answer within 3 s")),
        }
    }

    fn well() -> StatusFacts {
        StatusFacts {
            registry: answered(RegistryFacts {
                tenants: TenantCounts {
                    tenants: 1,
                    enabled: 1,
                },
                enrolled: EnrolmentCounts {
                    enabled: 3,
                    disabled: 0,
                },
                alerts: AlertCounts::default(),
                oldest_success: None,
            }),
            schedule: answered(ScheduleFacts {
                summary: Summary {
                    due: 3,
                    oldest_due_seconds: Some(PROMISE.as_secs()),
                    ..Summary::default()
                },
                leader: LeadershipStatus::NotHere {
                    holder: "s1".to_owned(),
                },
            }),
            fleet: answered(FleetFacts {
                members: vec![Member::new("w1", Role::Worker, Timestamp::UNIX_EPOCH)],
                circuits: Vec::new(),
            }),
            queue: answered(QueueFacts {
                background: QueueDepth::default(),
                interactive: QueueDepth::default(),
                dead_letters: 0,
            }),
        }
    }

    fn changed(change: impl FnOnce(&mut StatusFacts)) -> Vec<(String, bool)> {
        let mut facts = well();
        change(&mut facts);
        problems(&facts, PROMISE)
            .into_iter()
            .map(|problem| (problem.id, problem.needs_operator))
            .collect()
    }

    fn alone(id: &str) -> Vec<(String, bool)> {
        vec![(id.to_owned(), true)]
    }

    #[test]
    fn an_installation_that_is_well_has_no_problem() {
        assert_eq!(changed(|_| {}), []);
    }

    #[test]
    fn each_thing_that_is_wrong_is_named_alone() {
        let registry = changed(|facts| facts.registry = silent(Code::RegistryUnavailable));
        assert_eq!(registry, alone("registry-unavailable"));
        let queue = changed(|facts| facts.queue = silent(Code::QueueUnavailable));
        assert_eq!(queue, alone("queue-unavailable"));
        let redis = changed(|facts| {
            facts.schedule = silent(Code::ScheduleUnavailable);
            facts.fleet = silent(Code::RedisUnavailable);
        });
        assert_eq!(redis, alone("schedule-unavailable"), "one store, one line");
        let leader =
            changed(|facts| facts.schedule.facts.as_mut().unwrap().leader = LeadershipStatus::Nobody);
        assert_eq!(leader, alone("no-leader"));
        let workers = changed(|facts| facts.fleet.facts.as_mut().unwrap().members.clear());
        assert_eq!(workers, alone("no-worker"));
        let schedulers = changed(|facts| {
            let members = &mut facts.fleet.facts.as_mut().unwrap().members;
            *members = vec![Member::new("s1", Role::Scheduler, Timestamp::UNIX_EPOCH)];
        });
        assert_eq!(schedulers, alone("no-worker"), "a scheduler takes no jobs");
        let late = changed(|facts| {
            facts.schedule.facts.as_mut().unwrap().summary.oldest_due_seconds = Some(PROMISE.as_secs() + 1);
        });
        assert_eq!(late, alone("people-late"));
        let settings = changed(|facts| {
            let mut other = Member::new("w2", Role::Worker, Timestamp::UNIX_EPOCH);
            other.agreement.0.insert("guard.deletions".to_owned(), 2);
            let members = &mut facts.fleet.facts.as_mut().unwrap().members;
            members[0].agreement.0.insert("guard.deletions".to_owned(), 1);
            members.push(other);
        });
        assert_eq!(settings, alone("settings-differ"));
        let clock = |offset| {
            changed(|facts| facts.fleet.facts.as_mut().unwrap().members[0].clock_offset_ms = Some(offset))
        };
        assert_eq!(
            (clock(600_000), clock(-61_000)),
            (alone("clocks-differ"), alone("clocks-differ"))
        );
        assert_eq!(clock(60_999), []);
        let versions = changed(|facts| {
            let mut other = Member::new("w2", Role::Worker, Timestamp::UNIX_EPOCH);
            other.version = "0.0.1".to_owned();
            facts.fleet.facts.as_mut().unwrap().members.push(other);
        });
        assert_eq!(
            versions,
            [("versions-differ".to_owned(), false)],
            "as it is during an upgrade"
        );
        let letters = changed(|facts| facts.queue.facts.as_mut().unwrap().dead_letters = 1);
        assert_eq!(letters, alone("dead-letters"));
        let circuit = changed(|facts| {
            facts.fleet.facts.as_mut().unwrap().circuits = vec![CircuitUpdate {
                tenant: "contoso".parse().unwrap(),
                version: 1,
                circuit: Some(OpenCircuit {
                    failure: Failure::new(ErrorClass::Transient, Code::ExchangeUnreachable, "refused"),
                    failures: 3,
                    opened_ago_ms: 0,
                    left_ms: 0,
                }),
            }];
        });
        assert_eq!(circuit, alone("circuit-open"));
    }

    #[test]
    fn what_others_have_to_do_is_a_notice_behind_what_the_operator_has_to_do() {
        let found = changed(|facts| {
            let registry = facts.registry.facts.as_mut().unwrap();
            registry.enrolled.disabled = 2;
            registry.alerts = AlertCounts {
                open: 5,
                for_operator: 1,
                more: false,
            };
        });
        let found: Vec<(&str, bool)> = found.iter().map(|(id, needs)| (id.as_str(), *needs)).collect();
        assert_eq!(
            found,
            [
                ("alerts-for-operator", true),
                ("alerts-for-others", false),
                ("people-disabled", false)
            ]
        );
    }
}
