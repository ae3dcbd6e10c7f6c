//! The EWS response codes that a sync can meet, and their meaning: the one table that decides between retry
//! and failure.
//!
//! The names are those of Microsoft's XSD (`ResponseCodeType`). A code that is not listed is retried and
//! shown with the server's own name.

use tasksync_common::error::{Code, ErrorClass, Scope};

/// What a response code means for the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The server asks for a pause.
    Throttled,
    /// The error is transient.
    Transient(Code),
    /// The item or folder changed since it was read.
    Conflict,
    /// The item does not exist.
    ItemGone,
    /// This one item is refused.
    ItemRefused,
    /// The request itself is refused; if it writes, because of the values it carries.
    RequestRefused,
    /// The folder does not exist.
    FolderLost,
    /// The name is taken in the parent folder.
    FolderExists,
    /// The `SyncState` is refused.
    SyncStateInvalid,
    /// A subscription ended. tasksync polls, so this is a transient error.
    SubscriptionLost,
    /// This mailbox cannot be used until a person acts.
    MailboxRefused(Code),
    /// The tenant's Exchange cannot be used until a person acts.
    ServerRefused(Code),
    /// Not in the table.
    Unknown,
}

impl Meaning {
    /// Returns the class, which decides what happens next, and the code that people look up.
    pub(super) fn class_and_code(self) -> (ErrorClass, Code) {
        match self {
            Self::Throttled => (ErrorClass::Throttled { retry_after: None }, Code::ExchangeBusy),
            Self::Transient(code) => (ErrorClass::Transient, code),
            Self::Conflict => (ErrorClass::Conflict, Code::ExchangeConflict),
            Self::ItemGone => (ErrorClass::Gone, Code::ExchangeItemGone),
            Self::ItemRefused | Self::RequestRefused | Self::FolderExists => {
                (ErrorClass::Refused, Code::ExchangeItemRefused)
            }
            Self::FolderLost => (ErrorClass::Gone, Code::ExchangeFolderGone),
            Self::SyncStateInvalid => (ErrorClass::CursorInvalid, Code::ExchangeSyncStateInvalid),
            Self::SubscriptionLost | Self::Unknown => (ErrorClass::Transient, Code::ExchangeError),
            Self::MailboxRefused(code) | Self::ServerRefused(code) => (ErrorClass::Refused, code),
        }
    }

    /// Returns the narrowest scope of the code, whatever the request was about.
    pub(super) fn subject(self) -> Scope {
        match self {
            Self::ItemGone | Self::ItemRefused | Self::Conflict => Scope::Item,
            Self::FolderLost | Self::FolderExists | Self::SyncStateInvalid => Scope::Container,
            Self::Throttled
            | Self::Transient(_)
            | Self::SubscriptionLost
            | Self::Unknown
            | Self::RequestRefused
            | Self::MailboxRefused(_) => Scope::Mailbox,
            Self::ServerRefused(_) => Scope::Server,
        }
    }
}

/// Returns the meaning of a code.
pub(super) fn meaning(code: &str) -> Meaning {
    pause_or_retry(code)
        .or_else(|| item_or_folder(code))
        .or_else(|| subscription(code))
        .or_else(|| mailbox_or_server(code))
        .unwrap_or(Meaning::Unknown)
}

