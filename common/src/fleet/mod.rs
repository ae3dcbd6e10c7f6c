//! What all processes of one installation share while they work: who is alive, how many requests each may have in flight
//! at a server, which pauses servers asked for, and which tenants cannot be synced.
//!
//! Every process makes one [`Fleet::exchange`] about once per second, and earlier when it has something to say that
//! cannot wait: it tells what it has and wants, and is told what it may have. No request to a tenant's server waits for
//! the store: a process spends the *share* of a server's limit it was given.
//!
//! The store keeps one promise: what all live processes hold of a server is never more than its limit. A share is
//! given out of what nobody holds; one that shrinks goes to others only after the process that lost it has said with its
//! next exchange that it let go, or was silent for its lifetime. Who should have how much is not the store's business:
//! each exchange brings the demands of all, and every process computes by the same pure function ([`shares()`]) what it
//! should want. So the store's script stays small, and an error in the sharing can be unfair but never too much.
//!
//! A process that cannot reach the store keeps its shares for its lifetime and then, by itself, takes a small one: the
//! limit divided by the last known number of workers, at least one request.

mod heartbeat;
mod ledger;
mod memory;
mod open;
mod pause;
mod redis;
mod shares;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use heartbeat::{Heartbeat, Nudge, Part};
pub use memory::MemoryFleet;
pub use open::open_fleet;
pub use pause::{PauseTold, ServerName, ServerPause, account, host_of};
pub use redis::RedisFleet;
pub use shares::{TURN_MS, shares};

use crate::error::Failure;
use crate::model::TenantId;

/// Most processes of one fleet.
pub const MAXIMUM_MEMBERS: usize = 2_000;
/// Most servers of one exchange.
pub const MAXIMUM_SERVERS: usize = 1_000;
/// Most circuits told or learned in one exchange; what is left comes with the next.
pub const MAXIMUM_CHANGES: usize = 500;
/// Most tenants whose circuits are remembered; beyond it those that changed longest ago are forgotten.
pub const MAXIMUM_CIRCUITS: usize = 10_000;

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves the API and may lead.
    Scheduler,
    /// Takes jobs.
    Worker,
    /// Both.
    Standalone,
}

impl Role {
    /// Returns whether processes of this role take jobs.
    #[must_use]
    pub fn works(self) -> bool {
        match self {
            Self::Worker | Self::Standalone => true,
            Self::Scheduler => false,
        }
    }
}

/// Batches a process works on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Permits {
    /// All.
    pub total: u32,
    /// Those that wait for a job.
    pub free: u32,
}

/// One process, as it last told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// A name no other process and no earlier start has.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The program's version.
    pub version: String,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
    /// Whether it leads.
    pub leads: bool,
    /// Batches of scheduled work.
    pub background: Permits,
    /// Batches somebody waits for.
    pub interactive: Permits,
    /// Users it works on now.
    pub users_in_flight: u32,
    /// Batches of scheduled work it has worked on to their end since it started; earlier builds do not tell.
    #[serde(default)]
    pub batches_done: u64,
    /// Batches of scheduled work it works on now, by tenant.
    pub running: BTreeMap<TenantId, u32>,
    /// Batches somebody waits for it works on now, by tenant.
    pub running_interactive: BTreeMap<TenantId, u32>,
}

impl Member {
    /// Returns a process that does nothing yet.
    #[must_use]
    pub fn new(name: impl Into<String>, role: Role, started_at: Timestamp) -> Self {
        Self {
            name: name.into(),
            role,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            leads: false,
            background: Permits::default(),
            interactive: Permits::default(),
            users_in_flight: 0,
            batches_done: 0,
            running: BTreeMap::new(),
            running_interactive: BTreeMap::new(),
        }
    }
}

/// What a process tells about one server it calls under one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerAsk {
    /// Server and account.
    pub name: String,
    /// Most requests all processes may have in flight.
    pub limit: u32,
    /// Requests the process may have in flight now, and those still in flight beyond its share.
    pub holds: u32,
    /// The share it wants.
    pub wants: u32,
    /// Requests it would have in flight at once if nothing held it back.
    pub demand: u32,
    /// The pause that the server asked this process for. It is reported until it ends, so that a store that lost it learns it again.
    pub pause: Option<PauseTold>,
}

