//! Settings: a TOML file, overridden by environment variables.
//!
//! - `keys`, `value_kind`: the declaration of each setting, and what its value may be; `log_filter` and
//!   `network` are two kinds of their own.
//! - `load`: reads, judges and collects all problems; `variables` and `suggestion`: names that are no setting.
//! - `relations`: what must hold between settings. `files`: what must exist on the machine.
//! - `defaults`; `effective`: values and origins; `problem`: the words of an error.

mod authorities;
mod defaults;
pub(crate) mod duration;
mod effective;
mod files;
mod keys;
mod load;
mod log_filter;
mod network;
mod problem;
mod ratio;
mod relations;
mod secrets;
mod store_url;
mod suggestion;
mod value_kind;
mod variables;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use authorities::read_authorities;
pub use duration::parse as parse_duration;
pub use effective::{EffectiveSetting, LoadedSettings};
pub use load::{check, load, parse};
pub(crate) use log_filter::refusal as log_filter_refusal;
pub use network::{Network, NetworkError};
pub use problem::{SettingOrigin, SettingProblem, SettingsError};
pub use ratio::Ratio;
pub(crate) use secrets::SYSTEM_FOLDERS;
pub use store_url::{StoreAddress, without_password};
pub(crate) use store_url::{kind_refusal, unsupported_url};
pub use variables::variable_of;

/// All settings of an operator. A setting that the service replaced by tasksync had, too, has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The store of tenants, enrolments, sync states, journal and alerts.
    pub registry: RegistrySettings,
    /// The schedule and the leader's loop.
    pub schedule: ScheduleSettings,
    /// Jobs in flight.
    pub queue: QueueSettings,
    /// What one worker process does at once, and its time limits.
    pub worker: WorkerSettings,
    /// The REST API.
    pub api: ApiSettings,
    /// The probes of a process.
    pub health: HealthSettings,
    /// Requests to the tenants' servers.
    pub outbound: OutboundSettings,
    /// Where the tenants' secrets are.
    pub secrets: SecretsSettings,
    /// The guard against mass deletions.
    pub guard: GuardSettings,
    /// Logs.
    pub log: LogSettings,
    /// Metrics and traces that are sent to a receiver. `/metrics` works without it.
    pub telemetry: TelemetrySettings,
}

/// The store of tenants, enrolments, sync states, journal and alerts.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySettings {
    /// `sqlite:PATH` for one machine, or `postgres://USER:PASSWORD@HOST:PORT/DATABASE` for many. In a PATH, `%`
    /// is written `%25`, and `?` is written `%3F`. The PostgreSQL URL may also name `sslmode` (`disable`,
    /// `prefer`, `require`, `verify-ca` or `verify-full`; the default is `verify-full` for other machines and
    /// if `sslrootcert` is named), `sslrootcert` (further certificate authorities to trust, a PEM file),
    /// `sslcert`, `sslkey`, `application_name` and `options`. Without a password, the one in `PGPASSWORD` or
    /// `PGPASSFILE` is used. A pooler in between must keep a session per connection.
    pub url: String,
    /// PostgreSQL: largest number of connections of one process.
    pub connections: u32,
    /// PostgreSQL: a call fails after waiting this long for a connection.
    #[serde(with = "duration")]
    pub acquire_timeout: Duration,
    /// PostgreSQL: the server ends a statement that takes longer.
    #[serde(with = "duration")]
    pub statement_timeout: Duration,
    /// How long journal entries are kept.
    #[serde(with = "duration")]
    pub journal_lifetime: Duration,
}

