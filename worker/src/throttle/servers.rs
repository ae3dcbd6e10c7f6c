//! Requests in flight per server and account, and the pauses that servers ask for: one is told, all wait.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::clock::SharedClock;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::metrics::record::{self, Server};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

use super::until;
use crate::http::host_of;

/// Most servers that are remembered at once.
const MAXIMUM_SERVERS: usize = 10_000;

/// The limits of every server, shared by everything in the process. Cheap to clone.
///
/// Bounded: beyond the limit the server that was asked for longest ago goes, among those that nobody holds, the unpaused
/// first. If all are held, newcomers share one entry, and so one limit and one pause, until there is room.
#[derive(Clone)]
pub struct Servers {
    shared: Arc<Shared>,
}

struct Shared {
    requests_per_server: usize,
    maximum: usize,
    clock: SharedClock,
    known: Mutex<Known>,
    overflow: Arc<ServerLimits>,
}

#[derive(Default)]
struct Known {
    servers: HashMap<String, Entry>,
    /// Grows with each question; orders entries by their last one.
    turn: u64,
}

struct Entry {
    limits: Arc<ServerLimits>,
    turn: u64,
}

impl Servers {
    /// A registry whose servers take `requests_per_server` requests at once.
    #[must_use]
    pub fn new(requests_per_server: usize, clock: SharedClock) -> Self {
        Self::with_maximum(requests_per_server, clock, MAXIMUM_SERVERS)
    }

    fn with_maximum(requests_per_server: usize, clock: SharedClock, maximum: usize) -> Self {
        let overflow = Arc::new(ServerLimits::new(
            "other servers".to_owned(),
            requests_per_server,
            Arc::clone(&clock),
        ));
        Self {
            shared: Arc::new(Shared {
                requests_per_server,
                maximum,
                clock,
                known: Mutex::default(),
                overflow,
            }),
        }
    }

    /// The limits of the URL's server (host and port) for `account`: whom the server counts requests for. A server that
    /// serves one company is given the empty account by everybody; on one that serves many, such as Exchange Online,
    /// each tenant's application is an account of its own, or one tenant's pause would stop all.
    #[must_use]
    pub fn of(&self, url: &Url, account: &str) -> Arc<ServerLimits> {
        let host = host_of(url);
        // A NUL is in no host name, so no pair can be taken for another.
        let name = format!("{host}\0{account}");
        let shared = &self.shared;
        let mut known = shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.turn += 1;
        let turn = known.turn;
        if let Some(entry) = known.servers.get_mut(&name) {
            entry.turn = turn;
            return Arc::clone(&entry.limits);
        }
        if known.servers.len() >= shared.maximum && !make_room(&mut known.servers, shared.clock.now()) {
            return Arc::clone(&shared.overflow);
        }
        let limits = Arc::new(ServerLimits::new(
            host,
            shared.requests_per_server,
            Arc::clone(&shared.clock),
        ));
        known.servers.insert(
            name,
            Entry {
                limits: Arc::clone(&limits),
                turn,
            },
        );
        limits
    }

    /// How many servers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .servers
            .len()
    }

    /// Whether no server is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Removes one entry that nobody holds; `false` when there is none.
fn make_room(servers: &mut HashMap<String, Entry>, now: Timestamp) -> bool {
    let goes = servers
        .iter()
        .filter(|(_, entry)| Arc::strong_count(&entry.limits) == 1)
        .min_by_key(|(_, entry)| (entry.limits.pause_left(now).is_some(), entry.turn))
        .map(|(name, _)| name.clone());
    goes.is_some_and(|name| servers.remove(&name).is_some())
}

/// The kind of server that the busy answer's code belongs to.
fn kind_of(busy: Code) -> Server {
    if busy == Code::ExchangeBusy {
        Server::Ews
    } else {
        Server::SharePoint
    }
}

/// What has happened with one server since it was first asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerCounts {
    /// Permits given out.
    pub requests: u64,
    /// Pauses the server asked for.
    pub throttled: u64,
    /// Permits held now.
    pub in_flight: usize,
}

/// The limits of one server.
pub struct ServerLimits {
    host: String,
    clock: SharedClock,
    permits: Arc<Semaphore>,
    /// End of the pause, in microseconds since 1970; 0 for none.
    paused_until: AtomicI64,
    requests: AtomicU64,
    throttled: AtomicU64,
    in_flight: AtomicUsize,
}

