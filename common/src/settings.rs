//! Settings: a TOML file, then environment variables; unknown keys are refused and relations are checked at start.

mod authorities;
pub(crate) mod duration;
mod load;
mod ratio;
mod store_url;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub(crate) use authorities::read_authorities;
pub use load::{SettingsError, check, load, parse};
pub use ratio::Ratio;
pub(crate) use store_url::unsupported_url;
pub use store_url::without_password;

/// Everything an operator can set. Defaults are those of the original service where it had the setting.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the truth is kept.
    pub registry: RegistrySettings,
    /// The order of work and the leader's loop.
    pub schedule: ScheduleSettings,
    /// Jobs in flight.
    pub queue: QueueSettings,
    /// What one worker process does at once, and for how long.
    pub worker: WorkerSettings,
    /// The REST API.
    pub api: ApiSettings,
    /// Probes of whoever watches the process.
    pub health: HealthSettings,
    /// Calls to the tenants' servers.
    pub outbound: OutboundSettings,
    /// The brake before deletions.
    pub guard: GuardSettings,
    /// Logs.
    pub log: LogSettings,
    /// Metrics and traces sent to a receiver; `/metrics` is there without it.
    pub telemetry: TelemetrySettings,
}

/// Where the truth is kept.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// `sqlite:PATH` for one machine, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE` for many. The PostgreSQL URL may also
    /// name `sslmode` (`disable`, `prefer`, `require`, `verify-ca`, `verify-full`; outside this machine, or with
    /// `sslrootcert`, `verify-full` unless named), `sslrootcert` (further certificate authorities to trust, a PEM file),
    /// `sslcert`, `sslkey`, `application_name` and `options`; without a password the one in
    /// `PGPASSWORD` or `PGPASSFILE` is used. A pooler in between must keep a session per connection.
    pub url: String,
    /// PostgreSQL: most connections of one process.
    pub connections: u32,
    /// PostgreSQL: a call waits this long for a connection before it fails.
    #[serde(with = "duration")]
    pub acquire_timeout: Duration,
    /// PostgreSQL: the server ends a statement that takes longer.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// How long journal entries are kept.
    #[serde(with = "duration")]
    pub journal_lifetime: Duration,
}

/// The order of work and the leader's loop.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleSettings {
    /// `memory:` for one machine; for many `redis://HOST:PORT/DB`, `redis+sentinel://H1:P,H2:P/MASTER/DB` or
    /// `redis+cluster://H1:P,H2:P,H3:P`, with `rediss` for TLS and `USER:PASSWORD@` (percent-encoded) before the hosts.
    pub url: String,
    /// Redis: further certificate authorities to trust for `rediss`, a PEM file. The servers' certificates must be for the
    /// hosts of the URL, and for the addresses Sentinels and cluster nodes tell of each other.
    pub authorities: Option<PathBuf>,
    /// Names of everything kept in Redis begin with this, so that several installations can share one Redis.
    pub key_prefix: String,
    /// The leader wakes this often (the original's timer job period).
    #[serde(with = "duration")]
    pub run_interval: Duration,
    /// Between runs the leader looks this often whether workers want more; 0 makes it a classic timer job.
    #[serde(with = "duration")]
    pub top_up_interval: Duration,
    /// Most tenants one selection takes users of (the original's NumberOfSubscriptionSyncsPerEwsSyncRun). While workers want
    /// more, the next selection follows at once; a classic timer job selects once a run.
    pub tenants_per_run: usize,
    /// Most users of one job (the original's NumberOfUsersPerEwsSyncBatch).
    pub users_per_batch: usize,
    /// No user is synced more often than this (the original's MinimumTimeBetweenProviderRefreshes).
    #[serde(with = "duration")]
    pub minimum_time_between_user_syncs: Duration,
    /// An idle user is synced at least this often.
    #[serde(with = "duration")]
    pub maximum_time_between_user_syncs: Duration,
    /// The registry is compared with the index this often (the original's MinimumTimeBetweenEwsSyncSubscriptionSearches).
    #[serde(with = "duration")]
    pub tenant_search_interval: Duration,
    /// An alert is raised for a tenant of whose people some were last synced longer ago than this; never before twice
    /// maximum_time_between_user_syncs.
    #[serde(with = "duration")]
    pub late_after: Duration,
    /// Sites are walked for task lists at least this often (the original's MinimumTimeBetweenSearchQueries).
    #[serde(with = "duration")]
    pub discovery_interval: Duration,
    /// A claim lasts this long unless renewed.
    #[serde(with = "duration")]
    pub claim_lifetime: Duration,
    /// Most users of one tenant that are claimed at once; 0 for no limit.
    pub tenant_in_flight: u64,
    /// While others wait, a tenant whose users take much longer than those of the others may hold at most this part of all
    /// workers' batches, in percent; 100 for no limit.
    pub tenant_share_percent: u8,
    /// Leadership lasts this long unless renewed.
    #[serde(with = "duration")]
    pub leader_lifetime: Duration,
    /// Every process tells this often that it lives and shares the servers' limits with the others.
    #[serde(with = "duration")]
    pub heartbeat_interval: Duration,
    /// After so long a silence a process counts as dead.
    #[serde(with = "duration")]
    pub heartbeat_lifetime: Duration,
}