/// The schedule and the leader's loop.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleSettings {
    /// `memory:` for one machine; for many `redis://HOST:PORT/DB`, `redis+sentinel://H1:P,H2:P/MASTER/DB` or
    /// `redis+cluster://H1:P,H2:P,H3:P`, with `rediss` for TLS and `USER:PASSWORD@` (percent-encoded) before the hosts.
    pub url: String,
    /// Redis: further certificate authorities to trust for `rediss`, a PEM file. The servers' certificates
    /// must be valid for the hosts of the URL, and for the addresses that Sentinels and cluster nodes
    /// announce.
    pub authorities: Option<PathBuf>,
    /// Prefix of all keys in Redis, so that several installations can share one Redis.
    pub key_prefix: String,
    /// The leader starts a run this often (the original's timer job period).
    #[serde(with = "duration")]
    pub run_interval: Duration,
    /// Between runs the leader checks this often whether workers can take more jobs; 0 makes it a classic
    /// timer job.
    #[serde(with = "duration")]
    pub top_up_interval: Duration,
    /// Largest number of tenants from which one selection takes users (the original's
    /// `NumberOfSubscriptionSyncsPerEwsSyncRun`). While workers can take more, the next selection follows at
    /// once; a classic timer job selects once per run.
    pub tenants_per_run: usize,
    /// Largest number of users of one job (the original's `NumberOfUsersPerEwsSyncBatch`).
    pub users_per_batch: usize,
    /// No user is synced more often than this (the original's `MinimumTimeBetweenProviderRefreshes`).
    #[serde(with = "duration")]
    pub minimum_time_between_user_syncs: Duration,
    /// An idle user is synced at least this often.
    #[serde(with = "duration")]
    pub maximum_time_between_user_syncs: Duration,
    /// The registry is compared with the schedule this often (the original's
    /// `MinimumTimeBetweenEwsSyncSubscriptionSearches`).
    #[serde(with = "duration")]
    pub tenant_search_interval: Duration,
    /// An alert is raised for a tenant if the last sync of any of its users is longer ago than this, but
    /// never before twice `maximum_time_between_user_syncs`.
    #[serde(with = "duration")]
    pub late_after: Duration,
    /// Sites are searched for task lists at least this often (the original's
    /// `MinimumTimeBetweenSearchQueries`).
    #[serde(with = "duration")]
    pub discovery_interval: Duration,
    /// A claim expires after this time unless it is renewed.
    #[serde(with = "duration")]
    pub claim_lifetime: Duration,
    /// Largest number of users of one tenant that are claimed at once; 0 for no limit.
    pub tenant_in_flight: u64,
    /// While others wait, a tenant whose users take much longer than those of the others may hold at most
    /// this percentage of all workers' batches; 100 for no limit.
    pub tenant_share_percent: u8,
    /// Leadership expires after this time unless it is renewed.
    #[serde(with = "duration")]
    pub leader_lifetime: Duration,
    /// Every process sends a heartbeat this often; with it, processes share the servers' limits.
    #[serde(with = "duration")]
    pub heartbeat_interval: Duration,
    /// A process that was silent for this long counts as dead.
    #[serde(with = "duration")]
    pub heartbeat_lifetime: Duration,
}

/// Jobs in flight.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueueSettings {
    /// `memory:` for one machine; RabbitMQ as `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps://…` over
    /// TLS. Several hosts of one cluster are separated by commas and tried in turn. Special characters of
    /// user, password and vhost are percent-encoded. Set it in the environment (`TASKSYNC_QUEUE__URL`) if it
    /// holds a password.
    pub url: String,
    /// Largest number of jobs that wait in one queue.
    pub maximum_length: usize,
    /// A job is delivered to workers at most this often before it goes to the dead letters.
    pub delivery_limit: u32,
    /// How long the broker lets a worker keep a job unsettled (RabbitMQ's `consumer_timeout`). tasksync does
    /// not set it at the broker; it only checks that its own deadlines are below it.
    #[serde(with = "duration")]
    pub consumer_timeout: Duration,
    /// Largest number of dead letters that are kept; beyond it, the oldest one is dropped.
    pub maximum_dead_letters: usize,
    /// RabbitMQ: dead letters are kept this long.
    #[serde(with = "duration")]
    pub dead_letter_lifetime: Duration,
    /// RabbitMQ: `create` declares the queues at start; `check` only verifies that they exist, because an
    /// operator created them (deploy/rabbitmq/definitions.json). Queues are never deleted.
    pub declare: DeclareQueues,
    /// RabbitMQ: prefix of the queues' names, which are `PREFIX.tasks.background`, `PREFIX.tasks.interactive`
    /// and `PREFIX.tasks.dead`.
    pub name_prefix: String,
    /// RabbitMQ: timeout for opening a connection, per host.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// RabbitMQ: timeout for an answer or a confirmation.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// RabbitMQ: a connection is given up if nothing arrives for this long (whole seconds).
    #[serde(with = "duration")]
    pub heartbeat: Duration,
    /// RabbitMQ: largest number of this process's jobs that await confirmation at once; further jobs wait.
    pub unconfirmed: usize,
    /// RabbitMQ: further certificate authorities to trust for `amqps://`, a PEM file; read at start.
    pub authorities: Option<PathBuf>,
}

/// The party that creates the broker's queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeclareQueues {
    /// tasksync.
    #[default]
    Create,
    /// An operator; tasksync only verifies that they exist.
    Check,
}

