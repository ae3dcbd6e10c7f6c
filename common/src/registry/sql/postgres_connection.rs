//! A PostgreSQL connection for one call. Every wait has a deadline, and an interrupted connection is closed.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::{Executor as _, PgConnection, Postgres};
use tokio::sync::OwnedSemaphorePermit;

use super::connection_cache::{CachedConnection, ConnectionCache};
use super::postgres_errors::ends_connection;

/// A pooled connection. It is closed instead of being given to the next call if it failed, or if it is
/// dropped in the middle of a statement (the call was cancelled) or of a transaction. Otherwise a server that
/// vanished would keep it until the operating system gives up, many minutes later.
#[derive(Debug)]
pub(super) struct PostgresConnection {
    cache: ConnectionCache,
    /// `None` only while it is dropped.
    cached: Option<CachedConnection>,
    _slot: OwnedSemaphorePermit,
    /// Time limit of one statement, including the server's own statement timeout.
    limit: Duration,
    running: bool,
    in_transaction: bool,
}

impl PostgresConnection {
    /// Returns a connection; `limit` bounds each statement.
    pub(super) async fn acquire(cache: &ConnectionCache, limit: Duration) -> Result<Self, sqlx::Error> {
        let (cached, slot) = cache.take().await?;
        Ok(Self {
            cache: cache.clone(),
            cached: Some(cached),
            _slot: slot,
            limit,
            running: false,
            in_transaction: false,
        })
    }

    /// Starts a transaction.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        // Set first: however the statement ends, the connection may be inside a transaction from here on.
        self.in_transaction = true;
        self.control("BEGIN ISOLATION LEVEL READ COMMITTED").await
    }

    /// Starts a transaction that sees the database as it is at its first statement.
    pub(super) async fn begin_snapshot(&mut self) -> Result<(), sqlx::Error> {
        self.in_transaction = true;
        self.control("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            .await?;
        self.lift_limits().await
    }

    /// Starts a transaction that may stay open for long.
    pub(super) async fn begin_long(&mut self) -> Result<(), sqlx::Error> {
        self.begin().await?;
        self.lift_limits().await
    }

    /// Replaces the server's limits of the transaction by the connection's own limit of each statement.
    async fn lift_limits(&mut self) -> Result<(), sqlx::Error> {
        self.control("SET LOCAL statement_timeout = 0").await?;
        self.control("SET LOCAL idle_in_transaction_session_timeout = 0")
            .await
    }

    /// Commits the transaction, if one was started.
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        if self.in_transaction {
            self.control("COMMIT").await?;
            self.in_transaction = false;
        }
        Ok(())
    }

    /// Rolls the transaction back, if one was started.
    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        if self.in_transaction {
            self.control("ROLLBACK").await?;
            self.in_transaction = false;
        }
        Ok(())
    }

    fn connection(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        match &mut self.cached {
            Some(cached) => Ok(&mut cached.connection),
            None => Err(sqlx::Error::PoolClosed),
        }
    }

    async fn control(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        self.running = true;
        let limit = self.limit;
        let answer = tokio::time::timeout(limit, self.connection()?.execute(statement)).await;
        self.check_answer(answer).map(|_| ())
    }

    pub(super) async fn execute(
        &mut self,
        query: sqlx::query::Query<'static, Postgres, PgArguments>,
    ) -> Result<u64, sqlx::Error> {
        self.running = true;
        let limit = self.limit;
        let answer = tokio::time::timeout(limit, query.execute(self.connection()?)).await;
        Ok(self.check_answer(answer)?.rows_affected())
    }

    pub(super) async fn fetch_all(
        &mut self,
        query: sqlx::query::Query<'static, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        self.running = true;
        let limit = self.limit;
        let answer = tokio::time::timeout(limit, query.fetch_all(self.connection()?)).await;
        self.check_answer(answer)
    }

    fn check_answer<T>(
        &mut self,
        answer: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, sqlx::Error> {
        let answer = answer.unwrap_or_else(|_| {
            Err(sqlx::Error::Io(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("no answer within {:?}", self.limit),
            )))
        });
        self.running = answer.as_ref().is_err_and(ends_connection);
        answer
    }
}

impl Drop for PostgresConnection {
    fn drop(&mut self) {
        let Some(mut cached) = self.cached.take() else {
            return;
        };
        if self.running || self.in_transaction {
            cached.connection.close_on_drop();
        } else {
            self.cache.give_back(cached);
        }
    }
}
