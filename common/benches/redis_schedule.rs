//! The cost of one dispatch in Redis, and the memory of one user, as the number of users grows.
//!
//! A dispatch chooses and claims 5,000 users in batches of 100: heads, the oldest users of the leading
//! tenants, one claim per batch. The aim is at most 1.5 times the cost at 10,000 users, and at most 200 bytes
//! per user. The benchmark requires `TASKSYNC_TEST_REDIS_URL`, an otherwise idle server. It uses a prefix of
//! its own and removes it.

mod support;

use std::process::ExitCode;
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use jiff::SignedDuration;
use support::{end, say};
use tasksync_common::clock::monotonic;
use tasksync_common::contract::schedule::successes;
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::random::unique_id;
use tasksync_common::redis::{RedisOptions, RedisStore, Repeat};
use tasksync_common::schedule::select::{BatchLimit, SelectionLimits, select};
use tasksync_common::schedule::topics::*;
use tasksync_common::schedule::{ClaimAnswer, Epoch, RedisSchedule, Token};

const URL: &str = "TASKSYNC_TEST_REDIS_URL";
/// A debug build only rehearses, as the gate does: everything runs once and small, and the figures mean
/// nothing.
const REHEARSAL: bool = cfg!(debug_assertions);
/// Users of one dispatch, and of one batch.
const DISPATCH: usize = if REHEARSAL { 500 } else { 5_000 };
const BATCH: usize = 100;
/// Users of an ordinary tenant.
const TENANT: usize = 100;
const SIZES: &[usize] = if REHEARSAL {
    &[1_000]
} else {
    &[10_000, 100_000, 1_000_000]
};
/// Number of dispatches measured at each size; the first one does not count.
const ROUNDS: usize = if REHEARSAL { 2 } else { 7 };
const MINIMUM: Duration = Duration::from_mins(5);
const LEASE: Duration = Duration::from_hours(1);
/// Number of calls in flight while users are enrolled.
const AT_ONCE: usize = 256;

/// The distribution of users over tenants.
#[derive(Clone, Copy)]
enum Shape {
    /// All tenants have the same number of users.
    Even,
    /// One tenant has half of all users.
    OneHalf,
}

fn main() -> ExitCode {
    let Some(url) = url() else {
        say(&format!("redis_schedule: skipped, {URL} is not set"));
        return ExitCode::SUCCESS;
    };
    let measured = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(run(&url)));
    end("redis_schedule", measured)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark learns from the environment which server it may use"
)]
fn url() -> Option<String> {
    std::env::var(URL).ok().filter(|url| !url.is_empty())
}

async fn run(url: &str) -> Result<(), String> {
    say(&format!(
        "One dispatch of {DISPATCH} users in batches of {BATCH} from Redis, and its end (median of {} rounds; server: its\n\
         CPU time and its own account of the commands; ratio: to 10,000 users of the same shape)\n",
        ROUNDS - 1
    ));
    say("                        dispatch (heads, oldest, claim)            finish    ");
    say(
        "shape        users   wall ms  ratio  server ms  ratio  commands ms   wall ms  server ms  bytes/user",
    );
    for (shape, name) in [(Shape::Even, "even"), (Shape::OneHalf, "half in one")] {
        let mut first: Option<Cost> = None;
        for &users in SIZES {
            let prefix = format!("bench{}", unique_id().simple());
            let cost = measure(url, &prefix, shape, users).await;
            remove(url, &prefix).await?;
            let cost = cost?;
            let base = first.get_or_insert(cost);
            say(&format!(
                "{name:<11}{users:>7} {:>9.1} {:>6.2} {:>10.1} {:>6.2} {:>12.1} {:>9.1} {:>10.1} {:>11.0}",
                cost.wall,
                cost.wall / base.wall,
                cost.server,
                cost.server / base.server,
                cost.commands,
                cost.finish_wall,
                cost.finish_server,
                cost.bytes
            ));
        }
    }
    say("");
    Ok(())
}

/// The cost of a dispatch in milliseconds, and the memory of a user in bytes.
#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    server: f64,
    commands: f64,
    finish_wall: f64,
    finish_server: f64,
    bytes: f64,
}

/// What the server reports about itself: CPU milliseconds, milliseconds inside commands, bytes.
#[derive(Clone, Copy)]
struct Server {
    cpu: f64,
    commands: f64,
    memory: f64,
}

async fn measure(url: &str, prefix: &str, shape: Shape, users: usize) -> Result<Cost, String> {
    let store = RedisStore::new(
        URL,
        url,
        RedisOptions {
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_mins(1),
            ..RedisOptions::default()
        },
    )
    .map_err(text)?;
    let schedule = RedisSchedule::new(store.clone(), prefix, MINIMUM);
    let empty = server(&store).await?;
    load(&schedule, shape, users).await?;
    let full = server(&store).await?;
    let epoch = schedule
        .lead("bench", LEASE)
        .await
        .map_err(text)?
        .ok_or("another process leads")?;
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let before = server(&store).await?;
        let began = monotonic();
        let claimed = dispatch(&schedule, epoch).await?;
        let wall = milliseconds(began.elapsed());
        let between = server(&store).await?;
        let began = monotonic();
        finish(&schedule, claimed).await?;
        let finish_wall = milliseconds(began.elapsed());
        let after = server(&store).await?;
        rounds.push(Cost {
            wall,
            server: between.cpu - before.cpu,
            commands: between.commands - before.commands,
            finish_wall,
            finish_server: after.cpu - between.cpu,
            bytes: 0.0,
        });
    }
    rounds.remove(0);
    let median = |of: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    Ok(Cost {
        wall: median(|cost| cost.wall),
        server: median(|cost| cost.server),
        commands: median(|cost| cost.commands),
        finish_wall: median(|cost| cost.finish_wall),
        finish_server: median(|cost| cost.finish_server),
        bytes: (full.memory - empty.memory) / number(users),
    })
}

