//! Failures of reads, and how far they reach. Pure.

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};

use super::batch_sending::concerns_server_or_account;
use super::errors::SharePointCode;
use super::lists::TaskList;
use super::wire::SharePointRefusal;

/// Why one item, list or web could not be read, while others may be readable.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ReadFailure {
    pub(super) failure: Failure,
    /// Whether SharePoint itself reported the failure for exactly the object that was requested. Otherwise (a
    /// timeout, a gateway's page) the whole site may be the cause, and only another answer of the site
    /// decides.
    pub(super) certain: bool,
}

impl ReadFailure {
    /// Returns a failure of exactly one object.
    pub(super) fn certain(failure: Failure) -> Self {
        Self {
            failure,
            certain: true,
        }
    }

    /// Returns a failure that may be the whole site's.
    pub(super) fn uncertain(failure: Failure) -> Self {
        Self {
            failure,
            certain: false,
        }
    }
}

/// Returns the failure of the object that a refused request asked for; `subject` is its widest scope.
///
/// # Errors
/// The failure, if it concerns the whole server or the account: a pause, a refused sign-in, no connection.
pub(super) fn read_failure_of(refusal: SharePointRefusal, subject: Scope) -> Result<ReadFailure, Failure> {
    let failure = refusal.failure;
    if concerns_server_or_account(&failure) {
        return Err(failure);
    }
    let failure = failure.about(subject);
    if failure.code == Code::SharePointAnswerTooLarge {
        return Ok(ReadFailure::certain(failure));
    }
    match refusal.sharepoint_code {
        SharePointCode::StaleDigest => Err(failure),
        SharePointCode::Absent => Ok(ReadFailure::uncertain(failure)),
        SharePointCode::AccessDenied
        | SharePointCode::SaveConflict
        | SharePointCode::ItemMissing
        | SharePointCode::FileMissing
        | SharePointCode::ListMissing
        | SharePointCode::TokenRefused
        | SharePointCode::Threshold
        | SharePointCode::InvalidData
        | SharePointCode::Other => Ok(ReadFailure::certain(failure)),
    }
}

/// Returns the failure of one item whose answer cannot be read.
pub(super) fn unreadable_item(list: &TaskList, item: i64, reason: &str) -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::SharePointBadAnswer,
        format!("{} list {} item {item}: {reason}", list.web, list.id),
    )
    .about(Scope::Item)
}
