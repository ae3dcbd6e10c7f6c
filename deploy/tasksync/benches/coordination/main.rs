//! Measures the CPU time per user sync of scheduler, worker loop, Redis and RabbitMQ together when no user has
//! anything to sync: the cost of choosing users, sending jobs and taking results back.
//!
//! The real dispatch loop and the real worker loop run over a real Redis, RabbitMQ and registry. Each has its own
//! connections and threads, as two processes would. 100,000 people of 1,000 tenants, half of them in one tenant, are
//! always due. What the same processes use while no user is due is measured first and subtracted. The baseline does
//! the least possible over the same servers, see `bare`.
//!
//! `tasksync-loadtest services --redis --rabbitmq --postgres --redis-volatile --
//! cargo bench -p tasksync --bench coordination` names the servers and their process ids in the
//! environment. Without PostgreSQL, the registry is an SQLite file.

mod bare;
mod cpu;
mod population;
mod stack;
#[path = "../../../../common/benches/support/mod.rs"]
mod support;

use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bare::Bare;
use cpu::{Meter, Part, Usage};
use population::{PEOPLE, Shape, TENANTS};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stack::Stack;
use support::{end, say};
use tasksync_common::clock::SystemClock;
use tasksync_common::clock::monotonic;
use tasksync_common::random::unique_id;
use tasksync_common::registry::{Registry, open_registry};
use tasksync_common::schedule::{Schedule, open_schedule, rebuild};
use tasksync_common::settings::Settings;
use tasksync_common::telemetry;
use tokio::runtime::{Builder, Handle, Runtime};
use url::Url;

const REDIS: &str = "TASKSYNC_TEST_REDIS_URL";
const AMQP: &str = "TASKSYNC_TEST_AMQP_URL";
const POSTGRES: &str = "TASKSYNC_TEST_POSTGRES_URL";
const REDIS_PID: &str = "TASKSYNC_TEST_REDIS_PID";
const RABBITMQ_PID: &str = "TASKSYNC_TEST_RABBITMQ_PID";
const POSTGRES_PID: &str = "TASKSYNC_TEST_POSTGRES_PID";

/// A debug build only rehearses, as the gate does: it does everything once and in small, and its figures mean
/// nothing.
const REHEARSAL: bool = cfg!(debug_assertions);
/// Most batches the worker takes at a time: enough for thousands of users per second at one look per second.
const BATCHES_AT_ONCE: usize = 64;
/// How long the background use is measured.
const QUIET: Duration = Duration::from_secs(if REHEARSAL { 1 } else { 12 });
/// Number of measured slices, of which the median counts; user syncs of a slice; and its longest time, after which it
/// ends early.
const SLICES: usize = if REHEARSAL { 1 } else { 4 };
const SLICE: u64 = if REHEARSAL { 500 } else { 50_000 };
const LONGEST_SLICE: Duration = Duration::from_secs(12);
/// Users of one round of the baseline, and number of rounds.
const BARE_USERS: usize = if REHEARSAL { 1_000 } else { 50_000 };
const BARE_ROUNDS: usize = if REHEARSAL { 1 } else { 3 };
/// The parts that count for the aim, and the aim in microseconds per user sync.
const COUNTED: [Part; 5] = [
    Part::Scheduler,
    Part::Worker,
    Part::Amqp,
    Part::Redis,
    Part::RabbitMq,
];
const AIM: f64 = 10.0;

fn main() -> ExitCode {
    end("coordination", measure())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark learns from the environment which servers it may use"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn pid(name: &str) -> Result<u32, String> {
    let value = variable(name).ok_or_else(|| format!("{name} is not set"))?;
    value.parse().map_err(|error| format!("{name}: {error}"))
}

/// Returns a runtime whose threads have this name, so that their CPU time can be told apart.
fn runtime(name: &str) -> Result<Runtime, String> {
    Builder::new_multi_thread()
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(text)
}

