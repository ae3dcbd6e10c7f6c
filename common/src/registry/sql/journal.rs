//! The journal.

use jiff::Timestamp;

use super::{SqliteRegistry, sql_limit};
use crate::error::Failure;
use crate::model::{SourceKey, UserKey};
use crate::registry::JournalEntry;

const ADD: &str = "INSERT INTO journal (at, tenant, user_id, task, kind, value_before, value_after) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)";
const NEWEST: &str = "SELECT at, task, kind, value_before, value_after FROM journal \
    WHERE tenant = $1 AND user_id = $2 ORDER BY at DESC, id DESC LIMIT $3";
const PRUNE: &str =
    "DELETE FROM journal WHERE id IN (SELECT id FROM journal WHERE at < $1 ORDER BY at, id LIMIT $2)";

impl SqliteRegistry {
    pub(super) async fn do_journal(&self, entries: &[JournalEntry]) -> Result<(), Failure> {
        if entries.is_empty() {
            return Ok(());
        }
        const DOING: &str = "writing the journal";
        let document = |value: &Option<serde_json::Value>| {
            value
                .as_ref()
                .map(|value| self.written("a journal value", value))
                .transpose()
        };
        let mut transaction = self.write(DOING).await?;
        for entry in entries {
            sqlx::query(ADD)
                .bind(entry.at.as_microsecond())
                .bind(entry.user.tenant.as_str())
                .bind(entry.user.user.as_str())
                .bind(entry.task.as_str())
                .bind(&entry.kind)
                .bind(document(&entry.before)?)
                .bind(document(&entry.after)?)
                .execute(&mut *transaction)
                .await
                .map_err(|error| self.failure(DOING, &error))?;
        }
        self.commit(DOING, transaction).await
    }

    pub(super) async fn do_journal_of(
        &self,
        user: &UserKey,
        limit: u32,
    ) -> Result<Vec<JournalEntry>, Failure> {
        let doing = format!("reading the journal of {user}");
        let mut connection = self.read(&doing).await?;
        let rows: Vec<(i64, String, String, Option<String>, Option<String>)> = sqlx::query_as(NEWEST)
            .bind(user.tenant.as_str())
            .bind(user.user.as_str())
            .bind(sql_limit(limit))
            .fetch_all(&mut *connection)
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
                    kind,
                    before: value(before)?,
                    after: value(after)?,
                })
            })
            .collect()
    }

    pub(super) async fn do_prune_journal(&self, before: Timestamp, limit: u32) -> Result<u64, Failure> {
        const DOING: &str = "dropping old journal entries";
        let mut transaction = self.write(DOING).await?;
        let dropped = sqlx::query(PRUNE)
            .bind(before.as_microsecond())
            .bind(sql_limit(limit))
            .execute(&mut *transaction)
            .await
            .map_err(|error| self.failure(DOING, &error))?
            .rows_affected();
        self.commit(DOING, transaction).await?;
        Ok(dropped)
    }
}
