//! A farm of servers, the service between them, people who edit, and the checks at the end of every trial.

use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tasksync_loadtest::population::{PopulationSpec, Tenant};
use tasksync_loadtest::trial::{Editor, Farm, FarmSpec, Installation, Ledger, Oracle, Service, ServiceSpec};

use tasksync_loadtest::machine_clock::monotonic;

/// Longest time for everything to arrive; generous, because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Shortest time between two edits of one task.
const REST: Duration = Duration::from_secs(3);

/// A pseudorandom generator: the same seed gives the same numbers.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

pub(crate) async fn farm(seed: u64, tenants: usize, users: usize, tasks: f64) -> Arc<Farm> {
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

/// Starts the service with every user enrolled and synced every 1 to 1.5 seconds.
pub(crate) async fn service(folder: &Path, farm: &Farm, more: &str) -> Service {
    let service = start(folder, farm, Duration::from_secs(1), more).await;
    service.enrol(farm).await.unwrap();
    service
}

/// Starts the service without users. `minimum` is the shortest time between two syncs of a user.
pub(crate) async fn start(folder: &Path, farm: &Farm, minimum: Duration, more: &str) -> Service {
    start_as(env!("CARGO_BIN_EXE_tasksync").into(), folder, farm, minimum, more).await
}

/// Starts the service with a script around the executable.
pub(crate) async fn start_as(
    executable: PathBuf,
    folder: &Path,
    farm: &Farm,
    minimum: Duration,
    more: &str,
) -> Service {
    Service::start(spec(executable, folder, minimum, more), farm)
        .await
        .unwrap()
}

/// Returns the settings of the services in these trials.
pub(crate) fn spec(executable: PathBuf, folder: &Path, minimum: Duration, more: &str) -> ServiceSpec {
    ServiceSpec {
        executable,
        folder: folder.to_owned(),
        minimum_interval: minimum,
        maximum_interval: minimum * 3 / 2,
        top_up_interval: Duration::from_millis(100),
        more: more.to_owned(),
        environment: Vec::new(),
        is_earlier_build: false,
    }
}

/// Exit code and output of a command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command against the service.
pub(crate) fn ask(service: &Service, arguments: &[&str]) -> Ended {
    let mut command = tasksync();
    command
        .args(arguments)
        .env("TASKSYNC_URL", service.url())
        .env("TASKSYNC_TOKEN", service.token());
    run(&mut command)
}

/// Opts in all people of the tenant by a file.
pub(crate) fn import_people(service: &Service, tenant: &Tenant, folder: &Path) {
    let mut lines = vec!["user,source_login,mailbox,time_zone".to_owned()];
    lines.extend(tenant.people.iter().map(|person| {
        let user = Farm::user_name(person);
        format!("{user},{},{},{}", person.login, person.smtp, person.time_zone)
    }));
    let file = folder.join("people.csv");
    std::fs::write(&file, lines.join("\n") + "\n").unwrap();
    let imported = ask(
        service,
        &[
            "user",
            "opt-in",
            &tenant.slug,
            "--file",
            &file.display().to_string(),
        ],
    );
    assert_eq!(imported.code, 0, "{imported:?}");
}

/// Returns the executable's command with an empty environment and free ports.
pub(crate) fn tasksync() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasksync"));
    command
        .env_clear()
        .env("TASKSYNC_API__LISTEN", "127.0.0.1:0")
        .env("TASKSYNC_HEALTH__LISTEN", "127.0.0.1:0")
        .stdin(Stdio::null());
    command
}

/// Runs a command to its end. A command that does not end is killed, and its code is then -1.
pub(crate) fn run(command: &mut Command) -> Ended {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let reads = |mut from: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            from.read_to_string(&mut text).unwrap();
            text
        })
    };
    let out = reads(Box::new(child.stdout.take().unwrap()));
    let err = reads(Box::new(child.stderr.take().unwrap()));
    let started = monotonic();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    Ended {
        code: status.code().unwrap_or(-1),
        out: out.join().unwrap(),
        err: err.join().unwrap(),
    }
}

/// People who edit on both sides until they are stopped. Each edit is watched until the other side shows it.
pub(crate) struct People {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Ledger>,
}

