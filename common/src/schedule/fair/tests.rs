use crate::schedule::topics::*;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::contract::schedule::successes;
use crate::model::{UserId, UserKey};
use crate::schedule::select::{BatchLimit, SelectionLimits, select};
use crate::schedule::{ClaimAnswer, Epoch, MemorySchedule, Token};

fn tenant(number: usize) -> TenantId {
    format!("t{number}").parse().unwrap()
}

fn usage_of(means: &[f64]) -> Usage {
    Usage {
        mean: means
            .iter()
            .enumerate()
            .map(|(number, mean)| (tenant(number), *mean))
            .collect(),
        users: HashMap::new(),
    }
}

#[test]
fn the_cap_is_a_part_of_the_permits_and_less_when_many_want_much() {
    assert_eq!(cap(16, 25, &Usage::default()), 4);
    assert_eq!(cap(1, 25, &Usage::default()), 1);
    assert_eq!(cap(0, 25, &Usage::default()), 1);
    assert_eq!(cap(10, 25, &Usage::default()), 3);
    assert_eq!(cap(100, 100, &Usage::default()), 100);
    // One slow tenant is held at its part; five of them share what the light tenants leave.
    assert_eq!(cap(100, 25, &usage_of(&[90.0, 5.0])), 25);
    assert_eq!(
        cap(100, 25, &usage_of(&[20.0, 20.0, 20.0, 20.0, 20.0, 5.0, 5.0])),
        16
    );
}

proptest! {
    #[test]
    fn tenants_at_the_cap_leave_what_the_others_use(
        permits in 1_usize..500,
        percent in 1_u8..=100,
        means in prop::collection::vec(0.0_f64..100.0, 0..40),
    ) {
        let cap = cap(permits, percent, &usage_of(&means));
        prop_assert!(cap >= 1);
        let sum: f64 = means.iter().map(|mean| mean.min(number(cap))).sum();
        prop_assert!(cap == 1 || sum <= number(permits) * 0.9 + 1e-6, "{cap} of {permits}");
        prop_assert!(cap == 1 || number(cap) <= (number(permits) * f64::from(percent) / 100.0).ceil());
    }

    #[test]
    fn the_use_is_the_mean_and_fades(batches in 1_usize..200, observations in 1_u64..600) {
        let mut usage = Usage::default();
        let running: BatchesInFlight = [(tenant(0), batches)].into();
        for _ in 0..observations {
            usage.observe(&running, Duration::from_secs(1));
        }
        let mean = usage.of(&tenant(0));
        prop_assert!(mean > 0.0 && mean <= number(batches) + 1e-6);
        prop_assert!(observations < 300 || mean > number(batches) * 0.99);
        usage.observe(&BatchesInFlight::new(), Duration::from_hours(1));
        prop_assert!(usage.mean.is_empty());
    }
}

#[test]
fn only_a_tenant_whose_users_cost_more_is_limited() {
    let mut usage = usage_of(&[8.0, 7.0, 1.0]);
    let running: BatchesInFlight = [(tenant(0), 8), (tenant(1), 7)].into();
    assert_eq!(
        limit(16, 25, &usage, &running).in_flight,
        HashMap::new(),
        "nobody to compare with"
    );
    usage.record_sent(&tenant(0), 800);
    usage.record_sent(&tenant(1), 700);
    usage.record_sent(&tenant(2), 100);
    let alike = limit(16, 25, &usage, &running);
    assert_eq!(alike.in_flight, HashMap::new(), "large is not slow");
    usage.users.insert(tenant(0), 200.0);
    let slow = limit(16, 25, &usage, &running);
    assert_eq!((slow.most, slow.in_flight), (4, [(tenant(0), 8)].into()));
    assert_eq!(limit(16, 100, &usage, &running), BatchLimit::default());
    assert_eq!(limit(0, 25, &usage, &running), BatchLimit::default());
}

fn head(number: usize, stamp: Timestamp) -> Head {
    Head {
        tenant: tenant(number),
        stamp,
        in_flight: 0,
    }
}

