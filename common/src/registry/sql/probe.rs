//! Checking that the registry can be written.

use super::SqlRegistry;
use crate::error::Failure;

const PROBE: &str = "INSERT INTO write_probe (id) VALUES (1) ON CONFLICT (id) DO NOTHING";
const UNPROBE: &str = "DELETE FROM write_probe";

impl SqlRegistry {
    pub(super) async fn do_check_writable(&self) -> Result<(), Failure> {
        const DOING: &str = "checking that it can be written";
        let mut transaction = self.transaction(DOING).await?;
        // Committed, not rolled back: what is rolled back never reaches the disk, so a full disk would go unseen.
        for statement in [PROBE, UNPROBE] {
            transaction
                .query(statement)
                .execute()
                .await
                .map_err(|error| self.failure(DOING, &error))?;
        }
        self.commit(DOING, transaction).await
    }
}
