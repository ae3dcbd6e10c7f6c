//! A thin client of the REST API.

use std::time::Duration;

use reqwest::{Method, StatusCode, Url};
use serde_json::Value;
use tasksync_scheduler::api::ApiToken;

use crate::exit::{self, CommandError};
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
    pub(crate) fn new(url: &str, json: bool) -> Result<Self, CommandError> {
        let base: Url = url
            .parse()
            .map_err(|error| CommandError::settings(format!("--url (or TASKSYNC_URL) {url}: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(CommandError::settings(format!(
                "--url (or TASKSYNC_URL) {url}: write http://HOST:PORT or https://HOST:PORT"
            )));
        }
        let token = token::read()?.ok_or_else(token::missing_token_error)?;
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
        let bytes = read(answer).await.map_err(|error| self.unreachable(&error))?;
        let Some(bytes) = bytes else {
            return Err(CommandError::Unreachable(format!(
                "the answer of {} is larger than {MAXIMUM_ANSWER} bytes",
                self.base
            )));
        };
        let value: Value = serde_json::from_slice(&bytes).map_err(|_| {
            CommandError::Unreachable(format!(
                "something answers at {}, but not tasksync (HTTP {status}); name its address with --url or TASKSYNC_URL",
                self.base
            ))
        })?;
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
    let text = format!(
        "{} [{}]: {}\n  What to do: {}",
        field("message"),
        field("code"),
        field("detail"),
        field("action")
    );
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
