//! Keeps PostgreSQL connections for the next call. The pool, whatever its options, asks the server about
//! every connection that is returned to it, which is a second round trip for every call. So a connection that
//! just worked is kept here instead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use crate::clock::monotonic;

/// Time for the round trip, in addition to the time that the server may take for a statement.
pub(super) const ROUND_TRIP: Duration = Duration::from_secs(5);
/// A connection that was unused for this long is checked before its use.
pub(super) const DOUBTFUL_AFTER: Duration = Duration::from_secs(5);
/// A connection unused for this long is closed.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(10);
/// A connection returns to the pool after this time. The pool closes it if it is too old.
const POOL_RETURN_AGE: Duration = Duration::from_mins(1);

/// A connection of the pool, kept between calls.
#[derive(Debug)]
pub(super) struct CachedConnection {
    pub(super) connection: PoolConnection<Postgres>,
    /// When the pool lent it.
    acquired_at: Instant,
    /// When the last call ended.
    used_at: Instant,
}

/// The pool, and the recently used connections.
#[derive(Debug, Clone)]
pub(super) struct ConnectionCache(Arc<CacheInner>);

#[derive(Debug)]
struct CacheInner {
    pool: PgPool,
    /// One permit per connection that the pool may open. A call with a permit finds a connection here, or the
    /// pool has one.
    slots: Arc<Semaphore>,
    acquire_timeout: Duration,
    /// The last used connection is on top, so that in quiet times the others age and are closed.
    idle: Mutex<Vec<CachedConnection>>,
}

impl ConnectionCache {
    /// Returns the connections of `pool`, which may open `connections`.
    pub(super) fn new(pool: PgPool, connections: u32, acquire_timeout: Duration) -> Self {
        Self(Arc::new(CacheInner {
            pool,
            slots: Arc::new(Semaphore::new(usize::try_from(connections).unwrap_or(1).max(1))),
            acquire_timeout,
            idle: Mutex::default(),
        }))
    }

    fn lock_idle(&self) -> MutexGuard<'_, Vec<CachedConnection>> {
        // The list is consistent after every change, so a poisoned lock is safe to use.
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns a connection for one call. The permit is released after [`Self::give_back`].
    pub(super) async fn take(&self) -> Result<(CachedConnection, OwnedSemaphorePermit), sqlx::Error> {
        let permit = timeout(self.0.acquire_timeout, Arc::clone(&self.0.slots).acquire_owned())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .map_err(|_| sqlx::Error::PoolClosed)?;
        loop {
            // The lock is released while the server is asked.
            let Some(cached) = self.lock_idle().pop() else {
                break;
            };
            if cached.used_at.elapsed() < DOUBTFUL_AFTER {
                return Ok((cached, permit));
            }
            if let Some(alive) = UncheckedConnection(Some(cached)).if_alive().await {
                return Ok((alive, permit));
            }
        }
        let connection = self.0.pool.acquire().await?;
        let now = monotonic();
        let opened = CachedConnection {
            connection,
            acquired_at: now,
            used_at: now,
        };
        Ok((opened, permit))
    }

    /// Keeps a connection for the next call after its call succeeded.
    pub(super) fn give_back(&self, mut cached: CachedConnection) {
        cached.used_at = monotonic();
        let mut idle = self.lock_idle();
        for expired in idle.extract_if(.., |cached| cached.used_at.elapsed() >= IDLE_TIMEOUT) {
            let mut connection = expired.connection;
            connection.close_on_drop();
        }
        if cached.acquired_at.elapsed() < POOL_RETURN_AGE && !self.0.pool.is_closed() {
            idle.push(cached);
        }
    }

    /// Closes the connections; later calls fail.
    pub(super) async fn close(&self) {
        self.0.slots.close();
        // From here on no connection is kept.
        let closing = self.0.pool.close();
        let idle = std::mem::take(&mut *self.lock_idle());
        drop(idle);
        closing.await;
    }
}

/// A connection that is closed unless it proves alive, even if the caller stops waiting for the answer.
struct UncheckedConnection(Option<CachedConnection>);

impl UncheckedConnection {
    async fn if_alive(mut self) -> Option<CachedConnection> {
        let unchecked = self.0.as_mut()?;
        match timeout(ROUND_TRIP, unchecked.connection.ping()).await {
            Ok(Ok(())) => self.0.take(),
            Ok(Err(_)) | Err(_) => None,
        }
    }
}

impl Drop for UncheckedConnection {
    fn drop(&mut self) {
        if let Some(unchecked) = &mut self.0 {
            unchecked.connection.close_on_drop();
        }
    }
}

impl Drop for CacheInner {
    fn drop(&mut self) {
        // Dropping a pooled connection requires the runtime, which may be gone by now.
        let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
        for cached in idle.drain(..) {
            drop(cached.connection.detach());
        }
    }
}
