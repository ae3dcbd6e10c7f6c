//! A connection together with its channel; both live and die as one *epoch*. Nothing is carried over to the
//! next epoch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::StreamExt as _;
use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection, Event};
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout};

use super::address::Host;
use super::counters::Counters;
use super::dial::{Dialer, Socket};
use super::errors;
use super::topology::Topology;
use crate::clock::monotonic;
use crate::error::{ErrorClass, Failure};
use crate::tasks::spawn;

/// For this time after a failed attempt, callers get the same failure without another attempt.
const REFRAIN: Duration = Duration::from_secs(1);

/// The use of a connection. Jobs are published over their own connection: a broker with an alarm stops
/// reading from connections that publish, and everything else must go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionPurpose {
    Publish,
    Consume,
    Inspect,
}

impl ConnectionPurpose {
    fn name(self) -> &'static str {
        match self {
            Self::Publish => "tasksync publish",
            Self::Consume => "tasksync consume",
            Self::Inspect => "tasksync ask",
        }
    }
}

/// The parts that all connections of one queue share.
#[derive(Debug)]
pub(super) struct BrokerContext {
    pub(super) dialer: Dialer,
    pub(super) topology: Topology,
    pub(super) counters: Counters,
    pub(super) request_timeout: Duration,
    /// Index of the host that is tried first.
    first: Arc<AtomicUsize>,
}

impl BrokerContext {
    pub(super) fn new(dialer: Dialer, topology: Topology, request_timeout: Duration, first: usize) -> Self {
        Self {
            dialer,
            topology,
            counters: Counters::default(),
            request_timeout,
            first: Arc::new(AtomicUsize::new(first)),
        }
    }

    /// Waits for an answer, at most for the request timeout of the settings.
    pub(super) async fn answer<T>(
        &self,
        doing: &str,
        call: impl Future<Output = lapin::Result<T>>,
    ) -> Result<T, Failure> {
        match timeout(self.request_timeout, call).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(errors::failure(&error, doing)),
            Err(_) => Err(errors::timed_out(doing, self.request_timeout)),
        }
    }

    /// Opens a connection, with its channel and the queues, to the first host that works. A host that accepts
    /// and then cannot even show the queues (a node cut off from the others) is skipped, like one that is
    /// down.
    pub(super) async fn connect(
        self: &Arc<Self>,
        purpose: ConnectionPurpose,
    ) -> Result<Arc<AmqpConnection>, Failure> {
        let hosts = &self.dialer.address.hosts;
        let first = self.first.load(Ordering::Relaxed);
        let mut failures: Vec<Failure> = Vec::new();
        for offset in 0..hosts.len() {
            let index = (first + offset) % hosts.len();
            let Some(host) = hosts.get(index) else { break };
            match self.connect_to(host, index, purpose).await {
                Ok(connection) => {
                    self.first.store(index, Ordering::Relaxed);
                    self.counters.connections_opened.add_one();
                    return Ok(Arc::new(connection));
                }
                // Another host would give the same answer.
                Err(failure) if failure.class != ErrorClass::Transient => {
                    self.counters.connections_failed.add_one();
                    return Err(failure);
                }
                Err(failure) => {
                    // If this caller's own deadline ends it here, its next attempt does not begin with this
                    // host.
                    self.first.store((index + 1) % hosts.len(), Ordering::Relaxed);
                    failures.push(failure);
                }
            }
        }
        self.counters.connections_failed.add_one();
        let details: Vec<&str> = failures.iter().map(|failure| failure.detail.as_str()).collect();
        Err(errors::unavailable(details.join("; ")))
    }

    async fn connect_to(
        self: &Arc<Self>,
        host: &Host,
        index: usize,
        purpose: ConnectionPurpose,
    ) -> Result<AmqpConnection, Failure> {
        let (connection, socket) = self.dialer.dial(host, purpose.name()).await?;
        AmqpConnection::open(self, connection, socket, index, purpose)
            .await
            .map_err(|failure| Failure {
                detail: format!("{host}: {}", failure.detail),
                ..failure
            })
    }
}

/// A connection with its channel: one epoch.
#[derive(Debug)]
pub(super) struct AmqpConnection {
    pub(super) channel: Channel,
    connection: Connection,
    socket: Socket,
    /// Why the broker takes no jobs; `None` while it takes them.
    blocked: watch::Receiver<Option<String>>,
    retired: AtomicBool,
    /// Index of this connection's host, and of the host that is tried first.
    host: usize,
    first: Arc<AtomicUsize>,
    hosts: usize,
}

