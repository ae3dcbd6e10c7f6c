//! The mark of the schedule, as it was last left there.

use super::SqlRegistry;
use crate::error::Failure;
use crate::registry::MarkStore;
use crate::registry::sql::retry_on_conflict;
use crate::schedule::Mark;
use async_trait::async_trait;

/// Key of the schedule's row.
const SCHEDULE: &str = "schedule";

const READ: &str = "SELECT data_id, number FROM marks WHERE store = $1";
const SAVE: &str = "INSERT INTO marks (store, data_id, number) VALUES ($1, $2, $3) \
    ON CONFLICT (store) DO UPDATE SET data_id = excluded.data_id, number = excluded.number";

#[async_trait]
impl MarkStore for SqlRegistry {
    async fn mark(&self) -> Result<Option<Mark>, Failure> {
        const DOING: &str = "reading the mark of the schedule";
        let mut connection = self.read(DOING).await?;
        let row: Option<(String, i64)> = connection
            .query(READ)
            .bind(SCHEDULE)
            .fetch_optional()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        Ok(row.map(|(id, number)| Mark {
            id,
            number: u64::try_from(number).unwrap_or(0),
        }))
    }

    async fn save_mark(&self, mark: &Mark) -> Result<(), Failure> {
        retry_on_conflict(|| async {
            const DOING: &str = "saving the mark of the schedule";
            let mut connection = self.single(DOING).await?;
            connection
                .query(SAVE)
                .bind(SCHEDULE)
                .bind(mark.id.as_str())
                .bind(i64::try_from(mark.number).unwrap_or(i64::MAX))
                .execute()
                .await
                .map_err(|error| self.failure(DOING, &error))?;
            self.commit(DOING, connection).await
        })
        .await
    }
}
