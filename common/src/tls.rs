//! Explanations of refused TLS connections for the operator.

/// Returns what happened and what to do; `None` for an error that is not about TLS. It is derived from the
/// TLS library's message, because some clients pass on nothing else. `authorities` names the setting with the
/// trusted authorities.
pub(crate) fn explain_refusal(said: &str, authorities: &str) -> Option<String> {
    if said.contains("received corrupt message") {
        return Some(
            "the server speaks no TLS on that port: name its TLS port, or turn TLS on there".to_owned(),
        );
    }
    let (_, certificate) = said.split_once("invalid peer certificate: ")?;
    Some(if certificate.starts_with("UnknownIssuer") {
        format!(
            "the server's certificate comes from an authority that is not trusted (self-signed, or a company's own): name the \
             authority's certificate in {authorities}"
        )
    } else if certificate.starts_with("BadSignature") {
        format!(
            "the server's certificate is not signed by the authority of that name that is trusted: name the authority's \
             present certificate in {authorities}"
        )
    } else {
        let meaning = if certificate.contains("not valid for name")
            || certificate.starts_with("NotValidForName")
        {
            "is for another host name: write a name from the certificate into the URL, or have a certificate issued for this name"
        } else if certificate.contains("expired") || certificate.starts_with("Expired") {
            "has expired: renew it"
        } else if certificate.contains("not valid yet") || certificate.starts_with("NotValidYet") {
            "is not valid yet: compare the clocks of both machines"
        } else {
            "cannot be accepted: have a valid one issued"
        };
        format!("the server's certificate {meaning}")
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustls::pki_types::UnixTime;
    use rustls::{CertificateError, Error};

    use super::*;

    #[test]
    fn certificates_that_are_refused_have_words() {
        let time = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        for (error, says) in [
            (CertificateError::UnknownIssuer, "x.authorities"),
            (
                CertificateError::BadSignature,
                "present certificate in x.authorities",
            ),
            (CertificateError::NotValidForName, "another host name"),
            (CertificateError::Expired, "has expired"),
            (
                CertificateError::ExpiredContext {
                    time: time(9),
                    not_after: time(1),
                },
                "has expired",
            ),
            (
                CertificateError::NotValidYetContext {
                    time: time(1),
                    not_before: time(9),
                },
                "clocks",
            ),
            (CertificateError::BadEncoding, "cannot be accepted"),
        ] {
            let said = Error::InvalidCertificate(error).to_string();
            let refusal = explain_refusal(&said, "x.authorities").unwrap();
            assert!(refusal.contains(says), "{said}: {refusal}");
        }
        assert_eq!(explain_refusal("connection reset", "x.authorities"), None);
    }
}
