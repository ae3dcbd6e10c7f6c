//! The check that the registry can be written.

use async_trait::async_trait;

use super::connection::Sql;
use super::{SqlRegistry, retry_on_conflict};
use crate::error::Failure;
use crate::registry::WriteProbe;

/// On PostgreSQL it writes three pages of text. A single short row fits into an existing page and an existing
/// segment of the log, so it could be written even on a full volume.
const PROBE: Sql = Sql {
    sqlite: "INSERT INTO write_probe (id) VALUES (1) ON CONFLICT (id) DO NOTHING",
    postgres: "INSERT INTO write_probe (id, filler) VALUES (1, convert_to(repeat('x', 24576), 'UTF8')) \
        ON CONFLICT (id) DO NOTHING",
};
const UNPROBE: &str = "DELETE FROM write_probe";

/// PostgreSQL reuses pages of earlier probes that a vacuum freed, so the row can still be written on a full
/// volume. A sort that does not fit into its memory needs a new file each time, on the database's volume, and
/// leaves nothing behind. (SQLite first writes to its log, which grows.)
const SPILL: [Sql; 2] = [
    Sql {
        sqlite: "SELECT 1",
        postgres: "SELECT set_config('work_mem', '64kB', true), set_config('temp_tablespaces', '', true)",
    },
    Sql {
        sqlite: "SELECT 1",
        postgres: "SELECT count(*) FROM (SELECT repeat('x', 1000) || n AS line FROM generate_series(1, 512) n ORDER BY 1 DESC) lines",
    },
];

#[async_trait]
impl WriteProbe for SqlRegistry {
    async fn check_writable(&self) -> Result<(), Failure> {
        const DOING: &str = "checking that it can be written";
        retry_on_conflict(|| async {
            let mut transaction = self.transaction(DOING).await?;
            // Committed and not rolled back: a row that is rolled back never reaches the disk, so a full disk
            // would not show.
            for statement in [PROBE, Sql::from(UNPROBE)].into_iter().chain(SPILL) {
                transaction
                    .query(statement)
                    .execute()
                    .await
                    .map_err(|error| self.failure(DOING, &error))?;
            }
            self.commit(DOING, transaction).await
        })
        .await
    }
}