impl AmqpConnection {
    async fn open(
        core: &Arc<BrokerContext>,
        connection: Connection,
        socket: Socket,
        host: usize,
        purpose: ConnectionPurpose,
    ) -> Result<Self, Failure> {
        let blocked = watch_alarms(core, &connection, purpose);
        let channel = match core
            .answer("opening a channel", connection.create_channel())
            .await
        {
            Ok(channel) => channel,
            Err(failure) => {
                socket.cut_later();
                return Err(failure);
            }
        };
        // From here on, dropping the link ends the connection.
        let opened = Self {
            channel,
            connection,
            socket,
            blocked,
            retired: AtomicBool::new(false),
            host,
            first: Arc::clone(&core.first),
            hosts: core.dialer.address.hosts.len(),
        };
        match timeout(core.request_timeout, core.topology.ensure(&opened.channel)).await {
            Ok(ensured) => ensured?,
            Err(_) => return Err(errors::timed_out("declaring the queues", core.request_timeout)),
        }
        if purpose == ConnectionPurpose::Publish {
            let confirms = opened.channel.confirm_select(ConfirmSelectOptions::default());
            core.answer("asking for confirmations", confirms).await?;
        }
        Ok(opened)
    }

    /// Returns another channel, for calls that may end their channel.
    pub(super) async fn open_channel(&self, core: &BrokerContext) -> Result<Channel, Failure> {
        core.answer("opening a channel", self.connection.create_channel())
            .await
    }

    /// Returns whether the epoch still lasts.
    pub(super) fn is_alive(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    /// Stops handing out this link; its present users may go on with it. The next connection begins with
    /// another host, because a node that is cut off from the others still accepts connections but answers
    /// nothing.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        let next = (self.host + 1) % self.hosts.max(1);
        // Only if no other caller has found another host already.
        let _ = self
            .first
            .compare_exchange(self.host, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Returns why the broker takes no jobs now; `None` if it takes them.
    pub(super) fn alarm(&self) -> Option<String> {
        self.blocked.borrow().clone()
    }

    /// Waits until the broker takes no jobs, and returns why.
    pub(super) async fn wait_until_blocked(&self) -> String {
        let mut blocked = self.blocked.clone();
        let reason = blocked
            .wait_for(Option::is_some)
            .await
            .map(|reason| reason.clone().unwrap_or_default())
            .ok();
        match reason {
            Some(reason) => reason,
            // The connection ended; its own errors say so.
            None => std::future::pending().await,
        }
    }
}

impl Drop for AmqpConnection {
    fn drop(&mut self) {
        // The client closes the connection itself. A broker that does not answer must not keep its thread.
        self.socket.cut_later();
    }
}

/// Follows the broker's alarms until the connection ends. The task is detached, because it clears the alarm after the
/// connection ended.
fn watch_alarms(
    core: &Arc<BrokerContext>,
    connection: &Connection,
    purpose: ConnectionPurpose,
) -> watch::Receiver<Option<String>> {
    let (blocked_sender, blocked_receiver) = watch::channel(None);
    let mut events = connection.events_listener();
    let core = Arc::clone(core);
    spawn(async move {
        let mut alarmed = false;
        while let Some(event) = events.next().await {
            if let Event::Error(error) = &event {
                tracing::debug!(%error, ?purpose, "a connection to the broker ended");
            }
            let reason = if let Event::ConnectionBlocked(reason) = event {
                tracing::warn!(%reason, "the broker takes no jobs until its alarm ends");
                Some(reason)
            } else if matches!(event, Event::ConnectionUnblocked) {
                tracing::info!("the broker takes jobs again");
                None
            } else {
                continue;
            };
            alarmed = reason.is_some();
            core.counters.blocked.store(alarmed, Ordering::Relaxed);
            if blocked_sender.send(reason).is_err() {
                break;
            }
        }
        if alarmed {
            // The alarm belonged to this connection; the next one receives it anew.
            core.counters.blocked.store(false, Ordering::Relaxed);
        }
    })
    .detach();
    blocked_receiver
}

#[derive(Debug, Default)]
struct ConnectionSlot {
    connection: Option<Arc<AmqpConnection>>,
    failed: Option<(Instant, Failure)>,
}

/// A link that is opened when it is needed and replaced after it has ended.
#[derive(Debug)]
pub(super) struct ReconnectingConnection {
    core: Arc<BrokerContext>,
    purpose: ConnectionPurpose,
    slot: Mutex<ConnectionSlot>,
}

impl ReconnectingConnection {
    pub(super) fn new(core: Arc<BrokerContext>, purpose: ConnectionPurpose) -> Self {
        Self {
            core,
            purpose,
            slot: Mutex::default(),
        }
    }

    /// Returns the link, and opens it if needed. Callers that wait during an attempt share its result.
    pub(super) async fn get(&self) -> Result<Arc<AmqpConnection>, Failure> {
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection
            && connection.is_alive()
            && !connection.retired.load(Ordering::Relaxed)
        {
            return Ok(Arc::clone(connection));
        }
        slot.connection = None;
        if let Some((at, failure)) = &slot.failed
            && at.elapsed() < REFRAIN
        {
            return Err(failure.clone());
        }
        match self.core.connect(self.purpose).await {
            Ok(connection) => {
                slot.failed = None;
                slot.connection = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(failure) => {
                slot.failed = Some((monotonic(), failure.clone()));
                Err(failure)
            }
        }
    }
}
