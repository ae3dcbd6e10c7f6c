//! Every EWS response code that a sync can meet, and what it means: the one table from which retry or fail follows.
//!
//! The names are those of Microsoft's XSD (`ResponseCodeType`). A code that is not listed is tried again and shown
//! with the server's own name.

use tasksync_common::error::{Code, ErrorClass};

/// What a response code means for the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The server asks for a pause.
    Throttled,
    /// It may pass.
    Transient(Code),
    /// The item or folder changed since it was read.
    Conflict,
    /// The item is not there.
    ItemGone,
    /// This one item is refused.
    ItemPermanent,
    /// The folder is not there.
    FolderLost,
    /// The name is taken in the parent folder.
    FolderExists,
    /// The `SyncState` is refused.
    SyncStateInvalid,
    /// A subscription ended; tasksync polls, so this is a passing error.
    SubscriptionLost,
    /// This mailbox cannot be used until somebody acts.
    MailboxPermanent(Code),
    /// The tenant's Exchange cannot be used until somebody acts.
    TenantPermanent(Code),
    /// Not in the table.
    Unknown,
}

impl Meaning {
    /// The class that decides what happens next, and the code people look up.
    pub(super) fn class_and_code(self) -> (ErrorClass, Code) {
        match self {
            Self::Throttled => (ErrorClass::Throttled { retry_after: None }, Code::ExchangeBusy),
            Self::Transient(code) => (ErrorClass::Transient, code),
            Self::Conflict => (ErrorClass::Conflict, Code::ExchangeConflict),
            Self::ItemGone => (ErrorClass::Gone, Code::ExchangeItemGone),
            Self::ItemPermanent | Self::FolderExists => {
                (ErrorClass::ItemPermanent, Code::ExchangeItemRefused)
            }
            Self::FolderLost => (ErrorClass::Gone, Code::ExchangeFolderGone),
            Self::SyncStateInvalid => (ErrorClass::CursorInvalid, Code::ExchangeSyncStateInvalid),
            Self::SubscriptionLost | Self::Unknown => (ErrorClass::Transient, Code::ExchangeError),
            Self::MailboxPermanent(code) => (ErrorClass::MailboxPermanent, code),
            Self::TenantPermanent(code) => (ErrorClass::TenantPermanent, code),
        }
    }
}

