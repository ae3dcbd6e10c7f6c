//! One connection of either database, and statements run on it. The two databases meet here and nowhere else: a statement
//! is text that both understand (placeholders `$1`, `ON CONFLICT`, `RETURNING`), or a pair of texts where they differ.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Encode, FromRow, Postgres, Sqlite, SqliteConnection, Transaction, Type};

use super::link::Link;
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

/// A statement about a list of users, which is its parameter `$2` (see [`Query::bind_users`]). The list stands behind the
/// column's name: one text for any number of users, prepared once per connection.
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

/// A row that both databases give: a tuple, or a struct that derives `FromRow`.
pub(super) trait Readable:
    for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin
{
}
impl<T> Readable for T where T: for<'r> FromRow<'r, SqliteRow> + for<'r> FromRow<'r, PgRow> + Send + Unpin {}

/// A connection for one call. Dropped before [`super::SqlRegistry::commit`], a transaction changes nothing.
#[derive(Debug)]
pub(super) enum Connection {
    SqliteReader(PoolConnection<Sqlite>),
    SqliteWriter(Transaction<'static, Sqlite>),
    Postgres(Link),
}

impl Connection {
    /// A statement to bind values to and run.
    pub(super) fn query(&mut self, sql: impl Into<Sql>) -> Query<'_> {
        let sql = sql.into();
        match self {
            Self::SqliteReader(connection) => Query::Sqlite(connection, sqlx::query(sql.sqlite)),
            Self::SqliteWriter(transaction) => Query::Sqlite(transaction, sqlx::query(sql.sqlite)),
            Self::Postgres(link) => Query::Postgres(link, sqlx::query(sql.postgres)),
        }
    }

    /// The PostgreSQL connection, for statements that have no common form.
    pub(super) fn postgres(&mut self) -> Option<&mut Link> {
        match self {
            Self::Postgres(link) => Some(link),
            Self::SqliteReader(_) | Self::SqliteWriter(_) => None,
        }
    }
}

/// A statement with its values so far.
pub(super) enum Query<'c> {
    Sqlite(
        &'c mut SqliteConnection,
        sqlx::query::Query<'static, Sqlite, SqliteArguments>,
    ),
    Postgres(&'c mut Link, sqlx::query::Query<'static, Postgres, PgArguments>),
}

impl Query<'_> {
    /// The value of the next placeholder.
    pub(super) fn bind<'v>(self, value: impl Bindable<'v>) -> Self {
        match self {
            Self::Sqlite(connection, query) => Self::Sqlite(connection, query.bind(value)),
            Self::Postgres(link, query) => Self::Postgres(link, query.bind(value)),
        }
    }

    /// The list of users of an [`about_users`] statement.
    pub(super) fn bind_users(self, users: &[UserId]) -> Self {
        let names = users.iter().map(UserId::as_str).collect::<Vec<_>>();
        match self {
            Self::Sqlite(connection, query) => {
                Self::Sqlite(connection, query.bind(serde_json::json!(names).to_string()))
            }
            Self::Postgres(link, query) => Self::Postgres(link, query.bind(names)),
        }
    }

    /// Runs it; the number of rows changed.
    pub(super) async fn execute(self) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(connection, query) => Ok(query.execute(connection).await?.rows_affected()),
            Self::Postgres(link, query) => link.execute(query).await,
        }
    }

    /// Runs it; all rows. Callers limit them, by `LIMIT` or by the number of users asked for.
    pub(super) async fn fetch_all<T: Readable>(self) -> Result<Vec<T>, sqlx::Error> {
        match self {
            Self::Sqlite(connection, query) => query
                .fetch_all(connection)
                .await?
                .iter()
                .map(T::from_row)
                .collect(),
            Self::Postgres(link, query) => link.fetch_all(query).await?.iter().map(T::from_row).collect(),
        }
    }

    /// Runs a statement that gives one row or none.
    pub(super) async fn fetch_optional<T: Readable>(self) -> Result<Option<T>, sqlx::Error> {
        // To the end of the answer: on PostgreSQL a statement outside a transaction is committed only then.
        Ok(self.fetch_all().await?.into_iter().next())
    }

    /// Runs a statement that gives one row.
    pub(super) async fn fetch_one<T: Readable>(self) -> Result<T, sqlx::Error> {
        self.fetch_optional().await?.ok_or(sqlx::Error::RowNotFound)
    }
}
