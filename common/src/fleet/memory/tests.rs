use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::contract::FleetBench;
use crate::fleet::{Role, ServerReport, TURN_MS, shares};

struct Bench {
    clock: Arc<ManualClock>,
    fleet: MemoryFleet,
}

fn bench() -> Bench {
    let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
    Bench {
        fleet: MemoryFleet::with_shared_limits(clock.clone()),
        clock,
    }
}

#[async_trait]
impl FleetBench for Bench {
    fn fleet(&self) -> Arc<dyn Fleet> {
        Arc::new(self.fleet.clone())
    }
    fn unit(&self) -> Duration {
        Duration::from_mins(1)
    }
    async fn pass_time(&self, by: Duration) {
        self.clock.advance(SignedDuration::try_from(by).unwrap());
    }
}

crate::fleet_contract!(async { Some(bench()) });

#[tokio::test]
async fn a_process_that_lets_everything_go_leaves_nothing_behind() {
    let bench = bench();
    let mut process = Process::new(0);
    process.demand = 5;
    process.exchange(&bench.fleet, 0);
    assert_eq!(bench.fleet.ledger().holders().len(), 1);
    process.demand = 0;
    process.exchange(&bench.fleet, 0);
    process.exchange(&bench.fleet, 0);
    assert!(bench.fleet.ledger().holders().is_empty());
}

const LIFETIME_MS: u64 = 10_000;
const LIMIT: u32 = 5;

/// A process like a worker: it never has more in flight than its share, unless the share shrank meanwhile.
struct Process {
    name: String,
    number: u64,
    demand: u32,
    share: u32,
    in_flight: u32,
    /// What it learned of the others: the demands, its place in them, and the turn.
    table: Option<(Vec<u32>, usize, u64)>,
    /// Until when it may use its share, by its own clock.
    until: u64,
}

impl Process {
    fn new(index: usize) -> Self {
        Self {
            name: format!("w{index}"),
            number: 0,
            demand: 0,
            share: 0,
            in_flight: 0,
            table: None,
            until: 0,
        }
    }

    fn holds(&self) -> u32 {
        self.share.max(self.in_flight)
    }

    fn report(&mut self) -> FleetReport {
        self.number += 1;
        let wants = match &self.table {
            Some((demands, position, turn)) => {
                let mut demands = demands.clone();
                demands[*position] = self.demand;
                shares(LIMIT, &demands, *turn)[*position]
            }
            None => self.demand.min(LIMIT),
        };
        FleetReport {
            number: self.number,
            lifetime: Duration::from_millis(LIFETIME_MS),
            member: Member::new(&self.name, Role::Worker, Timestamp::UNIX_EPOCH),
            servers: vec![ServerReport {
                name: "server".to_owned(),
                limit: LIMIT,
                holds: self.holds(),
                wants,
                demand: self.demand,
                pause: None,
            }],
            circuits: Vec::new(),
            circuits_version: 0,
        }
    }

    fn learn(&mut self, sent: u64, answer: &FleetAnswer) {
        let given = &answer.servers[0];
        self.share = given.share;
        self.until = sent + LIFETIME_MS - LIFETIME_MS / 6;
        self.table = given
            .place
            .map(|position| (given.demands.clone(), position as usize, answer.now_ms / TURN_MS));
    }

    fn exchange(&mut self, fleet: &MemoryFleet, now: u64) {
        let report = self.report();
        if let Ok(answer) = fleet.ledger().exchange(now, &report) {
            self.learn(now, &answer);
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A process makes an exchange.
    Exchange(usize),
    /// A process makes an exchange whose answer is lost.
    Lost(usize),
    /// A report is sent, and arrives only at a later [`Step::Arrives`].
    Sent(usize),
    Arrives(usize),
    Demand(usize, u32),
    /// Some of its requests end.
    End(usize, u32),
    Passes(u64),
}

fn step(processes: usize) -> impl Strategy<Value = Step> {
    let process = 0..processes;
    prop_oneof![
        4 => process.clone().prop_map(Step::Exchange),
        1 => process.clone().prop_map(Step::Lost),
        1 => process.clone().prop_map(Step::Sent),
        1 => process.clone().prop_map(Step::Arrives),
        2 => (process.clone(), 0_u32..9).prop_map(|(process, demand)| Step::Demand(process, demand)),
        2 => (process, 1_u32..4).prop_map(|(process, ended)| Step::End(process, ended)),
        2 => (0_u64..3_000).prop_map(Step::Passes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// However exchanges interleave, get lost or come late: the processes that may use their shares hold no
    /// more than the limit together.
    #[test]
    fn all_together_never_hold_more_than_the_limit(
        count in 2_usize..9,
        steps in prop::collection::vec(step(9), 1..150),
    ) {
        let bench = bench();
        let start = u64::try_from(bench.clock.now().as_millisecond()).unwrap();
        let mut now = start;
        let mut processes: Vec<Process> = (0..count).map(Process::new).collect();
        let mut under_way: Vec<Option<(u64, FleetReport)>> = vec![None; count];
        for step in steps {
            match step {
                Step::Exchange(index) => processes[index % count].exchange(&bench.fleet, now),
                Step::Lost(index) => {
                    let report = processes[index % count].report();
                    let _ = bench.fleet.ledger().exchange(now, &report);
                }
                Step::Sent(index) => {
                    let report = processes[index % count].report();
                    under_way[index % count] = Some((now, report));
                }
                Step::Arrives(index) => {
                    // The process stopped waiting for the answer long ago.
                    if let Some((_, report)) = under_way[index % count].take() {
                        let _ = bench.fleet.ledger().exchange(now, &report);
                    }
                }
                Step::Demand(index, demand) => processes[index % count].demand = demand,
                Step::End(index, ended) => {
                    let process = &mut processes[index % count];
                    process.in_flight = process.in_flight.saturating_sub(ended);
                }
                Step::Passes(milliseconds) => now += milliseconds,
            }
            for process in &mut processes {
                if now >= process.until {
                    // What it does without the store is not tested here.
                    process.share = 0;
                    process.in_flight = 0;
                }
                process.in_flight = process.in_flight.max(process.share.min(process.demand));
            }
            let total_in_use: u32 = processes.iter().map(Process::holds).sum();
            prop_assert!(total_in_use <= LIMIT, "{total_in_use} are held");
        }
    }

    /// In turn, each process with a demand gets a share, however many processes there are.
    #[test]
    fn no_process_starves(demands in prop::collection::vec(0_u32..9, 1..16), busy in 1_u64..3) {
        let bench = bench();
        let mut now = u64::try_from(bench.clock.now().as_millisecond()).unwrap();
        let mut processes: Vec<Process> = (0..demands.len()).map(Process::new).collect();
        let mut served = vec![0_u32; demands.len()];
        let rounds = (demands.len() as u64 + 2) * TURN_MS / 1_000;
        for round in 0..rounds {
            for (index, process) in processes.iter_mut().enumerate() {
                process.demand = demands[index];
                process.exchange(&bench.fleet, now);
                process.in_flight = process.in_flight.max(process.share.min(process.demand));
                served[index] += process.share;
                // Requests take a while and end.
                if round % busy == 0 {
                    process.in_flight = process.share.min(process.demand);
                }
            }
            now += 1_000;
        }
        for (served, demand) in served.iter().zip(&demands) {
            prop_assert!(*demand == 0 || *served > 0, "{served:?} of {demands:?}");
        }
    }
}
