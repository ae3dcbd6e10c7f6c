//! One connection of either database, and the statements run on it. Only this file knows both databases: a
//! statement is text that both understand (placeholders `$1`, `ON CONFLICT`, `RETURNING`), or a pair of texts
//! where they differ.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Encode, FromRow, Postgres, Sqlite, SqliteConnection, Transaction, Type};

use super::postgres_connection::PostgresConnection;
use crate::model::UserId;

/// The text of a statement in both dialects.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sql {
    pub(super) sqlite: &'static str,
    pub(super) postgres: &'static str,
}

impl From<&'static str> for Sql {
    fn from(both: &'static str) -> Self {
        Self {
            sqlite: both,
            postgres: both,
        }
    }
}

/// Builds a statement about a list of users, which is its parameter `$2` (see [`Query::bind_users`]). The
/// list follows the column's name. One text serves any number of users and is prepared once per connection.
macro_rules! about_users {
    ($before:literal, $after:literal) => {
        $crate::registry::sql::connection::Sql {
            sqlite: concat!($before, " IN (SELECT value FROM json_each($2))", $after),
            postgres: concat!($before, " = ANY($2)", $after),
        }
    };
}
pub(super) use about_users;

/// A value that both databases store.
pub(super) trait Bindable<'v>:
    Encode<'v, Sqlite> + Type<Sqlite> + Encode<'v, Postgres> + Type<Postgres>
{
}
impl<'v, T> Bindable<'v> for T where
    T: Encode<'v, Sqlite> + Type<Sqlite> + Encode<'v, Postgres> + Type<Postgres>
{
}

/// A row that both databases return: a tuple, or a struct that derives `FromRow`.
pub(super) trait Readable:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}
impl<T> Readable for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// A connection for one call. A transaction that is dropped before [`super::SqlRegistry::commit`] changes
/// nothing.
#[derive(Debug)]
pub(super) enum SqlConnection {
    SqliteReader(PoolConnection<Sqlite>),
    SqliteTransaction(Transaction<'static, Sqlite>),
    Postgres(PostgresConnection),
}

impl SqlConnection {
    /// Returns a statement to which values can be bound.
    pub(super) fn query(&mut self, sql: impl Into<Sql>) -> Query<'_> {
        let sql = sql.into();
        match self {
            Self::SqliteReader(connection) => Query::Sqlite(connection, sqlx::query(sql.sqlite)),
            Self::SqliteTransaction(transaction) => Query::Sqlite(transaction, sqlx::query(sql.sqlite)),
            Self::Postgres(connection) => Query::Postgres(connection, sqlx::query(sql.postgres)),
        }
    }

    /// Returns the PostgreSQL connection, for statements without a common form.
    pub(super) fn postgres(&mut self) -> Option<&mut PostgresConnection> {
        match self {
            Self::Postgres(connection) => Some(connection),
            Self::SqliteReader(_) | Self::SqliteTransaction(_) => None,
        }
    }
}

/// A statement with the values bound so far.
pub(super) enum Query<'c> {
    Sqlite(
        &'c mut SqliteConnection,
        sqlx::query::Query<'static, Sqlite, SqliteArguments>,
    ),
    Postgres(
        &'c mut PostgresConnection,
        sqlx::query::Query<'static, Postgres, PgArguments>,
    ),
}

impl Query<'_> {
    /// Binds the value of the next placeholder.
    pub(super) fn bind<'v>(self, value: impl Bindable<'v>) -> Self {
        match self {
            Self::Sqlite(connection, query) => Self::Sqlite(connection, query.bind(value)),
            Self::Postgres(connection, query) => Self::Postgres(connection, query.bind(value)),
        }
    }

    /// Binds the list of users of an [`about_users`] statement.
    pub(super) fn bind_users(self, users: &[UserId]) -> Self {
        let names = users.iter().map(UserId::as_str).collect::<Vec<_>>();
        match self {
            Self::Sqlite(connection, query) => {
                Self::Sqlite(connection, query.bind(serde_json::json!(names).to_string()))
            }
            Self::Postgres(connection, query) => Self::Postgres(connection, query.bind(names)),
        }
    }

    /// Runs the statement and returns the number of changed rows.
    pub(super) async fn execute(self) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(connection, query) => Ok(query.execute(connection).await?.rows_affected()),
            Self::Postgres(connection, query) => connection.execute(query).await,
        }
    }

    /// Runs the statement and returns all rows. Callers limit them by `LIMIT` or by the number of users.
    pub(super) async fn fetch_all<T: Readable>(self) -> Result<Vec<T>, sqlx::Error> {
        match self {
            Self::Sqlite(connection, query) => query
                .fetch_all(connection)
                .await?
                .iter()
                .map(T::from_row)
                .collect(),
            Self::Postgres(connection, query) => connection
                .fetch_all(query)
                .await?
                .iter()
                .map(T::from_row)
                .collect(),
        }
    }

    /// Runs a statement that returns one row or none.
    pub(super) async fn fetch_optional<T: Readable>(self) -> Result<Option<T>, sqlx::Error> {
        // The answer is read to its end: on PostgreSQL, a statement outside a transaction is committed only
        // then.
        Ok(self.fetch_all().await?.into_iter().next())
    }

    /// Runs a statement that returns one row.
    pub(super) async fn fetch_one<T: Readable>(self) -> Result<T, sqlx::Error> {
        self.fetch_optional().await?.ok_or(sqlx::Error::RowNotFound)
    }
}