fn measure() -> Result<(), String> {
    let (Some(redis), Some(amqp)) = (variable(REDIS), variable(AMQP)) else {
        say(&format!("coordination: skipped, {REDIS} or {AMQP} is not set"));
        return Ok(());
    };
    let mut servers = vec![
        (Part::Redis, pid(REDIS_PID)?),
        (Part::RabbitMq, pid(RABBITMQ_PID)?),
    ];
    let postgres = variable(POSTGRES);
    if postgres.is_some() {
        servers.push((Part::Registry, pid(POSTGRES_PID)?));
    }
    let (scheduler, worker, bare) = (runtime("scheduler")?, runtime("worker")?, runtime("bare")?);
    let main = Builder::new_current_thread().enable_all().build().map_err(text)?;
    let name = format!("bench{}", unique_id().simple());
    let folder = tempfile::tempdir().map_err(text)?;
    let bench = Bench {
        meter: Meter::new(servers),
        scheduler: scheduler.handle().clone(),
        worker: worker.handle().clone(),
        bare: bare.handle().clone(),
        redis,
        amqp,
        name,
    };
    let mut settings = Settings::default();
    settings.log.filter = String::from("warn,sqlx=error");
    let _telemetry = telemetry::init(&settings.log, &settings.telemetry, "standalone").map_err(text)?;
    main.block_on(async {
        let measured = bench.run(postgres.as_deref(), folder.path()).await;
        let removed = bench.remove().await;
        measured.and(removed)
    })
}

/// The registry's database.
struct Database {
    url: String,
    name: String,
}

impl Database {
    async fn create(postgres: Option<&str>, folder: &Path, name: &str) -> Result<Self, String> {
        let url = match postgres {
            None => format!("sqlite:{}", folder.join(name).display()),
            Some(server) => {
                on_server(server, &format!("CREATE DATABASE {name}")).await?;
                let mut url: Url = server.parse().map_err(text)?;
                url.set_path(name);
                url.into()
            }
        };
        Ok(Self {
            url,
            name: name.to_owned(),
        })
    }

    async fn remove(&self, postgres: Option<&str>) -> Result<(), String> {
        match postgres {
            None => Ok(()),
            Some(server) => on_server(server, &format!("DROP DATABASE {} WITH (FORCE)", self.name)).await,
        }
    }
}

async fn on_server(server: &str, statement: &str) -> Result<(), String> {
    let mut connection = PgConnection::connect(server).await.map_err(text)?;
    sqlx::query(AssertSqlSafe(statement.to_owned()))
        .execute(&mut connection)
        .await
        .map(drop)
        .map_err(text)
}

struct Bench {
    meter: Meter,
    scheduler: Handle,
    worker: Handle,
    bare: Handle,
    redis: String,
    amqp: String,
    /// Prefix of everything this run creates.
    name: String,
}

/// CPU time, user syncs and jobs of a period.
struct Cost {
    usage: Usage,
    users: u64,
    jobs: u64,
    elapsed: Duration,
}

impl Cost {
    /// Returns the microseconds per user of some parts, without their background use.
    fn per_user(&self, parts: &[Part], background: &Usage) -> f64 {
        let anyway = background.sum(parts) * self.elapsed.as_secs_f64();
        (self.usage.sum(parts) - anyway) * 1e6 / float(self.users.max(1))
    }
}

impl Bench {
    async fn run(&self, postgres: Option<&str>, folder: &Path) -> Result<(), String> {
        say(&format!(
            "CPU per user sync of scheduler, worker loop, Redis and RabbitMQ when no user has anything to sync\n\
             ({PEOPLE} people of {TENANTS} tenants, half of them in one, always due; median of {SLICES} slices of at most {SLICE} syncs; what the\n\
             same processes use while no user is due, before or after, is subtracted; bare: one sorted set and one queue, batches of 100, see the source)\n"
        ));
        let bare = self.baseline().await?;
        for shape in [Shape::Batches, Shape::Scattered] {
            // The registry keeps the mark of a schedule, so each schedule has a registry of its own.
            let name = format!("{}{}", self.name, shape as u8);
            let database = Database::create(postgres, folder, &name).await?;
            let measured = self.shape(shape, &name, &database.url, &bare).await;
            database.remove(postgres).await?;
            measured?;
        }
        Ok(())
    }

    async fn shape(&self, shape: Shape, prefix: &str, registry: &str, bare: &[f64; 3]) -> Result<(), String> {
        let never = self.settings(registry, prefix, Duration::from_hours(720));
        let always = self.settings(registry, prefix, Duration::ZERO);
        let store = open_registry(&always.registry).await.map_err(text)?;
        population::enrol(&*store).await?;
        let schedule = open_schedule(&always.schedule, Arc::new(SystemClock))
            .await
            .map_err(text)?;
        population::order(&*schedule, shape).await?;
        say(&format!("Stamps {}", shape.name()));
        let before = self.quiet(&never).await?;
        self.search(&store, &schedule).await?;
        let slices = self.busy(&always).await?;
        let after = self.quiet(&never).await?;
        // A server's own housekeeping comes and goes. Only what was used both before and after is subtracted.
        let quiet = before.map(|part, rate| rate.min(after.of(part)));
        report(&slices, &quiet, bare);
        Ok(())
    }

