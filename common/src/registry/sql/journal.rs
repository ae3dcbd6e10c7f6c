//! The journal.

use async_trait::async_trait;
use jiff::Timestamp;

use super::connection::SqlConnection;
use super::{ROWS_PER_STATEMENT, SqlRegistry, sql_limit};
use crate::error::Failure;
use crate::model::{SourceKey, UserKey};
use crate::registry::sql::retry_on_conflict;
use crate::registry::{Journal, JournalEntry, JournalKind};

/// Adds one entry per statement, for SQLite, where a statement costs no round trip.
const ADD_ONE: &str = "INSERT INTO journal (at, tenant, user_id, task, kind, value_before, value_after) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
/// Adds many entries in one round trip, in the given order.
const ADD_MANY: &str = "INSERT INTO journal (at, tenant, user_id, task, kind, value_before, value_after) \
    SELECT at, tenant, user_id, task, kind, value_before, value_after \
    FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) \
        WITH ORDINALITY AS new (at, tenant, user_id, task, kind, value_before, value_after, place) \
    ORDER BY place";
const NEWEST: &str = "SELECT at, task, kind, value_before, value_after FROM journal \
    WHERE tenant = $1 AND user_id = $2 ORDER BY at DESC, id DESC LIMIT $3";
const PRUNE: &str =
    "DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE at < $1 ORDER BY at, id LIMIT $2)";

/// Time, task, kind, earlier value, later value.
type JournalRow = (i64, String, String, Option<String>, Option<String>);

/// The columns of an entry.
struct JournalColumns<'a> {
    at: i64,
    tenant: &'a str,
    user: &'a str,
    task: &'a str,
    kind: &'a str,
    before: Option<String>,
    after: Option<String>,
}

async fn add(connection: &mut SqlConnection, entries: &[JournalColumns<'_>]) -> Result<(), sqlx::Error> {
    if let Some(postgres) = connection.postgres() {
        let texts =
            |column: fn(&JournalColumns<'_>) -> String| entries.iter().map(column).collect::<Vec<_>>();
        let values = |column: fn(&JournalColumns<'_>) -> Option<String>| {
            entries.iter().map(column).collect::<Vec<_>>()
        };
        let query = sqlx::query(ADD_MANY)
            .bind(entries.iter().map(|entry| entry.at).collect::<Vec<_>>())
            .bind(texts(|entry| entry.tenant.to_owned()))
            .bind(texts(|entry| entry.user.to_owned()))
            .bind(texts(|entry| entry.task.to_owned()))
            .bind(texts(|entry| entry.kind.to_owned()))
            .bind(values(|entry| entry.before.clone()))
            .bind(values(|entry| entry.after.clone()));
        postgres.execute(query).await?;
        return Ok(());
    }
    for entry in entries {
        connection
            .query(ADD_ONE)
            .bind(entry.at)
            .bind(entry.tenant)
            .bind(entry.user)
            .bind(entry.task)
            .bind(entry.kind)
            .bind(&entry.before)
            .bind(&entry.after)
            .execute()
            .await?;
    }
    Ok(())
}

#[async_trait]
impl Journal for SqlRegistry {
    async fn journal(&self, entries: &[JournalEntry]) -> Result<(), Failure> {
        retry_on_conflict(|| async {
            const DOING: &str = "writing the journal";
            if entries.is_empty() {
                return Ok(());
            }
            let document = |value: &Option<serde_json::Value>| {
                value
                    .as_ref()
                    .map(|value| self.to_document("a journal value", value))
                    .transpose()
            };
            let entries = entries
                .iter()
                .map(|entry| {
                    Ok(JournalColumns {
                        at: entry.at.as_microsecond(),
                        tenant: entry.user.tenant.as_str(),
                        user: entry.user.user.as_str(),
                        task: entry.task.as_str(),
                        kind: entry.kind.name(),
                        before: document(&entry.before)?,
                        after: document(&entry.after)?,
                    })
                })
                .collect::<Result<Vec<_>, Failure>>()?;
            let mut connection = if entries.len() <= ROWS_PER_STATEMENT {
                self.single(DOING).await?
            } else {
                self.transaction(DOING).await?
            };
            for entries in entries.chunks(ROWS_PER_STATEMENT) {
                add(&mut connection, entries)
                    .await
                    .map_err(|error| self.failure(DOING, &error))?;
            }
            self.commit(DOING, connection).await
        })
        .await
    }

    async fn journal_of(&self, user: &UserKey, limit: u32) -> Result<Vec<JournalEntry>, Failure> {
        let doing = format!("reading the journal of {user}");
        let mut connection = self.read(&doing).await?;
        let rows: Vec<JournalRow> = connection
            .query(NEWEST)
            .bind(user.tenant.as_str())
            .bind(user.user.as_str())
            .bind(sql_limit(limit))
            .fetch_all()
            .await
            .map_err(|error| self.failure(&doing, &error))?;
        let value = |text: Option<String>| {
            text.map(|text| self.document("a journal value", &text))
                .transpose()
        };
        rows.into_iter()
            .map(|(at, task, kind, before, after)| {
                Ok(JournalEntry {
                    at: self.time(at)?,
                    user: user.clone(),
                    task: SourceKey::from_stored(&task),
                    kind: JournalKind::from(kind),
                    before: value(before)?,
                    after: value(after)?,
                })
            })
            .collect()
    }

    async fn prune_journal(&self, before: Timestamp, limit: u32) -> Result<u64, Failure> {
        retry_on_conflict(|| async {
            const DOING: &str = "dropping old journal entries";
            let mut transaction = self.single(DOING).await?;
            let dropped = transaction
                .query(PRUNE)
                .bind(before.as_microsecond())
                .bind(sql_limit(limit))
                .execute()
                .await
                .map_err(|error| self.failure(DOING, &error))?;
            self.commit(DOING, transaction).await?;
            Ok(dropped)
        })
        .await
    }
}
