//! The calls of the fleet's API.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Fleet;
use crate::trial::{TOKEN, TasksyncProcess, is_leading};

impl Fleet {
    /// Calls the API once, at the first scheduler that answers.
    ///
    /// # Errors
    /// The last error or refusal.
    pub(crate) async fn call(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, String> {
        let mut last = "no scheduler runs".to_owned();
        for (_, api) in self.running_apis() {
            match self
                .ask(api, method.clone(), path, body, Duration::from_secs(130))
                .await
            {
                Ok(value) => return Ok(value),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Returns the running schedulers with the base addresses of their APIs.
    fn running_apis(&self) -> impl Iterator<Item = (&Arc<TasksyncProcess>, &str)> {
        let running = self.schedulers.iter().filter(|process| process.id().is_some());
        running.filter_map(|process| Some((process, process.spec.api.as_deref()?)))
    }

    /// Returns what the first scheduler answers that answers within `patience`.
    async fn read(&self, path: &str, patience: Duration) -> Option<Value> {
        for (_, api) in self.running_apis() {
            if let Ok(value) = self.ask(api, reqwest::Method::GET, path, None, patience).await {
                return Some(value);
            }
        }
        None
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the harness calls a service that it started"
    )]
    pub(super) async fn ask(
        &self,
        api: &str,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Result<Value, String> {
        let mut request = self
            .http
            .request(method.clone(), format!("{api}/api/v1{path}"))
            .timeout(patience)
            .bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(body);
        }
        let failed = |error: reqwest::Error| format!("{method} {path}: {error}");
        let answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let text = answer.text().await.map_err(failed)?;
        if !status.is_success() {
            return Err(format!("{method} {path}: {status}: {text}"));
        }
        serde_json::from_str(&text).map_err(|error| format!("{method} {path}: {error}"))
    }

    /// Returns the status from the first scheduler that answers within a second.
    pub(crate) async fn status(&self) -> Option<Value> {
        self.read("/status", Duration::from_secs(1)).await
    }

    /// Returns the text of a user's journal.
    pub(crate) async fn journal(&self, tenant: &str, user: &str) -> Option<String> {
        let path = format!("/tenants/{tenant}/users/{user}/journal?limit=500");
        let journal = self.read(&path, Duration::from_secs(5)).await?;
        Some(journal.to_string())
    }

    /// Returns a user as the API shows them, or `None` if no scheduler answers.
    pub(crate) async fn person(&self, tenant: &str, user: &str) -> Option<Value> {
        let path = format!("/tenants/{tenant}/users/{user}");
        self.read(&path, Duration::from_secs(5)).await
    }

    /// Returns the scheduler that reports itself as the leader.
    pub(crate) async fn leader(&self) -> Option<&Arc<TasksyncProcess>> {
        for (process, api) in self.running_apis() {
            let status = self
                .ask(api, reqwest::Method::GET, "/status", None, Duration::from_secs(2))
                .await;
            if status.is_ok_and(|status| is_leading(&status)) {
                return Some(process);
            }
        }
        None
    }

    /// Returns the base addresses of the schedulers' APIs, of running ones and of others.
    pub(crate) fn apis(&self) -> Vec<&str> {
        let schedulers = self.schedulers.iter();
        schedulers
            .filter_map(|process| process.spec.api.as_deref())
            .collect()
    }
}
