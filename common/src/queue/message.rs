//! The job message: MessagePack with named fields and a version. Old versions stay readable for ever.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Code, ErrorClass, Failure};
use crate::model::{TenantId, UserId};
use crate::schedule::Token;

/// Version of the format that this build writes.
pub const VERSION: u16 = 1;

/// Largest number of users in one job.
pub const MAXIMUM_USERS: usize = 100;

/// What a job syncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Workload {
    /// Tasks, both ways.
    Tasks,
}

impl Workload {
    /// Returns the name as written in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tasks => "tasks",
        }
    }
}

/// Why a job was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The users were due.
    Scheduled,
    /// A person asked for it.
    Requested,
    /// A server reported a change.
    Hint,
}

impl Reason {
    /// Returns the name as written in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Requested => "requested",
            Self::Hint => "hint",
        }
    }
}

/// Users of one tenant that are synced together under one claim.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncJob {
    /// Version of the format.
    pub version: u16,
    /// Unique id, ordered by time (UUIDv7).
    pub id: Uuid,
    /// The tenant.
    pub tenant: TenantId,
    /// What the job syncs.
    pub workload: Workload,
    /// Why the job was created.
    pub reason: Reason,
    /// Fencing token of the users' claims.
    pub token: Token,
    /// The users, oldest stamp first; at most [`MAXIMUM_USERS`].
    pub users: Vec<UserId>,
    /// Time of the claim.
    pub issued_at: Timestamp,
}

/// Why a job's bytes cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The bytes are not a job, or they are damaged.
    #[error("the message is not a sync job: {0}")]
    Unreadable(String),
    /// A newer build wrote the job.
    #[error("the job has version {found}; this build reads up to {VERSION}")]
    NewerVersion {
        /// The version that was found.
        found: u16,
    },
    /// The job names no user, or more than [`MAXIMUM_USERS`].
    #[error("the job names {0} users; 1 to {MAXIMUM_USERS} are allowed")]
    UserCount(usize),
}

impl SyncJob {
    /// Returns the job in its stored form.
    ///
    /// # Errors
    /// [`JobError::UserCount`] if it names no user or too many.
    pub fn encode(&self) -> Result<Vec<u8>, JobError> {
        self.check_users()?;
        rmp_serde::to_vec_named(self).map_err(|error| JobError::Unreadable(error.to_string()))
    }

    /// Returns the job from its stored form.
    ///
    /// # Errors
    /// The reason why the bytes cannot be used.
    pub fn decode(bytes: &[u8]) -> Result<Self, JobError> {
        #[derive(Deserialize)]
        struct JobVersion {
            version: u16,
        }
        let version: JobVersion =
            rmp_serde::from_slice(bytes).map_err(|error| JobError::Unreadable(error.to_string()))?;
        if version.version > VERSION {
            return Err(JobError::NewerVersion {
                found: version.version,
            });
        }
        let job: Self =
            rmp_serde::from_slice(bytes).map_err(|error| JobError::Unreadable(error.to_string()))?;
        job.check_users()?;
        Ok(job)
    }

    /// Returns the failure of publishing this job.
    pub(super) fn encoding_failure(&self, error: &JobError) -> Failure {
        Failure::new(
            ErrorClass::Refused,
            Code::JobRefused,
            format!("job {} of {}: {error}", self.id, self.tenant),
        )
    }

    pub(super) fn check_users(&self) -> Result<(), JobError> {
        if self.users.is_empty() || self.users.len() > MAXIMUM_USERS {
            return Err(JobError::UserCount(self.users.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job() -> SyncJob {
        SyncJob {
            version: VERSION,
            id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001),
            tenant: "contoso".parse().unwrap(),
            workload: Workload::Tasks,
            reason: Reason::Scheduled,
            token: Token(42),
            users: vec!["ana".parse().unwrap(), "ben".parse().unwrap()],
            issued_at: "2026-11-22T14:00:00Z".parse().unwrap(),
        }
    }

    /// Version 1 as first written; it must stay readable for ever.
    const VERSION_1: &[u8] = include_bytes!("fixtures/sync-job-v1.msgpack");

    #[test]
    fn version_1_stays_readable() {
        assert_eq!(SyncJob::decode(VERSION_1).unwrap(), job());
        assert_eq!(
            job().encode().unwrap(),
            VERSION_1,
            "a changed form needs a new version and a new fixture"
        );
    }

    #[test]
    fn what_cannot_be_used_is_refused_in_words() {
        assert!(matches!(SyncJob::decode(b"hello"), Err(JobError::Unreadable(_))));
        let newer = rmp_serde::to_vec_named(&SyncJob { version: 9, ..job() }).unwrap();
        assert_eq!(SyncJob::decode(&newer), Err(JobError::NewerVersion { found: 9 }));
        let none = SyncJob {
            users: vec![],
            ..job()
        };
        assert_eq!(none.encode(), Err(JobError::UserCount(0)));
        let many = SyncJob {
            users: vec!["a".parse().unwrap(); 101],
            ..job()
        };
        assert_eq!(
            SyncJob::decode(&rmp_serde::to_vec_named(&many).unwrap()),
            Err(JobError::UserCount(101))
        );
    }
}
