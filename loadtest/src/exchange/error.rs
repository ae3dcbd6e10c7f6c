//! The errors of the protocol.

use std::borrow::Cow;

use super::xml::escape_into;

/// A response code with its text and details. It is part of an answer or the reason of a SOAP fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EwsError {
    /// A value of `ResponseCodeType`.
    pub(crate) code: Cow<'static, str>,
    /// `MessageText`.
    pub(crate) text: String,
    /// Content of `MessageXml`, already escaped.
    pub(crate) detail: String,
}

/// Codes after which the rest of a batch is not processed.
const STOPPING: &[&str] = &[
    "ErrorAccessDenied",
    "ErrorAccountDisabled",
    "ErrorADUnavailable",
    "ErrorADOperation",
    "ErrorConnectionFailed",
    "ErrorMailboxStoreUnavailable",
    "ErrorMailboxMoveInProgress",
    "ErrorPasswordChangeRequired",
    "ErrorPasswordExpired",
    "ErrorQuotaExceeded",
    "ErrorInsufficientResources",
];

impl EwsError {
    /// Returns an error without details.
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, text: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            text: text.into(),
            detail: String::new(),
        }
    }

    /// Returns the error for a property that the operation does not support.
    pub(crate) fn invalid_property(uri: &str) -> Self {
        let text = "The request specified a property that is not valid for this operation.";
        Self::new("ErrorInvalidPropertyRequest", text).field(uri)
    }

    /// Adds a `t:Value` to `MessageXml`.
    pub(crate) fn value(mut self, name: &str, value: &str) -> Self {
        self.detail.push_str("<t:Value Name=\"");
        escape_into(&mut self.detail, name);
        self.detail.push_str("\">");
        escape_into(&mut self.detail, value);
        self.detail.push_str("</t:Value>");
        self
    }

    /// Adds the path of the invalid property to `MessageXml`.
    pub(crate) fn path(mut self, path: &str) -> Self {
        self.detail.push_str(path);
        self
    }

    /// Marks the property with this URI, or with this XML path, as the invalid one.
    pub(crate) fn field(self, uri: &str) -> Self {
        if uri.starts_with("<t:") {
            return self.path(uri);
        }
        let mut path = "<t:FieldURI FieldURI=\"".to_owned();
        escape_into(&mut path, uri);
        path.push_str("\"/>");
        self.path(&path)
    }

    /// Returns whether the entries after the failed one are not processed.
    pub(crate) fn stops_the_batch(&self) -> bool {
        STOPPING.contains(&self.code.as_ref())
    }

    pub(crate) fn access_denied() -> Self {
        Self::new(
            "ErrorAccessDenied",
            "Access is denied. Check credentials and try again.",
        )
    }

    pub(crate) fn item_not_found() -> Self {
        Self::new(
            "ErrorItemNotFound",
            "The specified object was not found in the store.",
        )
    }

    pub(crate) fn no_mailbox(address: &str) -> Self {
        let text = format!("The SMTP address '{address}' has no mailbox associated with it.");
        Self::new("ErrorNonExistentMailbox", text).value("SmtpAddress", address)
    }

    pub(crate) fn invalid_sync_state() -> Self {
        Self::new(
            "ErrorInvalidSyncStateData",
            "Synchronization state data is corrupt or otherwise invalid.",
        )
    }
}
