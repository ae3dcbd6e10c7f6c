//! Removing secrets from servers' texts. A server, or a proxy in front of it, may repeat in its error page
//! what it received.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use url::form_urlencoded::byte_serialize;

/// The text shown in place of a secret.
const HIDDEN: &str = "[secret]";

/// Marks a found secret while others are searched for, so that none is found inside [`HIDDEN`].
const MARK: &str = "\0";

/// Characters of a secret at the end of a text that are hidden, too: a text that was cut may end within a
/// secret.
const SHORTEST_PART: usize = 4;

/// How every NTLM message begins in base64.
const NTLM_IN_BASE64: &str = "TlRMTVNTUA";

/// Characters after the name of a scheme that may be a token. Words of a sentence are shorter.
const SHORTEST_TOKEN: usize = 16;

/// Returns the text with every secret hidden, in each form in which a server may repeat it: as it is, in
/// base64, URL-encoded, as HTML and as JSON.
pub(super) fn hide(mut text: String, secrets: &[&str]) -> String {
    let mut forms: Vec<String> = secrets
        .iter()
        .filter(|secret| !secret.is_empty())
        .flat_map(|secret| forms(secret))
        .collect();
    // The longest first: a short form may be part of a longer one.
    forms.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    forms.dedup();
    for form in &forms {
        if text.contains(form.as_str()) {
            text = text.replace(form.as_str(), MARK);
        }
    }
    // The text may consist of several texts that were cut.
    let mut parts: Vec<String> = text.split_inclusive('…').map(str::to_owned).collect();
    for part in &mut parts {
        for form in &forms {
            hide_cut_end(part, form);
        }
    }
    parts.concat().replace(MARK, HIDDEN)
}

/// Returns the text without the tokens of NTLM and Negotiate, which prove a password: from the scheme's name, or from
/// the beginning of an NTLM message, to the end of the base64 that follows, in any form in which a server may write it.
pub(super) fn hide_connection_tokens(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = split_at_token(rest) {
        // Base64, and the signs with which JSON, HTML and URLs write it.
        let is_of_token = |letter: char| {
            letter.is_ascii_alphanumeric()
                || matches!(letter, '+' | '/' | '=' | '\\' | '%' | '-' | '_' | '&' | '#' | ';')
        };
        let length = after.find(|letter| !is_of_token(letter)).unwrap_or(after.len());
        let (token, following) = after.split_at(length);
        shown.push_str(before);
        shown.push_str(if length >= SHORTEST_TOKEN { HIDDEN } else { token });
        rest = following;
    }
    shown.push_str(rest);
    shown
}

/// Splits the text where a token of a connection may begin.
fn split_at_token(text: &str) -> Option<(&str, &str)> {
    let lower = text.to_ascii_lowercase();
    let after_schemes = ["ntlm ", "negotiate "]
        .iter()
        .filter_map(|scheme| Some(lower.find(scheme)? + scheme.len()));
    let messages = text.find(NTLM_IN_BASE64);
    after_schemes.chain(messages).min().map(|at| text.split_at(at))
}

fn forms(secret: &str) -> Vec<String> {
    let html = secret
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;");
    let percent: String = byte_serialize(secret.as_bytes()).collect();
    let json = serde_json::to_string(secret).unwrap_or_default();
    let mut forms = vec![
        secret.to_owned(),
        html,
        percent.replace('+', "%20"),
        percent,
        json.trim_matches('"').to_owned(),
    ];
    for engine in [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD] {
        forms.push(engine.encode(secret));
    }
    forms
}

/// Hides the beginning of `form` at the end of the text, where only the marks of a cut may follow.
fn hide_cut_end(text: &mut String, form: &str) {
    let kept = text.trim_end_matches(['…', '"', '.', ' ', ')']).len();
    let (head, tail) = text.split_at(kept);
    let mut end = form.len();
    while let Some((before, _)) = form.get(..end).and_then(|part| part.char_indices().next_back()) {
        let part = &form[..end];
        if part.chars().count() < SHORTEST_PART {
            return;
        }
        if let Some(rest) = head.strip_suffix(part) {
            *text = format!("{rest}{MARK}{tail}");
            return;
        }
        end = before;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "c4nary&/+ \"ü\" $ecret";

    #[test]
    fn a_secret_is_hidden_in_every_form() {
        for form in forms(CANARY) {
            let said = format!("400: you sent <{form}>, which is wrong");
            assert_eq!(
                hide(said, &["other", CANARY]),
                format!("400: you sent <{HIDDEN}>, which is wrong"),
                "{form}"
            );
        }
    }

    #[test]
    fn tokens_of_connections_are_hidden_and_sentences_about_them_stay() {
        let token = "TlRMTVNTUAADAAAAGAAYAGYAAABy+/==";
        for (text, shown) in [
            (
                format!("you sent \"Authorization: NTLM {token}\""),
                "you sent \"Authorization: NTLM [secret]\"".to_owned(),
            ),
            (
                format!("<p>Negotiate {token}</p> and NTLM {token}"),
                "<p>Negotiate [secret]</p> and NTLM [secret]".to_owned(),
            ),
            (
                "ntlm TlRMTVNTUAADAAAA\\u002BGAAY\\/AGYAAAB and %54: TlRMTVNTUAADAAAA%2BGAAYAGYAAAB."
                    .to_owned(),
                "ntlm [secret] and %54: [secret].".to_owned(),
            ),
            (
                "NTLM authentication failed; Negotiate works".to_owned(),
                "NTLM authentication failed; Negotiate works".to_owned(),
            ),
        ] {
            assert_eq!(hide_connection_tokens(&text), shown);
        }
    }

    #[test]
    fn a_secret_that_was_cut_is_hidden_too() {
        for length in SHORTEST_PART..CANARY.chars().count() {
            let part: String = CANARY.chars().take(length).collect();
            let text = hide(format!("begins with \"Basic {part}…\""), &[CANARY]);
            assert!(!text.contains(part.trim_end_matches(['"', ' '])), "{text}");
        }
    }

    #[test]
    fn a_secret_that_was_cut_in_the_middle_of_a_text_is_hidden_too() {
        let text = hide("got c4nary&/… beginning \"<html>\"".to_owned(), &[CANARY]);
        assert_eq!(text, "got [secret]… beginning \"<html>\"");
    }

    #[test]
    fn a_text_without_secrets_stays() {
        let text = "HTTP 500: the list is read-only".to_owned();
        assert_eq!(hide(text.clone(), &[CANARY, ""]), text);
    }
}