/// What a process is told about a server; in the order of [`Report::servers`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerGiven {
    /// The share it has from now on: at most what it wanted.
    pub share: u32,
    /// The demands of all processes that have one, ordered by their names.
    #[serde(default)]
    pub demands: Vec<u32>,
    /// Which of them is its own, if it has a demand.
    #[serde(default)]
    pub place: Option<u32>,
    /// Remaining time of the server's pause, in milliseconds; 0 for none. It replaces the pause that the process knew.
    pub pause_ms: u64,
}

/// A tenant that cannot be synced. Times are relative, because processes' clocks differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCircuit {
    /// Why.
    pub failure: Failure,
    /// Attempts that failed in a row.
    pub failures: u32,
    /// How long ago the last one failed, in milliseconds.
    pub opened_ago_ms: u64,
    /// After this time one user is tried, in milliseconds.
    pub left_ms: u64,
}

/// A tenant's circuit as a process changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitTold {
    /// The tenant.
    pub tenant: TenantId,
    /// The version the change was made on, 0 when none was known; the change is refused when there is another.
    pub base: u64,
    /// Open, or closed.
    pub circuit: Option<OpenCircuit>,
}

/// A tenant's circuit as the fleet knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitLearned {
    /// The tenant.
    pub tenant: TenantId,
    /// Its version.
    pub version: u64,
    /// Open, or closed.
    pub circuit: Option<OpenCircuit>,
}

/// What a process tells.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Grows with each report of a process: one that arrives late changes nothing.
    pub number: u64,
    /// After so much silence the process counts as dead and what it holds is free.
    pub lifetime: Duration,
    /// Itself.
    pub member: Member,
    /// Servers it calls or holds a share of; at most [`MAXIMUM_SERVERS`].
    pub servers: Vec<ServerAsk>,
    /// Circuits it changed; at most [`MAXIMUM_CHANGES`].
    pub circuits: Vec<CircuitTold>,
    /// Up to which change it knows the circuits; 0 at first.
    pub known: u64,
}

/// What a process is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The store's time, in milliseconds since 1970.
    pub now_ms: u64,
    /// Live processes that take jobs.
    pub workers: u32,
    /// Per server asked about.
    pub servers: Vec<ServerGiven>,
    /// Circuits that changed after [`Report::known`], oldest change first.
    pub circuits: Vec<CircuitLearned>,
    /// Up to which change the process knows them now. Smaller than what it knew when the store was lost.
    pub known: u64,
}

/// The seam to what processes share. All methods fail with class `Transient` when the store does not answer.
#[async_trait]
pub trait Fleet: Send + Sync + 'static {
    /// Returns whether other processes can be in it. If not, a process need not ask for shares: every limit is its own.
    fn is_shared(&self) -> bool;
    /// Tells and is told. One atomic change.
    async fn exchange(&self, report: &Report) -> Result<Answer, Failure>;
    /// Takes the right to try one user of a tenant whose circuit is open; nobody else has it for `lasts`.
    async fn probe(&self, tenant: &TenantId, lasts: Duration) -> Result<bool, Failure>;
    /// Returns the live processes, by name.
    async fn members(&self) -> Result<Vec<Member>, Failure>;
    /// Returns the pauses of these servers, in their order; `None` for a server without one.
    async fn pauses(&self, servers: &[ServerName]) -> Result<Vec<Option<ServerPause>>, Failure>;
    /// Ends the pauses of these servers: every process sends to them again after its next exchange. Says how many were paused.
    async fn end_pauses(&self, servers: &[ServerName]) -> Result<usize, Failure>;
    /// Returns a process ends: it is forgotten at once. What it holds it gives back before, with its last exchange.
    async fn leave(&self, name: &str) -> Result<(), Failure>;
}
