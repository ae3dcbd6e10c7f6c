//! What all processes of one installation share while they work: which processes are alive, how many requests
//! each may have in flight at a server, which pauses servers asked for, and which tenants cannot be synced.
//!
//! Every process makes one [`Fleet::exchange`] about once per second, and earlier if something cannot wait.
//! It reports what it holds and wants, and learns what it may have. No request to a tenant's server waits for
//! the store: a process uses the *share* of a server's limit that it was given.
//!
//! The store guarantees one thing: the live processes together never hold more of a server than its limit. A
//! share is taken only from what no process holds. If a share shrinks, the freed part goes to others only
//! after its holder has reported, with its next exchange, that it let go, or after the holder was silent for
//! its lifetime. The store does not decide how large the shares should be. Each exchange returns the demands
//! of all processes, and every process computes with the same pure function ([`shares()`]) how much it should
//! want. So the store's script stays small, and an error in the sharing can be unfair but never exceeds the
//! limit.
//!
//! A process that cannot reach the store keeps its shares for its lifetime. After that it takes a small one
//! by itself: the limit divided by the last known number of workers, and at least one request.

mod agreement;
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

pub use agreement::{Agreement, OPERATOR_TOKEN, SettingDifference, differing_settings};
pub use heartbeat::{FleetParticipant, Heartbeat, Nudge};
pub use memory::MemoryFleet;
pub use open::open_fleet;
pub use pause::{PauseReport, ServerName, ServerPause, account, host_of};
pub use redis::RedisFleet;
pub use shares::{TURN_MS, shares};

use crate::error::Failure;
use crate::model::TenantId;

/// Largest number of processes in one fleet.
pub const MAXIMUM_MEMBERS: usize = 2_000;
/// Largest number of servers in one exchange.
pub const MAXIMUM_SERVERS: usize = 1_000;
/// Largest number of circuits reported or learned in one exchange; the others follow in the next one.
pub const MAXIMUM_CHANGES: usize = 500;
/// Largest number of tenants whose circuits are kept; beyond it, the circuits that changed longest ago are
/// dropped.
pub const MAXIMUM_CIRCUITS: usize = 10_000;

/// The role of a process.
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

/// The permits of a process: the batches that it may work on at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Permits {
    /// All permits.
    pub total: u32,
    /// Permits that wait for a job.
    pub free: u32,
}

/// Largest number of tenants whose load one process reports.
pub const MAXIMUM_TENANT_LOADS: usize = 30;

/// What one tenant's batches cost a process within the last five to ten minutes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantLoad {
    /// The tenant.
    pub tenant: TenantId,
    /// Time that its batches held a permit, in milliseconds.
    pub busy_ms: u64,
    /// Number of attempts that ended, whatever their result.
    pub attempts: u64,
    /// Number of these that failed, or were put off because the whole tenant fails. A pause that a server asked for
    /// does not count.
    pub failed: u64,
    /// Number of attempts with more than a survey.
    pub syncs: u64,
    /// Duration of these together, in milliseconds.
    pub sync_ms: u64,
}

/// Largest number of servers whose pauses of the last day one process reports.
pub const MAXIMUM_THROTTLED: usize = 50;

/// A server that asked a process for pauses within the last day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThrottledServer {
    /// Its name, as [`ServerName`] formats it.
    pub name: String,
    /// How often it asked.
    pub times: u64,
    /// When it asked last, by the clock of the process.
    pub last_at: Timestamp,
}

/// One process, as it last reported itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// A name that no other process and no earlier start has.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The program's version.
    pub version: String,
    /// When it started, by its own clock.
    pub started_at: Timestamp,
    /// Whether it leads.
    pub leads: bool,
    /// Permits for batches of scheduled work.
    pub background: Permits,
    /// Permits for batches that a person waits for.
    pub interactive: Permits,
    /// Number of users it works on now.
    pub users_in_flight: u32,
    /// Number of batches of scheduled work that it has completed since its start; earlier builds do not
    /// report it.
    #[serde(default)]
    pub batches_done: u64,
    /// Number of batches of scheduled work it works on now, by tenant.
    pub running: BTreeMap<TenantId, u32>,
    /// Number of batches that a person waits for and it works on now, by tenant.
    pub running_interactive: BTreeMap<TenantId, u32>,
    /// The tenants that cost it most time or failed most, at most [`MAXIMUM_TENANT_LOADS`].
    #[serde(default)]
    pub tenants: Vec<TenantLoad>,
    /// Time that the batches of all tenants held a permit, in milliseconds, over the time of [`Self::tenants`].
    #[serde(default)]
    pub busy_ms: u64,
    /// Servers that asked it for pauses within the last day, at most [`MAXIMUM_THROTTLED`]; empty from earlier builds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub throttled: Vec<ThrottledServer>,
    /// What all processes must agree on; empty from earlier builds.
    #[serde(default)]
    pub agreement: Agreement,
    /// How far its clock is ahead of the store's, in milliseconds, as of its last exchange; `None` before the first
    /// one, and from earlier builds.
    #[serde(default)]
    pub clock_offset_ms: Option<i64>,
    /// How long it may be silent before it counts as dead, in milliseconds; 0 from earlier builds.
    #[serde(default)]
    pub lifetime_ms: u64,
    /// Time since its last report, in milliseconds, as the store measured it when the processes were read.
    #[serde(skip)]
    pub silent_ms: u64,
}