/// Returns the meaning of a code after which the same request may succeed later.
fn pause_or_retry(code: &str) -> Option<Meaning> {
    Some(match code {
        "ErrorServerBusy"
        | "ErrorExceededConnectionCount"
        | "ErrorExceededSubscriptionCount"
        | "ErrorExceededFindCountLimit"
        | "ErrorTooManyObjectsOpened"
        | "ErrorSubmissionQuotaExceeded" => Meaning::Throttled,

        "ErrorTimeoutExpired" => Meaning::Transient(Code::ExchangeTimeout),
        "ErrorMailboxStoreUnavailable" | "ErrorMailboxMoveInProgress" | "ErrorMailboxFailover" => {
            Meaning::Transient(Code::ExchangeMailboxUnavailable)
        }
        "ErrorInternalServerTransientError"
        | "ErrorConnectionFailed"
        | "ErrorADUnavailable"
        | "ErrorADOperation"
        | "ErrorADSessionFilter"
        | "ErrorInsufficientResources"
        | "ErrorNotEnoughMemory"
        | "ErrorNoRespondingCASInDestinationSite"
        | "ErrorProxyCallFailed"
        | "ErrorProxyRequestProcessingFailed"
        | "ErrorProxyTokenExpired"
        | "ErrorRequestAborted"
        | "ErrorContentConversionFailed"
        | "ErrorBatchProcessingStopped"
        // Some servers answer this permanently about one item; `plan::Pass` parks the item after three
        // passes.
        | "ErrorInternalServerError" => Meaning::Transient(Code::ExchangeError),

        _ => return None,
    })
}

/// Returns the meaning of a code about an item, a folder or the values of a request.
fn item_or_folder(code: &str) -> Option<Meaning> {
    Some(match code {
        "ErrorIrresolvableConflict"
        | "ErrorStaleObject"
        | "ErrorChangeKeyRequired"
        | "ErrorChangeKeyRequiredForWriteOperations"
        | "ErrorInvalidChangeKey" => Meaning::Conflict,

        "ErrorItemNotFound" => Meaning::ItemGone,

        "ErrorItemCorrupt"
        | "ErrorCorruptData"
        | "ErrorInvalidId"
        | "ErrorInvalidIdEmpty"
        | "ErrorInvalidIdMalformed"
        | "ErrorItemSave"
        | "ErrorItemSavePropertyError"
        | "ErrorItemPropertyRequestFailed"
        | "ErrorPropertyUpdate"
        | "ErrorInvalidPropertySet"
        | "ErrorInvalidPropertyDelete"
        | "ErrorInvalidPropertyForOperation"
        | "ErrorInvalidPropertyRequest"
        | "ErrorInvalidExtendedProperty"
        | "ErrorInvalidExtendedPropertyValue"
        | "ErrorInvalidPercentCompleteValue"
        | "ErrorInvalidCompleteDate"
        | "ErrorDataSizeLimitExceeded"
        | "ErrorMessageSizeExceeded"
        | "ErrorSentTaskRequestUpdate"
        | "ErrorUnsupportedRecurrence"
        | "ErrorCannotDeleteObject"
        | "ErrorCannotDeleteTaskOccurrence"
        | "ErrorCannotCreateTaskInNonTaskFolder"
        | "ErrorAffectedTaskOccurrencesRequired"
        | "ErrorIncorrectUpdatePropertyCount"
        | "ErrorUpdatePropertyMismatch"
        | "ErrorObjectTypeChanged"
        | "ErrorMessagePerFolderCountReceiveQuotaExceeded" => Meaning::ItemRefused,

        "ErrorSchemaValidation" => Meaning::RequestRefused,

        "ErrorFolderNotFound"
        | "ErrorSyncFolderNotFound"
        | "ErrorParentFolderNotFound"
        | "ErrorToFolderNotFound"
        | "ErrorSavedItemFolderNotFound" => Meaning::FolderLost,

        "ErrorFolderExists" => Meaning::FolderExists,

        "ErrorInvalidSyncStateData" => Meaning::SyncStateInvalid,

        _ => return None,
    })
}

/// Returns the meaning of a code about a subscription.
fn subscription(code: &str) -> Option<Meaning> {
    Some(match code {
        "ErrorInvalidSubscription"
        | "ErrorSubscriptionNotFound"
        | "ErrorExpiredSubscription"
        | "ErrorInvalidWatermark"
        | "ErrorEventNotFound"
        | "ErrorReadEventsFailed"
        | "ErrorMissedNotificationEvents"
        | "ErrorSubscriptionUnsubscribed"
        // Microsoft's documentation uses this spelling.
        | "ErrorSubscriptionUnsubsribed"
        | "ErrorNewEventStreamConnectionOpened"
        | "ErrorProxyRequestNotAllowed"
        | "ErrorSubscriptionAccessDenied" => Meaning::SubscriptionLost,

        _ => return None,
    })
}

