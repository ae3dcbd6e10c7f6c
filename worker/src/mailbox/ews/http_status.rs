//! The meaning of HTTP statuses without a SOAP body for an EWS request.

use std::fmt::Write as _;

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};
use tasksync_common::metrics::record::Server;

use crate::http::service::{Intent, interrupted};
use crate::http::{HttpAnswer, for_message};

/// Characters of an unexpected body that are shown.
const BEGINNING_SHOWN: usize = 80;

/// Returns the failure of a status other than 200 whose body is not a SOAP fault. `works` says whether the
/// server served the tenant's previous request.
pub(super) fn failure(answer: &HttpAnswer, intent: Intent, works: bool) -> Failure {
    let interrupted = |code| interrupted(Server::Ews, intent, code);
    let status = answer.status;
    let location = answer.header(crate::http::header::LOCATION).unwrap_or_default();
    let (class, code) = match status {
        // Exchange redirects to its own error page after an internal error.
        301..=308 if location.to_ascii_lowercase().contains("genericerrorpage") => {
            interrupted(Code::ExchangeError)
        }
        300..=399 | 404 | 405 | 410 => (ErrorClass::Refused, Code::ExchangeBadAnswer),
        401 => (ErrorClass::Refused, Code::ExchangeSignInRefused),
        403 | 456 => (ErrorClass::Refused, Code::ExchangeForbidden),
        // A write carries one task's values. A read carries none, so no task is refused.
        400 | 413 => match intent {
            Intent::Write => (ErrorClass::Refused, Code::ExchangeItemRefused),
            Intent::Read => (ErrorClass::Transient, Code::ExchangeError),
        },
        502 | 504 => interrupted(Code::ExchangeUnreachable),
        408 => interrupted(Code::ExchangeTimeout),
        _ => interrupted(Code::ExchangeError),
    };
    let subject = match status {
        // Web services may be closed for one mailbox or for the organisation; other requests show which.
        403 | 456 if works => Scope::Mailbox,
        300..=399 | 401 | 403 | 404 | 405 | 410 | 456 if class == ErrorClass::Refused => Scope::Server,
        // The server did not answer its gateway, which says nothing about the item that was to be written.
        408 | 502 | 504 => Scope::Mailbox,
        _ => subject(intent),
    };
    let mut detail = format!("HTTP {status}");
    if !location.is_empty() {
        // Path and query may name people.
        let host = url::Url::parse(location)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned));
        let target = host.as_deref().unwrap_or("another page of the server");
        let _ = write!(detail, ", redirects to {target}");
    }
    if let Some(error) = answer.header(CAS_ERROR) {
        let _ = write!(detail, ", {}", for_message(error, BEGINNING_SHOWN));
    }
    if !answer.body.is_empty() {
        let _ = write!(detail, "; {}", beginning(answer));
    }
    Failure::new(class, code, detail).about(subject)
}

/// The header in which Exchange's front end names its own errors.
const CAS_ERROR: crate::http::header::HeaderName =
    crate::http::header::HeaderName::from_static("x-caserrorcode");

/// Returns the failure of an answer that cannot be read because of `reason`.
pub(super) fn bad_answer(answer: &HttpAnswer, intent: Intent, reason: &str) -> Failure {
    let (class, _) = interrupted(Server::Ews, intent, Code::ExchangeBadAnswer);
    Failure::new(
        class,
        Code::ExchangeBadAnswer,
        format!("{reason}; {}", beginning(answer)),
    )
    .about(subject(intent))
}

/// Returns the scope of a request whose failure names nothing more specific.
fn subject(intent: Intent) -> Scope {
    match intent {
        Intent::Read => Scope::Mailbox,
        Intent::Write => Scope::Item,
    }
}

fn beginning(answer: &HttpAnswer) -> String {
    let kind = answer
        .header(crate::http::header::CONTENT_TYPE)
        .map_or_else(|| "no content type".to_owned(), |text| for_message(text, 60));
    // A character has at most four bytes.
    let head = answer.body.get(..BEGINNING_SHOWN * 8).unwrap_or(&answer.body);
    let text = for_message(&String::from_utf8_lossy(head), BEGINNING_SHOWN);
    format!(
        "the answer ({kind}, {} bytes) begins with \"{text}\"",
        answer.body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::header::{HeaderMap, HeaderName, HeaderValue};
    use bytes::Bytes;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> HttpAnswer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        HttpAnswer {
            status,
            headers: map,
            body: Bytes::copy_from_slice(body.as_bytes()),
            clock_offset: None,
        }
    }

    #[test]
    fn statuses_have_their_class() {
        let of = |status, intent, works| failure(&answer(status, &[], ""), intent, works);
        let class = |status, intent, works| of(status, intent, works).class;
        let rows = [
            (302, "refused"),
            (400, "transient"),
            (401, "refused"),
            (403, "refused"),
            (404, "refused"),
            (413, "transient"),
            (449, "transient"),
            (456, "refused"),
            (500, "transient"),
            (502, "transient"),
            (504, "transient"),
            (599, "transient"),
        ];
        for (status, expected) in rows {
            assert_eq!(class(status, Intent::Read, false).name(), expected, "{status}");
            let write = match (status, expected) {
                (400 | 413, _) => "refused",
                (_, "transient") => "outcome_unknown",
                _ => expected,
            };
            assert_eq!(class(status, Intent::Write, false).name(), write, "{status}");
        }
        assert_eq!(of(403, Intent::Read, true).scope, Scope::Mailbox);
        for (status, scope) in [
            (302, Scope::Server),
            (400, Scope::Mailbox),
            (401, Scope::Server),
            (403, Scope::Server),
            (404, Scope::Server),
            (413, Scope::Mailbox),
            (456, Scope::Server),
            (500, Scope::Mailbox),
        ] {
            assert_eq!(of(status, Intent::Read, false).scope, scope, "{status}");
        }
        // A refusal or failure while one task is written concerns that task.
        for status in [400, 413, 500] {
            assert_eq!(of(status, Intent::Write, false).scope, Scope::Item, "{status}");
        }
    }

    #[test]
    fn redirects_are_distinguished_and_show_no_path() {
        let page = answer(
            302,
            &[("location", "/ews/genericerrorpage.htm?aspxerrorpath=x")],
            "",
        );
        assert_eq!(failure(&page, Intent::Read, false).class, ErrorClass::Transient);
        let other = answer(307, &[("location", "https://login.example/ana?x=1")], "");
        let failure = failure(&other, Intent::Read, false);
        assert_eq!(failure.class, ErrorClass::Refused);
        assert!(
            failure.detail.contains("login.example") && !failure.detail.contains("ana"),
            "{failure}"
        );
    }

    #[test]
    fn a_page_instead_of_an_answer_is_shown() {
        let page = answer(
            200,
            &[("content-type", "text/html")],
            "<html>\r\n\r\n<h1>Welcome\u{7}!</h1>",
        );
        let failure = bad_answer(&page, Intent::Read, "not XML");
        assert!(
            failure.detail.contains("text/html") && failure.detail.contains("<html> <h1>Welcome !</h1>"),
            "{failure}"
        );
    }
}
