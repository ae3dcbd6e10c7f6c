use std::sync::atomic::{AtomicBool, AtomicUsize};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::clock::Clock;
use tasksync_common::clock::monotonic;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::fleet::{
    CircuitUpdate, Fleet, Heartbeat, Member, MemoryFleet, Role, ServerName, ServerPause,
};
use tasksync_common::metrics::record::Server;
use tasksync_common::model::TenantId;
use tasksync_common::tasks::spawn;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const LIMIT: usize = 10;

/// A clock that follows the runtime's paused time.
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        start + SignedDuration::try_from(self.0.elapsed()).unwrap()
    }
}

/// A fleet that can stop answering.
struct SilenceableFleet {
    fleet: MemoryFleet,
    silent: AtomicBool,
}

#[async_trait]
impl Fleet for SilenceableFleet {
    fn is_shared(&self) -> bool {
        true
    }
    async fn exchange(&self, report: &FleetReport) -> Result<FleetAnswer, Failure> {
        if self.silent.load(Ordering::SeqCst) {
            return Err(Failure::new(
                ErrorClass::Transient,
                Code::RedisUnavailable,
                "silent",
            ));
        }
        self.fleet.exchange(report).await
    }
    async fn probe(&self, tenant: &TenantId, lasts: Duration) -> Result<bool, Failure> {
        self.fleet.probe(tenant, lasts).await
    }
    async fn members(&self) -> Result<Vec<Member>, Failure> {
        self.fleet.members().await
    }
    async fn circuits(&self, limit: usize) -> Result<Vec<CircuitUpdate>, Failure> {
        self.fleet.circuits(limit).await
    }
    async fn pauses(&self, servers: &[ServerName]) -> Result<Vec<Option<ServerPause>>, Failure> {
        self.fleet.pauses(servers).await
    }
    async fn end_pauses(&self, servers: &[ServerName]) -> Result<usize, Failure> {
        self.fleet.end_pauses(servers).await
    }
    async fn leave(&self, name: &str) -> Result<(), Failure> {
        self.fleet.leave(name).await
    }
}

struct Process {
    servers: Servers,
    stop: CancellationToken,
}

struct Bench {
    clock: Arc<TokioClock>,
    fleet: Arc<SilenceableFleet>,
}

fn bench() -> Bench {
    let clock = Arc::new(TokioClock(monotonic()));
    Bench {
        fleet: Arc::new(SilenceableFleet {
            fleet: MemoryFleet::with_shared_limits(clock.clone()),
            silent: AtomicBool::new(false),
        }),
        clock,
    }
}

impl Bench {
    fn process(&self, name: &str) -> Process {
        let nudge: Arc<Nudge> = Arc::default();
        let servers = Servers::shared_by_all(LIMIT, self.clock.clone(), Arc::clone(&nudge));
        self.beating(name, servers, nudge)
    }

    fn beating(&self, name: &str, servers: Servers, nudge: Arc<Nudge>) -> Process {
        let heartbeat = Heartbeat {
            fleet: self.fleet.clone(),
            member: Member::new(name, Role::Worker, self.clock.now()),
            clock: self.clock.clone(),
            participants: vec![Arc::new(servers.clone())],
            interval: SECOND,
            lifetime: SECOND * 10,
            nudge,
        };
        let stop = CancellationToken::new();
        let beating = stop.clone();
        spawn(async move { heartbeat.run(beating).await }).detach();
        Process { servers, stop }
    }
}

fn url() -> Url {
    Url::parse("https://mail.contoso.example/").unwrap()
}

fn server(process: &Process) -> Arc<ServerLimits> {
    process.servers.limits_of(&url(), Server::Ews, "")
}

/// Makes the server ask the process for a pause.
fn pause(bench: &Bench, process: &Process, seconds: i64) {
    let until = bench.clock.now() + SignedDuration::from_secs(seconds);
    server(process).pause_until(until, Some(&"contoso".parse().unwrap()), "it is busy");
}

