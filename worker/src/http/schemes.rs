//! The sign-in schemes that a server offers in `WWW-Authenticate` (RFC 9110, section 11.6.1).

use super::for_message;
use super::header::{HeaderMap, WWW_AUTHENTICATE};

/// Sign-in schemes of one answer that are kept.
const SCHEMES: usize = 10;

/// Returns the sign-in schemes that an answer offers, each once.
pub(crate) fn offered_schemes(headers: &HeaderMap) -> Vec<String> {
    let mut schemes: Vec<String> = Vec::new();
    for value in headers.get_all(WWW_AUTHENTICATE) {
        // The first word of a header line is a scheme. Further schemes in one line are read only if they stand alone.
        let parts = value.to_str().unwrap_or_default().split(',');
        for (at, part) in parts.enumerate() {
            let mut words = part.split_ascii_whitespace();
            let Some(scheme) = words.next().filter(|word| !word.contains(['=', '"'])) else {
                continue;
            };
            if at > 0 && words.next().is_some_and(|word| !word.contains('=')) {
                continue;
            }
            let scheme = for_message(scheme, 30);
            if schemes.len() < SCHEMES && !schemes.iter().any(|known| known.eq_ignore_ascii_case(&scheme)) {
                schemes.push(scheme);
            }
        }
    }
    schemes
}

/// Returns for a refused sign-in by the scheme `used` what the server offers, as the end of a message.
pub(crate) fn offer_in_words(used: &str, headers: &HeaderMap) -> String {
    let offered = offered_schemes(headers);
    let list = offered.join(", ");
    if offered.is_empty() {
        format!("it was tried by {used}, and the server names no scheme that it accepts")
    } else if offered.iter().any(|scheme| scheme.eq_ignore_ascii_case(used)) {
        format!("it was tried by {used}; the server offers {list}")
    } else {
        format!("it was tried by {used}, which the server does not offer; it offers {list}")
    }
}

/// Returns the token that an answer gives for the next step of a sign-in by `scheme`; `None` if it gives none.
pub(super) fn given_token<'h>(scheme: &str, headers: &'h HeaderMap) -> Option<&'h str> {
    headers.get_all(WWW_AUTHENTICATE).iter().find_map(|value| {
        let (name, token) = value.to_str().ok()?.trim().split_once(' ')?;
        let token = token.trim();
        (name.eq_ignore_ascii_case(scheme) && !token.is_empty()).then_some(token)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::header::HeaderValue;

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_schemes_of_a_refusal_are_named_once_each() {
        let of = |values: &[&str]| offered_schemes(&headers(values));
        assert_eq!(of(&["Negotiate", "NTLM", "ntlm"]), ["Negotiate", "NTLM"]);
        assert_eq!(of(&["NTLM, Negotiate"]), ["NTLM", "Negotiate"]);
        assert_eq!(
            of(&[
                "Bearer client_id=\"a\", trusted_issuers=\"b@*\"",
                "Basic realm=\"x, y\""
            ]),
            ["Bearer", "Basic"]
        );
        assert_eq!(of(&[]), Vec::<String>::new());
    }

    #[test]
    fn a_refusal_says_what_would_be_accepted() {
        let of = |values: &[&str]| offer_in_words("NTLM", &headers(values));
        assert_eq!(
            of(&["Negotiate", "Basic realm=\"x\""]),
            "it was tried by NTLM, which the server does not offer; it offers Negotiate, Basic"
        );
        assert_eq!(of(&["ntlm"]), "it was tried by NTLM; the server offers ntlm");
        assert!(of(&[]).ends_with("names no scheme that it accepts"));
    }

    #[test]
    fn the_token_of_the_scheme_is_found_among_others() {
        let answer = headers(&["Negotiate", "NTLM TlRMTVNTUAAC"]);
        assert_eq!(given_token("ntlm", &answer), Some("TlRMTVNTUAAC"));
        assert_eq!(given_token("Negotiate", &answer), None);
    }
}
