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
        for process in &self.schedulers {
            let (Some(api), Some(_)) = (&process.spec.api, process.id()) else {
                continue;
            };
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
        for process in self.schedulers.iter().filter(|process| process.id().is_some()) {
            let Some(api) = &process.spec.api else { continue };
            let patience = Duration::from_secs(1);
            if let Ok(status) = self
                .ask(api, reqwest::Method::GET, "/status", None, patience)
                .await
            {
                return Some(status);
            }
        }
        None
    }

    /// Returns the text of a user's journal.
    pub(crate) async fn journal(&self, tenant: &str, user: &str) -> Option<String> {
        let path = format!("/tenants/{tenant}/users/{user}/journal?limit=500");
        for process in self.schedulers.iter().filter(|process| process.id().is_some()) {
            let Some(api) = &process.spec.api else { continue };
            let patience = Duration::from_secs(5);
            if let Ok(journal) = self.ask(api, reqwest::Method::GET, &path, None, patience).await {
                return Some(journal.to_string());
            }
        }
        None
    }

    /// Returns a user as the API shows them, or `None` if no scheduler answers.
    pub(crate) async fn person(&self, tenant: &str, user: &str) -> Option<Value> {
        let path = format!("/tenants/{tenant}/users/{user}");
        for process in self.schedulers.iter().filter(|process| process.id().is_some()) {
            let Some(api) = &process.spec.api else { continue };
            let patience = Duration::from_secs(5);
            if let Ok(person) = self.ask(api, reqwest::Method::GET, &path, None, patience).await {
                return Some(person);
            }
        }
        None
    }

    /// Returns the scheduler that reports itself as the leader.
    pub(crate) async fn leader(&self) -> Option<&Arc<TasksyncProcess>> {
        for process in &self.schedulers {
            let (Some(api), Some(_)) = (&process.spec.api, process.id()) else {
                continue;
            };
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
