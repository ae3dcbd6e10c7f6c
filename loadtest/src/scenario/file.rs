//! The data types of a scenario file.

use serde::Deserialize;

use super::duration::Time;

/// A scenario; `docs/scenarios.md` explains every key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short name, also used for the file names of the report.
    pub name: String,
    /// Description of its purpose, in a sentence or two.
    pub about: String,
    /// The seed; the same seed makes the same population and edits.
    #[serde(default = "one")]
    pub seed: u64,
    /// Processes and stores of tasksync.
    #[serde(default)]
    pub mode: DeploymentMode,
    /// Scheduler processes (distributed).
    #[serde(default = "one")]
    pub schedulers: u64,
    /// Worker processes (distributed).
    #[serde(default = "one")]
    pub workers: u64,
    /// Addresses of the tenants' servers.
    #[serde(default)]
    pub servers: Servers,
    /// HTTPS between tasksync and the simulated servers.
    #[serde(default)]
    pub tls: bool,
    /// Two requests for one mailbox that are further apart belong to two syncs. Defaults to half the shortest time
    /// between two syncs of a user.
    pub visit_gap: Option<Time>,
    /// How long each phase lasts.
    #[serde(default)]
    pub phases: Phases,
    /// The groups of tenants.
    pub tenants: Vec<TenantGroup>,
    /// The edits that people make.
    #[serde(default)]
    pub edits: Edits,
    /// Measured windows with different numbers of workers. They replace the single measured phase (distributed).
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Processes and stores that are killed during the measured phase.
    #[serde(default)]
    pub kills: Vec<Kill>,
    /// Requests to the API during the measured phase.
    #[serde(default)]
    pub requests: RequestPlan,
    /// Wrong answers between tasksync and the simulated servers, during the measured phase.
    pub lies: Option<WrongAnswerPlan>,
    /// A run that is made first, for comparison.
    pub baseline: Option<Baseline>,
    /// tasksync's own settings, in the form of its settings file.
    #[serde(default)]
    pub settings: toml::Table,
    /// Conditions that must hold at the end, for example `"lost = 0"`.
    #[serde(default)]
    pub expect: Vec<String>,
}

const fn one() -> u64 {
    1
}

/// Processes and stores of tasksync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeploymentMode {
    /// One process with embedded stores.
    #[default]
    Standalone,
    /// Schedulers and workers over private Redis, RabbitMQ and PostgreSQL.
    Distributed,
}

/// Addresses of the tenants' servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Servers {
    /// All tenants use one address, so that all share one limit of requests per server.
    #[default]
    Shared,
    /// Each tenant has an address of its own, as companies with their own servers do.
    PerTenant,
}

/// How long each phase lasts. Warm-up and settling end as soon as they can; their times are upper limits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Phases {
    /// Longest time until each user was synced once.
    pub warm_up: Time,
    /// Length of the phase with edits, kills and measurement.
    pub measured: Time,
    /// Longest time, after the last edit, until both sides agree.
    pub settle: Time,
    /// Length of the phase without edits, which measures what an idle sync costs and whether anything is written. 0
    /// skips it.
    pub quiet: Time,
}

impl Default for Phases {
    fn default() -> Self {
        Self {
            warm_up: Time::seconds(120),
            measured: Time::seconds(60),
            settle: Time::seconds(120),
            quiet: Time::seconds(10),
        }
    }
}

/// A group of similar tenants.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantGroup {
    /// Name in the report, and first part of the tenants' names.
    pub name: String,
    /// Number of tenants.
    #[serde(default = "one")]
    pub count: u64,
    /// Mean number of people per tenant.
    pub users: u64,
    /// 0 gives tenants of equal size; 1 gives tenants 1, 1/2, 1/3, … of the largest size.
    #[serde(default)]
    pub skew: f64,
    /// Mean number of tasks per person. Each person has at least one: the servers cannot see the syncs of a person
    /// without tasks.
    #[serde(default = "two")]
    pub tasks: f64,
    /// Task lists per tenant. Defaults to one for every 1,000 tasks, at least two.
    pub lists: Option<u64>,
    /// How the service account may open mailboxes.
    #[serde(default)]
    pub access: MailboxAccess,
    /// Latency of Exchange.
    #[serde(default)]
    pub exchange: LatencySpec,
    /// Latency of SharePoint.
    #[serde(default)]
    pub sharepoint: LatencySpec,
    /// Temporary faults.
    #[serde(default)]
    pub faults: Vec<FaultWindow>,
}

const fn two() -> f64 {
    2.0
}

/// How the service account may open mailboxes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailboxAccess {
    /// Delegate access; one request may concern many mailboxes.
    #[default]
    Delegate,
    /// Impersonation; each request concerns one mailbox.
    Impersonation,
}

/// How fast a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LatencySpec {
    /// Time that every request takes beyond processing; the median if `p99` is set.
    pub latency: Time,
    /// 99th percentile of the latency. Without it every request takes the same time.
    pub p99: Option<Time>,
}

