//! A thin client of the REST API.

use std::fmt::Write as _;
use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use tasksync_common::settings::without_password;
use tasksync_scheduler::api::ApiToken;

use crate::exit::{self, CommandError};
use crate::show::cell;
use crate::token;

/// Timeout of a request: a little more than the service allows for the doctor, which takes longest.
const TIMEOUT: Duration = Duration::from_secs(160);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer that is read, in bytes.
const MAXIMUM_ANSWER: usize = 64 * 1024 * 1024;

/// The connection to one service.
pub(crate) struct ApiClient {
    http: reqwest::Client,
    base: Url,
    token: ApiToken,
    json: bool,
}

impl ApiClient {
    /// Returns a client of the service at `url`, with the operator's token of the environment.
    ///
    /// # Errors
    /// The address is refused, or there is no token.
    pub(crate) fn new(url: &str, json: bool) -> Result<Self, CommandError> {
        let base = base_address(url)?;
        Self::of(base, token::read()?.ok_or_else(token::missing_token_error)?, json)
    }

    /// As [`Self::new`], with this token.
    ///
    /// # Errors
    /// The address is refused.
    pub(crate) fn with_token(url: &str, token: ApiToken, json: bool) -> Result<Self, CommandError> {
        Self::of(base_address(url)?, token, json)
    }

    fn of(base: Url, token: ApiToken, json: bool) -> Result<Self, CommandError> {
        if base.scheme() == "http" && !is_loopback(&base) {
            exit::note(&format!(
                "warning: the token travels to {} in plain text; use https:// or a tunnel",
                base.host_str().unwrap_or_default()
            ));
        }
        // Fails if a provider is already installed, which is just as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| CommandError::settings(format!("the HTTP client cannot be created: {error}")))?;
        Ok(Self {
            http,
            base,
            token,
            json,
        })
    }

    /// Returns true if JSON is to be printed instead of text.
    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) async fn get(&self, path: &[&str], query: &[(&str, &str)]) -> Result<Value, CommandError> {
        self.call(Method::GET, path, query, None).await
    }

    /// Returns the answer; `None` if the service has nothing under this name.
    pub(crate) async fn find(&self, path: &[&str]) -> Result<Option<Value>, CommandError> {
        let (status, value) = self.send(Method::GET, path, &[], None).await?;
        if status == StatusCode::NOT_FOUND {
            return Ok(None);
        }
        self.judge(status, value).map(Some)
    }

    /// Returns whether the service takes the token.
    ///
    /// # Errors
    /// Nothing answers, or something other than tasksync.
    pub(crate) async fn token_is_taken(&self) -> Result<bool, CommandError> {
        let (status, _) = self.send(Method::GET, &["installation"], &[], None).await?;
        Ok(status != StatusCode::UNAUTHORIZED)
    }

    pub(crate) async fn put(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        body: &Value,
    ) -> Result<Value, CommandError> {
        self.call(Method::PUT, path, query, Some(body)).await
    }

    pub(crate) async fn post(&self, path: &[&str]) -> Result<Value, CommandError> {
        self.call(Method::POST, path, &[], None).await
    }

    pub(crate) async fn post_body(&self, path: &[&str], body: &Value) -> Result<Value, CommandError> {
        self.call(Method::POST, path, &[], Some(body)).await
    }

    pub(crate) async fn post_with(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Value, CommandError> {
        self.call(Method::POST, path, query, None).await
    }

    pub(crate) async fn delete_with(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<Value, CommandError> {
        self.call(Method::DELETE, path, query, None).await
    }

    pub(crate) async fn delete(&self, path: &[&str]) -> Result<Value, CommandError> {
        self.call(Method::DELETE, path, &[], None).await
    }

    async fn call(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Value, CommandError> {
        let (status, value) = self.send(method, path, query, body).await?;
        self.judge(status, value)
    }

    /// Returns the answer of a request that succeeded, or else the service's error.
    fn judge(&self, status: StatusCode, value: Value) -> Result<Value, CommandError> {
        if status.is_success() {
            return Ok(value);
        }
        if self.json {
            exit::print(&pretty(&value))?;
        }
        Err(refusal_error(&value, status.as_u16()))
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "one call of the service itself, with limits of its own"
    )]
    async fn send(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(StatusCode, Value), CommandError> {
        let mut url = self.base.clone();
        // An empty name would drop a segment of the path and so address more than was meant.
        if path
            .iter()
            .any(|name| name.is_empty() || matches!(*name, "." | ".."))
        {
            return Err(CommandError::settings("a name is empty or only dots"));
        }
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["api", "v1"]).extend(path);
        }
        let mut request = self
            .http
            .request(method, url)
            .header("authorization", self.token.header_value())
            .query(query);
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = answer.status();
        if status.is_redirection() {
            let target = answer.headers().get(reqwest::header::LOCATION);
            let target = target.and_then(|target| target.to_str().ok());
            return Err(CommandError::Unreachable(redirect_text(
                &self.base,
                status.as_u16(),
                target,
            )));
        }
        let bytes = read(answer).await.map_err(|error| self.unreachable(&error))?;
        let Some(bytes) = bytes else {
            return Err(CommandError::Unreachable(format!(
                "the answer of {} is larger than {MAXIMUM_ANSWER} bytes",
                self.base
            )));
        };
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|_| CommandError::Unreachable(foreign_text(&self.base, status.as_u16())))?;
        Ok((status, value))
    }

    fn unreachable(&self, error: &reqwest::Error) -> CommandError {
        let mut reason: &dyn std::error::Error = error;
        while let Some(source) = reason.source() {
            reason = source;
        }
        if error.is_timeout() && !error.is_connect() {
            return CommandError::Unreachable(format!(
                "{} did not answer within {} s",
                self.base,
                TIMEOUT.as_secs()
            ));
        }
        CommandError::Unreachable(format!(
            "no service answers at {} ({reason}); start it with `tasksync standalone --config FILE`, or name its address with --url or TASKSYNC_URL",
            self.base
        ))
    }
}