/// What one worker process does at once, and its time limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerSettings {
    /// After this time no further user of a batch is started (the original's processing slice).
    #[serde(with = "duration")]
    pub batch_budget: Duration,
    /// Users of one batch that are synced at once (the original's `NumberOfUsersEwsSyncWillProcessAtOnce`).
    pub users_at_once: usize,
    /// Batches that one process works on at once; the original's value is 1.
    pub batches_at_once: usize,
    /// After this time one user's sync stops at its next safe point.
    #[serde(with = "duration")]
    pub user_budget: Duration,
    /// Everything is compared this often, whatever the cheap checks report.
    #[serde(with = "duration")]
    pub full_check_interval: Duration,
    /// The values of every linked task are compared once in this time, with an equal share at each full
    /// check.
    #[serde(with = "duration")]
    pub deep_check_interval: Duration,
    /// After SIGTERM, running work may take this long before it is released.
    #[serde(with = "duration")]
    pub drain: Duration,
    /// The time that the platform leaves a process between SIGTERM and SIGKILL.
    #[serde(with = "duration")]
    pub grace_period: Duration,
}

/// The REST API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ApiSettings {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Most open connections. When they are all in use, a new one takes the place of the longest idle connection
    /// of the address with the most.
    pub connections: usize,
    /// Most open connections from one address (IPv6: from one /64 network); a further one takes the place of the
    /// address's longest idle one. Trusted proxies are exempt.
    pub connections_per_address: usize,
    /// Wrong operator tokens that one address may send at once. Further ones are answered a second late with
    /// status 429, and one more is allowed every 6 s. The right token is always answered at once.
    pub wrong_tokens: u32,
    /// Networks of reverse proxies before the API, for example `10.0.0.0/8`. Only of their requests the header
    /// `X-Forwarded-For` is read, to know the client's address.
    pub trusted_proxies: Vec<String>,
    /// How long the API still answers after SIGTERM. Behind a load balancer, give it the time that
    /// the balancer needs to notice: until then it sends requests here.
    #[serde(with = "duration")]
    pub linger: Duration,
}

/// The probes `/livez` and `/readyz`, without a token, in every role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthSettings {
    /// Address and port to listen on; every process on one machine needs its own.
    pub listen: SocketAddr,
}

/// Requests to the tenants' servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OutboundSettings {
    /// Timeout of one request.
    #[serde(with = "duration")]
    pub request_timeout: Duration,
    /// Timeout for opening a connection.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Largest answer that is read, in bytes.
    pub maximum_answer_bytes: usize,
    /// Largest number of requests in flight per server and account, of all workers together.
    pub requests_per_server: usize,
    /// Private or reserved networks that tasksync may connect to, for example `10.0.0.0/8`.
    pub allowed_networks: Vec<String>,
    /// Allows `http://`, for trials only.
    pub allow_plain_http: bool,
    /// Further certificate authorities to trust, a PEM file.
    pub authorities: Option<PathBuf>,
}

/// Where the tenants' secrets are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretsSettings {
    /// The folder with the tenants' secrets, an absolute path. `file:NAME` and `file:/path` in a tenant's settings must
    /// lead to a file below it, links included; any other file is refused.
    pub folder: PathBuf,
    /// `env:NAME` in a tenant's settings must begin with this text; any other variable is refused.
    pub variable_prefix: String,
}

/// The guard against mass deletions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardSettings {
    /// Number of deletions on one side that always pass.
    pub deletions: usize,
    /// Above that number, at most this percentage of the user's tasks is deleted.
    pub deletions_percent: u8,
    /// If a folder or list with at least this many tasks would lose all of them at once, its deletions are
    /// held back, whatever the other limits allow.
    pub emptied_from: usize,
}

/// Format of the log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Logs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// Text or JSON.
    pub format: LogFormat,
    /// Filter, such as `info` or `info,tasksync_worker=debug`.
    pub filter: String,
}

/// Metrics and traces that are sent to a receiver.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// Base address of an OTLP receiver (HTTP with protobuf), such as `https://collector.example:4318`.
    /// Without it nothing is sent. The variable `OTEL_EXPORTER_OTLP_HEADERS` holds headers that the receiver
    /// requires.
    pub otlp_endpoint: Option<String>,
    /// Share of the leader's runs whose traces are kept, between 0 and 1. Everything that follows from a kept
    /// run is kept with it.
    pub trace_ratio: Ratio,
    /// Metrics are sent this often.
    #[serde(with = "duration")]
    pub metrics_interval: Duration,
}

/// Formats the sections with URLs without the passwords in them.
macro_rules! debug_without_passwords {
    ($($section:literal $settings:ident;)*) => {$(
        impl fmt::Debug for $settings {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                effective::format_section($section, self, formatter)
            }
        }
    )*};
}

debug_without_passwords! {
    "registry" RegistrySettings;
    "schedule" ScheduleSettings;
    "queue" QueueSettings;
    "telemetry" TelemetrySettings;
}
