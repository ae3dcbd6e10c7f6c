//! The scenario file.

use serde::Deserialize;

use super::duration::Time;

/// A scenario; `docs/scenarios.md` explains every key.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Short name; also the name of the report's files.
    pub name: String,
    /// What it shows, in a sentence or two.
    pub about: String,
    /// Same seed, same population and edits.
    #[serde(default = "one")]
    pub seed: u64,
    /// How tasksync runs.
    #[serde(default)]
    pub mode: Mode,
    /// Scheduler processes (distributed).
    #[serde(default = "one")]
    pub schedulers: u64,
    /// Worker processes (distributed).
    #[serde(default = "one")]
    pub workers: u64,
    /// Where tenants find their servers.
    #[serde(default)]
    pub servers: Servers,
    /// HTTPS between tasksync and the simulated servers.
    #[serde(default)]
    pub tls: bool,
    /// Two requests for one mailbox that are further apart belong to two syncs; half the shortest time between two
    /// syncs when missing.
    pub visit_gap: Option<Time>,
    /// How long each part lasts.
    #[serde(default)]
    pub phases: Phases,
    /// Who lives there.
    pub tenants: Vec<Group>,
    /// What people do.
    #[serde(default)]
    pub edits: Edits,
    /// Measured windows with different numbers of workers; replaces the one measured phase (distributed).
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What is killed, and when.
    #[serde(default)]
    pub kills: Vec<Kill>,
    /// Wrong answers between tasksync and the simulated servers, during the measured phase.
    pub lies: Option<Lies>,
    /// A run before, to compare with.
    pub baseline: Option<Baseline>,
    /// tasksync's own settings, as in its settings file.
    #[serde(default)]
    pub settings: toml::Table,
    /// What must hold at the end, for example `"lost = 0"`.
    #[serde(default)]
    pub expect: Vec<String>,
}

const fn one() -> u64 {
    1
}

/// How tasksync runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// One process with embedded stores.
    #[default]
    Standalone,
    /// Schedulers and workers over private Redis, RabbitMQ and PostgreSQL.
    Distributed,
}

/// Where tenants find their servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Servers {
    /// All at one address: the limit of requests per server is one for all.
    #[default]
    Shared,
    /// Every tenant at an address of its own, as companies with servers of their own.
    PerTenant,
}

/// How long each part lasts. The warm-up and the settling end as soon as they can; their times are limits.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Phases {
    /// Until everybody was synced once; at most.
    pub warm_up: Time,
    /// People edit, things are killed, everything is measured.
    pub measured: Time,
    /// Nobody edits any more; until both sides agree, at most.
    pub settle: Time,
    /// Nothing happens: what does an idle sync cost, and is anything written? 0 leaves it out.
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

/// Tenants that are alike.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Name in the report; the tenants' names begin with it.
    pub name: String,
    /// Number of tenants.
    #[serde(default = "one")]
    pub count: u64,
    /// People of each tenant, on average.
    pub users: u64,
    /// 0: tenants of one size; 1: sizes fall as 1, 1/2, 1/3, …
    #[serde(default)]
    pub skew: f64,
    /// Tasks of each person, on average; everybody has at least one, or the servers would not see their syncs.
    #[serde(default = "two")]
    pub tasks: f64,
    /// Task lists of each tenant; without it one for every 1,000 tasks, at least two.
    pub lists: Option<u64>,
    /// How mailboxes may be opened.
    #[serde(default)]
    pub access: Access,
    /// How Exchange answers.
    #[serde(default)]
    pub exchange: Answers,
    /// How SharePoint answers.
    #[serde(default)]
    pub sharepoint: Answers,
    /// What goes wrong, and when.
    #[serde(default)]
    pub faults: Vec<FaultWindow>,
}

const fn two() -> f64 {
    2.0
}

/// How mailboxes may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Many mailboxes in one request.
    #[default]
    Delegate,
    /// One mailbox in one request.
    Impersonation,
}

