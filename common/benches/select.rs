//! The cost of choosing the next users in the memory index, compared with a bare ordered set of the same
//! stamps.
//!
//! The baseline takes the oldest entry out of one `BTreeSet` of (stamp, number) and puts it in again at the
//! end. That is the least that any exact order by waiting time can cost, without tenants, claims, tokens or
//! history.

mod support;

use std::collections::BTreeSet;
use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use support::{end, say};
use tasksync_common::clock::ManualClock;
use tasksync_common::clock::monotonic;
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::schedule::select::{BatchLimit, SelectionLimits, select};
use tasksync_common::schedule::topics::*;
use tasksync_common::schedule::{ClaimAnswer, Epoch, FinishedAttempt, History, MemorySchedule};

/// A debug build only rehearses, as the gate does: everything runs once and small, and the figures mean
/// nothing.
const REHEARSAL: bool = cfg!(debug_assertions);
/// Numbers of users and tenants.
const SIZES: &[(usize, usize)] = if REHEARSAL {
    &[(1_000, 10)]
} else {
    &[(10_000, 100), (100_000, 1_000), (1_000_000, 10_000)]
};
/// Number of rounds of each kind, alternating.
const ROUNDS: usize = if REHEARSAL { 1 } else { 7 };
/// Number of users chosen in one round.
const USERS_PER_ROUND: usize = if REHEARSAL { 200 } else { 20_000 };
/// Number of users that one selection takes: 16 batches of 100.
const CAPACITY: usize = 1_600;
/// The default of `schedule.tenants_per_run`.
const TENANTS_PER_RUN: usize = 50;
/// Every stamp is at least this old.
const MINIMUM: Duration = Duration::from_mins(5);

fn main() -> ExitCode {
    let measured = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(run()));
    end("select", measured)
}

async fn run() -> Result<(), String> {
    say("Choosing who is next in the memory index: users in exact order of waiting time over all tenants");
    say(&format!(
        "(median of {ROUNDS} rounds of {USERS_PER_ROUND} users; at most {CAPACITY} users and {TENANTS_PER_RUN} tenants per\n\
         selection, as the dispatch loop asks; bare: one ordered set of all stamps, oldest out and in again; memory: of the\n\
         index, measured as resident memory)\n"
    ));
    say("                         select only      select, claim, finish   bare set  memory");
    say("     users tenants   users/s   ns/user    users/s  ns/user   ratio    ns/user  B/user");
    for &(users, tenants) in SIZES {
        let line = measure(users, tenants).await?;
        say(&line);
    }
    say("");
    Ok(())
}

/// Returns the results for one size, as a line.
async fn measure(users: usize, tenants: usize) -> Result<String, String> {
    let clock = ManualClock::at(Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 56));
    let start = clock_now(&clock);
    let before = resident_bytes()?;
    let schedule = MemorySchedule::new(clock.clone(), MINIMUM);
    let mut numbers = Numbers(users as u64);
    // Waiting times between 10 minutes and 4 hours, in random order.
    let stamps: Vec<Timestamp> = (0..users)
        .map(|_| {
            let waited = 600_000_000 + numbers.below(13_800_000_000);
            start - SignedDuration::from_micros(i64::try_from(waited).unwrap_or(0))
        })
        .collect();
    let before = before + number(stamps.capacity() * size_of::<Timestamp>());
    for (number, stamp) in stamps.iter().enumerate() {
        let tenant: TenantId = name(&format!("tenant-{:05}", number % tenants))?;
        let user: UserId = name(&format!("user{number:07}@contoso.example"))?;
        schedule
            .enrol(&UserKey::new(tenant, user), *stamp, Some(*stamp))
            .await
            .map_err(text)?;
    }
    let memory = (resident_bytes()? - before) / number(users);
    let mut set: BTreeSet<(Timestamp, usize)> = stamps
        .into_iter()
        .enumerate()
        .map(|(at, stamp)| (stamp, at))
        .collect();
    let epoch = schedule
        .lead("bench", Duration::from_hours(1))
        .await
        .map_err(text)?
        .ok_or("no process leads")?;

    let limits = dispatch_limits();
    let (mut selecting, mut rotation, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let turns = [
            only_select(&schedule, &clock, &limits).await?,
            rotate(&schedule, &clock, epoch, &limits).await?,
            rotate_bare(&mut set, clock_now(&clock)),
        ];
        if round > 0 {
            for (kind, nanoseconds) in [&mut selecting, &mut rotation, &mut bare].into_iter().zip(turns) {
                kind.push(nanoseconds);
            }
        }
    }
    let (selecting, rotation, bare) = (median(&selecting), median(&rotation), median(&bare));
    Ok(format!(
        "{users:>10} {tenants:>7} {:>9.0} {selecting:>9.0}  {:>9.0} {rotation:>8.0}  {:>5.1}x   {bare:>8.0} {memory:>7.0}",
        1e9 / selecting,
        1e9 / rotation,
        rotation / bare,
    ))
}

