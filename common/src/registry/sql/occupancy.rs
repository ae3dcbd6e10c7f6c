//! Places on a registry: processes that share it, and a process that must be alone on it.
//!
//! On PostgreSQL a place is an advisory lock of a session. Processes that share all stores hold it together;
//! a process with a schedule or queue of its own holds it exclusively. The server releases it when the
//! session ends, however it ends. A second lock, whose number follows from `schedule.key_prefix`, keeps processes with
//! another prefix away: they would be a fleet of their own, with a leader of its own.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::time::{sleep, timeout};

use super::errors::{Database, classify};
use super::postgres::{describe_database, options};
use crate::error::{Code, ErrorClass, Failure};
use crate::model::digest;
use crate::settings::RegistrySettings;

/// Number of the lock in the database: `tasksync` in ASCII.
const LOCK: i64 = i64::from_be_bytes(*b"tasksync");
/// Class of the lock that stands for a fleet: `tsfl` in ASCII. The lock's number is the digest of the key prefix.
const FLEET_CLASS: i32 = i32::from_be_bytes(*b"tsfl");
const TAKE_FLEET: &str = "SELECT pg_try_advisory_lock_shared($1, $2)";
/// Counts the processes of other fleets. `pg_locks` shows the two numbers of a lock as unsigned ones.
const OTHER_FLEETS: &str = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 \
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
    AND CAST(classid AS BIGINT) = $1 AND CAST(objid AS BIGINT) <> $2";
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
    key_prefix: String,
    /// The session that holds the lock; `None` while the session is lost.
    session: Option<PgConnection>,
}

/// Takes a place on the registry for a process with this `schedule.key_prefix`. Returns `None` if the registry has
/// no places: an SQLite file belongs to one machine, and a process that opens it locks the file.
///
/// # Errors
/// Code `RegistryOccupied` and class `Transient` if another process's place excludes this one, or if processes that
/// share their stores have another key prefix; otherwise the
/// failure of the database, as for [`super::SqlRegistry::open_postgres`].
pub async fn occupy(
    settings: &RegistrySettings,
    sharing: RegistrySharing,
    key_prefix: &str,
) -> Result<Option<Occupancy>, Failure> {
    if !matches!(settings.url.split(':').next(), Some("postgres" | "postgresql")) {
        return Ok(None);
    }
    let options = options(settings)?;
    let mut occupancy = Occupancy {
        database: describe_database(&options),
        options,
        sharing,
        key_prefix: key_prefix.to_owned(),
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
            let others = match self.sharing {
                RegistrySharing::Shared if taken => self.count_other_fleets(&mut session).await?,
                RegistrySharing::Shared | RegistrySharing::Exclusive => 0,
            };
            Ok((session, taken, others))
        };
        let (session, taken, others) = timeout(PATIENCE, taking).await.unwrap_or_else(|_| {
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
        if others > 0 {
            return Err(self.other_fleet_failure(others));
        }
        self.session = Some(session);
        Ok(())
    }

    /// Takes the lock of this process's fleet, and returns how many processes hold the lock of another one.
    async fn count_other_fleets(&self, session: &mut PgConnection) -> Result<i64, Failure> {
        let fail = |error: &sqlx::Error| {
            classify(
                Database::Postgres,
                &self.database,
                "looking for other fleets",
                error,
            )
        };
        let fleet = fleet_number(&self.key_prefix);
        sqlx::query(TAKE_FLEET)
            .bind(FLEET_CLASS)
            .bind(fleet)
            .execute(&mut *session)
            .await
            .map_err(|error| fail(&error))?;
        let (others,): (i64,) = sqlx::query_as(OTHER_FLEETS)
            .bind(i64::from(FLEET_CLASS))
            .bind(i64::from(fleet.cast_unsigned()))
            .fetch_one(session)
            .await
            .map_err(|error| fail(&error))?;
        Ok(others)
    }

    fn other_fleet_failure(&self, others: i64) -> Failure {
        Failure::new(
            ErrorClass::Transient,
            Code::RegistryOccupied,
            format!(
                "{}: {others} processes with another schedule.key_prefix use it; this one has \"{}\", and two fleets would sync the same users at the same time",
                self.database, self.key_prefix
            ),
        )
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

/// Returns the number of the lock of the fleet with this key prefix.
fn fleet_number(key_prefix: &str) -> i32 {
    let [.., a, b, c, d] = digest(key_prefix.bytes()).to_be_bytes();
    i32::from_be_bytes([a, b, c, d])
}
