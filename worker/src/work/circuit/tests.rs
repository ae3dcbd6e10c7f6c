use tasksync_common::clock::monotonic;
use tasksync_common::error::Code;

use super::*;

const STEP: Duration = Duration::from_mins(5);

fn refused() -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::ExchangeSignInRefused,
        "401 from mail.contoso.example",
    )
}

#[tokio::test(start_paused = true)]
async fn a_circuit_opens_probes_grows_and_closes() {
    let circuits = Circuits::new(STEP);
    let tenant: TenantId = "contoso".parse().unwrap();
    let start = monotonic();
    assert_eq!(circuits.ask(&tenant, false, start), Permission::Closed);
    assert_eq!(
        circuits.record_failure(&tenant, &refused(), start, start + PROBE),
        CircuitOpening {
            pause: STEP,
            first: true,
            alert: true,
        }
    );
    // A batch that ran beside it does not make the pause longer.
    let beside = circuits.record_failure(&tenant, &refused(), start, start + PROBE);
    assert_eq!(
        beside,
        CircuitOpening {
            pause: STEP,
            first: false,
            alert: false,
        }
    );
    let now = start + PROBE * 2;
    assert_eq!(
        circuits.ask(&tenant, false, now),
        Permission::Open(STEP.saturating_sub(PROBE), refused())
    );
    assert_eq!(circuits.ask(&tenant, true, now), Permission::Probe);
    let now = start + PROBE + STEP;
    assert_eq!(circuits.ask(&tenant, false, now), Permission::Probe);
    assert_eq!(
        circuits.ask(&tenant, false, now),
        Permission::Open(PROBE, refused()),
        "one probe at a time"
    );
    assert_eq!(
        circuits.record_failure(&tenant, &refused(), now, now).pause,
        STEP * 2
    );
    for _ in 0..20 {
        circuits.record_failure(&tenant, &refused(), now, now);
    }
    assert_eq!(
        circuits.record_failure(&tenant, &refused(), now, now).pause,
        LONGEST
    );
    assert!(circuits.record_success(&tenant, now));
    assert_eq!(circuits.ask(&tenant, false, now), Permission::Closed);
    assert!(
        !circuits.record_success(&tenant, now),
        "alerts were checked just now"
    );
}

/// Users who came while a probe was running used to be postponed for the whole time that a probe may take.
#[tokio::test(start_paused = true)]
async fn users_who_come_during_a_probe_wait_no_longer_than_a_user_between_two_syncs() {
    let step = Duration::from_secs(1);
    let circuits = Circuits::new(step);
    let tenant: TenantId = "contoso".parse().unwrap();
    let start = monotonic();
    circuits.record_failure(&tenant, &refused(), start, start);
    let now = start + step;
    assert_eq!(circuits.ask(&tenant, false, now), Permission::Probe);
    let waits = Permission::Open(step, refused());
    assert_eq!(circuits.ask(&tenant, false, now), waits);
    // A user whose batch began before the probe, and a process that hears of another's probe, wait no longer
    // either.
    let before = start.checked_sub(step).unwrap();
    assert_eq!(
        circuits.record_failure(&tenant, &refused(), before, now).pause,
        step
    );
    assert_eq!(circuits.defer_to_other_prober(&tenant, now), waits);
    // The duration of a probe does not make the next pause longer, either.
    assert_eq!(
        circuits.record_failure(&tenant, &refused(), now, now).pause,
        step * 2
    );
}

#[tokio::test(start_paused = true)]
async fn an_outage_raises_an_alert_when_a_probe_failed_too() {
    let circuits = Circuits::new(STEP);
    let tenant: TenantId = "contoso".parse().unwrap();
    let down = Failure::new(ErrorClass::Transient, Code::ExchangeUnreachable, "refused");
    let start = monotonic();
    let first = circuits.record_failure(&tenant, &down, start, start + PROBE);
    assert!(first.first && !first.alert);
    let later = start + STEP + PROBE * 2;
    assert!(circuits.record_failure(&tenant, &down, later, later).alert);
    let later = later + LONGEST;
    assert!(
        !circuits.record_failure(&tenant, &down, later, later).alert,
        "one alert"
    );
}