impl ServerLimits {
    fn new(host: String, requests: usize, clock: SharedClock) -> Self {
        Self {
            host,
            clock,
            permits: Arc::new(Semaphore::new(requests.clamp(1, Semaphore::MAX_PERMITS))),
            paused_until: AtomicI64::new(0),
            requests: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
        }
    }

    /// Host and port.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The right to have one request in flight, given back when dropped. Waits for it until `deadline`, but does not wait
    /// for the end of a pause: the caller's users are better put off than kept waiting.
    ///
    /// # Errors
    /// - Throttled with code `busy`, when the server asked for a pause, with what is left of it.
    /// - Transient `BudgetExhausted`, when nothing became free in time.
    pub async fn acquire(self: &Arc<Self>, busy: Code, deadline: Timestamp) -> Result<ServerPermit, Failure> {
        self.check(busy)?;
        let began = std::time::Instant::now();
        let permit = until(deadline, &self.clock, Arc::clone(&self.permits).acquire_owned())
            .await
            .and_then(Result::ok)
            .ok_or_else(|| {
                Failure::new(
                    ErrorClass::Transient,
                    Code::BudgetExhausted,
                    format!(
                        "{} has as many requests in flight as allowed; none ended in time",
                        self.host
                    ),
                )
            })?;
        record::throttle_wait(kind_of(busy), began.elapsed());
        // The pause may have begun while this caller waited.
        self.check(busy)?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(ServerPermit {
            server: Arc::clone(self),
            _permit: permit,
        })
    }

    /// Nobody sends a request to this server before `instant`. A pause that is already longer stays.
    pub fn pause_until(&self, instant: Timestamp) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
        // Rounded up, so that a pause is never shortened by the part of a microsecond.
        let end = instant
            .as_microsecond()
            .saturating_add(i64::from(instant.subsec_nanosecond() % 1_000 != 0));
        self.paused_until.fetch_max(end, Ordering::AcqRel);
    }

    /// Whether a request may be sent now.
    ///
    /// # Errors
    /// Throttled with code `busy` and what is left of the pause.
    pub fn check(&self, busy: Code) -> Result<(), Failure> {
        match self.pause_left(self.clock.now()) {
            None => Ok(()),
            Some(left) => {
                record::paused(kind_of(busy));
                Err(Failure::new(
                    ErrorClass::Throttled {
                        retry_after: Some(left),
                    },
                    busy,
                    format!(
                        "{} asked for a pause, of which {} ms are left",
                        self.host,
                        left.as_millis()
                    ),
                ))
            }
        }
    }

    fn pause_left(&self, now: Timestamp) -> Option<Duration> {
        let end = self.paused_until.load(Ordering::Acquire);
        let left = end.saturating_sub(now.as_microsecond());
        u64::try_from(left)
            .ok()
            .filter(|left| *left > 0 && end > 0)
            .map(Duration::from_micros)
    }

    /// Counters for metrics.
    #[must_use]
    pub fn counts(&self) -> ServerCounts {
        ServerCounts {
            requests: self.requests.load(Ordering::Relaxed),
            throttled: self.throttled.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
        }
    }
}

/// The right to have one request in flight at a server.
pub struct ServerPermit {
    server: Arc<ServerLimits>,
    _permit: OwnedSemaphorePermit,
}

impl ServerPermit {
    /// The server it is for.
    #[must_use]
    pub fn server(&self) -> &ServerLimits {
        &self.server
    }
}

impl Drop for ServerPermit {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use tasksync_common::clock::{Clock as _, ManualClock};

    use super::*;