/// The requests in flight now, and the most at any time.
#[derive(Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// Starts this number of callers, each sending one request after another. Returns the count of finished
/// requests.
fn start_callers(bench: &Bench, process: &Process, callers: usize, counts: &Arc<Counts>) -> Arc<AtomicUsize> {
    let ended: Arc<AtomicUsize> = Arc::default();
    for caller in 0..callers {
        let (server, clock) = (server(process), bench.clock.clone());
        let (counts, ended, stop) = (counts.clone(), ended.clone(), process.stop.clone());
        spawn(async move {
            while !stop.is_cancelled() {
                let deadline = clock.now() + SignedDuration::from_secs(600);
                let permit = server.acquire(deadline).await.unwrap();
                let now = counts.now.fetch_add(1, Ordering::SeqCst) + 1;
                counts.most.fetch_max(now, Ordering::SeqCst);
                sleep(Duration::from_millis(300 + 37 * caller as u64)).await;
                counts.now.fetch_sub(1, Ordering::SeqCst);
                drop(permit);
                ended.fetch_add(1, Ordering::SeqCst);
            }
        })
        .detach();
    }
    ended
}

#[tokio::test(start_paused = true)]
async fn all_processes_together_keep_the_limit_and_share_it_evenly() {
    let bench = bench();
    let counts: Arc<Counts> = Arc::default();
    let first = bench.process("a");
    let by_first = start_callers(&bench, &first, 30, &counts);
    sleep(SECOND * 5).await;
    assert_eq!(counts.now.load(Ordering::SeqCst), LIMIT, "it is alone");
    let others = [bench.process("b"), bench.process("c")];
    let by_others: Vec<_> = others
        .iter()
        .map(|process| start_callers(&bench, process, 30, &counts))
        .collect();
    sleep(SECOND * 10).await;
    let before: Vec<usize> = std::iter::once(&by_first)
        .chain(&by_others)
        .map(|ended| ended.load(Ordering::SeqCst))
        .collect();
    sleep(SECOND * 100).await;
    let after = std::iter::once(&by_first)
        .chain(&by_others)
        .map(|ended| ended.load(Ordering::SeqCst));
    let done: Vec<usize> = after.zip(&before).map(|(after, before)| after - before).collect();
    let (least, most) = (*done.iter().min().unwrap(), *done.iter().max().unwrap());
    assert!(least * 2 > most, "{done:?}");
    assert_eq!(counts.most.load(Ordering::SeqCst), LIMIT);
    // A process that ends gives everything back.
    for process in &others {
        process.stop.cancel();
    }
    sleep(SECOND * 15).await;
    assert_eq!(server(&first).counts().in_flight, LIMIT);
    assert_eq!(counts.most.load(Ordering::SeqCst), LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_pause_asked_of_one_process_is_kept_by_all() {
    let bench = bench();
    let (one, other) = (bench.process("a"), bench.process("b"));
    let counts: Arc<Counts> = Arc::default();
    let ended = start_callers(&bench, &other, 1, &counts);
    sleep(SECOND).await;
    other.stop.cancel();
    assert!(ended.load(Ordering::SeqCst) > 0);
    let third = bench.process("c");
    let in_use = server(&third);
    let deadline = bench.clock.now() + SignedDuration::from_secs(9);
    let _held = in_use.acquire(deadline).await.unwrap();
    pause(&bench, &one, 60);
    sleep(SECOND * 2).await;
    let failure = in_use.check().unwrap_err();
    let ErrorClass::Throttled {
        retry_after: Some(left),
    } = failure.class
    else {
        panic!("{failure}")
    };
    assert!((SECOND * 55..=SECOND * 60).contains(&left), "{left:?}");
    sleep(SECOND * 60).await;
    assert!(in_use.check().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_ended_in_the_store_is_over_in_every_process_also_without_demand() {
    let bench = bench();
    let (one, other) = (bench.process("a"), bench.process("b"));
    let name = [ServerName::new(&url(), Server::Ews, "")];
    let learned = server(&other);
    let deadline = bench.clock.now() + SignedDuration::from_secs(9);
    drop(learned.acquire(deadline).await.unwrap());
    pause(&bench, &one, 86_400);
    sleep(SECOND * 2).await;
    assert!(learned.check().is_err());
    // Long after the last request.
    sleep(SECOND * 3_600).await;
    let pause_found = bench.fleet.pauses(&name).await.unwrap().swap_remove(0).unwrap();
    assert_eq!(pause_found.why.as_deref(), Some("it is busy"));
    assert_eq!(bench.fleet.end_pauses(&name).await.unwrap(), 1);
    sleep(SECOND * 2).await;
    for process in [&one, &other] {
        assert!(server(process).check().is_ok());
    }
    assert_eq!(bench.fleet.pauses(&name).await.unwrap(), [None]);
    // A pause that the server asks for later counts.
    pause(&bench, &other, 60);
    sleep(SECOND * 2).await;
    let deadline = bench.clock.now() + SignedDuration::from_secs(9);
    let refused = server(&one).acquire(deadline).await.map(drop);
    assert!(matches!(refused.unwrap_err().class, ErrorClass::Throttled { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_store_lost_is_reported_again() {
    let bench = bench();
    let process = bench.process("a");
    pause(&bench, &process, 3_600);
    sleep(SECOND * 2).await;
    bench.fleet.fleet.lose_everything();
    sleep(SECOND * 2).await;
    assert!(server(&process).check().is_err());
    let name = [ServerName::new(&url(), Server::Ews, "")];
    assert!(bench.fleet.pauses(&name).await.unwrap()[0].is_some());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_alone_reports_its_pauses_and_learns_that_they_were_ended() {
    let bench = bench();
    let servers = Servers::new(LIMIT, bench.clock.clone());
    let process = bench.beating("alone", servers, Arc::default());
    let name = [ServerName::new(&url(), Server::Ews, "")];
    pause(&bench, &process, 3_600);
    sleep(SECOND * 2).await;
    assert!(bench.fleet.pauses(&name).await.unwrap()[0].is_some());
    assert!(server(&process).check().is_err());
    assert_eq!(bench.fleet.end_pauses(&name).await.unwrap(), 1);
    sleep(SECOND * 2).await;
    let deadline = bench.clock.now() + SignedDuration::from_secs(9);
    let permit = server(&process).acquire(deadline).await.unwrap();
    assert_eq!(permit.server().counts().in_flight, 1, "its limit is its own");
}

#[tokio::test(start_paused = true)]
async fn when_the_fleet_is_silent_work_goes_on_with_a_small_share() {
    let bench = bench();
    let processes = [bench.process("a"), bench.process("b")];
    let counts: Arc<Counts> = Arc::default();
    start_callers(&bench, &processes[0], 30, &counts);
    sleep(SECOND * 5).await;
    bench.fleet.silent.store(true, Ordering::SeqCst);
    sleep(SECOND * 5).await;
    assert_eq!(
        server(&processes[0]).counts().in_flight,
        LIMIT,
        "kept for a while"
    );
    start_callers(&bench, &processes[1], 30, &counts);
    sleep(SECOND * 15).await;
    for process in &processes {
        assert_eq!(server(process).counts().in_flight, LIMIT / 2);
    }
    bench.fleet.silent.store(false, Ordering::SeqCst);
    sleep(SECOND * 20).await;
    assert_eq!(counts.now.load(Ordering::SeqCst), LIMIT);
    assert_eq!(counts.most.load(Ordering::SeqCst), LIMIT);
}

#[test]
fn the_small_share_is_never_nothing() {
    assert_eq!(
        (small_share(25, 4), small_share(3, 50), small_share(25, 0)),
        (6, 1, 25)
    );
    assert_eq!(
        (with_headroom(0, 25), with_headroom(1, 25), with_headroom(20, 25)),
        (0, 2, 25)
    );
}
