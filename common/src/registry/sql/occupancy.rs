//! Who uses a registry beside others, and who must be alone on it.
//!
//! At PostgreSQL it is an advisory lock of a session: processes that share all their work hold it together, one with an
//! order of work or a queue of its own holds it alone. The server gives it back when the session ends, however it ends.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{sleep, timeout};

use super::errors::{Database, classify};
use super::postgres::{options, place};
use crate::error::{Code, ErrorClass, Failure};
use crate::settings::RegistrySettings;

/// The lock's number in the database: `tasksync` in ASCII.
const LOCK: i64 = i64::from_be_bytes(*b"tasksync");
/// The session is asked this often whether it still lives.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// One look at the session, or one attempt to take the lock again, may take this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// With whom a process shares its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Every store is shared: any number of processes, whatever their roles.
    Many,
    /// At least one store is inside the process or on its disk, so nobody else sees what it holds. This process must be
    /// the only one: another with an order of work of its own would sync the same people at the same time.
    Alone,
}

/// A place on a registry, held as long as this value lives.
#[derive(Debug)]
pub struct Occupancy {
    options: PgConnectOptions,
    place: String,
    company: Company,
    /// The session that holds the lock; `None` while it is lost.
    session: Option<PgConnection>,
}

/// Takes a place on the registry. `None` where the registry has no such places: an SQLite file is one machine's, and
/// whoever opens it locks the file.
///
/// # Errors
/// Code `RegistryOccupied` and class `Transient` when another process's place excludes this one; otherwise the database's
/// own, as [`super::SqlRegistry::open_postgres`] has them.
pub async fn occupy(settings: &RegistrySettings, company: Company) -> Result<Option<Occupancy>, Failure> {
    if !matches!(settings.url.split(':').next(), Some("postgres" | "postgresql")) {
        return Ok(None);
    }
    let options = options(settings)?;
    let mut occupancy = Occupancy {
        place: place(&options),
        options,
        company,
        session: None,
    };
    occupancy.take().await?;
    Ok(Some(occupancy))
}

impl Occupancy {
    async fn take(&mut self) -> Result<(), Failure> {
        let fail = |doing: &str, error: &sqlx::Error| classify(Database::Postgres, &self.place, doing, error);
        let taking = async {
            let mut session = self
                .options
                .connect()
                .await
                .map_err(|error| fail("connecting", &error))?;
            let statement = match self.company {
                Company::Many => "SELECT pg_try_advisory_lock_shared($1)",
                Company::Alone => "SELECT pg_try_advisory_lock($1)",
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
                    self.place,
                    PATIENCE.as_secs()
                ),
            ))
        })?;
        if !taken {
            return Err(self.occupied());
        }
        self.session = Some(session);
        Ok(())
    }

    fn occupied(&self) -> Failure {
        let detail = match self.company {
            Company::Many => "a standalone process with an order of work or a queue of its own uses it",
            Company::Alone => {
                "other processes use it, and this one must be alone, because its schedule.url or queue.url is memory:"
            }
        };
        Failure::new(
            ErrorClass::Transient,
            Code::RegistryOccupied,
            format!("{}: {detail}", self.place),
        )
    }

    /// Holds the place: a session that was lost is opened again. Returns only when somebody else took a place meanwhile
    /// that excludes this process.
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
            match self.take().await {
                Ok(()) => {
                    if said {
                        tracing::info!(place = self.place, "the place on the registry is held again");
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
