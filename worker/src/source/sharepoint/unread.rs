//! What could not be read, and how far that reaches. Pure.

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};

use super::errors::Known;
use super::lists::TaskList;
use super::together::is_of_more;
use super::wire::Refusal;

/// Why one item, list or web could not be read, while others perhaps can.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Trouble {
    /// The failure.
    pub(super) failure: Failure,
    /// Whether SharePoint itself said so about the very thing that was asked for. Otherwise (a timeout, a gateway's
    /// page) the whole site may be the cause, and only another answer of the site tells.
    pub(super) certain: bool,
}

impl Trouble {
    /// A trouble of exactly one thing.
    pub(super) fn certain(failure: Failure) -> Self {
        Self {
            failure,
            certain: true,
        }
    }

    /// A trouble that may be the whole site's.
    pub(super) fn uncertain(failure: Failure) -> Self {
        Self {
            failure,
            certain: false,
        }
    }
}

/// The trouble of the thing a refused request asked for, which was `subject` at most.
///
/// # Errors
/// The failure, when it is the whole server's or the account's: a pause, a refused sign-in, no connection.
pub(super) fn trouble_of(refusal: Refusal, subject: Scope) -> Result<Trouble, Failure> {
    let failure = refusal.failure;
    if is_of_more(&failure) {
        return Err(failure);
    }
    let failure = failure.about(subject);
    if failure.code == Code::SharePointAnswerTooLarge {
        return Ok(Trouble::certain(failure));
    }
    match refusal.known {
        Known::StaleDigest => Err(failure),
        Known::Absent => Ok(Trouble::uncertain(failure)),
        Known::AccessDenied
        | Known::SaveConflict
        | Known::ItemMissing
        | Known::FileMissing
        | Known::ListMissing
        | Known::TokenRefused
        | Known::Threshold
        | Known::InvalidData
        | Known::Other => Ok(Trouble::certain(failure)),
    }
}

/// The failure of one item whose answer cannot be read.
pub(super) fn unreadable_item(list: &TaskList, item: i64, reason: &str) -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::SharePointBadAnswer,
        format!("{} list {} item {item}: {reason}", list.web, list.id),
    )
    .about(Scope::Item)
}