/// Jobs in flight.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// `memory:` for one machine; RabbitMQ as `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps://…` over TLS. Several
    /// hosts of one cluster are separated by commas and tried in turn. Special characters of user, password and vhost are
    /// percent-encoded. Give it in the environment (`TASKSYNC_QUEUE__URL`) when it holds a password.
    pub url: String,
    /// Most jobs that wait in one queue.
    pub maximum_length: usize,
    /// A job is given to a worker at most this often before it goes to the dead letters.
    pub delivery_limit: u32,
    /// How long the broker lets a worker keep a job unsettled (RabbitMQ's `consumer_timeout`); tasksync does not set it
    /// there, it only checks that its own deadlines lie below.
    #[serde(with = "duration")]
    pub consumer_timeout: Duration,
    /// Most dead letters kept; then the oldest makes room.
    pub maximum_dead_letters: usize,
    /// RabbitMQ: a dead letter is kept this long.
    #[serde(with = "duration")]
    pub dead_letter_lifetime: Duration,
    /// RabbitMQ: `create` declares the queues at start; `check` only looks whether they exist, because an operator made
    /// them (deploy/rabbitmq/definitions.json). Nothing is ever deleted.
    pub declare: DeclareQueues,
    /// RabbitMQ: what the names of the queues begin with; they are `PREFIX.tasks.background`, `PREFIX.tasks.interactive`
    /// and `PREFIX.tasks.dead`.
    pub name_prefix: String,
    /// RabbitMQ: opening a connection may take this long, per host.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// RabbitMQ: an answer or a confirmation may take this long.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// RabbitMQ: a connection over which nothing comes for this long is given up (whole seconds).
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// RabbitMQ: most jobs of this process whose confirmation is awaited at once; further ones wait their turn.
    pub unconfirmed: usize,
    /// RabbitMQ: further certificate authorities to trust for `amqps://`, a PEM file; read at start.
    pub authorities: Option<PathBuf>,
}

/// Who makes the broker's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeclareQueues {
    /// tasksync.
    #[default]
    Create,
    /// An operator; tasksync only looks.
    Check,
}

/// What one worker process does at once, and for how long.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSettings {
    /// After this time no new user of a batch starts (the original's processing slice).
    #[serde(with = "duration")]
    pub batch_budget: Duration,
    /// Users of one batch that are synced at once (the original's NumberOfUsersEwsSyncWillProcessAtOnce).
    pub users_at_once: usize,
    /// Batches one process works on at once; 1 is the original.
    pub batches_at_once: usize,
    /// One user's sync is stopped at its next safe point after this time.
    #[serde(with = "duration")]
    pub user_budget: Duration,
    /// Everything is compared this often, whatever the cheap checks say.
    #[serde(with = "duration")]
    pub full_check_interval: Duration,
    /// The values of every linked task are compared once in this time, an equal share at each full check.
    #[serde(with = "duration")]
    pub deep_check_interval: Duration,
    /// On SIGTERM running work may take this long before it is released.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// The time the platform gives a process between SIGTERM and SIGKILL.
    #[serde(with = "duration")]
    pub grace_period: Duration,
}

/// The REST API.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// Address and port listened on.
    pub listen: SocketAddr,
}

/// Probes of whoever watches the process: `/livez` and `/readyz`, without a token, in every role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSettings {
    /// Address and port listened on; every process on one machine needs its own.
    pub listen: SocketAddr,
}

