//! What the registry remembers about its own backups and moves.

use async_trait::async_trait;
use jiff::Timestamp;

use super::super::{Pools, SqlRegistry, retry_on_conflict};
use crate::error::Failure;
use crate::registry::BackupRecords;
use crate::registry::sql::errors::unavailable;

const READ: &str = "SELECT last_backup, moved_at FROM backups WHERE one = 1";
const RECORD: &str = "INSERT INTO backups (one, last_backup) VALUES (1, $1) \
    ON CONFLICT (one) DO UPDATE SET last_backup = excluded.last_backup";
const SET_MOVED: &str = "INSERT INTO backups (one, moved_at) VALUES (1, $1) \
    ON CONFLICT (one) DO UPDATE SET moved_at = excluded.moved_at";

#[async_trait]
impl BackupRecords for SqlRegistry {
    async fn last_backup(&self) -> Result<Option<Timestamp>, Failure> {
        let (last_backup, _) = self.backup_row().await?;
        last_backup.map(|at| self.time(at)).transpose()
    }

    async fn record_backup(&self, at: Timestamp) -> Result<(), Failure> {
        self.set_backup_time("recording a backup", RECORD, Some(at)).await
    }

    async fn moved_away(&self) -> Result<Option<Timestamp>, Failure> {
        let (_, moved_at) = self.backup_row().await?;
        moved_at.map(|at| self.time(at)).transpose()
    }

    async fn set_moved_away(&self, at: Option<Timestamp>) -> Result<(), Failure> {
        self.set_backup_time("recording a move", SET_MOVED, at).await
    }

    async fn checkpoint(&self) -> Result<(), Failure> {
        const DOING: &str = "writing its log into the file";
        let Pools::Sqlite { writer, .. } = &self.pools else {
            return Ok(());
        };
        let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(writer)
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        if busy == 0 {
            return Ok(());
        }
        Err(unavailable(format!(
            "{}, {DOING}: another process reads it; the file alone is not complete, its -wal file belongs to it",
            self.database
        )))
    }
}

impl SqlRegistry {
    async fn backup_row(&self) -> Result<(Option<i64>, Option<i64>), Failure> {
        const DOING: &str = "reading when it was backed up";
        let mut connection = self.read(DOING).await?;
        let row: Option<(Option<i64>, Option<i64>)> = connection
            .query(READ)
            .fetch_optional()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        Ok(row.unwrap_or_default())
    }

    async fn set_backup_time(
        &self,
        doing: &str,
        statement: &'static str,
        at: Option<Timestamp>,
    ) -> Result<(), Failure> {
        retry_on_conflict(|| async {
            let mut connection = self.single(doing).await?;
            connection
                .query(statement)
                .bind(at.map(Timestamp::as_microsecond))
                .execute()
                .await
                .map_err(|error| self.failure(doing, &error))?;
            self.commit(doing, connection).await
        })
        .await
    }
}