/// Looks a code up.
pub(super) fn meaning(code: &str) -> Meaning {
    match code {
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
        // Repeated three times it counts as the item's own fault; the caller counts.
        | "ErrorInternalServerError" => Meaning::Transient(Code::ExchangeError),

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
        | "ErrorSchemaValidation"
        | "ErrorMessagePerFolderCountReceiveQuotaExceeded" => Meaning::ItemPermanent,

        "ErrorFolderNotFound"
        | "ErrorSyncFolderNotFound"
        | "ErrorParentFolderNotFound"
        | "ErrorToFolderNotFound"
        | "ErrorSavedItemFolderNotFound" => Meaning::FolderLost,

        "ErrorFolderExists" => Meaning::FolderExists,

        "ErrorInvalidSyncStateData" => Meaning::SyncStateInvalid,

        "ErrorInvalidSubscription"
        | "ErrorSubscriptionNotFound"
        | "ErrorExpiredSubscription"
        | "ErrorInvalidWatermark"
        | "ErrorEventNotFound"
        | "ErrorReadEventsFailed"
        | "ErrorMissedNotificationEvents"
        | "ErrorSubscriptionUnsubscribed"
        // Microsoft's documentation spells it so.
        | "ErrorSubscriptionUnsubsribed"
        | "ErrorNewEventStreamConnectionOpened"
        | "ErrorProxyRequestNotAllowed"
        | "ErrorSubscriptionAccessDenied" => Meaning::SubscriptionLost,

        "ErrorNonExistentMailbox"
        | "ErrorInvalidMailbox"
        | "ErrorInvalidUserPrincipalName"
        | "ErrorInvalidUserSid"
        | "ErrorInvalidSmtpAddress"
        | "ErrorNonPrimarySmtpAddress"
        | "ErrorMissingEmailAddress" => Meaning::MailboxPermanent(Code::ExchangeMailboxMissing),

        "ErrorMailboxLogonFailed"
        | "ErrorMailboxConfiguration"
        | "ErrorAccessDenied"
        | "ErrorAccountDisabled"
        | "ErrorImpersonateUserDenied"
        | "ErrorInvalidLicense"
        | "ErrorAccountSuspend"
        | "ErrorCreateItemAccessDenied"
        | "ErrorCreateSubfolderAccessDenied"
        | "ErrorUserNotAllowedByPolicy" => Meaning::MailboxPermanent(Code::ExchangeMailboxDenied),

        "ErrorPasswordExpired" | "ErrorPasswordChangeRequired" => {
            Meaning::MailboxPermanent(Code::ExchangeSignInRefused)
        }

        "ErrorQuotaExceeded" => Meaning::MailboxPermanent(Code::ExchangeMailboxFull),

        "ErrorImpersonationDenied"
        | "ErrorImpersonationFailed"
        | "ErrorInvalidExchangeImpersonationHeaderData" => {
            Meaning::TenantPermanent(Code::ExchangeImpersonationDenied)
        }
        "ErrorOrganizationAccessBlocked" => Meaning::TenantPermanent(Code::ExchangeForbidden),
        "ErrorInvalidAuthorizationContext" | "ErrorCallerIsInvalidADAccount" => {
            Meaning::TenantPermanent(Code::ExchangeSignInRefused)
        }
        "ErrorInvalidServerVersion"
        | "ErrorIncorrectSchemaVersion"
        | "ErrorInvalidSchemaVersionForMailboxVersion" => Meaning::TenantPermanent(Code::ExchangeError),

        _ => Meaning::Unknown,
    }
}

/// Whether a write that ended with this code may have been carried out all the same: the server gave up waiting for
/// a part of itself, or for another server.
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

/// Whether the code says that this way of access does not reach this mailbox, so that the other way may.
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
            // Mailboxes of another server or site.
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

    /// The classification as it is written down for people: class, code people see, the server's codes.
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
            "item_permanent",
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
            "mailbox_permanent",
            Code::ExchangeMailboxMissing,
            "ErrorNonExistentMailbox ErrorInvalidMailbox ErrorInvalidUserPrincipalName ErrorInvalidUserSid
             ErrorInvalidSmtpAddress ErrorNonPrimarySmtpAddress ErrorMissingEmailAddress",
        ),
        (
            "mailbox_permanent",
            Code::ExchangeMailboxDenied,
            "ErrorMailboxLogonFailed ErrorMailboxConfiguration ErrorAccessDenied ErrorAccountDisabled
             ErrorImpersonateUserDenied ErrorInvalidLicense ErrorAccountSuspend ErrorCreateItemAccessDenied
             ErrorCreateSubfolderAccessDenied ErrorUserNotAllowedByPolicy",
        ),
        (
            "mailbox_permanent",
            Code::ExchangeSignInRefused,
            "ErrorPasswordExpired ErrorPasswordChangeRequired",
        ),
        ("mailbox_permanent", Code::ExchangeMailboxFull, "ErrorQuotaExceeded"),
        (
            "tenant_permanent",
            Code::ExchangeImpersonationDenied,
            "ErrorImpersonationDenied ErrorImpersonationFailed ErrorInvalidExchangeImpersonationHeaderData",
        ),
        (
            "tenant_permanent",
            Code::ExchangeForbidden,
            "ErrorOrganizationAccessBlocked",
        ),
        (
            "tenant_permanent",
            Code::ExchangeSignInRefused,
            "ErrorInvalidAuthorizationContext ErrorCallerIsInvalidADAccount",
        ),
        (
            "tenant_permanent",
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
    fn a_code_nobody_knows_is_tried_again() {
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
}
