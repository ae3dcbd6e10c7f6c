//! PostgreSQL connections at hand. The pool asks the server about every connection it is given back, whatever its options
//! say: a second round trip for every call. So a connection that just worked is kept here for the next call instead.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{Connection as _, PgPool, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

/// The way there and back, on top of the time the server itself may take for a statement.
pub(super) const ROUND_TRIP: Duration = Duration::from_secs(5);
/// A connection unused for this long is asked whether it still lives before it is used.
pub(super) const DOUBTFUL_AFTER: Duration = Duration::from_secs(5);
/// A connection unused for this long is closed.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_secs(10 * 60);
/// A connection goes back to the pool after this long, which looks at its age and closes it when it is too old.
const LENT_FOR: Duration = Duration::from_secs(60);

/// A connection of the pool on its way between calls.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) connection: PoolConnection<Postgres>,
    /// When the pool gave it.
    since: Instant,
    /// When the last call ended.
    used: Instant,
}

/// The pool, and in front of it the connections used a moment ago.
#[derive(Debug, Clone)]
pub(super) struct Links(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    pool: PgPool,
    /// One for each connection the pool may open: who has a place finds a connection here or the pool has one to give.
    places: Arc<Semaphore>,
    acquire_timeout: Duration,
    /// The one used last is on top, so that in quiet times the others grow old and are closed.
    at_hand: Mutex<Vec<Lent>>,
}

impl Links {
    /// Connections of `pool`, which may open `connections`.
    pub(super) fn new(pool: PgPool, connections: u32, acquire_timeout: Duration) -> Self {
        Self(Arc::new(Shared {
            pool,
            places: Arc::new(Semaphore::new(usize::try_from(connections).unwrap_or(1).max(1))),
            acquire_timeout,
            at_hand: Mutex::default(),
        }))
    }

    fn at_hand(&self) -> MutexGuard<'_, Vec<Lent>> {
        // A list of connections is whole after every change, so a panic elsewhere does not spoil it.
        self.0.at_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection for one call. The place is given up after [`Self::give_back`].
    pub(super) async fn take(&self) -> Result<(Lent, OwnedSemaphorePermit), sqlx::Error> {
        let place = timeout(self.0.acquire_timeout, Arc::clone(&self.0.places).acquire_owned())
            .await
            .map_err(|_| sqlx::Error::PoolTimedOut)?
            .map_err(|_| sqlx::Error::PoolClosed)?;
        loop {
            // Not held while the server is asked.
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

    /// Keeps a connection whose call ended well for the next one.
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

    /// Closes the connections; calls that come later fail.
    pub(super) async fn close(&self) {
        self.0.places.close();
        // From here on nothing is kept.
        let closing = self.0.pool.close();
        let at_hand = std::mem::take(&mut *self.at_hand());
        drop(at_hand);
        closing.await;
    }
}

/// A connection that is closed unless it is found alive, also when nobody waits for the answer any more.
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
        // A pooled connection needs the runtime to be dropped, which may be gone by now.
        let at_hand = self.at_hand.get_mut().unwrap_or_else(PoisonError::into_inner);
        for lent in at_hand.drain(..) {
            drop(lent.connection.detach());
        }
    }
}
