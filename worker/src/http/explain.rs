//! The reasons of failed calls, in words for administrators. The texts of libraries are used only where
//! nothing better is known, and never with a URL's path, which may name people.

use std::error::Error;

use tasksync_common::facts::CertificateProblem;

use super::CallError;
use super::resolver::AddressesRefused;

/// Nesting of errors that is followed; deeper causes are left out.
const DEPTH: usize = 16;

/// Classifies an error of the client: refused, certainly not sent, or possibly carried out.
pub(super) fn call_error(error: reqwest::Error, host: &str) -> CallError {
    let error = error.without_url();
    let causes = causes(&error);
    if let Some(refused) = causes
        .iter()
        .find_map(|cause| cause.downcast_ref::<AddressesRefused>())
    {
        return CallError::AddressRefused(refused.0.clone());
    }
    let host = host.to_owned();
    let reason = reason(&causes);
    if error.is_connect() || error.is_builder() {
        let reason = if error.is_timeout() {
            "the connection did not open in time".to_owned()
        } else {
            reason
        };
        CallError::NotConnected { host, reason }
    } else {
        CallError::Broken { host, reason }
    }
}

/// Returns what is wrong with the server's certificate, if the call failed because of it.
pub(super) fn certificate_problem(error: &reqwest::Error) -> Option<CertificateProblem> {
    use rustls::CertificateError as Cause;
    let causes = causes(error);
    let refused = causes
        .iter()
        .find_map(|cause| match cause.downcast_ref::<rustls::Error>() {
            Some(rustls::Error::InvalidCertificate(cause)) => Some(cause),
            Some(_) | None => None,
        })?;
    Some(
        if matches!(
            refused,
            Cause::NotValidForName | Cause::NotValidForNameContext { .. }
        ) {
            CertificateProblem::OtherName
        } else if matches!(
            refused,
            Cause::Expired
                | Cause::ExpiredContext { .. }
                | Cause::NotValidYet
                | Cause::NotValidYetContext { .. }
        ) {
            CertificateProblem::Expired
        } else {
            CertificateProblem::Untrusted
        },
    )
}

/// Returns the innermost cause as text.
pub(super) fn reason_of(error: &(dyn Error + 'static)) -> String {
    reason(&causes(error))
}

/// Returns the error and its causes, outermost first.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> Vec<&'e (dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = Some(error);
    while let Some(cause) = next.filter(|_| causes.len() < DEPTH) {
        causes.push(cause);
        // `io::Error::source` skips the error it carries, which is the one needed here.
        next = match cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
        {
            Some(carried) => Some(carried as &(dyn Error + 'static)),
            None => cause.source(),
        };
    }
    causes
}

fn reason(causes: &[&(dyn Error + 'static)]) -> String {
    let tls = causes
        .iter()
        .find_map(|cause| cause.downcast_ref::<rustls::Error>())
        .and_then(tls_reason);
    let innermost = || {
        causes
            .last()
            .map_or_else(|| "unknown".to_owned(), ToString::to_string)
    };
    tls.map_or_else(innermost, str::to_owned)
}

/// Returns the meaning of a refused TLS handshake, for the kinds that administrators often see.
///
/// Every other kind is reported in the library's own words.
fn tls_reason(error: &rustls::Error) -> Option<&'static str> {
    use rustls::{AlertDescription, Error};
    if let Error::InvalidCertificate(cause) = error {
        return certificate_reason(cause);
    }
    if matches!(
        error,
        Error::PeerIncompatible(_)
            | Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure)
    ) {
        return Some("it offers no TLS version or cipher that is safe (TLS 1.2 or newer is needed)");
    }
    matches!(error, Error::InvalidMessage(_)).then_some("what answers there does not speak TLS")
}

/// Returns why a certificate is refused, for the causes that administrators often see.
fn certificate_reason(cause: &rustls::CertificateError) -> Option<&'static str> {
    use rustls::CertificateError as Cause;
    if matches!(cause, Cause::UnknownIssuer) {
        return Some(
            "its certificate comes from an authority that is not trusted (self-signed, or a company's own); \
             add the authority's certificate to the file of outbound.authorities",
        );
    }
    if matches!(cause, Cause::BadSignature) {
        return Some(
            "its certificate is not signed by the authority of that name that is trusted; add the authority's present \
             certificate to the file of outbound.authorities",
        );
    }
    if matches!(cause, Cause::Expired | Cause::ExpiredContext { .. }) {
        return Some("its certificate has expired");
    }
    if matches!(cause, Cause::NotValidYet | Cause::NotValidYetContext { .. }) {
        return Some("its certificate is not valid yet; compare the clocks of both machines");
    }
    if matches!(
        cause,
        Cause::NotValidForName | Cause::NotValidForNameContext { .. }
    ) {
        return Some("its certificate is for another host name");
    }
    matches!(cause, Cause::Revoked).then_some("its certificate was revoked")
}
