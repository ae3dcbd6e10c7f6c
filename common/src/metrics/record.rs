//! Records measurements where they are made. It does nothing until the process has created its
//! [`super::Metrics`].

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Histogram;

use super::{Metrics, as_f64, catalogue};
use crate::clock::monotonic;

/// The process's instruments.
static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();

macro_rules! labels {
    ($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name {
            $($(#[doc = $variant_doc])+ $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the label's value.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// Returns the place in [`Self::ALL`].
            #[must_use]
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

labels! {
    /// Kinds of servers that receive requests.
    Server {
        /// Exchange Web Services.
        Ews = "ews",
        /// SharePoint's REST interface.
        SharePoint = "sharepoint",
        /// A token endpoint.
        Token = "token",
    }
}

labels! {
    /// The purpose of a request.
    Purpose {
        /// The survey of a group of users.
        Survey = "survey",
        /// The sync of one user.
        Sync = "sync",
        /// Checks and previews that a person asked for.
        Other = "other",
    }
}

labels! {
    /// The outcome of a request.
    Outcome {
        /// 2xx or 3xx.
        Ok = "ok",
        /// 401 or 403.
        Unauthorized = "unauthorized",
        /// 429 or 503.
        Throttled = "throttled",
        /// Another 4xx.
        ClientError = "client_error",
        /// Another 5xx.
        ServerError = "server_error",
        /// There was no connection.
        NotConnected = "not_connected",
        /// The request timed out.
        TimedOut = "timed_out",
        /// The connection broke.
        Broken = "broken",
        /// The answer is larger than allowed.
        TooLarge = "too_large",
        /// The operator's rules do not allow the address.
        AddressRefused = "address_refused",
    }
}

impl Outcome {
    /// Returns the outcome for an HTTP status.
    #[must_use]
    pub fn of_status(status: u16) -> Self {
        match status {
            0..400 => Self::Ok,
            401 | 403 => Self::Unauthorized,
            429 | 503 => Self::Throttled,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

labels! {
    /// The phases of a sync.
    Phase {
        /// The survey of a group of users.
        Survey = "survey",
        /// Reading the source.
        SourceRead = "source_read",
        /// Reading the mailbox.
        MailboxRead = "mailbox_read",
        /// Planning, including the guard.
        Plan = "plan",
        /// Writing to both sides.
        Apply = "apply",
        /// Saving the state.
        Commit = "commit",
    }
}

labels! {
    /// The two sides of a sync.
    Side {
        /// The source of the tasks.
        Source = "source",
        /// The mailbox.
        Mailbox = "mailbox",
    }
}

labels! {
    /// The stores.
    Store {
        /// The registry.
        Registry = "registry",
        /// The schedule.
        Schedule = "schedule",
        /// The queue.
        Queue = "queue",
    }
}

labels! {
    /// The kinds of selections by the leader.
    Dispatch {
        /// A run.
        Run = "run",
        /// A top-up between two runs.
        TopUp = "top_up",
    }
}

labels! {
    /// The listeners of a process.
    Listener {
        /// The API's.
        Api = "api",
        /// That of probes and metrics.
        Health = "health",
    }
}

labels! {
    /// What a limit on connections did.
    LostConnection {
        /// An idle connection was closed in favour of a new one.
        ClosedIdle = "closed_idle",
        /// A new one was refused, because its client's others all serve requests.
        ClientLimit = "client_limit",
        /// A new one was refused, because all others serve requests.
        TotalLimit = "total_limit",
    }
}

labels! {
    /// How a wrong operator token was answered.
    WrongToken {
        /// At once.
        AtOnce = "at_once",
        /// Late, because its client sent too many.
        Late = "late",
    }
}

labels! {
    /// The signals sent by OTLP.
    Signal {
        /// Spans.
        Traces = "traces",
        /// Metrics.
        Metrics = "metrics",
    }
}

tokio::task_local! {
    static PURPOSE: Purpose;
}

/// Runs `work` so that its requests count for `purpose`. Tasks spawned inside do not inherit it.
pub async fn on_behalf_of<F: Future>(purpose: Purpose, work: F) -> F::Output {
    PURPOSE.scope(purpose, work).await
}

struct Instruments {
    dispatch: Histogram<f64>,
    delay: Histogram<f64>,
    job: Histogram<f64>,
    phase: Histogram<f64>,
    sync: Histogram<f64>,
    writes: Histogram<f64>,
    request: Histogram<f64>,
    wait: Histogram<f64>,
    call: Histogram<f64>,
    call_failures: opentelemetry::metrics::Counter<u64>,
}

/// One counter for each kind of server.
type PerServer = [AtomicU64; Server::ALL.len()];
/// One counter for each purpose.
type PerPurpose = [AtomicU64; Purpose::ALL.len()];

/// Counters with few label values, one atomic each; they exist from the start.
static REQUESTS: [PerPurpose; Server::ALL.len()] =
    [const { [const { AtomicU64::new(0) }; Purpose::ALL.len()] }; Server::ALL.len()];
static PAUSES: PerServer = [const { AtomicU64::new(0) }; Server::ALL.len()];
static PAUSED: PerServer = [const { AtomicU64::new(0) }; Server::ALL.len()];
static FOREIGN: PerServer = [const { AtomicU64::new(0) }; Server::ALL.len()];
static HELD: [AtomicU64; Side::ALL.len()] = [const { AtomicU64::new(0) }; Side::ALL.len()];
static LOST_CONNECTIONS: [[AtomicU64; LostConnection::ALL.len()]; Listener::ALL.len()] =
    [const { [const { AtomicU64::new(0) }; LostConnection::ALL.len()] }; Listener::ALL.len()];
static WRONG_TOKENS: [AtomicU64; WrongToken::ALL.len()] =
    [const { AtomicU64::new(0) }; WrongToken::ALL.len()];
static REFUSALS: AtomicU64 = AtomicU64::new(0);
static SURVEYED: AtomicU64 = AtomicU64::new(0);
static EXPORTS: [[AtomicU64; 2]; Signal::ALL.len()] =
    [const { [const { AtomicU64::new(0) }; 2] }; Signal::ALL.len()];

pub(super) fn install(metrics: &Metrics) {
    let get = |counter: &AtomicU64| as_f64(counter.load(Ordering::Relaxed));
    metrics.observe(&catalogue::REQUESTS, move |sink| {
        for (server, counters) in Server::ALL.iter().zip(&REQUESTS) {
            for (purpose, counter) in Purpose::ALL.iter().zip(counters) {
                sink.labelled(&[server.name(), purpose.name()], get(counter));
            }
        }
    });
    metrics.observe(&catalogue::PAUSES, move |sink| {
        for (server, counter) in Server::ALL.iter().zip(&PAUSES) {
            sink.labelled(&[server.name()], get(counter));
        }
    });
    metrics.observe(&catalogue::PAUSED, move |sink| {
        for (server, counter) in Server::ALL.iter().zip(&PAUSED) {
            sink.labelled(&[server.name()], get(counter));
        }
    });
    metrics.observe(&catalogue::FOREIGN_ANSWERS, move |sink| {
        for (server, counter) in Server::ALL.iter().zip(&FOREIGN) {
            sink.labelled(&[server.name()], get(counter));
        }
    });
    metrics.observe(&catalogue::GUARD_HELD, move |sink| {
        for (side, counter) in Side::ALL.iter().zip(&HELD) {
            sink.labelled(&[side.name()], get(counter));
        }
    });
    metrics.observe(&catalogue::LOST_CONNECTIONS, move |sink| {
        for (listener, counters) in Listener::ALL.iter().zip(&LOST_CONNECTIONS) {
            for (reason, counter) in LostConnection::ALL.iter().zip(counters) {
                sink.labelled(&[listener.name(), reason.name()], get(counter));
            }
        }
    });
    metrics.observe(&catalogue::WRONG_TOKENS, move |sink| {
        for (answer, counter) in WrongToken::ALL.iter().zip(&WRONG_TOKENS) {
            sink.labelled(&[answer.name()], get(counter));
        }
    });
    metrics.observe(&catalogue::GUARD_REFUSALS, move |sink| sink.value(get(&REFUSALS)));
    metrics.observe(&catalogue::USERS_SURVEYED, move |sink| sink.value(get(&SURVEYED)));
    metrics.observe(&catalogue::EXPORTS, move |sink| {
        for (signal, [failed, sent]) in Signal::ALL.iter().zip(&EXPORTS) {
            sink.labelled(&[signal.name(), "sent"], get(sent));
            sink.labelled(&[signal.name(), "failed"], get(failed));
        }
    });
    // The first instruments of a process are used. Only tests create a second set.
    let _ = INSTRUMENTS.set(Instruments {
        dispatch: metrics.histogram(&catalogue::DISPATCH_DURATION),
        delay: metrics.histogram(&catalogue::DISPATCH_DELAY),
        job: metrics.histogram(&catalogue::JOB_DURATION),
        phase: metrics.histogram(&catalogue::PHASE_DURATION),
        sync: metrics.histogram(&catalogue::SYNC_DURATION),
        writes: metrics.histogram(&catalogue::WRITES_PER_SYNC),
        request: metrics.histogram(&catalogue::REQUEST_DURATION),
        wait: metrics.histogram(&catalogue::THROTTLE_WAIT),
        call: metrics.histogram(&catalogue::CALL_DURATION),
        call_failures: metrics
            .meter
            .u64_counter(catalogue::CALL_FAILURES.name.trim_end_matches("_total"))
            .with_unit(catalogue::CALL_FAILURES.unit)
            .with_description(catalogue::CALL_FAILURES.meaning.trim())
            .build(),
    });
}

fn count(counter: Option<&AtomicU64>, number: u64) {
    if let Some(counter) = counter {
        counter.fetch_add(number, Ordering::Relaxed);
    }
}

/// Records that a run or top-up of the leader ended.
pub fn dispatch(kind: Dispatch, took: Duration) {
    if let Some(instruments) = INSTRUMENTS.get() {
        let labels = [KeyValue::new("kind", kind.name())];
        instruments.dispatch.record(took.as_secs_f64(), &labels);
    }
}

/// Records that a user was claimed, and how long after becoming due.
pub fn claim_delay(waited: Duration) {
    if let Some(instruments) = INSTRUMENTS.get() {
        instruments.delay.record(waited.as_secs_f64(), &[]);
    }
}

/// Records that a job was settled, and the time since its delivery.
pub fn job(took: Duration) {
    if let Some(instruments) = INSTRUMENTS.get() {
        instruments.job.record(took.as_secs_f64(), &[]);
    }
}

/// Records that a phase of a sync ended.
pub fn phase(phase: Phase, took: Duration) {
    if let Some(instruments) = INSTRUMENTS.get() {
        let labels = [KeyValue::new("phase", phase.name())];
        instruments.phase.record(took.as_secs_f64(), &labels);
    }
}

/// Runs a phase of a sync and records its duration if it ends.
pub async fn time_phase<F: Future>(which: Phase, work: F) -> F::Output {
    let began = monotonic();
    let output = work.await;
    phase(which, began.elapsed());
    output
}

/// Records that a survey covered this many users.
pub fn surveyed_users(users: usize) {
    count(Some(&SURVEYED), users as u64);
}

/// Records that the sync of a user ended, with its numbers of writes at the source and in the mailbox.
pub fn sync(took: Duration, source_writes: u32, mailbox_writes: u32) {
    if let Some(instruments) = INSTRUMENTS.get() {
        instruments.sync.record(took.as_secs_f64(), &[]);
        for (side, writes) in [(Side::Source, source_writes), (Side::Mailbox, mailbox_writes)] {
            let labels = [KeyValue::new("side", side.name())];
            instruments.writes.record(f64::from(writes), &labels);
        }
    }
}

/// Records that a request to a tenant's server ended.
pub fn request(server: Server, outcome: Outcome, took: Duration) {
    let purpose = PURPOSE.try_with(|purpose| *purpose).unwrap_or(Purpose::Other);
    count(
        REQUESTS
            .get(server.index())
            .and_then(|counters| counters.get(purpose.index())),
        1,
    );
    if let Some(instruments) = INSTRUMENTS.get() {
        let labels = [
            KeyValue::new("server", server.name()),
            KeyValue::new("outcome", outcome.name()),
        ];
        instruments.request.record(took.as_secs_f64(), &labels);
    }
}

/// Records that a request waited for its server's limit.
pub fn throttle_wait(server: Server, waited: Duration) {
    if let Some(instruments) = INSTRUMENTS.get() {
        let labels = [KeyValue::new("server", server.name())];
        instruments.wait.record(waited.as_secs_f64(), &labels);
    }
}

/// Records that a server asked for a pause.
pub fn pause(server: Server) {
    count(PAUSES.get(server.index()), 1);
}

/// Records that a request was not sent because of its server's pause.
pub fn unsent_request(server: Server) {
    count(PAUSED.get(server.index()), 1);
}

/// Records that an answer was refused because it belongs to another request.
pub fn foreign_answer(server: Server) {
    count(FOREIGN.get(server.index()), 1);
}

/// Records that a limit closed or refused a connection.
pub fn lost_connection(listener: Listener, reason: LostConnection) {
    let counters = LOST_CONNECTIONS.get(listener.index());
    count(counters.and_then(|counters| counters.get(reason.index())), 1);
}

/// Records that a request with a wrong operator token was refused.
pub fn wrong_token(answer: WrongToken) {
    count(WRONG_TOKENS.get(answer.index()), 1);
}

/// Records that the guard held back deletions on a side.
pub fn held_deletions(side: Side, deletions: usize) {
    count(HELD.get(side.index()), deletions as u64);
}

/// Records that the guard held back a part of a plan.
pub fn guard_refusal() {
    count(Some(&REFUSALS), 1);
}

/// Records that a call of a store ended.
pub fn call(store: Store, operation: &'static str, worked: bool, took: Duration) {
    if let Some(instruments) = INSTRUMENTS.get() {
        let labels = [
            KeyValue::new("store", store.name()),
            KeyValue::new("operation", operation),
        ];
        instruments.call.record(took.as_secs_f64(), &labels);
        // Added even without a failure, so that the series exists.
        instruments.call_failures.add(u64::from(!worked), &labels);
    }
}

pub(crate) fn export(signal: Signal, sent: bool) {
    let counters = EXPORTS.get(signal.index());
    count(counters.and_then(|counters| counters.get(usize::from(sent))), 1);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_label_s_values_are_those_of_the_catalogue() {
        let values = |spec: &catalogue::Spec, label: &str| {
            let label = spec.labels.iter().find(|found| found.name == label);
            label.unwrap().values.to_vec()
        };
        let names = |all: Vec<&'static str>| all;
        let servers = names(Server::ALL.iter().map(|one| one.name()).collect());
        assert_eq!(values(&catalogue::REQUESTS, "server"), servers);
        assert_eq!(values(&catalogue::REQUEST_DURATION, "server"), servers);
        assert_eq!(values(&catalogue::PAUSES, "server"), servers);
        assert_eq!(values(&catalogue::PAUSED, "server"), servers);
        assert_eq!(values(&catalogue::FOREIGN_ANSWERS, "server"), servers);
        assert_eq!(
            values(&catalogue::REQUESTS, "purpose"),
            names(Purpose::ALL.iter().map(|one| one.name()).collect())
        );
        assert_eq!(
            values(&catalogue::REQUEST_DURATION, "outcome"),
            names(Outcome::ALL.iter().map(|one| one.name()).collect())
        );
        assert_eq!(
            values(&catalogue::PHASE_DURATION, "phase"),
            names(Phase::ALL.iter().map(|one| one.name()).collect())
        );
        assert_eq!(
            values(&catalogue::GUARD_HELD, "side"),
            names(Side::ALL.iter().map(|one| one.name()).collect())
        );
        assert_eq!(
            values(&catalogue::CALL_DURATION, "store"),
            names(Store::ALL.iter().map(|one| one.name()).collect())
        );
        assert_eq!(
            values(&catalogue::DISPATCH_DURATION, "kind"),
            names(Dispatch::ALL.iter().map(|one| one.name()).collect())
        );
        let listeners = names(Listener::ALL.iter().map(|one| one.name()).collect());
        assert_eq!(values(&catalogue::LOST_CONNECTIONS, "listener"), listeners);
        assert_eq!(
            values(&catalogue::LOST_CONNECTIONS, "reason"),
            names(LostConnection::ALL.iter().map(|one| one.name()).collect())
        );
        assert_eq!(
            values(&catalogue::WRONG_TOKENS, "answer"),
            names(WrongToken::ALL.iter().map(|one| one.name()).collect())
        );
        assert_eq!(
            values(&catalogue::EXPORTS, "signal"),
            names(Signal::ALL.iter().map(|one| one.name()).collect())
        );
    }

    #[test]
    fn statuses_fall_into_their_classes() {
        for (status, outcome) in [
            (200, Outcome::Ok),
            (302, Outcome::Ok),
            (401, Outcome::Unauthorized),
            (403, Outcome::Unauthorized),
            (404, Outcome::ClientError),
            (429, Outcome::Throttled),
            (500, Outcome::ServerError),
            (503, Outcome::Throttled),
            (999, Outcome::ServerError),
        ] {
            assert_eq!(Outcome::of_status(status), outcome, "{status}");
        }
    }
}
