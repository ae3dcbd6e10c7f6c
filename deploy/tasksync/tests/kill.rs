//! The service is killed (SIGKILL) again and again while people edit on both sides: nothing is lost, nothing doubled.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail the test, and only test functions themselves are exempt"
)]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tasksync_loadtest::population::PopulationSpec;
use tasksync_loadtest::sharepoint::people::ItemEdit;
use tasksync_loadtest::sim::faults::Fault;
use tasksync_loadtest::trial::{Editor, Farm, FarmSpec, Ledger, Oracle, Service, ServiceSpec};

/// Everything may take this long to arrive; generous, because the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Numbers that look like chance, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

async fn farm(seed: u64, tenants: usize, users: usize, tasks: f64) -> Arc<Farm> {
    let spec = FarmSpec {
        population: PopulationSpec {
            tenants,
            users_per_tenant: users,
            tasks_per_user: tasks,
            seed,
            ..PopulationSpec::default()
        },
        ..FarmSpec::default()
    };
    Arc::new(Farm::start(spec).await.unwrap())
}

async fn service(folder: &Path, farm: &Farm, more: &str) -> Service {
    let spec = ServiceSpec {
        executable: env!("CARGO_BIN_EXE_tasksync").into(),
        folder: folder.to_owned(),
        minimum_interval: Duration::from_secs(1),
        maximum_interval: Duration::from_millis(1_500),
        more: more.to_owned(),
    };
    let service = Service::start(spec, farm).await.unwrap();
    service.enrol(farm).await.unwrap();
    service
}

/// People who edit on both sides until they are told to stop; each edit is watched until the other side shows it.
struct People {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Ledger>,
}

impl People {
    fn start(farm: &Arc<Farm>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (farm, stopping) = (Arc::clone(farm), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut editor, mut ledger) = (Editor::new(seed), Ledger::default());
            while !stopping.load(Ordering::Relaxed) {
                editor.act(&farm, &mut ledger).unwrap();
                watch(&farm, &mut ledger);
                std::thread::sleep(Duration::from_millis(60));
            }
            ledger
        });
        Self { stop, thread }
    }

    fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn watch(farm: &Farm, ledger: &mut Ledger) {
    let oracle = Oracle::new(farm);
    for edit in ledger.open() {
        if oracle.shows(edit) {
            edit.seen = Some(Instant::now());
        }
    }
}

/// Waits until both sides agree and every edit was seen; says what is wrong when that does not happen.
async fn settles(farm: &Farm, service: &Service, ledger: &mut Ledger) {
    let oracle = Oracle::new(farm);
    let started = Instant::now();
    loop {
        watch(farm, ledger);
        let verdict = oracle.verdict();
        let unseen = ledger.unseen(20);
        if verdict.agrees() && unseen.is_empty() {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "the sides do not come together:\n{}\n{}\nlog:\n{}",
            verdict.lines(20).join("\n"),
            unseen.join("\n"),
            service.log_tail(40)
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn writes(farm: &Farm) -> u64 {
    farm.exchange.stats.snapshot().writes + farm.sharepoint.stats.item_writes()
}

/// After our own last writes came back, further syncs write nothing.
async fn stays_quiet(farm: &Farm) {
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = writes(farm);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(
        writes(farm),
        before,
        "something was written although nobody edited"
    );
    let verdict = Oracle::new(farm).verdict();
    assert!(verdict.agrees(), "{}", verdict.lines(20).join("\n"));
}

async fn killed_under_edits(seed: u64, kills: u32) {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(seed, 2, 8, 5.0).await;
    let mut service = service(folder.path(), &farm, "").await;
    let people = People::start(&farm, seed);
    let mut dice = Dice(seed);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(100 + dice.below(1_100))).await;
        service.kill().await;
        service.launch().unwrap();
    }
    let mut ledger = people.stop();
    service.kill().await;
    service.restart().await.unwrap();
    settles(&farm, &service, &mut ledger).await;
    stays_quiet(&farm).await;
    assert!(ledger.len() >= 50, "only {} edits were made", ledger.len());
    assert_eq!(service.terminate().await, Ok(Some(0)));
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_under_edits_lose_and_double_nothing() {
    killed_under_edits(1, 50).await;
}

/// A long first sync that needs several passes, each cut off by the user's time, and the process killed in between:
/// what a pass still had to do must not be forgotten when its progress is saved.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_sync_in_many_pieces_loses_no_task_to_kills() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(5, 1, 1, 150.0).await;
    farm.exchange.faults.next(
        Some("CreateItem"),
        u64::MAX,
        Fault::Slow(Duration::from_millis(25)),
    );
    let more = "request_timeout = \"1s\"\nconnect_timeout = \"1s\"\n\n[worker]\nuser_budget = \"1500ms\"\n";
    let mut service = service(folder.path(), &farm, more).await;
    let mut dice = Dice(5);
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(900 + dice.below(2_000))).await;
        service.kill().await;
        service.restart().await.unwrap();
    }
    farm.exchange.faults.clear();
    settles(&farm, &service, &mut Ledger::default()).await;
    stays_quiet(&farm).await;
    farm.stop().await;
}

/// The saved states are lost between kills: the copies are found again in the mailbox, none is made twice.
#[tokio::test(flavor = "multi_thread")]
async fn lost_sync_states_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(2, 1, 6, 5.0).await;
    let mut service = service(folder.path(), &farm, "").await;
    settles(&farm, &service, &mut Ledger::default()).await;
    let mut dice = Dice(2);
    for _ in 0..5 {
        service.kill().await;
        let file = SqliteConnectOptions::new().filename(folder.path().join("registry.sqlite"));
        let mut registry = SqliteConnection::connect_with(&file).await.unwrap();
        let deleted = sqlx::query("DELETE FROM sync_states")
            .execute(&mut registry)
            .await
            .unwrap();
        assert!(deleted.rows_affected() > 0);
        registry.close().await.unwrap();
        service.restart().await.unwrap();
        tokio::time::sleep(Duration::from_millis(200 + dice.below(1_500))).await;
    }
    settles(&farm, &service, &mut Ledger::default()).await;
    stays_quiet(&farm).await;
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_deleted_before_its_folder_was_read_again_is_deleted_at_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(3, 1, 1, 5.0).await;
    let service = service(folder.path(), &farm, "").await;
    settles(&farm, &service, &mut Ledger::default()).await;
    let (tenant, applied) = (&farm.population.tenants[0], &farm.applied[0]);
    let (person, user, list) = (&tenant.people[0], applied.users[0], applied.lists[0].0);
    let edit = ItemEdit {
        title: Some("Here and gone".to_owned()),
        assigned_to: Some(vec![user]),
        ..ItemEdit::default()
    };
    let item = farm
        .sharepoint
        .person_creates(&tenant.site, list, edit, user)
        .unwrap();
    let key = Farm::key(list, item);
    // An item that comes and goes between two readings is never reported; so it goes as soon as it is there.
    let copy = eventually("the copy", || {
        let copies = farm.exchange.items(&person.smtp);
        copies
            .into_iter()
            .find(|copy| copy.named.get("TaskSyncSourceKey") == Some(&key))
    })
    .await;
    farm.exchange
        .person_deletes(&person.smtp, &copy.id, true)
        .unwrap();
    eventually("the deletion at the source", || {
        let items = farm.sharepoint.items(&tenant.site, list).unwrap();
        items.into_iter().find(|found| found.id == item && found.recycled)
    })
    .await;
    settles(&farm, &service, &mut Ledger::default()).await;
    farm.stop().await;
}

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