    fn clock() -> Arc<ManualClock> {
        ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap())
    }

    fn url(host: &str) -> Url {
        Url::parse(&format!("https://{host}/EWS/Exchange.asmx")).unwrap()
    }

    fn after(clock: &ManualClock, milliseconds: i64) -> Timestamp {
        clock.now() + SignedDuration::from_millis(milliseconds)
    }

    #[tokio::test]
    async fn the_limit_of_a_server_is_kept_when_it_is_filled() {
        let clock = clock();
        let servers = Servers::new(2, clock.clone());
        let server = servers.of(&url("mail.contoso.example"), "");
        let acquire = |milliseconds| server.acquire(Code::ExchangeBusy, after(&clock, milliseconds));
        let first = acquire(0).await.unwrap();
        let _second = acquire(0).await.unwrap();
        let failure = acquire(20).await.map(|_| ()).unwrap_err();
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::Transient, Code::BudgetExhausted)
        );
        assert!(
            failure.detail.starts_with("mail.contoso.example:443"),
            "{}",
            failure.detail
        );
        assert_eq!(
            server.counts(),
            ServerCounts {
                requests: 2,
                throttled: 0,
                in_flight: 2
            }
        );
        // One who waits gets what becomes free.
        let waiting = tokio::spawn({
            let (server, deadline) = (Arc::clone(&server), after(&clock, 60_000));
            async move {
                server
                    .acquire(Code::ExchangeBusy, deadline)
                    .await
                    .map(|permit| permit.server().counts())
            }
        });
        tokio::task::yield_now().await;
        drop(first);
        assert_eq!(waiting.await.unwrap().unwrap().in_flight, 2);
        assert_eq!(server.counts().in_flight, 1);
        // Another port and another account are other servers.
        assert!(
            servers
                .of(&url("mail.contoso.example:8443"), "")
                .acquire(Code::ExchangeBusy, clock.now())
                .await
                .is_ok()
        );
        assert!(!Arc::ptr_eq(
            &server,
            &servers.of(&url("mail.contoso.example"), "app")
        ));
        assert!(Arc::ptr_eq(
            &server,
            &servers.of(&url("MAIL.contoso.example:443"), "")
        ));
    }

    #[tokio::test]
    async fn a_pause_is_shared_and_lasts_to_the_millisecond() {
        let clock = clock();
        let servers = Servers::new(1, clock.clone());
        let server = servers.of(&url("sp.contoso.example"), "");
        let held = server.acquire(Code::SharePointBusy, clock.now()).await.unwrap();
        let waiting = tokio::spawn({
            let (server, deadline) = (Arc::clone(&server), after(&clock, 60_000));
            async move { server.acquire(Code::SharePointBusy, deadline).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        server.pause_until(after(&clock, 1_500));
        server.pause_until(after(&clock, 300));
        drop(held);
        // Who was waiting already is told as well.
        let told = waiting.await.unwrap().unwrap_err();
        let rest = |milliseconds| ErrorClass::Throttled {
            retry_after: Some(Duration::from_millis(milliseconds)),
        };
        assert_eq!((told.class, told.code), (rest(1_500), Code::SharePointBusy));
        clock.advance(SignedDuration::from_millis(1_499));
        let other = servers.of(&url("sp.contoso.example"), "");
        assert_eq!(other.check(Code::SharePointBusy).unwrap_err().class, rest(1));
        clock.advance(SignedDuration::from_millis(1));
        assert!(other.check(Code::SharePointBusy).is_ok());
        assert_eq!(
            server.counts(),
            ServerCounts {
                requests: 1,
                throttled: 2,
                in_flight: 0
            }
        );
    }

    #[tokio::test]
    async fn the_number_of_servers_is_limited() {
        let clock = clock();
        let servers = Servers::with_maximum(1, clock.clone(), 3);
        let paused = servers.of(&url("paused.example"), "");
        paused.pause_until(after(&clock, 10_000));
        drop(paused);
        let held = servers.of(&url("held.example"), "");
        drop(servers.of(&url("old.example"), ""));
        // The idle one goes first, then the paused one; the one in use stays.
        let first = servers.of(&url("a.example"), "");
        assert!(
            servers
                .of(&url("paused.example"), "")
                .check(Code::ExchangeBusy)
                .is_err()
        );
        let second = servers.of(&url("b.example"), "");
        assert_eq!(servers.len(), 3);
        // Nothing can go: newcomers share.
        let third = servers.of(&url("c.example"), "");
        assert!(Arc::ptr_eq(&third, &servers.of(&url("d.example"), "")));
        assert!(Arc::ptr_eq(&held, &servers.of(&url("held.example"), "")));
        drop((first, second));
        assert!(!Arc::ptr_eq(&third, &servers.of(&url("c.example"), "")));
        assert_eq!(servers.len(), 3);
    }
}