/// Returns the address of a service that was given.
///
/// # Errors
/// It is no address, or holds a user or password.
fn base_address(url: &str) -> Result<Url, CommandError> {
    let shown = without_password(url);
    let refused = |what: &str| {
        CommandError::settings(format!(
            "--url (or TASKSYNC_URL) {shown} {what}; write http://HOST:PORT or https://HOST:PORT. Example: \
                 http://127.0.0.1:8480"
        ))
    };
    let base: Url = url.parse().map_err(|_| refused("is no address"))?;
    if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
        return Err(refused("is neither http nor https"));
    }
    // Errors name the address, and the token proves who asks.
    if !base.username().is_empty() || base.password().is_some() {
        return Err(refused("holds a user or password"));
    }
    Ok(base)
}

/// Returns what it means that a redirect was answered: tasksync never does. Of the target only scheme, host and port
/// are shown, because the rest may hold a session of the proxy.
fn redirect_text(base: &Url, status: u16, target: Option<&str>) -> String {
    let target = target.and_then(|target| base.join(target).ok());
    let what = match &target {
        Some(target) if target.host_str() == base.host_str() && target.scheme() != base.scheme() => {
            format!("use {}:// in --url or TASKSYNC_URL", target.scheme())
        }
        Some(_) | None => {
            "a proxy or its sign-in page answers in place of tasksync; let it pass /api/v1 through, or name the service's own address with --url or TASKSYNC_URL".to_owned()
        }
    };
    let to = target.map_or_else(String::new, |target| {
        format!(" to {}", target.origin().ascii_serialization())
    });
    format!(
        "{base} answers with a redirect{to} (HTTP {status}), which is not followed, so that the token stays here: {what}"
    )
}

/// Returns what it means that an answer is not tasksync's.
fn foreign_text(base: &Url, status: u16) -> String {
    match status {
        502..=504 => format!(
            "a proxy at {base} reaches no tasksync behind it (HTTP {status}); check that the service runs and where the proxy sends /api/v1"
        ),
        401 | 403 | 407 => format!(
            "a proxy at {base} refuses the request before it reaches tasksync (HTTP {status}); let it pass /api/v1 through, or name the service's own address with --url or TASKSYNC_URL"
        ),
        _ => format!(
            "something answers at {base}, but not tasksync (HTTP {status}); name the service's address with --url or TASKSYNC_URL, for example https://tasksync.example:8480"
        ),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

async fn read(mut answer: reqwest::Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if bytes.len() + chunk.len() > MAXIMUM_ANSWER {
            return Ok(None);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes))
}

/// Returns the service's error as text. A wrong token counts as a wrong setting of this command.
fn refusal_error(value: &Value, status: u16) -> CommandError {
    let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut text = format!("{} [{}]: ", field("message"), field("code"));
    let problems = value.get("problems").and_then(Value::as_array);
    match problems.map(Vec::as_slice) {
        Some(problems @ [_, _, ..]) => {
            for problem in problems {
                let _ = write!(
                    text,
                    "\n  {}: {}",
                    cell(&problem["field"]),
                    cell(&problem["problem"])
                );
            }
        }
        Some(_) | None => text.push_str(field("detail")),
    }
    let _ = write!(text, "\n  What to do: {}", field("action"));
    if status == 401 {
        CommandError::Settings(text)
    } else {
        CommandError::Answer(text)
    }
}

/// Returns JSON for printing.
pub(crate) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[test]
    fn a_redirect_says_which_address_to_use_and_shows_no_session() {
        let text = redirect_text(
            &url("http://tasksync.example/"),
            301,
            Some("https://tasksync.example/api/v1/status"),
        );
        assert!(text.contains("use https:// in --url"), "{text}");
        let text = redirect_text(
            &url("https://tasksync.example/"),
            302,
            Some("https://login.example/?session=s3cret"),
        );
        assert!(
            text.contains("redirect to https://login.example (HTTP 302)") && text.contains("sign-in page"),
            "{text}"
        );
        assert!(!text.contains("s3cret"), "{text}");
        assert!(redirect_text(&url("https://tasksync.example/"), 302, None).contains("/api/v1"));
    }

    #[test]
    fn a_foreign_answer_is_explained_by_its_status() {
        let base = url("https://tasksync.example/");
        for (status, expected) in [
            (502, "check that the service runs"),
            (403, "refuses the request"),
            (200, "not tasksync"),
        ] {
            let text = foreign_text(&base, status);
            assert!(
                text.contains(expected) && text.contains(&format!("HTTP {status}")),
                "{text}"
            );
        }
    }

    #[test]
    fn several_problems_stand_on_lines_of_their_own() {
        let error = refusal_error(
            &json!({ "message": "The request cannot be understood", "code": "bad-request", "detail": "a: x; b: y",
                "action": "Correct it.",
                "problems": [{ "field": "a", "problem": "x" }, { "field": "b", "problem": "y" }] }),
            400,
        );
        assert_eq!(
            error.to_string(),
            "The request cannot be understood [bad-request]: \n  a: x\n  b: y\n  What to do: Correct it."
        );
    }
}
