//! The limits of servers: requests in flight per server and account, and pauses. A pause asked of one request
//! holds back all.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::clock::SharedClock;
use tasksync_common::clock::monotonic;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::fleet::{Nudge, PauseReport, ServerName};
use tasksync_common::metrics::record::{self, Server};
use tasksync_common::model::TenantId;
use url::Url;

use super::allowance::{Allowance, Permit};
use super::last_day::LastDay;
use super::pausing::Pausing;
use super::sharing::{Demands, Sharing};
use super::until;
use crate::http::service;

/// Servers remembered at the same time.
const MAXIMUM_SERVERS: usize = 10_000;

/// The largest limit of requests in flight at one server, whatever the settings.
const MOST_REQUESTS: u32 = 100_000;

/// The limits of every server, shared by all parts of the process. Cheap to clone.
///
/// At most 10,000 servers are remembered. To make room, the one whose limits were requested longest ago is
/// removed among those that are not in use, unpaused ones first. If all are in use, further servers share one
/// entry, and so one limit and one pause, until there is room.
#[derive(Clone)]
pub struct Servers {
    inner: Arc<ServersInner>,
}

struct ServersInner {
    requests_per_server: usize,
    maximum: usize,
    clock: SharedClock,
    known: Mutex<KnownServers>,
    overflow: Arc<ServerLimits>,
    /// Present if all workers share the limits; otherwise the limits are the process's own.
    sharing: Option<Arc<Sharing>>,
}

/// The name of the entry that further servers share when there is no room.
const OVERFLOW: &str = "other servers";

#[derive(Default)]
struct KnownServers {
    servers: HashMap<String, KnownServer>,
    /// Grows with each look-up; orders entries by their last one.
    look_ups: u64,
}

struct KnownServer {
    limits: Arc<ServerLimits>,
    last_look_up: u64,
}

impl Servers {
    /// Returns limits under which each server takes `requests_per_server` requests at the same time.
    #[must_use]
    pub fn new(requests_per_server: usize, clock: SharedClock) -> Self {
        Self::with_maximum(requests_per_server, clock, MAXIMUM_SERVERS, None)
    }

    /// As [`Self::new`], for a process that shares every limit with others. The value is a part of the
    /// process's [`tasksync_common::fleet::Heartbeat`], and uses `nudge` when it cannot wait for the next
    /// exchange.
    #[must_use]
    pub fn shared_by_all(requests_per_server: usize, clock: SharedClock, nudge: Arc<Nudge>) -> Self {
        let sharing = Arc::new(Sharing::new(nudge));
        Self::with_maximum(requests_per_server, clock, MAXIMUM_SERVERS, Some(sharing))
    }

    fn with_maximum(
        requests_per_server: usize,
        clock: SharedClock,
        maximum: usize,
        sharing: Option<Arc<Sharing>>,
    ) -> Self {
        let overflow = Arc::new(ServerLimits::new(
            OVERFLOW.to_owned(),
            Server::Ews,
            requests_per_server,
            Arc::clone(&clock),
            sharing.clone(),
        ));
        Self {
            inner: Arc::new(ServersInner {
                requests_per_server,
                maximum,
                clock,
                known: Mutex::default(),
                overflow,
                sharing,
            }),
        }
    }

    pub(super) fn sharing(&self) -> Option<&Sharing> {
        self.inner.sharing.as_deref()
    }

    /// Returns every entry with its name.
    pub(super) fn all(&self) -> Vec<(String, Arc<ServerLimits>)> {
        let known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = known
            .servers
            .iter()
            .map(|(name, entry)| (name.clone(), Arc::clone(&entry.limits)))
            .collect();
        all.push((OVERFLOW.to_owned(), Arc::clone(&self.inner.overflow)));
        all
    }

    pub(super) fn find(&self, name: &str) -> Option<Arc<ServerLimits>> {
        if name == OVERFLOW {
            return Some(Arc::clone(&self.inner.overflow));
        }
        let known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.servers.get(name).map(|entry| Arc::clone(&entry.limits))
    }