#[test]
fn permits_that_no_other_tenant_needs_go_to_a_tenant_at_its_cap() {
    let now: Timestamp = "2026-11-22T14:00:00Z".parse().unwrap();
    let old = |seconds: u64| now - Duration::from_secs(seconds);
    let minimum = Duration::from_mins(5);
    let spare = |heads: &[Head], running: &BatchesInFlight, usage: &Usage| {
        super::spare_jobs(10, heads, running, usage, now, minimum, Duration::from_secs(45))
    };
    let usage = usage_of(&[8.0, 4.0]);
    let nothing = BatchesInFlight::new();
    // In turn: no user is due; only the slow tenant is due; others come due later; others come due soon.
    assert_eq!(spare(&[head(0, old(299))], &nothing, &usage), 0);
    assert_eq!(spare(&[head(0, old(400))], &nothing, &usage), 10);
    assert_eq!(
        spare(&[head(0, old(400)), head(1, old(200))], &nothing, &usage),
        10
    );
    let soon = [head(0, old(400)), head(1, old(280))];
    assert_eq!(spare(&soon, &nothing, &usage), 2);
    // Permits that the others already hold are not reserved again.
    assert_eq!(spare(&soon, &[(tenant(1), 3), (tenant(0), 9)].into(), &usage), 5);
    assert_eq!(spare(&soon, &nothing, &Usage::default()), 10);
}

/// A fleet on virtual time, with permits, and with tenants whose users differ in processing time.
struct Simulation {
    clock: Arc<ManualClock>,
    schedule: MemorySchedule,
    epoch: Epoch,
    permits: usize,
    percent: u8,
    /// Time that ten users of each tenant take together.
    service: Vec<Duration>,
    running: Vec<Job>,
    usage: Usage,
    /// By tenant: the seconds that users waited beyond being due, and the number of syncs.
    waited: HashMap<TenantId, (f64, u32)>,
    /// Number of seconds in which permits were free although a user was due.
    idle: u32,
}

struct Job {
    tenant: usize,
    token: Token,
    users: Vec<UserId>,
    /// Number of users that end within the budget.
    ends: Timestamp,
    done: usize,
}

const MINIMUM: Duration = Duration::from_mins(5);
const BUDGET: Duration = Duration::from_secs(45);

