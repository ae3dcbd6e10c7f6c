//! SharePoint's errors: an HTTP status, an HRESULT with its .NET type, and a message.

/// An error answer. The `Accept` header of the request determines its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpError {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
}

/// HRESULT for a change token that cannot be parsed or is older than the change log.
pub(crate) const INVALID_CHANGE_TOKEN: i64 = -2_130_575_172;
/// HRESULT for a change token of another object.
pub(crate) const FOREIGN_CHANGE_TOKEN: i64 = -2_130_575_173;
/// HRESULT for a missing right.
pub(crate) const ACCESS_DENIED: i64 = -2_147_024_891;

const SP_EXCEPTION: &str = "Microsoft.SharePoint.SPException";
const INVALID_QUERY: &str = "Microsoft.SharePoint.Client.InvalidClientQueryException";

impl SpError {
    pub(crate) fn new(status: u16, code: i64, class: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: format!("{code}, {class}"),
            message: message.into(),
        }
    }

    /// Returns an `SPException`, which the object model throws and the REST layer does not translate.
    pub(crate) fn exception(status: u16, code: i64, message: impl Into<String>) -> Self {
        Self::new(status, code, SP_EXCEPTION, message)
    }

    /// Returns 400: the REST layer could not parse the request.
    pub(crate) fn query(message: impl Into<String>) -> Self {
        Self::new(400, -1, INVALID_QUERY, message)
    }

    pub(crate) fn no_resource(path: &str) -> Self {
        Self::new(
            404,
            -1,
            "Microsoft.SharePoint.Client.ResourceNotFoundException",
            format!("Cannot find resource for the request {path}."),
        )
    }

    pub(crate) fn no_list() -> Self {
        Self::exception(
            404,
            -2_130_575_322,
            "List does not exist. The page you selected contains a list that does not exist. It may have been deleted \
             by another user.",
        )
    }

    pub(crate) fn no_list_titled(title: &str, web_url: &str) -> Self {
        Self::new(
            404,
            -1,
            "System.ArgumentException",
            format!("List '{title}' does not exist at site with URL '{web_url}'."),
        )
    }

    pub(crate) fn no_item() -> Self {
        Self::new(
            404,
            -2_130_575_338,
            "System.ArgumentException",
            "Item does not exist. It may have been deleted by another user.",
        )
    }

    pub(crate) fn no_property(name: &str, kind: &str) -> Self {
        Self::query(format!(
            "The property '{name}' does not exist on type '{kind}'. Make sure to only use property names that are \
             defined by the type."
        ))
    }

    pub(crate) fn no_field(name: &str) -> Self {
        Self::query(format!("The field or property '{name}' does not exist."))
    }

    /// Returns the error for a CAML query with a field that the list does not have.
    pub(crate) fn no_caml_field() -> Self {
        Self::exception(
            400,
            -2_130_575_340,
            "One or more field types are not installed properly. Go to the list settings page to delete these fields.",
        )
    }

    pub(crate) fn access_denied() -> Self {
        Self::new(
            403,
            ACCESS_DENIED,
            "System.UnauthorizedAccessException",
            "Access denied. You do not have permission to perform this action or access this resource.",
        )
    }

    pub(crate) fn digest_missing() -> Self {
        Self::exception(
            403,
            -2_130_575_251,
            "The security validation for this page is invalid and might be corrupted. Please use your web browser's \
             Back button to try your operation again.",
        )
    }

    pub(crate) fn digest_expired() -> Self {
        Self::exception(
            403,
            -2_130_575_252,
            "The security validation for this page has timed out. Click Back in your Web browser, refresh the page, \
             and try your operation again.",
        )
    }

    pub(crate) fn etag_mismatch(given: &str, current: &str) -> Self {
        Self::new(
            412,
            -1,
            "Microsoft.SharePoint.Client.ClientServiceException",
            format!("The request ETag value '{given}' does not match the object's ETag value '{current}'."),
        )
    }

    pub(crate) fn token_invalid() -> Self {
        Self::exception(
            500,
            INVALID_CHANGE_TOKEN,
            "The specified change token is invalid.",
        )
    }

    pub(crate) fn token_too_old() -> Self {
        Self::exception(
            500,
            INVALID_CHANGE_TOKEN,
            "The changeToken refers to a time before the start of the current change log.",
        )
    }

    pub(crate) fn token_foreign() -> Self {
        Self::exception(
            500,
            FOREIGN_CHANGE_TOKEN,
            "The changeToken refers to another object.",
        )
    }

    pub(crate) fn no_user() -> Self {
        Self::exception(404, -2_146_232_832, "User cannot be found.")
    }

    pub(crate) fn user_not_unique() -> Self {
        Self::exception(400, -2_130_575_276, "The user does not exist or is not unique.")
    }

    pub(crate) fn text_too_long() -> Self {
        Self::exception(
            400,
            -2_130_575_163,
            "Invalid text value.\n\nA text field contains invalid data. Please check the value and try again.",
        )
    }

    pub(crate) fn bad_value(field: &str) -> Self {
        Self::query(format!(
            "Cannot convert the value given for '{field}' to the type of the field."
        ))
    }

    pub(crate) fn threshold() -> Self {
        Self::new(
            500,
            -2_147_024_860,
            "Microsoft.SharePoint.SPQueryThrottledException",
            "The attempted operation is prohibited because it exceeds the list view threshold.",
        )
    }

    /// Returns the error for a code set by a fault rule, with the status that SharePoint sends with it.
    pub(crate) fn by_code(code: &str) -> Self {
        let number = code
            .split(',')
            .next()
            .and_then(|text| text.trim().parse::<i64>().ok());
        match number {
            Some(ACCESS_DENIED) => Self::access_denied(),
            Some(INVALID_CHANGE_TOKEN) => Self::token_too_old(),
            Some(FOREIGN_CHANGE_TOKEN) => Self::token_foreign(),
            Some(-2_130_575_251) => Self::digest_missing(),
            Some(-2_130_575_252) => Self::digest_expired(),
            Some(-2_130_575_322) => Self::no_list(),
            Some(-2_130_575_338) => Self::no_item(),
            Some(-2_147_024_860) => Self::threshold(),
            Some(number) => Self::exception(500, number, "The server was unable to carry out the operation."),
            None => Self {
                status: 500,
                code: code.to_owned(),
                message: "The operation failed.".to_owned(),
            },
        }
    }
}