    /// Returns the limits of the URL's server (host and port) for `account`, the identity for which the
    /// server counts requests. For a server of one company all callers pass the empty account. On a server of
    /// many companies, such as Exchange Online, each tenant's application is its own account; otherwise one
    /// tenant's pause would stop all.
    #[must_use]
    pub fn limits_of(&self, url: &Url, kind: Server, account: &str) -> Arc<ServerLimits> {
        let server = ServerName::new(url, kind, account);
        let name = server.to_string();
        let inner = &self.inner;
        let mut known = inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.look_ups += 1;
        let look_up = known.look_ups;
        if let Some(entry) = known.servers.get_mut(&name) {
            entry.last_look_up = look_up;
            return Arc::clone(&entry.limits);
        }
        if known.servers.len() >= inner.maximum && !evict_unused(&mut known.servers, inner.clock.now()) {
            return Arc::clone(&inner.overflow);
        }
        let limits = Arc::new(ServerLimits::new(
            server.host,
            kind,
            inner.requests_per_server,
            Arc::clone(&inner.clock),
            inner.sharing.clone(),
        ));
        known.servers.insert(
            name,
            KnownServer {
                limits: Arc::clone(&limits),
                last_look_up: look_up,
            },
        );
        limits
    }

    /// Returns the number of servers that are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .servers
            .len()
    }

    /// Returns whether no server is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Removes one entry that is not in use. Returns `false` if there is none.
fn evict_unused(servers: &mut HashMap<String, KnownServer>, now: Timestamp) -> bool {
    let evicted = servers
        .iter()
        .filter(|(_, entry)| Arc::strong_count(&entry.limits) == 1 && !entry.limits.was_reported())
        .min_by_key(|(_, entry)| (entry.limits.pause_left(now).is_some(), entry.last_look_up))
        .map(|(name, _)| name.clone());
    evicted.is_some_and(|name| servers.remove(&name).is_some())
}

/// The counters of one server since its limits were first requested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerCounts {
    /// Permits given out.
    pub requests: u64,
    /// Pauses that the server asked for.
    pub throttled: u64,
    /// Permits held now.
    pub in_flight: usize,
}

/// The limits of one server.
pub struct ServerLimits {
    host: String,
    kind: Server,
    clock: SharedClock,
    limit: u32,
    /// The process's own share of the limit.
    allowance: Arc<Allowance>,
    pausing: Pausing,
    requests: AtomicU64,
    throttled: AtomicU64,
    last_day: Mutex<LastDay>,
    sharing: Option<Arc<Sharing>>,
    /// The other processes' demands, as the store last answered.
    demands: Demands,
    /// Whether the last report said that permits are held or wanted here; the end of that must be reported, too.
    reported: AtomicBool,
}

impl ServerLimits {
    fn new(
        host: String,
        kind: Server,
        requests: usize,
        clock: SharedClock,
        sharing: Option<Arc<Sharing>>,
    ) -> Self {
        let limit = u32::try_from(requests)
            .unwrap_or(MOST_REQUESTS)
            .clamp(1, MOST_REQUESTS);
        let share = sharing
            .as_ref()
            .map_or(limit, |sharing| sharing.first_share(limit));
        Self {
            host,
            kind,
            clock,
            limit,
            allowance: Allowance::new(share),
            pausing: Pausing::default(),
            requests: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            last_day: Mutex::default(),
            sharing,
            demands: Demands::default(),
            reported: AtomicBool::new(false),
        }
    }

    pub(super) fn limit(&self) -> u32 {
        self.limit
    }

    pub(super) fn allowance(&self) -> &Arc<Allowance> {
        &self.allowance
    }

    pub(super) fn demands(&self) -> &Demands {
        &self.demands
    }

    pub(super) fn was_reported(&self) -> bool {
        self.reported.load(Ordering::Acquire)
    }

    pub(super) fn set_reported(&self, reported: bool) {
        self.reported.store(reported, Ordering::Release);
    }

    fn nudge(&self) {
        if let Some(sharing) = &self.sharing {
            sharing.nudge.now();
        }
    }