/// Returns the limits that the dispatch loop uses.
fn dispatch_limits() -> SelectionLimits {
    SelectionLimits {
        minimum: MINIMUM,
        tenants: TENANTS_PER_RUN,
        users_per_batch: 100,
        users: CAPACITY,
        tenant_in_flight: 0,
        batches: BatchLimit::default(),
    }
}

/// Selects repeatedly and claims no users. Returns nanoseconds per user.
async fn only_select(
    schedule: &MemorySchedule,
    clock: &ManualClock,
    limits: &SelectionLimits,
) -> Result<f64, String> {
    let (mut users, started) = (0, monotonic());
    while users < USERS_PER_ROUND {
        let chosen = select(schedule, limits.clone(), clock_now(clock))
            .await
            .map_err(text)?;
        users += some(chosen.users())?;
        black_box(&chosen);
    }
    Ok(nanoseconds_per_user(started.elapsed(), users))
}

/// Selects, claims and finishes, so that all users have their turns. Returns nanoseconds per user.
async fn rotate(
    schedule: &MemorySchedule,
    clock: &ManualClock,
    epoch: Epoch,
    limits: &SelectionLimits,
) -> Result<f64, String> {
    let (mut users, started) = (0, monotonic());
    while users < USERS_PER_ROUND {
        let chosen = select(schedule, limits.clone(), clock_now(clock))
            .await
            .map_err(text)?;
        some(chosen.users())?;
        for batch in chosen.batches {
            let claim = schedule
                .claim(epoch, &batch.tenant, &batch.users, Duration::from_mins(2))
                .await
                .map_err(text)?;
            let ClaimAnswer::Claimed {
                token,
                users: claimed,
            } = claim
            else {
                return Err("the claim was refused".to_owned());
            };
            let results: Vec<FinishedAttempt> = claimed
                .into_iter()
                .map(|claimed| FinishedAttempt {
                    user: claimed.user,
                    result: Ok(()),
                    history: History::default(),
                    // Due again at once, behind all others: the order rotates and never runs dry.
                    due_after: Duration::ZERO,
                })
                .collect();
            users += schedule
                .finish(&batch.tenant, token, &results)
                .await
                .map_err(text)?
                .len();
            // No two stamps are the same.
            clock.advance(SignedDuration::from_micros(1));
        }
    }
    Ok(nanoseconds_per_user(started.elapsed(), users))
}

fn rotate_bare(set: &mut BTreeSet<(Timestamp, usize)>, now: Timestamp) -> f64 {
    let started = monotonic();
    for _ in 0..USERS_PER_ROUND {
        if let Some((stamp, user)) = set.pop_first() {
            black_box(stamp);
            set.insert((now, user));
        }
    }
    nanoseconds_per_user(started.elapsed(), USERS_PER_ROUND)
}

fn nanoseconds_per_user(elapsed: Duration, users: usize) -> f64 {
    elapsed.as_secs_f64() * 1e9 / number(users)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "user counts and bytes are far below 2^52"
)]
fn number(count: usize) -> f64 {
    count as f64
}

fn some(users: usize) -> Result<usize, String> {
    if users == 0 {
        return Err("no user was due".to_owned());
    }
    Ok(users)
}

fn clock_now(clock: &ManualClock) -> Timestamp {
    tasksync_common::clock::Clock::now(clock)
}

fn name<T: std::str::FromStr<Err: std::fmt::Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| format!("{text}: {error}"))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Returns the resident memory of this process, in bytes.
fn resident_bytes() -> Result<f64, String> {
    let path = "/proc/self/status";
    let status = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok())
        .ok_or_else(|| format!("{path} is not as expected"))?;
    Ok(kilobytes * 1_024.0)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Pseudo-random numbers that are the same in every run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}