impl People {
    pub(crate) fn start(farm: &Arc<Farm>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (farm, stopping) = (Arc::clone(farm), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut editor, mut ledger) = (Editor::resting(seed, REST), Ledger::default());
            while !stopping.load(Ordering::Relaxed) {
                editor.act(&farm, &mut ledger).unwrap();
                watch(&farm, &mut ledger);
                std::thread::sleep(Duration::from_millis(60));
            }
            ledger
        });
        Self { stop, thread }
    }

    pub(crate) fn stop(self) -> Ledger {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

pub(crate) fn watch(farm: &Farm, ledger: &mut Ledger) {
    let oracle = Oracle::new(farm);
    for edit in ledger.open() {
        if oracle.shows(edit) {
            edit.seen = Some(monotonic());
        }
    }
}

/// Anything whose logs can be shown when a test fails.
pub(crate) trait Logs {
    fn tail(&self) -> String;
}

impl Logs for Service {
    fn tail(&self) -> String {
        self.log_tail(40)
    }
}

impl Logs for Installation {
    fn tail(&self) -> String {
        self.log_tail(20)
    }
}

/// Waits until both sides agree and every edit was seen. Fails with what is wrong if that does not happen.
pub(crate) async fn wait_until_settled(farm: &Farm, service: &impl Logs, ledger: &mut Ledger) {
    let oracle = Oracle::new(farm);
    let started = monotonic();
    loop {
        watch(farm, ledger);
        let verdict = oracle.compare_sides();
        let unseen = ledger.unseen(20);
        if verdict.agrees() && unseen.is_empty() {
            return;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "the sides do not come together:\n{}\n{}\nlog:\n{}",
            verdict.lines(20).join("\n"),
            unseen.join("\n"),
            service.tail()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

pub(crate) fn writes(farm: &Farm) -> u64 {
    farm.exchange.stats.snapshot().writes + farm.sharepoint.stats.item_writes()
}

/// Checks that further syncs write nothing once the service's own last writes came back.
pub(crate) async fn assert_no_writes(farm: &Farm) {
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = writes(farm);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(
        writes(farm),
        before,
        "something was written although there were no edits"
    );
    let verdict = Oracle::new(farm).compare_sides();
    assert!(verdict.agrees(), "{}", verdict.lines(20).join("\n"));
}

pub(crate) async fn eventually<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let started = monotonic();
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) async fn eventually_async(what: &str, mut poll: impl AsyncFnMut() -> bool) {
    let started = monotonic();
    while !poll().await {
        assert!(started.elapsed() < PATIENCE, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns a script that runs the executable as the first process of a namespace, as in a container. If that is not
/// permitted here, prints so and returns `None`.
pub(crate) fn as_process_1(folder: &Path) -> Option<PathBuf> {
    let permitted = Command::new("unshare").args(["--pid", "--fork", "true"]).output();
    if !permitted.is_ok_and(|ended| ended.status.success()) {
        println!("SKIPPED: unshare --pid is not permitted here");
        return None;
    }
    let script = folder.join("tasksync.sh");
    let text = format!(
        "#!/bin/sh\nexec unshare --pid --fork --kill-child {} \"$@\"\n",
        env!("CARGO_BIN_EXE_tasksync")
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(script)
}

/// Sends SIGTERM to the first process inside the namespace that `outer` created, and waits until both have ended.
pub(crate) async fn terminate_process_1(outer: u32, logs: impl Fn() -> String) {
    let children = std::fs::read_to_string(format!("/proc/{outer}/task/{outer}/children")).unwrap();
    let inner = children.split_whitespace().next().unwrap().to_owned();
    let namespaces = std::fs::read_to_string(format!("/proc/{inner}/status")).unwrap();
    let line = namespaces
        .lines()
        .find(|line| line.starts_with("NSpid:"))
        .unwrap();
    assert_eq!(line.split_whitespace().last(), Some("1"), "{line}");
    let sent = Command::new("kill").args(["-TERM", &inner]).status().unwrap();
    assert!(sent.success());
    let asked = monotonic();
    while !std::fs::read_to_string(format!("/proc/{outer}/stat"))
        .unwrap()
        .contains(") Z ")
    {
        assert!(asked.elapsed() < PATIENCE, "{}", logs());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