/// How a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answers {
    /// Time every request takes besides the work; the median when `p99` is set.
    pub latency: Time,
    /// 99th percentile of the latency; without it every request takes the same time.
    pub p99: Option<Time>,
}

/// What goes wrong for some time.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultWindow {
    /// Which server.
    pub server: FaultServer,
    /// What.
    pub kind: FaultKind,
    /// Since the beginning of the measured phase.
    #[serde(default)]
    pub at: Time,
    /// How long.
    pub lasts: Time,
    /// Share of the requests that are hit.
    #[serde(default = "whole")]
    pub share: f64,
    /// Pause a busy server asks for, or time a slow one takes.
    #[serde(default)]
    pub pause: Time,
}

const fn whole() -> f64 {
    1.0
}

/// Which server a fault is at.
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

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Connections are closed without an answer.
    Down,
    /// The server says it is busy and asks for `pause`.
    Busy,
    /// Requests take `pause` longer.
    Slow,
    /// Requests are carried out and the answer is lost.
    LoseAnswers,
    /// A bare 503.
    Unavailable,
}

/// What people do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edits {
    /// Edits each second, of all people together.
    pub per_second: f64,
    /// Parts of edits in SharePoint.
    pub at_source: u64,
    /// Parts of edits in mailboxes.
    pub in_mailbox: u64,
    /// Parts of new tasks.
    pub create: u64,
    /// Parts of deletions, on both sides.
    pub delete: u64,
    /// Parts of tasks given to somebody else.
    pub reassign: u64,
    /// Parts of edits on both sides at once; each takes more than a second, so few fit into one.
    pub conflict: u64,
    /// A task is left alone this long after an edit.
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
    /// Time for them to find their stride.
    #[serde(default)]
    pub settle: Time,
    /// How long it is measured.
    pub measured: Time,
}

/// What is killed, and when.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// Whom.
    pub what: Victim,
    /// How.
    #[serde(default)]
    pub how: Method,
    /// Since the beginning of the measured phase.
    pub at: Time,
    /// Again after this time.
    pub every: Option<Time>,
    /// How many times in all, with `every`; without it until the phase ends.
    pub times: Option<u64>,
    /// It is started again after this time.
    #[serde(default)]
    pub down: Time,
}

/// Whom a kill hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Victim {
    /// The process that leads; in standalone mode the only one.
    Leader,
    /// A worker; each time the next one.
    Worker,
    /// The message broker.
    Rabbitmq,
    /// The index.
    Redis,
    /// The registry's database.
    Postgres,
}

/// How it is hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// SIGKILL.
    #[default]
    Kill,
    /// SIGTERM, with time to drain.
    Terminate,
    /// SIGKILL, and all its data are gone (Redis, RabbitMQ).
    Wipe,
    /// It hangs: SIGSTOP, and SIGCONT after `down`.
    Pause,
}

/// Wrong answers.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lies {
    /// Share of the answers that are wrong.
    pub share: f64,
    /// The servers are honest after this many answers, and the measured phase ends; 0 for no limit.
    #[serde(default)]
    pub answers: u64,
    /// Kinds of wrong answers; all when empty.
    #[serde(default)]
    pub kinds: Vec<String>,
    /// Groups of tenants that are lied to; all when empty.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// How late a late answer is.
    #[serde(default = "ten_seconds")]
    pub late: Time,
    /// Both sides are judged once everybody's last full check began at least this long after the last wrong answer. As long
    /// as `worker.deep_check_interval`: then everybody had a full and a deep check of honest servers.
    #[serde(default)]
    pub honest: Time,
}

impl Lies {
    /// Whether a group of tenants is lied to.
    pub(crate) fn reach(&self, group: &str) -> bool {
        self.share > 0.0 && (self.tenants.is_empty() || self.tenants.iter().any(|name| name == group))
    }
}

const fn ten_seconds() -> Time {
    Time::seconds(10)
}

/// A run before, to compare with.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// Groups of tenants that are left out of it.
    #[serde(default)]
    pub without: Vec<String>,
    /// Servers give no wrong answers in it.
    #[serde(default)]
    pub honest: bool,
}
