//! Keeps PostgreSQL connections for the next call. The pool, whatever its options, asks the server about
//! every connection that is returned to it, which is a second round trip for every call. So a connection that
//! just worked is kept here instead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// Time for the round trip, in addition to the time that the server may take for a statement.
pub(super) const ROUND_TRIP: Duration = Duration::from_secs(5);
/// A connection that was unused for this long is checked before its use.
pub(super) const DOUBTFUL_AFTER: Duration = Duration::from_secs(5);
/// A connection unused for this long is closed.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// A connection returns to the pool after this time. The pool closes it if it is too old.
const LENT_FOR: Duration = Duration::from_secs(60);

/// A connection of the pool, kept between calls.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) connection: PoolConnection<Postgres>,
    /// When the pool lent it.
    since: Instant,
    /// When the last call ended.
    used: Instant,
}

/// The pool, and the recently used connections.
#[derive(Debug, Clone)]
pub(super) struct Links(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: PgPool,
    /// One permit per connection that the pool may open. A call with a permit finds a connection here, or the
    /// pool has one.
    places: Arc<Semaphore>,
    acquire_timeout: Duration,
    /// The last used connection is on top, so that in quiet times the others age and are closed.
    at_hand: Mutex<Vec<Lent>>,
}

impl Links {
    /// Returns the connections of `pool`, which may open `connections`.
    pub(super) fn new(pool: PgPool, connections: u32, acquire_timeout: Duration) -> Self {
        Self(Arc::new(Shared {
            pool,
            places: Arc::new(Semaphore::new(usize::try_from(connections).unwrap_or(1).max(1))),
            acquire_timeout,
            at_hand: Mutex::default(),
        }))
    }

    fn at_hand(&self) -> MutexGuard<'_, Vec<Lent>> {
        // The list is consistent after every change, so a poisoned lock is safe to use.
        self.0.at_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a connection for one call. The permit is released after [`Self::give_back`].
    pub(super) async fn take(&self) -> Result<(Lent, OwnedSemaphorePermit), sqlx::Error> {
        let place = timeout(self.0.acquire_timeout, Arc::clone(&self.0.places).acquire_owned())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .map_err(|_| sqlx::Error::PoolClosed)?;
        loop {
            // The lock is released while the server is asked.
            let Some(lent) = self.at_hand().pop() else {
                break;
            };
            if lent.used.elapsed() < DOUBTFUL_AFTER {
                return Ok((lent, place));
            }
            if let Some(lent) = Doubtful(Some(lent)).if_alive().await {
                return Ok((lent, place));
            }
        }
        let connection = self.0.pool.acquire().await?;
        let now = Instant::now();
        let lent = Lent {
            connection,
            since: now,
            used: now,
        };
        Ok((lent, place))
    }

    /// Keeps a connection for the next call after its call succeeded.
    pub(super) fn give_back(&self, mut lent: Lent) {
        lent.used = Instant::now();
        let mut at_hand = self.at_hand();
        for idle in at_hand.extract_if(.., |lent| lent.used.elapsed() >= IDLE_TIMEOUT) {
            let mut connection = idle.connection;
            connection.close_on_drop();
        }
        if lent.since.elapsed() < LENT_FOR && !self.0.pool.is_closed() {
            at_hand.push(lent);
        }
    }

    /// Closes the connections; later calls fail.
    pub(super) async fn close(&self) {
        self.0.places.close();
        // From here on no connection is kept.
        let closing = self.0.pool.close();
        let at_hand = std::mem::take(&mut *self.at_hand());
        drop(at_hand);
        closing.await;
    }
}

/// A connection that is closed unless it proves alive, even if the caller stops waiting for the answer.
struct Doubtful(Option<Lent>);

impl Doubtful {
    async fn if_alive(mut self) -> Option<Lent> {
        let lent = self.0.as_mut()?;
        match timeout(ROUND_TRIP, lent.connection.ping()).await {
            Ok(Ok(())) => self.0.take(),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

impl Drop for Doubtful {
    fn drop(&mut self) {
        if let Some(lent) = &mut self.0 {
            lent.connection.close_on_drop();
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // Dropping a pooled connection requires the runtime, which may be gone by now.
        let at_hand = self.at_hand.get_mut().unwrap_or_else(PoisonError::into_inner);
        for lent in at_hand.drain(..) {
            drop(lent.connection.detach());
        }
    }
}