fn as_f64(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

impl Simulation {
    async fn new(permits: usize, percent: u8, tenants: &[(usize, Duration)]) -> Self {
        let start: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        let clock = ManualClock::at(start);
        let schedule = MemorySchedule::new(clock.clone(), MINIMUM);
        for (number, (users, _)) in tenants.iter().enumerate() {
            for user in 0..*users {
                // Ages are spread over the time between two syncs, so that the simulation starts in a steady
                // state.
                let age = MINIMUM.mul_f64((as_f64(user) + 0.5) / as_f64(*users));
                let key = UserKey::new(tenant(number), format!("u{user:04}").parse().unwrap());
                schedule.enrol(&key, start - age, None).await.unwrap();
            }
        }
        let epoch = schedule
            .lead("simulation", Duration::from_hours(100))
            .await
            .unwrap();
        Self {
            clock,
            schedule,
            epoch: epoch.unwrap(),
            permits,
            percent,
            service: tenants.iter().map(|(_, service)| *service).collect(),
            running: Vec::new(),
            usage: Usage::default(),
            waited: HashMap::new(),
            idle: 0,
        }
    }

    fn in_flight(&self) -> BatchesInFlight {
        let mut running = BatchesInFlight::new();
        for job in &self.running {
            *running.entry(tenant(job.tenant)).or_default() += 1;
        }
        running
    }

    /// Reports the batches that ended; users that the budget did not reach are released with their stamps.
    async fn end_batches(&mut self) {
        let now = self.clock.now();
        let (ended, running) = std::mem::take(&mut self.running)
            .into_iter()
            .partition(|job: &Job| job.ends <= now);
        self.running = running;
        for job in ended {
            let (done, left) = job.users.split_at(job.done);
            let results = successes(done, MINIMUM);
            let tenant = tenant(job.tenant);
            self.schedule.finish(&tenant, job.token, &results).await.unwrap();
            self.schedule.release(&tenant, job.token, left).await.unwrap();
        }
    }

    async fn start(&mut self, limits: SelectionLimits, most: usize) -> usize {
        let now = self.clock.now();
        let selected = select(&self.schedule, limits, now).await.unwrap();
        let mut started = 0;
        for batch in selected.batches.into_iter().take(most) {
            let answer = self
                .schedule
                .claim(self.epoch, &batch.tenant, &batch.users, Duration::from_mins(2))
                .await
                .unwrap();
            let ClaimAnswer::Claimed { token, users } = answer else {
                panic!("it leads")
            };
            let number: usize = batch.tenant.as_str()[1..].parse().unwrap();
            let service = self.service[number];
            for user in &users {
                let due = user.stamp + MINIMUM;
                let waited = self.waited.entry(batch.tenant.clone()).or_default();
                waited.0 += now.duration_since(due).as_secs_f64().max(0.0);
                waited.1 += 1;
            }
            // Groups of ten run one after the other; after the budget no further group starts.
            let groups = users.len().div_ceil(10);
            let fit = BUDGET.as_nanos().div_ceil(service.as_nanos()).max(1);
            let worked = groups.min(usize::try_from(fit).unwrap());
            self.usage.record_sent(&batch.tenant, users.len());
            self.running.push(Job {
                tenant: number,
                token,
                done: users.len().min(worked * 10),
                users: users.into_iter().map(|claimed| claimed.user).collect(),
                ends: now + service * u32::try_from(worked).unwrap(),
            });
            started += 1;
        }
        started
    }

    /// Does what the leader does at each look at the queue.
    async fn run_leader(&mut self) {
        let now = self.clock.now();
        let running = self.in_flight();
        self.usage.observe(&running, Duration::from_secs(1));
        let free_permits = self.permits - self.running.len();
        let fair = self.percent < 100;
        let limits = |free_permits: usize, batches: BatchLimit| SelectionLimits {
            minimum: MINIMUM,
            tenants: 50,
            users_per_batch: 100,
            users: free_permits * 100,
            tenant_in_flight: 0,
            batches,
        };
        let first = limit(self.permits, self.percent, &self.usage, &running);
        let started = self.start(limits(free_permits, first), free_permits).await;
        if fair && started < free_permits {
            let heads = self.schedule.heads(HEADS).await.unwrap();
            let running = self.in_flight();
            let left = free_permits - started;
            let spare = spare_jobs(left, &heads, &running, &self.usage, now, MINIMUM, BUDGET);
            if spare > 0 {
                self.start(limits(spare, BatchLimit::default()), spare).await;
            }
        }
        let due = self.schedule.heads(1).await.unwrap();
        let waits = due
            .first()
            .is_some_and(|head| now.duration_since(head.stamp).as_secs() >= 300);
        if waits && self.running.len() < self.permits {
            self.idle += 1;
        }
    }

    async fn run(mut self, seconds: u32) -> Self {
        for second in 0..seconds {
            if second == seconds / 2 {
                // The second half is measured, when the simulation has settled.
                self.waited.clear();
                self.idle = 0;
            }
            self.end_batches().await;
            self.run_leader().await;
            self.clock.advance(SignedDuration::from_secs(1));
        }
        self
    }

    /// Returns the mean wait of all tenants except the first, in seconds.
    fn others_wait(&self) -> f64 {
        let (sum, count) = self
            .waited
            .iter()
            .filter(|(name, _)| **name != tenant(0))
            .fold((0.0, 0), |(sum, count), (_, (waited, syncs))| {
                (sum + waited, count + syncs)
            });
        sum / f64::from(count)
    }
}

/// Returns a simulation in which one tenant has half of the users and ten others have the rest.
async fn half_slow(permits: usize, percent: u8, slow: Duration) -> Simulation {
    let fast = Duration::from_millis(400);
    let mut tenants = vec![(500, slow)];
    tenants.extend([(50, fast); 10]);
    Simulation::new(permits, percent, &tenants).await.run(2_400).await
}

#[tokio::test]
async fn a_tenant_that_is_a_hundred_times_slower_does_not_keep_the_others_waiting() {
    for permits in [4, 16, 32] {
        let alike = half_slow(permits, 25, Duration::from_millis(400)).await;
        let slow = half_slow(permits, 25, Duration::from_secs(40)).await;
        let unfair = half_slow(permits, 100, Duration::from_secs(40)).await;
        let waits = (alike.others_wait(), slow.others_wait(), unfair.others_wait());
        println!("{permits} permits: {waits:?}, idle {}", slow.idle);
        let interval = |wait: f64| MINIMUM.as_secs_f64() + wait;
        assert!(interval(waits.1) <= interval(waits.0) * 1.1, "{waits:?}");
        assert!(waits.1 <= waits.2, "{waits:?}");
        // The slow tenant is still served.
        assert!(slow.waited[&tenant(0)].1 > 0);
    }
}

#[tokio::test]
async fn a_tenant_that_is_alone_has_every_permit() {
    let simulation = Simulation::new(16, 25, &[(2_000, Duration::from_secs(40))]).await;
    let simulation = simulation.run(900).await;
    assert_eq!(simulation.idle, 0);
    assert_eq!(simulation.running.len(), 16);
}