impl Member {
    /// Returns a process without work.
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
            tenants: Vec::new(),
            busy_ms: 0,
            throttled: Vec::new(),
            agreement: Agreement::default(),
            clock_offset_ms: None,
            lifetime_ms: 0,
            silent_ms: 0,
        }
    }
}

/// A process's report about one server that it calls under one account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerReport {
    /// Name of the service, with host and account.
    pub name: String,
    /// Limit of requests in flight of all processes together.
    pub limit: u32,
    /// Requests the process may have in flight now, including those still in flight beyond its share.
    pub holds: u32,
    /// The share it wants.
    pub wants: u32,
    /// Requests it would have in flight if there were no limit.
    pub demand: u32,
    /// The pause that the server asked this process for. It is reported until it ends, so that a store that
    /// lost it learns it again.
    pub pause: Option<PauseReport>,
}

/// The answer about a server, in the order of [`FleetReport::servers`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerAnswer {
    /// The share that the process has from now on: at most what it wanted.
    pub share: u32,
    /// The demands of all processes with a demand, ordered by the processes' names.
    #[serde(default)]
    pub demands: Vec<u32>,
    /// The place of this process in `demands`, if it has a demand.
    #[serde(default)]
    pub place: Option<u32>,
    /// Remaining time of the server's pause, in milliseconds; 0 for none. It replaces the pause that the
    /// process knew.
    pub pause_ms: u64,
}

/// The open circuit of a tenant that cannot be synced. Times are relative, because processes' clocks differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenCircuit {
    /// The failure that opened it or keeps it open.
    pub failure: Failure,
    /// Number of attempts that failed in a row.
    pub failures: u32,
    /// Time since the last failure, in milliseconds.
    pub opened_ago_ms: u64,
    /// Time until one user probes, in milliseconds.
    pub left_ms: u64,
}

/// A tenant's circuit as a process changed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitReport {
    /// The tenant.
    pub tenant: TenantId,
    /// The version that was changed; 0 if none was known. The change is refused if the fleet has another
    /// version.
    pub base: u64,
    /// The open circuit; `None` if it is closed.
    pub circuit: Option<OpenCircuit>,
}

/// A tenant's circuit as the fleet knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CircuitUpdate {
    /// The tenant.
    pub tenant: TenantId,
    /// Its version.
    pub version: u64,
    /// The open circuit; `None` if it is closed.
    pub circuit: Option<OpenCircuit>,
}

/// What a process reports in one exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct FleetReport {
    /// Grows with each report of a process, so that a late report changes nothing.
    pub number: u64,
    /// After this time without a report, the process counts as dead and its shares are free.
    pub lifetime: Duration,
    /// The process itself.
    pub member: Member,
    /// Servers it calls or holds a share of; at most [`MAXIMUM_SERVERS`].
    pub servers: Vec<ServerReport>,
    /// Circuits it changed; at most [`MAXIMUM_CHANGES`].
    pub circuits: Vec<CircuitReport>,
    /// Number of the last change of circuits it knows; 0 at first.
    pub circuits_version: u64,
}

/// What a process learns in one exchange.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FleetAnswer {
    /// The store's time, in milliseconds since 1970.
    pub now_ms: u64,
    /// Number of live processes that take jobs.
    pub workers: u32,
    /// The answers about the servers of the report.
    pub servers: Vec<ServerAnswer>,
    /// Circuits that changed after [`FleetReport::circuits_version`], oldest change first.
    pub circuits: Vec<CircuitUpdate>,
    /// Number of the last change of circuits the process knows now. It is smaller than
    /// [`FleetReport::circuits_version`] if the store lost its data.
    pub circuits_version: u64,
}

/// The seam to what processes share. All methods fail with class `Transient` if the store does not answer.
#[async_trait]
pub trait Fleet: Send + Sync + 'static {
    /// Returns whether the fleet can have other processes. If not, a process need not ask for shares, because
    /// it has every limit to itself.
    fn is_shared(&self) -> bool;
    /// Reports and learns in one atomic change.
    async fn exchange(&self, report: &FleetReport) -> Result<FleetAnswer, Failure>;
    /// Takes the right to sync one user of a tenant whose circuit is open. Returns whether this process has
    /// it; no other process gets it for `lasts`.
    async fn probe(&self, tenant: &TenantId, lasts: Duration) -> Result<bool, Failure>;
    /// Returns at most `limit` open circuits, those that changed last first.
    async fn circuits(&self, limit: usize) -> Result<Vec<CircuitUpdate>, Failure>;
    /// Returns the live processes, by name.
    async fn members(&self) -> Result<Vec<Member>, Failure>;
    /// Returns the pauses of these servers, in their order; `None` for a server without one.
    async fn pauses(&self, servers: &[ServerName]) -> Result<Vec<Option<ServerPause>>, Failure>;
    /// Ends the pauses of these servers and returns how many were paused. Every process sends to them again
    /// after its next exchange.
    async fn end_pauses(&self, servers: &[ServerName]) -> Result<usize, Failure>;
    /// Removes a process that ends. With its last exchange before, it gave its shares back.
    async fn leave(&self, name: &str) -> Result<(), Failure>;
}