/// Returns the meaning of a code about a mailbox, the service account or the server.
fn mailbox_or_server(code: &str) -> Option<Meaning> {
    Some(match code {
        "ErrorNonExistentMailbox"
        | "ErrorInvalidMailbox"
        | "ErrorInvalidUserPrincipalName"
        | "ErrorInvalidUserSid"
        | "ErrorInvalidSmtpAddress"
        | "ErrorNonPrimarySmtpAddress"
        | "ErrorMissingEmailAddress" => Meaning::MailboxRefused(Code::ExchangeMailboxMissing),

        "ErrorMailboxLogonFailed"
        | "ErrorMailboxConfiguration"
        | "ErrorAccessDenied"
        | "ErrorAccountDisabled"
        | "ErrorImpersonateUserDenied"
        | "ErrorInvalidLicense"
        | "ErrorAccountSuspend"
        | "ErrorCreateItemAccessDenied"
        | "ErrorCreateSubfolderAccessDenied"
        | "ErrorUserNotAllowedByPolicy"
        // These concern the account that owns the mailbox. If it is the service account's, every mailbox
        // answers so.
        | "ErrorPasswordExpired"
        | "ErrorPasswordChangeRequired" => Meaning::MailboxRefused(Code::ExchangeMailboxDenied),

        "ErrorQuotaExceeded" => Meaning::MailboxRefused(Code::ExchangeMailboxFull),

        "ErrorImpersonationDenied"
        | "ErrorImpersonationFailed"
        | "ErrorInvalidExchangeImpersonationHeaderData" => {
            Meaning::ServerRefused(Code::ExchangeImpersonationDenied)
        }
        "ErrorOrganizationAccessBlocked" => Meaning::ServerRefused(Code::ExchangeForbidden),
        "ErrorInvalidAuthorizationContext" | "ErrorCallerIsInvalidADAccount" => {
            Meaning::ServerRefused(Code::ExchangeSignInRefused)
        }
        "ErrorInvalidServerVersion"
        | "ErrorIncorrectSchemaVersion"
        | "ErrorInvalidSchemaVersionForMailboxVersion" => Meaning::ServerRefused(Code::ExchangeError),

        _ => return None,
    })
}

/// Returns whether a write that ended with this code may still have been carried out: the server gave up
/// waiting for a part of itself, or for another server.
pub(super) fn leaves_outcome_open(code: &str) -> bool {
    matches!(
        code,
        "ErrorTimeoutExpired"
            | "ErrorRequestAborted"
            | "ErrorConnectionFailed"
            | "ErrorProxyCallFailed"
            | "ErrorProxyRequestProcessingFailed"
            | "ErrorMailboxFailover"
    )
}

/// Returns whether the code says that the server never issues such an id, so that nothing exists under it.
pub(super) fn names_nothing(code: &str) -> bool {
    matches!(
        code,
        "ErrorInvalidIdMalformed" | "ErrorInvalidId" | "ErrorInvalidIdEmpty"
    )
}