    /// Returns host and port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the permit for one request in flight; dropping it gives it back. Waits until `deadline` for a
    /// free permit, but not for the end of a pause: the caller's users are postponed instead.
    ///
    /// # Errors
    /// - Throttled with the service's busy code and the rest of the pause, if the server asked for one.
    /// - Transient `BudgetExhausted`, if no permit became free in time.
    pub async fn acquire(self: &Arc<Self>, deadline: Timestamp) -> Result<ServerPermit, Failure> {
        self.check()?;
        let began = monotonic();
        let permit = match self.allowance.try_acquire() {
            Some(permit) => Some(permit),
            None => self.wait(deadline).await,
        };
        let permit = permit.ok_or_else(|| {
            Failure::new(
                ErrorClass::Transient,
                Code::BudgetExhausted,
                format!(
                    "{} has reached its limit of requests in flight, and none ended in time",
                    self.host
                ),
            )
        })?;
        record::throttle_wait(self.kind, began.elapsed());
        // The pause may have begun while this caller waited.
        self.check()?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(ServerPermit {
            server: Arc::clone(self),
            _permit: permit,
        })
    }

    async fn wait(&self, deadline: Timestamp) -> Option<Permit> {
        let permit = self.allowance.acquire(|| {
            if self.allowance.share() < self.limit {
                // The store may give this process a larger share.
                self.nudge();
            }
        });
        until(deadline, &self.clock, permit).await.flatten()
    }

    /// Holds back all requests to this server until `instant`. The server asked for the pause when it
    /// answered a request of `tenant` (none if the answer concerns several tenants), and `why` says how. A
    /// known pause that is longer stays.
    pub fn pause_until(&self, instant: Timestamp, tenant: Option<&TenantId>, why: impl Into<String>) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
        let now = self.clock.now();
        self.last_day().add(now);
        self.pausing.begin(now, instant, tenant, why.into());
        self.nudge();
    }

    /// Returns how often the server asked this process for a pause within the last day, and when last; `None` for
    /// never.
    pub(super) fn throttled_last_day(&self) -> Option<(u64, Timestamp)> {
        self.last_day().count(self.clock.now())
    }

    fn last_day(&self) -> MutexGuard<'_, LastDay> {
        self.last_day.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the pause that this process reports to the store.
    pub(super) fn pause_to_report(&self) -> Option<PauseReport> {
        self.pausing.pause_to_report(self.clock.now())
    }

    /// Replaces the known pause with the store's, of which `left` remains.
    pub(super) fn adopt_pause(&self, left: Duration) {
        self.pausing.adopt(self.clock.now(), left);
    }

    /// Returns whether the server is paused now, as far as this process knows.
    pub(super) fn is_paused(&self) -> bool {
        self.pause_left(self.clock.now()).is_some()
    }

    /// Checks that a request may be sent now.
    ///
    /// # Errors
    /// Throttled with the service's busy code and the rest of the pause.
    pub fn check(&self) -> Result<(), Failure> {
        match self.pause_failure() {
            None => Ok(()),
            Some(failure) => {
                record::unsent_request(self.kind);
                Err(failure)
            }
        }
    }

    /// Returns the failure of a request during the server's pause: throttled, with the rest of the pause. Returns
    /// `None` without a pause. Counts nothing; a caller that sends no request because of it calls
    /// [`record::unsent_request`].
    pub fn pause_failure(&self) -> Option<Failure> {
        let now = self.clock.now();
        let left = self.pause_left(now)?;
        let left_signed = SignedDuration::try_from(left).unwrap_or(SignedDuration::MAX);
        let until = now.checked_add(left_signed).unwrap_or(Timestamp::MAX);
        Some(service::busy_failure(
            self.kind,
            Some(left),
            format!(
                "{} asked for a pause until {until:.0}, of which {} ms are left",
                self.host,
                left.as_millis()
            ),
        ))
    }

    fn pause_left(&self, now: Timestamp) -> Option<Duration> {
        self.pausing.remaining(now)
    }

    /// Returns the counters for metrics.
    #[must_use]
    pub fn counts(&self) -> ServerCounts {
        ServerCounts {
            requests: self.requests.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            in_flight: self.allowance.in_flight() as usize,
        }
    }
}

/// The permit for one request in flight at a server.
pub struct ServerPermit {
    server: Arc<ServerLimits>,
    _permit: Permit,
}

impl ServerPermit {
    /// Returns the server for which the permit is.
    #[must_use]
    pub fn server(&self) -> &ServerLimits {
        &self.server
    }
}

#[cfg(test)]
mod tests;
