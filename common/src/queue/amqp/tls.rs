//! TLS to the broker: the trusted authorities, and the meaning of failed handshakes.

use std::io;

use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, Error};
use rustls_connector::{RustlsConnector, RustlsConnectorConfig};

use crate::error::{Code, ErrorClass, Failure};

/// Returns a connector that trusts the system's authorities and `authorities`. It is created once, because
/// reading the system's takes milliseconds, and because sessions can then be resumed.
///
/// # Errors
/// `SettingsWrong` if there is no authority to trust.
pub(super) fn connector(authorities: Vec<CertificateDer<'static>>) -> Result<RustlsConnector, Failure> {
    let wrong = |error: io::Error| {
        Failure::new(
            ErrorClass::Refused,
            Code::SettingsWrong,
            format!(
                "queue.url asks for TLS, and there is no certificate authority to trust ({error}); install the system's \
                 (package ca-certificates), or name a PEM file in queue.authorities"
            ),
        )
    };
    let config = match RustlsConnectorConfig::new_with_native_certs() {
        Ok(system) => system,
        // A small image brings no authorities; the named ones suffice.
        Err(_) if !authorities.is_empty() => RustlsConnectorConfig::default(),
        Err(error) => return Err(wrong(error)),
    };
    config
        .with_parsable_certificates(authorities)
        .connector_with_no_client_auth()
        .map_err(wrong)
}

/// Returns the meaning of a failed handshake that operators often meet.
pub(super) fn describe_tls_error(error: &io::Error) -> Option<String> {
    let error = error.get_ref()?.downcast_ref::<Error>()?;
    let words = match error {
        // An authority that was issued anew under its old name shows as a bad signature.
        Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            "the broker's certificate comes from an authority that is not trusted (self-signed, or a company's own); name \
             a PEM file with that authority's certificate in queue.authorities"
        }
        Error::InvalidCertificate(CertificateError::NotValidForNameContext { presented, .. }) => {
            return Some(format!(
                "the broker's certificate is for another host name: {}; write one of its names in queue.url, or give the \
                 broker a certificate for this one",
                presented.join(", ")
            ));
        }
        Error::InvalidCertificate(CertificateError::NotValidForName) => {
            "the broker's certificate is for another host name; write its name in queue.url, or give the broker a \
             certificate for this one"
        }
        Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the broker's certificate has expired; give the broker a new one"
        }
        Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "the broker's certificate is not valid yet; compare the clocks of both machines",
        Error::PeerIncompatible(_)
        | Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure) => {
            "the broker offers no TLS version or cipher that is safe (TLS 1.2 or newer is needed)"
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the broker requires a certificate of its clients, which tasksync does not send; set \
             ssl_options.fail_if_no_peer_cert = false at the broker"
        }
        Error::InvalidMessage(_) => {
            "the server there does not speak TLS; give the port of the broker's TLS listener (5671 unless changed), or \
             write amqp:// if the network to it is safe"
        }
        // All other kinds keep the library's words.
        Error::InvalidCertificate(_)
        | Error::AlertReceived(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::InvalidEncryptedClientHello(_)
        | Error::NoCertificatesPresented
        | Error::UnsupportedNameType
        | Error::DecryptError
        | Error::EncryptError
        | Error::PeerMisbehaved(_)
        | Error::InvalidCertRevocationList(_)
        | Error::General(_)
        | Error::FailedToGetCurrentTime
        | Error::FailedToGetRandomBytes
        | Error::HandshakeNotComplete
        | Error::PeerSentOversizedRecord
        | Error::NoApplicationProtocol
        | Error::BadMaxFragmentSize
        | Error::InconsistentKeys(_)
        | Error::Other(_)
        | _ => return None,
    };
    Some(words.to_owned())
}
