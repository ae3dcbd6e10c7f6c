//! Places on a registry: processes that share it, and a process that must be alone on it.
//!
//! On PostgreSQL a place is an advisory lock of a session. Processes that share all stores hold it together;
//! a process with a schedule or queue of its own holds it exclusively. The server releases it when the
//! session ends, however it ends.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{sleep, timeout};

use super::errors::{Database, classify};
use super::postgres::{describe_database, options};
use crate::error::{Code, ErrorClass, Failure};
use crate::settings::RegistrySettings;

/// Number of the lock in the database: `tasksync` in ASCII.
const LOCK: i64 = i64::from_be_bytes(*b"tasksync");
/// Interval between two checks that the session is alive.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// Timeout for one check of the session, or one attempt to take the lock again.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a process shares its stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RegistrySharing {
    /// Every store is shared: any number of processes, whatever their roles.
    Shared,
    /// At least one store is inside the process or on its disk, where no other process sees its data. This
    /// process must be the only one: another one with a schedule of its own would sync the same users at the
    /// same time.
    Exclusive,
}

/// A place on a registry, held while this value lives.
#[derive(Debug)]
pub struct Occupancy {
    options: PgConnectOptions,
    database: String,
    sharing: RegistrySharing,
    /// The session that holds the lock; `None` while the session is lost.
    session: Option<PgConnection>,
}

/// Takes a place on the registry. Returns `None` if the registry has no places: an SQLite file belongs to one
/// machine, and a process that opens it locks the file.
///
/// # Errors
/// Code `RegistryOccupied` and class `Transient` if another process's place excludes this one; otherwise the
/// failure of the database, as for [`super::SqlRegistry::open_postgres`].
pub async fn occupy(
    settings: &RegistrySettings,
    sharing: RegistrySharing,
) -> Result<Option<Occupancy>, Failure> {
    if !matches!(settings.url.split(':').next(), Some("postgres" | "postgresql")) {
        return Ok(None);
    }
    let options = options(settings)?;
    let mut occupancy = Occupancy {
        database: describe_database(&options),
        options,
        sharing,
        session: None,
    };
    occupancy.acquire().await?;
    Ok(Some(occupancy))
}

impl Occupancy {
    async fn acquire(&mut self) -> Result<(), Failure> {
        let fail =
            |doing: &str, error: &sqlx::Error| classify(Database::Postgres, &self.database, doing, error);
        let taking = async {
            let mut session = self
                .options
                .connect()
                .await
                .map_err(|error| fail("connecting", &error))?;
            let statement = match self.sharing {
                RegistrySharing::Shared => "SELECT pg_try_advisory_lock_shared($1)",
                RegistrySharing::Exclusive => "SELECT pg_try_advisory_lock($1)",
            };
            let (taken,): (bool,) = sqlx::query_as(statement)
                .bind(LOCK)
                .fetch_one(&mut session)
                .await
                .map_err(|error| fail("taking a place", &error))?;
            Ok((session, taken))
        };
        let (session, taken) = timeout(PATIENCE, taking).await.unwrap_or_else(|_| {
            Err(Failure::new(
                ErrorClass::Transient,
                Code::RegistryUnavailable,
                format!(
                    "{}, taking a place: no answer within {} s",
                    self.database,
                    PATIENCE.as_secs()
                ),
            ))
        })?;
        if !taken {
            return Err(self.occupied_failure());
        }
        self.session = Some(session);
        Ok(())
    }

    fn occupied_failure(&self) -> Failure {
        let detail = match self.sharing {
            RegistrySharing::Shared => "a standalone process with a schedule or queue of its own uses it",
            RegistrySharing::Exclusive => {
                "other processes use it, and this one must be alone, because its schedule.url or queue.url is memory:"
            }
        };
        Failure::new(
            ErrorClass::Transient,
            Code::RegistryOccupied,
            format!("{}: {detail}", self.database),
        )
    }

    /// Keeps the place, and reopens a lost session. Returns only if another process meanwhile took a place
    /// that excludes this one.
    pub async fn keep(&mut self) -> Failure {
        let mut said = false;
        loop {
            sleep(CHECK_INTERVAL).await;
            if let Some(session) = &mut self.session
                && matches!(timeout(PATIENCE, session.ping()).await, Ok(Ok(())))
            {
                continue;
            }
            self.session = None;
            match self.acquire().await {
                Ok(()) => {
                    if said {
                        tracing::info!(place = self.database, "the place on the registry is held again");
                    }
                    said = false;
                }
                Err(failure) if failure.code == Code::RegistryOccupied => return failure,
                Err(failure) => {
                    if !said {
                        tracing::warn!(%failure, "the place on the registry was lost, trying again");
                    }
                    said = true;
                }
            }
        }
    }
}