/// Enrols all users so that those of a tenant have neighbouring stamps, as batches leave them.
async fn load(schedule: &RedisSchedule, shape: Shape, users: usize) -> Result<(), String> {
    let start = schedule.now().await.map_err(text)? - SignedDuration::from_hours(24);
    let keys = (0..users).map(|index| {
        let batch = index / TENANT;
        let tenant = match shape {
            // Every other batch belongs to the large tenant.
            Shape::OneHalf if batch.is_multiple_of(2) => 0,
            Shape::Even | Shape::OneHalf => batch + 1,
        };
        (tenant, index)
    });
    futures::stream::iter(keys)
        .map(|(tenant, index)| async move {
            let tenant: TenantId = format!("tenant-{tenant}").parse().map_err(text)?;
            let user: UserId = format!("user{index:07}@contoso").parse().map_err(text)?;
            let at = start + SignedDuration::from_micros(i64::try_from(index).map_err(text)? * 1_000);
            schedule
                .enrol(&UserKey::new(tenant, user), at, Some(at))
                .await
                .map_err(text)
        })
        .buffer_unordered(AT_ONCE)
        .try_for_each(|_| async { Ok(()) })
        .await
}

async fn dispatch(
    schedule: &RedisSchedule,
    epoch: Epoch,
) -> Result<Vec<(TenantId, Token, Vec<UserId>)>, String> {
    let limits = SelectionLimits {
        minimum: Duration::ZERO,
        tenants: 100,
        users_per_batch: BATCH,
        users: DISPATCH,
        tenant_in_flight: 0,
        batches: BatchLimit::default(),
    };
    let now = schedule.now().await.map_err(text)?;
    let chosen = select(schedule, limits, now).await.map_err(text)?;
    let mut claimed = Vec::new();
    let mut count = 0;
    for batch in chosen.batches {
        let answer = schedule
            .claim(epoch, &batch.tenant, &batch.users, LEASE)
            .await
            .map_err(text)?;
        let ClaimAnswer::Claimed { token, users } = answer else {
            return Err("the claim was refused".to_owned());
        };
        count += users.len();
        claimed.push((
            batch.tenant,
            token,
            users.into_iter().map(|claimed| claimed.user).collect(),
        ));
    }
    if count != DISPATCH {
        return Err(format!("{count} users were claimed and not {DISPATCH}"));
    }
    Ok(claimed)
}

async fn finish(
    schedule: &RedisSchedule,
    claimed: Vec<(TenantId, Token, Vec<UserId>)>,
) -> Result<(), String> {
    for (tenant, token, users) in claimed {
        // Reported like a worker reports users that end together.
        for group in users.chunks(BATCH) {
            let results = successes(group, MINIMUM);
            let finished = schedule.finish(&tenant, token, &results).await.map_err(text)?;
            if finished.len() != group.len() {
                return Err("a claim was lost".to_owned());
            }
        }
    }
    Ok(())
}

async fn server(store: &RedisStore) -> Result<Server, String> {
    let mut command = redis::cmd("INFO");
    command.arg("all");
    let info: String = store
        .command("asking the server of itself", command, Repeat::Yes)
        .await
        .map_err(text)?;
    let field = |name: &str| {
        info.lines()
            .find_map(|line| {
                line.strip_prefix(name)?
                    .strip_prefix(':')?
                    .trim()
                    .parse::<f64>()
                    .ok()
            })
            .unwrap_or(0.0)
    };
    let commands: f64 = info
        .lines()
        // Commands inside scripts have counts of their own and are also part of the script's time.
        .filter(|line| {
            ["cmdstat_evalsha:", "cmdstat_eval:", "cmdstat_zrangebyscore:"]
                .iter()
                .any(|name| line.starts_with(name))
        })
        .filter_map(|line| line.split("usec=").nth(1)?.split(',').next()?.parse::<f64>().ok())
        .sum();
    Ok(Server {
        cpu: (field("used_cpu_user") + field("used_cpu_sys")) * 1_000.0,
        commands: commands / 1_000.0,
        memory: field("used_memory"),
    })
}

/// Removes the keys of one prefix, page by page.
async fn remove(url: &str, prefix: &str) -> Result<(), String> {
    let store = RedisStore::new(URL, url, RedisOptions::default()).map_err(text)?;
    let mut cursor = "0".to_owned();
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(&cursor)
            .arg("MATCH")
            .arg(format!("{prefix}*"))
            .arg("COUNT")
            .arg(1_000);
        let (next, keys): (String, Vec<String>) = store
            .command("listing keys", scan, Repeat::Yes)
            .await
            .map_err(text)?;
        if !keys.is_empty() {
            let mut unlink = redis::cmd("UNLINK");
            unlink.arg(keys);
            let _: i64 = store
                .command("removing keys", unlink, Repeat::Yes)
                .await
                .map_err(text)?;
        }
        if next == "0" {
            return Ok(());
        }
        cursor = next;
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[expect(clippy::cast_precision_loss, reason = "user counts are far below 2^52")]
fn number(count: usize) -> f64 {
    count as f64
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