#[test]
fn a_server_that_is_down_concerns_the_tenant_and_a_mailbox_does_not() {
    let stops = |class, code| Failure::new(class, code, "").stops();
    assert_eq!(refused().stops(), Stops::Tenant);
    assert_eq!(
        stops(ErrorClass::Transient, Code::ExchangeUnreachable),
        Stops::Tenant
    );
    assert_eq!(stops(ErrorClass::Transient, Code::ExchangeTimeout), Stops::Person);
    assert_eq!(
        stops(ErrorClass::Refused, Code::ExchangeMailboxMissing),
        Stops::Person
    );
}

#[test]
fn several_people_in_a_row_with_the_same_failure_show_that_it_is_the_servers() {
    let circuits = Circuits::new(STEP);
    let tenant: TenantId = "contoso".parse().unwrap();
    let page = || Failure::new(ErrorClass::Transient, Code::ExchangeBadAnswer, "a page");
    let weighed = |user: &str| circuits.with_evidence_of_others(&tenant, &user.parse().unwrap(), page());
    // One person who fails repeatedly is still one person.
    for user in ["ana", "ana", "ana", "ben"] {
        assert_eq!(weighed(user).stops(), Stops::Person, "{user}");
    }
    // A success between them shows that the server works.
    circuits.record_success(&tenant, monotonic());
    for user in ["ben", "cid"] {
        assert_eq!(weighed(user).stops(), Stops::Person, "{user}");
    }
    assert_eq!(weighed("ana").stops(), Stops::Tenant);
    // The probe's failure is one of them again.
    assert_eq!(weighed("ben").stops(), Stops::Tenant);
    // Failures that can only be a person's own keep their scope, …
    let full = Failure::new(ErrorClass::Refused, Code::ExchangeMailboxFull, "");
    for user in ["ana", "ben", "cid", "dan"] {
        let full = circuits.with_evidence_of_others(&tenant, &user.parse().unwrap(), full.clone());
        assert_eq!(full.stops(), Stops::Person);
    }
    // … and a defect of ours disables no user.
    let panic = Failure::new(ErrorClass::Transient, Code::Panic, "");
    let stops = ["ana", "ben", "cid"].map(|user| {
        let weighed = circuits.with_evidence_of_others(&tenant, &user.parse().unwrap(), panic.clone());
        weighed.stops()
    });
    assert_eq!(stops, [Stops::Person, Stops::Person, Stops::NoWork]);
}

/// A server in trouble fails in more than one way.
#[test]
fn several_people_in_a_row_who_fail_in_different_ways_show_that_it_is_the_servers() {
    let circuits = Circuits::new(STEP);
    let tenant: TenantId = "contoso".parse().unwrap();
    let weighed = |user: &str, code: Code| {
        let failure = Failure::new(ErrorClass::Transient, code, "");
        circuits
            .with_evidence_of_others(&tenant, &user.parse().unwrap(), failure)
            .stops()
    };
    assert_eq!(weighed("ana", Code::ExchangeBadAnswer), Stops::Person);
    assert_eq!(weighed("ana", Code::SharePointTimeout), Stops::Person);
    assert_eq!(weighed("ben", Code::SharePointBadAnswer), Stops::Person);
    assert_eq!(weighed("cid", Code::ExchangeTimeout), Stops::Tenant);
    assert_eq!(weighed("ana", Code::SharePointError), Stops::Tenant);
    // A defect of ours says nothing about the server, and starts a streak of its own.
    assert_eq!(weighed("ben", Code::Panic), Stops::Person);
    assert_eq!(weighed("cid", Code::ExchangeTimeout), Stops::Person);
}

mod shared {
    use std::sync::Arc;

    use jiff::Timestamp;
    use tasksync_common::clock::ManualClock;
    use tasksync_common::fleet::{Fleet as _, Member, MemoryFleet, Role};

    use super::*;

    struct Process {
        circuits: Circuits,
        member: Member,
        number: u64,
        circuits_version: u64,
    }