/// A temporary fault.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultWindow {
    /// The servers that it affects.
    pub server: FaultServer,
    /// The kind of fault.
    pub kind: FaultKind,
    /// Start of the fault, since the beginning of the measured phase.
    #[serde(default)]
    pub at: Time,
    /// Duration of the fault.
    pub lasts: Time,
    /// Share of the requests that are hit.
    #[serde(default = "whole")]
    pub share: f64,
    /// The pause that a busy server asks for, or the additional time of a slow one.
    #[serde(default)]
    pub pause: Time,
}

const fn whole() -> f64 {
    1.0
}

/// The servers that a fault affects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultServer {
    /// Exchange.
    Exchange,
    /// SharePoint.
    Sharepoint,
    /// Both.
    Both,
}

/// The kind of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Connections are closed without an answer.
    Down,
    /// The server reports that it is busy and asks for `pause`.
    Busy,
    /// Requests take `pause` longer.
    Slow,
    /// Requests are carried out and the answer is lost.
    LoseAnswers,
    /// The server answers 503 and nothing else.
    Unavailable,
}

/// How many and which edits people make.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edits {
    /// Edits per second of all people together.
    pub per_second: f64,
    /// Weight of edits in SharePoint.
    pub at_source: u64,
    /// Weight of edits in mailboxes.
    pub in_mailbox: u64,
    /// Weight of new tasks.
    pub create: u64,
    /// Weight of deletions, on both sides.
    pub delete: u64,
    /// Weight of reassignments to another person.
    pub reassign: u64,
    /// Weight of edits on both sides at once. Each takes more than a second, which limits their rate.
    pub conflict: u64,
    /// How long a task is left alone after an edit.
    pub rest: Time,
}

impl Default for Edits {
    fn default() -> Self {
        Self {
            per_second: 0.0,
            at_source: 42,
            in_mailbox: 42,
            create: 6,
            delete: 4,
            reassign: 3,
            conflict: 0,
            rest: Time::seconds(3),
        }
    }
}

/// A measured window with a number of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Worker processes.
    pub workers: u64,
    /// Time for the workers to reach a steady state before the measurement.
    #[serde(default)]
    pub settle: Time,
    /// Length of the measurement.
    pub measured: Time,
}

/// A planned kill, perhaps repeated.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// The process or store that is hit.
    pub what: Victim,
    /// The method.
    #[serde(default)]
    pub how: Method,
    /// Time of the first kill, since the beginning of the measured phase.
    pub at: Time,
    /// Time between repetitions.
    pub every: Option<Time>,
    /// Total number of kills if `every` is set. Without it they repeat until the phase ends.
    pub times: Option<u64>,
    /// Time until the victim is started again.
    #[serde(default)]
    pub down: Time,
}

/// The process or store that a kill hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Victim {
    /// The leading process; in standalone mode the only process.
    Leader,
    /// A scheduler; each time the next one.
    Scheduler,
    /// A worker; each time the next one.
    Worker,
    /// The message broker.
    Rabbitmq,
    /// The index.
    Redis,
    /// The registry's database.
    Postgres,
}

/// The method of a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// SIGKILL.
    #[default]
    Kill,
    /// SIGTERM, with time to drain.
    Terminate,
    /// SIGKILL, with the loss of all its data (Redis, RabbitMQ).
    Wipe,
    /// SIGSTOP, and SIGCONT after `down`: the process hangs.
    Pause,
    /// SIGTERM, then started as the other of two builds. Every process begins with the earlier build.
    Replace,
}

/// Requests to the API, as a load balancer sends them: to one scheduler after another, without those that accept no
/// connection. They read the status, read a person and start a person's sync, in turn.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestPlan {
    /// Requests per second.
    pub per_second: f64,
}

/// The wrong answers of a scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WrongAnswerPlan {
    /// Share of the answers that are wrong.
    pub share: f64,
    /// Number of answers after which the servers are honest and the measured phase ends; 0 for no limit.
    #[serde(default)]
    pub answers: u64,
    /// Kinds of wrong answers; all when empty.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Groups of tenants that get wrong answers; all when empty.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Delay of a late answer.
    #[serde(default = "ten_seconds")]
    pub late: Time,
    /// Both sides are judged once the last full check of each user began at least this long after the last wrong
    /// answer. Set it to `worker.deep_check_interval`, so that each user had a full and a deep check against honest
    /// servers.
    #[serde(default)]
    pub honest: Time,
}

impl WrongAnswerPlan {
    /// Returns whether a group of tenants gets wrong answers.
    pub(crate) fn affects(&self, group: &str) -> bool {
        self.share > 0.0 && (self.tenants.is_empty() || self.tenants.iter().any(|name| name == group))
    }
}

const fn ten_seconds() -> Time {
    Time::seconds(10)
}

/// A run that is made first, for comparison.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Groups of tenants that this run omits.
    #[serde(default)]
    pub without: Vec<String>,
    /// Whether the servers give no wrong answers in this run.
    #[serde(default)]
    pub honest: bool,
}
