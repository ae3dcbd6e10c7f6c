//! The id of the installation. It is created once, and only an operator replaces it.

use super::SqlRegistry;
use crate::error::Failure;
use crate::model::InstallationId;
use crate::registry::InstallationStore;
use async_trait::async_trait;

/// The first process that inserts an id wins.
const MAKE: &str = "INSERT INTO installation (one, id) VALUES (1, $1) ON CONFLICT (one) DO NOTHING";
const REPLACE: &str =
    "INSERT INTO installation (one, id) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET id = excluded.id";
const READ: &str = "SELECT id FROM installation WHERE one = 1";

#[async_trait]
impl InstallationStore for SqlRegistry {
    async fn installation(&self) -> Result<InstallationId, Failure> {
        const DOING: &str = "creating the installation's id";
        if let Some(id) = self.stored_installation().await? {
            return Ok(id);
        }
        let mut connection = self.single(DOING).await?;
        connection
            .query(MAKE)
            .bind(InstallationId::random().to_string())
            .execute()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        self.commit(DOING, connection).await?;
        // Another process may have been faster, so the stored id is returned and not the one created here.
        self.stored_installation().await?.ok_or_else(|| {
            self.damaged_failure(
                "the installation's id",
                "the row was removed after it was created",
            )
        })
    }

    async fn set_installation(&self, id: InstallationId) -> Result<(), Failure> {
        const DOING: &str = "replacing the installation's id";
        let mut connection = self.single(DOING).await?;
        connection
            .query(REPLACE)
            .bind(id.to_string())
            .execute()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        self.commit(DOING, connection).await
    }
}

impl SqlRegistry {
    async fn stored_installation(&self) -> Result<Option<InstallationId>, Failure> {
        const DOING: &str = "reading the installation's id";
        let mut connection = self.read(DOING).await?;
        let row: Option<(String,)> = connection
            .query(READ)
            .fetch_optional()
            .await
            .map_err(|error| self.failure(DOING, &error))?;
        row.map(|(id,)| {
            id.parse()
                .map_err(|error| self.damaged_failure("the installation's id", error))
        })
        .transpose()
    }
}
