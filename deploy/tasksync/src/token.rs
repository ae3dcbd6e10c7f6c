//! Reads the environment. No other part of the executable reads it.

use std::path::Path;

use tasksync_common::permissions::{Audience, open_to_others};
use tasksync_scheduler::api::{ApiToken, MINIMUM_TOKEN_LENGTH};

use crate::exit::CommandError;

const TOKEN: &str = "TASKSYNC_TOKEN";
const TOKEN_FILE: &str = "TASKSYNC_TOKEN_FILE";

/// Returns the environment variables that are valid text.
pub(crate) fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// Returns an environment variable that is set, not empty and valid text.
pub(crate) fn variable(name: &str) -> Option<String> {
    let found = environment().into_iter().find(|(wanted, _)| wanted == name);
    found.map(|(_, value)| value).filter(|value| !value.is_empty())
}

/// Returns the operator token from `TASKSYNC_TOKEN`, or from the file that `TASKSYNC_TOKEN_FILE` names.
pub(crate) fn read() -> Result<Option<ApiToken>, CommandError> {
    from(&environment())
}

fn from(environment: &[(String, String)]) -> Result<Option<ApiToken>, CommandError> {
    let variable = |wanted: &str| {
        environment
            .iter()
            .find(|(name, value)| name == wanted && !value.is_empty())
            .map(|(_, value)| value.as_str())
    };
    let (origin, text) = match (variable(TOKEN), variable(TOKEN_FILE)) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(CommandError::settings(format!(
                "both {TOKEN} and {TOKEN_FILE} are set; set one of them"
            )));
        }
        (Some(text), None) => (TOKEN.to_owned(), text.to_owned()),
        (None, Some(path)) => {
            let path = Path::new(path);
            let text = std::fs::read_to_string(path).map_err(|error| unreadable_file_error(path, &error))?;
            (format!("the file {} named by {TOKEN_FILE}", path.display()), text)
        }
    };
    token_of(&text, &origin).map(Some)
}

/// Returns the operator token of a file.
///
/// # Errors
/// The file cannot be read, or holds no token.
pub(crate) fn from_file(path: &Path) -> Result<ApiToken, CommandError> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| CommandError::settings(format!("{origin} cannot be read: {error}")))?;
    token_of(&text, &origin)
}

fn token_of(text: &str, origin: &str) -> Result<ApiToken, CommandError> {
    ApiToken::new(text).map_err(|error| CommandError::settings(format!("{origin}: {error}")))
}

/// Returns the error for a token file that cannot be read. A name that is no absolute path is not shown: it may be the
/// token itself.
fn unreadable_file_error(path: &Path, error: &std::io::Error) -> CommandError {
    let named = if path.is_absolute() {
        path.display().to_string()
    } else {
        "a file whose name does not begin with / and is not shown, because it may be the token itself"
            .to_owned()
    };
    CommandError::settings(format!(
        "{TOKEN_FILE} names {named}: it cannot be read: {error}. Name a file that holds the token, such as \
         /run/secrets/token/token, or set {TOKEN} to the token"
    ))
}

/// Returns a warning if other users of the machine may read or change the token file.
pub(crate) fn file_warning() -> Option<String> {
    let (_, path) = environment()
        .into_iter()
        .find(|(name, path)| name == TOKEN_FILE && !path.is_empty())?;
    open_to_others(Path::new(&path), Audience::TokenFile)
}

/// Returns the error for a command that has no token to send.
pub(crate) fn missing_token_error() -> CommandError {
    CommandError::settings(format!(
        "no operator token: set {TOKEN} to the token the service was started with (at least {MINIMUM_TOKEN_LENGTH} characters), or {TOKEN_FILE} to a file that holds it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Option<ApiToken>, CommandError> {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        from(&pairs)
    }

    #[test]
    fn the_token_comes_from_one_place() {
        assert!(with(&[]).unwrap().is_none());
        assert!(with(&[(TOKEN, "0123456789abcdef")]).unwrap().is_some());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        let path = path.to_str().unwrap();
        let token = with(&[(TOKEN_FILE, path)]).unwrap().unwrap();
        assert_eq!(token.header_value(), "Bearer 0123456789abcdef");
        assert!(with(&[(TOKEN_FILE, path), (TOKEN, "0123456789abcdef")]).is_err());
        let Err(CommandError::Settings(text)) = with(&[(TOKEN_FILE, "0123456789abcdef")]) else {
            panic!("a token was taken for a file")
        };
        assert!(text.contains(TOKEN_FILE) && !text.contains("0123456"), "{text}");
        let Err(CommandError::Settings(text)) = with(&[(TOKEN, "short")]) else {
            panic!("a short token was taken")
        };
        assert!(text.contains(TOKEN) && !text.contains("short "), "{text}");
    }
}