/// Calls to the tenants' servers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundSettings {
    /// One request may take this long.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// Opening a connection may take this long.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Largest answer read, in bytes.
    pub maximum_answer_bytes: usize,
    /// Requests in flight per server and account, of all workers together.
    pub requests_per_server: usize,
    /// Private or reserved networks tasksync may connect to, for example `10.0.0.0/8`.
    pub allowed_networks: Vec<String>,
    /// For trials only: allow `http://`.
    pub allow_plain_http: bool,
    /// Further certificate authorities to trust, a PEM file.
    pub authorities: Option<PathBuf>,
}

/// The brake before deletions.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardSettings {
    /// So many deletions on one side always pass.
    pub deletions: usize,
    /// Beyond that, at most this share of the user's tasks, in percent.
    pub deletions_percent: u8,
    /// A folder or list with at least this many tasks that loses all of them at once is held back, however few they are.
    pub emptied_from: usize,
}

/// Form of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// Filter such as `info` or `info,tasksync_worker=debug`.
    pub filter: String,
}

/// Metrics and traces sent to a receiver.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Base address of an OTLP receiver (HTTP with protobuf), such as `https://collector.example:4318`; without it nothing is sent. Headers it wants come from the variable `OTEL_EXPORTER_OTLP_HEADERS`.
    pub otlp_endpoint: Option<String>,
    /// Share of the leader's runs whose traces are kept, between 0 and 1; everything a kept run leads to is kept with it.
    pub trace_ratio: Ratio,
    /// Metrics are sent this often.
    #[serde(with = "duration")]
    pub metrics_interval: Duration,
}

impl fmt::Debug for RegistrySettings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            url,
            connections,
            acquire_timeout,
            statement_timeout,
            journal_lifetime,
        } = self;
        formatter
            .debug_struct("RegistrySettings")
            .field("url", &without_password(url))
            .field("connections", connections)
            .field("acquire_timeout", acquire_timeout)
            .field("statement_timeout", statement_timeout)
            .field("journal_lifetime", journal_lifetime)
            .finish()
    }
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self {
            url: "sqlite:tasksync.sqlite".to_owned(),
            connections: 10,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(15),
            journal_lifetime: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

impl Default for ScheduleSettings {
    fn default() -> Self {
        Self {
            url: "memory:".to_owned(),
            authorities: None,
            key_prefix: "tasksync".to_owned(),
            run_interval: Duration::from_secs(60),
            top_up_interval: Duration::from_secs(1),
            tenants_per_run: 50,
            users_per_batch: 100,
            minimum_time_between_user_syncs: Duration::from_secs(5 * 60),
            maximum_time_between_user_syncs: Duration::from_secs(12 * 60),
            tenant_search_interval: Duration::from_secs(30 * 60),
            late_after: Duration::from_secs(30 * 60),
            discovery_interval: Duration::from_secs(3 * 3600),
            claim_lifetime: Duration::from_secs(120),
            tenant_in_flight: 1_000,
            tenant_share_percent: 25,
            leader_lifetime: Duration::from_secs(12),
            heartbeat_interval: Duration::from_secs(1),
            heartbeat_lifetime: Duration::from_secs(10),
        }
    }
}

impl Default for QueueSettings {
    fn default() -> Self {
        Self {
            url: "memory:".to_owned(),
            maximum_length: 10_000,
            delivery_limit: 5,
            consumer_timeout: Duration::from_secs(30 * 60),
            maximum_dead_letters: 1_000,
            dead_letter_lifetime: Duration::from_secs(7 * 24 * 3600),
            declare: DeclareQueues::Create,
            name_prefix: "tasksync".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(10),
            unconfirmed: 256,
            authorities: None,
        }
    }
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            batch_budget: Duration::from_secs(45),
            users_at_once: 10,
            batches_at_once: 16,
            user_budget: Duration::from_secs(40),
            full_check_interval: Duration::from_secs(6 * 3600),
            deep_check_interval: Duration::from_secs(7 * 24 * 3600),
            drain: Duration::from_secs(50),
            grace_period: Duration::from_secs(75),
        }
    }
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8480)),
        }
    }
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8481)),
        }
    }
}

impl Default for OutboundSettings {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            maximum_answer_bytes: 16 * 1024 * 1024,
            requests_per_server: 25,
            allowed_networks: Vec::new(),
            allow_plain_http: false,
            authorities: None,
        }
    }
}

impl Default for GuardSettings {
    fn default() -> Self {
        Self {
            deletions: 10,
            deletions_percent: 20,
            emptied_from: 3,
        }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            filter: "info".to_owned(),
        }
    }
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self {
            otlp_endpoint: None,
            trace_ratio: Ratio::percent(1),
            metrics_interval: Duration::from_secs(60),
        }
    }
}