/// Returns whether the code says that this access mode does not reach the mailbox, so that the other mode
/// may.
pub(super) fn refuses_access(code: &str) -> bool {
    matches!(
        code,
        "ErrorAccessDenied"
            | "ErrorNonExistentMailbox"
            | "ErrorInvalidMailbox"
            | "ErrorMailboxLogonFailed"
            | "ErrorImpersonateUserDenied"
            | "ErrorImpersonationDenied"
            | "ErrorImpersonationFailed"
            | "ErrorInvalidExchangeImpersonationHeaderData"
            | "ErrorUserNotAllowedByPolicy"
            | "ErrorCreateItemAccessDenied"
            | "ErrorCreateSubfolderAccessDenied"
            // For mailboxes on another server or site.
            | "ErrorProxyRequestNotAllowed"
            | "ErrorNoRespondingCASInDestinationSite"
            | "ErrorProxyServiceDiscoveryFailed"
            | "ErrorProxiedSubscriptionCallFailure"
            | "ErrorCrossMailboxMoveCopy"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The classification as documented for people: class, code that people see, the server's codes.
    const CLASSIFICATION: &[(&str, Code, &str)] = &[
        (
            "throttled",
            Code::ExchangeBusy,
            "ErrorServerBusy ErrorExceededConnectionCount ErrorExceededSubscriptionCount ErrorExceededFindCountLimit
             ErrorTooManyObjectsOpened ErrorSubmissionQuotaExceeded",
        ),
        (
            "transient",
            Code::ExchangeError,
            "ErrorInternalServerTransientError ErrorConnectionFailed ErrorADUnavailable ErrorADOperation
             ErrorADSessionFilter ErrorInsufficientResources ErrorNotEnoughMemory
             ErrorNoRespondingCASInDestinationSite ErrorProxyCallFailed ErrorProxyRequestProcessingFailed
             ErrorProxyTokenExpired ErrorRequestAborted ErrorContentConversionFailed ErrorBatchProcessingStopped
             ErrorInternalServerError",
        ),
        ("transient", Code::ExchangeTimeout, "ErrorTimeoutExpired"),
        (
            "transient",
            Code::ExchangeMailboxUnavailable,
            "ErrorMailboxStoreUnavailable ErrorMailboxMoveInProgress ErrorMailboxFailover",
        ),
        (
            "transient",
            Code::ExchangeError,
            "ErrorInvalidSubscription ErrorSubscriptionNotFound ErrorExpiredSubscription ErrorInvalidWatermark
             ErrorEventNotFound ErrorReadEventsFailed ErrorMissedNotificationEvents ErrorSubscriptionUnsubscribed
             ErrorSubscriptionUnsubsribed ErrorNewEventStreamConnectionOpened ErrorProxyRequestNotAllowed
             ErrorSubscriptionAccessDenied",
        ),
        (
            "conflict",
            Code::ExchangeConflict,
            "ErrorIrresolvableConflict ErrorStaleObject ErrorChangeKeyRequired
             ErrorChangeKeyRequiredForWriteOperations ErrorInvalidChangeKey",
        ),
        ("gone", Code::ExchangeItemGone, "ErrorItemNotFound"),
        (
            "gone",
            Code::ExchangeFolderGone,
            "ErrorFolderNotFound ErrorSyncFolderNotFound ErrorParentFolderNotFound ErrorToFolderNotFound
             ErrorSavedItemFolderNotFound",
        ),
        (
            "refused",
            Code::ExchangeItemRefused,
            "ErrorItemCorrupt ErrorCorruptData ErrorInvalidId ErrorInvalidIdEmpty ErrorInvalidIdMalformed ErrorItemSave
             ErrorItemSavePropertyError ErrorItemPropertyRequestFailed ErrorPropertyUpdate ErrorInvalidPropertySet
             ErrorInvalidPropertyDelete ErrorInvalidPropertyForOperation ErrorInvalidPropertyRequest
             ErrorInvalidExtendedProperty ErrorInvalidExtendedPropertyValue ErrorInvalidPercentCompleteValue
             ErrorInvalidCompleteDate ErrorDataSizeLimitExceeded ErrorMessageSizeExceeded ErrorSentTaskRequestUpdate
             ErrorUnsupportedRecurrence ErrorCannotDeleteObject ErrorCannotDeleteTaskOccurrence
             ErrorCannotCreateTaskInNonTaskFolder ErrorAffectedTaskOccurrencesRequired
             ErrorIncorrectUpdatePropertyCount ErrorUpdatePropertyMismatch ErrorObjectTypeChanged
             ErrorSchemaValidation ErrorMessagePerFolderCountReceiveQuotaExceeded ErrorFolderExists",
        ),
        (
            "cursor_invalid",
            Code::ExchangeSyncStateInvalid,
            "ErrorInvalidSyncStateData",
        ),
        (
            "refused",
            Code::ExchangeMailboxMissing,
            "ErrorNonExistentMailbox ErrorInvalidMailbox ErrorInvalidUserPrincipalName ErrorInvalidUserSid
             ErrorInvalidSmtpAddress ErrorNonPrimarySmtpAddress ErrorMissingEmailAddress",
        ),
        (
            "refused",
            Code::ExchangeMailboxDenied,
            "ErrorMailboxLogonFailed ErrorMailboxConfiguration ErrorAccessDenied ErrorAccountDisabled
             ErrorImpersonateUserDenied ErrorInvalidLicense ErrorAccountSuspend ErrorCreateItemAccessDenied
             ErrorCreateSubfolderAccessDenied ErrorUserNotAllowedByPolicy
             ErrorPasswordExpired ErrorPasswordChangeRequired",
        ),
        ("refused", Code::ExchangeMailboxFull, "ErrorQuotaExceeded"),
        (
            "refused",
            Code::ExchangeImpersonationDenied,
            "ErrorImpersonationDenied ErrorImpersonationFailed ErrorInvalidExchangeImpersonationHeaderData",
        ),
        (
            "refused",
            Code::ExchangeForbidden,
            "ErrorOrganizationAccessBlocked",
        ),
        (
            "refused",
            Code::ExchangeSignInRefused,
            "ErrorInvalidAuthorizationContext ErrorCallerIsInvalidADAccount",
        ),
        (
            "refused",
            Code::ExchangeError,
            "ErrorInvalidServerVersion ErrorIncorrectSchemaVersion ErrorInvalidSchemaVersionForMailboxVersion",
        ),
    ];

    #[test]
    fn every_documented_code_has_its_class() {
        let mut seen = std::collections::BTreeSet::new();
        for &(class, code, names) in CLASSIFICATION {
            for name in names.split_whitespace() {
                assert!(seen.insert(name), "{name} stands twice");
                assert_ne!(meaning(name), Meaning::Unknown, "{name}");
                let (found_class, found_code) = meaning(name).class_and_code();
                assert_eq!((found_class.name(), found_code), (class, code), "{name}");
            }
        }
        assert_eq!(seen.len(), 109);
    }

    #[test]
    fn an_unknown_code_is_tried_again() {
        for name in ["", "NoError", "ErrorFromTheFuture", "errorserverbusy"] {
            assert_eq!(
                meaning(name).class_and_code(),
                (ErrorClass::Transient, Code::ExchangeError)
            );
        }
    }

    #[test]
    fn an_open_outcome_is_always_a_passing_error() {
        for &(class, _, names) in CLASSIFICATION {
            for name in names.split_whitespace() {
                assert!(!leaves_outcome_open(name) || class == "transient", "{name}");
            }
        }
    }

    /// A failure about one item never stops its mailbox, and one about a mailbox never its tenant, unless the
    /// code has a wider scope.
    #[test]
    fn no_row_stops_more_than_it_is_about() {
        use crate::http::service::Intent;
        use tasksync_common::error::Stops;
        for &(_, code, names) in CLASSIFICATION {
            for name in names.split_whitespace() {
                let of_server = matches!(meaning(name), Meaning::ServerRefused(_));
                let of_mailbox = code.narrowest_scope() == Scope::Mailbox;
                for intent in [Intent::Read, Intent::Write] {
                    let error = super::super::response_messages::ServerError {
                        code: name.to_owned(),
                        ..Default::default()
                    };
                    let failure = error.into_error(intent).failure;
                    let allowed = match intent {
                        _ if of_server => Stops::Tenant,
                        Intent::Write if !of_mailbox => Stops::Part,
                        Intent::Read | Intent::Write => Stops::Person,
                    };
                    let stops = failure.stops();
                    assert!(
                        stops == Stops::NoWork || stops == allowed || (stops == Stops::Part && !of_server),
                        "{name} {intent:?}: {stops:?}"
                    );
                }
            }
        }
    }
}