    fn settings(&self, registry: &str, prefix: &str, minimum: Duration) -> Arc<Settings> {
        let mut settings = Settings::default();
        registry.clone_into(&mut settings.registry.url);
        settings.schedule.url.clone_from(&self.redis);
        prefix.clone_into(&mut settings.schedule.key_prefix);
        settings.schedule.minimum_time_between_user_syncs = minimum;
        settings.schedule.maximum_time_between_user_syncs = minimum;
        settings.queue.url.clone_from(&self.amqp);
        settings.queue.name_prefix.clone_from(&self.name);
        settings.worker.batches_at_once = BATCHES_AT_ONCE;
        Arc::new(settings)
    }

    /// Returns the CPU seconds per second while no user is due.
    async fn quiet(&self, settings: &Arc<Settings>) -> Result<Usage, String> {
        let stack = Stack::start(settings, &self.scheduler, &self.worker).await?;
        // Waits for the work that starting leaves behind, such as the rest of a full reading, and for jobs that were
        // still in the queue when the previous loops stopped.
        let mut before_that = stack.done();
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if stack.done() == before_that {
                break;
            }
            before_that = stack.done();
        }
        let (before, began) = (self.meter.read()?, monotonic());
        tokio::time::sleep(QUIET).await;
        let used = self.meter.read()?.since(&before);
        let elapsed = began.elapsed().as_secs_f64();
        let done = stack.done() - before_that;
        stack.stop().await?;
        if done > 0 {
            return Err(format!("{done} users were synced while none was due"));
        }
        let rate = used.map(|_, seconds| seconds / elapsed);
        say(&format!(
            "background, ms of CPU per second: scheduler {:.1}, worker {:.1}, AMQP client {:.1}, Redis {:.1}, RabbitMQ {:.1}, registry {:.1}",
            rate.of(Part::Scheduler) * 1e3,
            rate.of(Part::Worker) * 1e3,
            rate.of(Part::Amqp) * 1e3,
            rate.of(Part::Redis) * 1e3,
            rate.of(Part::RabbitMq) * 1e3,
            rate.of(Part::Registry) * 1e3,
        ));
        Ok(rate)
    }

    /// Measures the comparison of registry and schedule, which the leader makes every half hour.
    async fn search(&self, registry: &Arc<dyn Registry>, schedule: &Arc<dyn Schedule>) -> Result<(), String> {
        let before = self.meter.read()?;
        let (registry, schedule) = (Arc::clone(registry), Arc::clone(schedule));
        let minimum = Settings::default().schedule.minimum_time_between_user_syncs;
        let search = async move { rebuild::reconcile(&*registry, &*schedule, minimum).await };
        self.scheduler.spawn(search).await.map_err(text)?.map_err(text)?;
        let used = self.meter.read()?.since(&before);
        let per_person = |part| used.of(part) * 1e6 / float(PEOPLE as u64);
        say(&format!(
            "tenant search (every half an hour), µs of CPU per person: scheduler {:.1}, Redis {:.1}, registry {:.1}",
            per_person(Part::Scheduler) + per_person(Part::Amqp),
            per_person(Part::Redis),
            per_person(Part::Registry)
        ));
        Ok(())
    }

    async fn busy(&self, settings: &Arc<Settings>) -> Result<Vec<Cost>, String> {
        let stack = Stack::start(settings, &self.scheduler, &self.worker).await?;
        let mut slices = Vec::new();
        // The first slice warms everything up and does not count.
        for _ in 0..=SLICES {
            let (before, done, jobs) = (
                self.meter.read()?,
                stack.done(),
                stack.dispatch.jobs_published.get(),
            );
            let began = monotonic();
            while stack.done() - done < SLICE && began.elapsed() < LONGEST_SLICE {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let elapsed = began.elapsed();
            slices.push(Cost {
                usage: self.meter.read()?.since(&before),
                users: stack.done() - done,
                jobs: stack.dispatch.jobs_published.get() - jobs,
                elapsed,
            });
        }
        slices.remove(0);
        stack.stop().await?;
        if slices.iter().any(|slice| slice.users == 0) {
            return Err("no user was synced".to_owned());
        }
        Ok(slices)
    }

    /// Returns the baseline's microseconds per user: this process, Redis, RabbitMQ.
    async fn baseline(&self) -> Result<[f64; 3], String> {
        let (redis, amqp, name) = (self.redis.clone(), self.amqp.clone(), self.name.clone());
        let open = async move { Bare::open(&redis, &amqp, &name, BARE_USERS).await };
        let bare = Arc::new(self.bare.spawn(open).await.map_err(text)??);
        let mut rounds = Vec::new();
        for _ in 0..=BARE_ROUNDS {
            let before = self.meter.read()?;
            let once = Arc::clone(&bare);
            let users = self
                .bare
                .spawn(async move { once.run().await })
                .await
                .map_err(text)??;
            let used = self.meter.read()?.since(&before);
            let per_user = |seconds: f64| seconds * 1e6 / float(users.max(1));
            rounds.push([
                per_user(used.sum(&[Part::Bare, Part::Amqp])),
                per_user(used.of(Part::Redis)),
                per_user(used.of(Part::RabbitMq)),
            ]);
        }
        rounds.remove(0);
        let bare = Arc::into_inner(bare).ok_or("the baseline is still in use")?;
        self.bare.spawn(bare.close()).await.map_err(text)??;
        let median_of = |part: fn(&[f64; 3]) -> f64| median(rounds.iter().map(part));
        Ok([
            median_of(|[process, _, _]| *process),
            median_of(|[_, redis, _]| *redis),
            median_of(|[_, _, rabbitmq]| *rabbitmq),
        ])
    }

    /// Removes this run's keys and queues.
    async fn remove(&self) -> Result<(), String> {
        let client = redis::Client::open(self.redis.as_str()).map_err(text)?;
        let mut connection = client.get_multiplexed_async_connection().await.map_err(text)?;
        let mut cursor = 0_u64;
        loop {
            let (next, keys): (u64, Vec<String>) = redis::cmd("SCAN")
                .arg(cursor)
                .arg("MATCH")
                .arg(format!("{}*", self.name))
                .arg("COUNT")
                .arg(1_000)
                .query_async(&mut connection)
                .await
                .map_err(text)?;
            if !keys.is_empty() {
                let mut unlink = redis::cmd("UNLINK");
                let _: i64 = unlink
                    .arg(keys)
                    .query_async(&mut connection)
                    .await
                    .map_err(text)?;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let connection = lapin::Connection::connect(&self.amqp, lapin::ConnectionProperties::default());
        let connection = connection.await.map_err(text)?;
        let channel = connection.create_channel().await.map_err(text)?;
        for queue in ["bare", "tasks.background", "tasks.interactive", "tasks.dead"] {
            let name = format!("{}.{queue}", self.name);
            let options = lapin::options::QueueDeleteOptions::default();
            channel.queue_delete(name.into(), options).await.map_err(text)?;
        }
        Ok(())
    }
}

fn report(slices: &[Cost], background: &Usage, bare: &[f64; 3]) {
    let of = |parts: &[Part]| median(slices.iter().map(|slice| slice.per_user(parts, background)));
    let raw = |parts: &[Part]| {
        median(
            slices
                .iter()
                .map(|slice| slice.per_user(parts, &Usage::default())),
        )
    };
    let all = of(&COUNTED);
    let bare_all: f64 = bare.iter().sum();
    let rate = median(
        slices
            .iter()
            .map(|slice| float(slice.users) / slice.elapsed.as_secs_f64()),
    );
    let size = median(
        slices
            .iter()
            .map(|slice| float(slice.users) / float(slice.jobs.max(1))),
    );
    say(&format!(
        "{rate:.0} user syncs/s, {size:.1} users per job\n\
         µs of CPU per user sync   processes  Redis  RabbitMQ   all  (scheduler, worker, AMQP client)\n\
         tasksync                  {:>9.1} {:>6.1} {:>9.1} {all:>5.1}  ({:.1}, {:.1}, {:.1}); with background {:.1}; registry besides {:.1}\n\
         bare                      {:>9.1} {:>6.1} {:>9.1} {bare_all:>5.1}\n\
         ratio                     {:>8.1}x {:>5.1}x {:>8.1}x {:>4.1}x  aim: at most {AIM} µs: {}\n",
        of(&[Part::Scheduler, Part::Worker, Part::Amqp]),
        of(&[Part::Redis]),
        of(&[Part::RabbitMq]),
        of(&[Part::Scheduler]),
        of(&[Part::Worker]),
        of(&[Part::Amqp]),
        raw(&COUNTED),
        of(&[Part::Registry]),
        bare[0],
        bare[1],
        bare[2],
        of(&[Part::Scheduler, Part::Worker, Part::Amqp]) / bare[0],
        of(&[Part::Redis]) / bare[1],
        of(&[Part::RabbitMq]) / bare[2],
        all / bare_all,
        if all <= AIM { "met" } else { "NOT MET" },
    ));
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Returns a count as a floating-point number. No count of this benchmark comes near 4 billion.
fn float(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn text(error: impl Display) -> String {
    error.to_string()
}