    impl Process {
        fn new(name: &str) -> Self {
            Self {
                circuits: Circuits::new(STEP),
                member: Member::new(name, Role::Worker, Timestamp::UNIX_EPOCH),
                number: 0,
                circuits_version: 0,
            }
        }

        fn report(&mut self) -> FleetReport {
            self.number += 1;
            let mut report = FleetReport {
                number: self.number,
                lifetime: LONGEST,
                member: self.member.clone(),
                servers: Vec::new(),
                circuits: Vec::new(),
                circuits_version: self.circuits_version,
            };
            self.circuits.add_to_report(&mut report, monotonic());
            report
        }

        async fn exchange(&mut self, fleet: &MemoryFleet) {
            let report = self.report();
            let answer = fleet.exchange(&report).await.unwrap();
            self.circuits.adopt(&report, &answer, monotonic());
            self.circuits_version = answer.circuits_version;
        }
    }

    fn fleet() -> (Arc<ManualClock>, MemoryFleet) {
        let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        (clock.clone(), MemoryFleet::with_shared_limits(clock))
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_circuit_of_one_process_stops_the_others() {
        let (_clock, fleet) = fleet();
        let tenant: TenantId = "contoso".parse().unwrap();
        let (mut one, mut other) = (Process::new("a"), Process::new("b"));
        let start = monotonic();
        assert!(
            one.circuits
                .record_failure(&tenant, &refused(), start, start)
                .first
        );
        // A report that was not answered is sent again.
        let lost = one.report();
        one.circuits.report_again(&lost);
        one.exchange(&fleet).await;
        other.exchange(&fleet).await;
        assert_eq!(
            other.circuits.ask(&tenant, false, start),
            Permission::Open(STEP, refused())
        );
        // Both fail at the same time: one is accepted, and no pause grows.
        let second = other
            .circuits
            .record_failure(&tenant, &refused(), start, start + PROBE);
        assert!(!second.first);
        // The other's probe succeeds, and all processes learn it.
        assert!(other.circuits.record_success(&tenant, start));
        other.exchange(&fleet).await;
        one.exchange(&fleet).await;
        assert_eq!(one.circuits.ask(&tenant, false, start), Permission::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_makes_the_pause_longer_for_all() {
        let (_clock, fleet) = fleet();
        let tenant: TenantId = "contoso".parse().unwrap();
        let (mut one, mut other) = (Process::new("a"), Process::new("b"));
        let start = monotonic();
        one.circuits.record_failure(&tenant, &refused(), start, start);
        one.exchange(&fleet).await;
        other.exchange(&fleet).await;
        let later = start + STEP;
        assert_eq!(other.circuits.ask(&tenant, false, later), Permission::Probe);
        assert_eq!(
            one.circuits.defer_to_other_prober(&tenant, later),
            Permission::Open(PROBE, refused())
        );
        tokio::time::advance(STEP).await;
        other.circuits.record_failure(&tenant, &refused(), later, later);
        other.exchange(&fleet).await;
        one.exchange(&fleet).await;
        assert_eq!(
            one.circuits.ask(&tenant, false, later),
            Permission::Open(STEP * 2, refused())
        );
    }

    #[tokio::test(start_paused = true)]
    async fn circuits_that_a_lost_store_knew_are_reported_again() {
        let (_clock, fleet) = fleet();
        let contoso: TenantId = "contoso".parse().unwrap();
        let mut one = Process::new("a");
        let start = monotonic();
        for tenant in ["fabrikam", "adatum"] {
            one.circuits
                .record_failure(&tenant.parse().unwrap(), &refused(), start, start);
        }
        one.exchange(&fleet).await;
        one.circuits.record_failure(&contoso, &refused(), start, start);
        one.exchange(&fleet).await;
        let (_clock, empty) = self::fleet();
        one.exchange(&empty).await;
        one.exchange(&empty).await;
        let mut other = Process::new("b");
        other.exchange(&empty).await;
        assert_eq!(
            other.circuits.ask(&contoso, false, start),
            Permission::Open(STEP, refused())
        );
    }
}
