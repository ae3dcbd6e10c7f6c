//! The address for probes, and the command that queries it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use axum::Router;
use serde_json::{Value, json};
use tasksync_common::health::Health;
use tasksync_common::settings::{self, Settings};
use tasksync_scheduler::api::{Detail, probes};

use crate::client::pretty;
use crate::exit::{CommandEnd, CommandError, print};
use crate::show::{cell, entries};
use crate::token;

/// Timeout of the query. The service answers within 5 seconds, whatever its stores do.
const TIMEOUT: Duration = Duration::from_secs(8);

/// A process of tasksync on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalProcess {
    pub(crate) is_ready: bool,
}

/// Returns the router of `/livez`, `/readyz` and `more`. It needs no token, so nothing about a tenant belongs here.
pub(super) fn router(health: Health, more: Router) -> Router {
    probes(health, Detail::Shown).merge(more)
}

/// Queries the service that has these settings, on this machine: whether it is ready, or with `live` whether it is
/// alive. With `json` prints `{ready, missing}` or `{alive, detail}`.
///
/// # Errors
/// The settings cannot be read.
pub(crate) async fn probe(config: Option<&Path>, live: bool, json: bool) -> Result<CommandEnd, CommandError> {
    // The files that the settings name are not checked: a process that runs needs them no more.
    let settings = settings::load(config, token::environment())
        .map_err(|error| CommandError::settings(error.to_string()))?
        .settings;
    let path = if live { "livez" } else { "readyz" };
    let (well, text) = match ask_local(&settings, path).await? {
        Ok(answer) => answer,
        Err(text) => {
            // Not exit code 3: to a probe, a process that does not answer is as bad as one that is not ready.
            print(&match (json, live) {
                (false, _) => text + "\n",
                (true, true) => pretty(&json!({ "alive": false, "detail": text })),
                (true, false) => pretty(&json!({ "ready": false, "missing": [{ "what": text }] })),
            })?;
            return Ok(CommandEnd::BadAnswer);
        }
    };
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    print(&match (json, live) {
        (false, false) => readiness(&answer),
        (true, false) => pretty(&answer),
        (false, true) => text,
        (true, true) => pretty(&json!({ "alive": well, "detail": text.trim_end() })),
    })?;
    Ok(if well {
        CommandEnd::Success
    } else {
        CommandEnd::BadAnswer
    })
}

/// Returns whether the process of these settings on this machine answers `path` at `health.listen` with success, and
/// its text; or why there is no answer.
///
/// # Errors
/// The HTTP client cannot be created.
#[expect(
    clippy::disallowed_methods,
    reason = "one call of this machine, with a timeout of its own"
)]
pub(crate) async fn ask_local(
    settings: &Settings,
    path: &str,
) -> Result<Result<(bool, String), String>, CommandError> {
    let address = reachable(settings.health.listen);
    // Fails if a provider is already installed, which is just as good.
    rustls::crypto::ring::default_provider().install_default().ok();
    let http = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .map_err(|error| CommandError::settings(format!("the HTTP client cannot be created: {error}")))?;
    let asked = async {
        let answer = http.get(format!("http://{address}/{path}")).send().await?;
        let well = answer.status().is_success();
        Ok::<_, reqwest::Error>((well, answer.text().await?))
    };
    Ok(asked
        .await
        .map_err(|error| format!("nothing answers at {address} (health.listen): {}", reason(&error))))
}

/// Returns whether the process of these settings on this machine is a tasksync that runs; `None` if nothing answers at
/// `health.listen`.
///
/// # Errors
/// Something other than tasksync answers there, or the HTTP client cannot be created.
pub(crate) async fn find_local(settings: &Settings) -> Result<Option<LocalProcess>, CommandError> {
    match ask_local(settings, "readyz").await? {
        Err(_) => Ok(None),
        Ok((_, text)) => process_of(&text).map(Some).ok_or_else(|| {
            CommandError::settings(format!(
                "something answers at {} (health.listen), but not tasksync; end it, or choose another address for the probes \
                 with health.listen or --health-listen",
                reachable(settings.health.listen)
            ))
        }),
    }
}

/// Returns what an answer of `/readyz` shows; `None` if it is not tasksync's.
fn process_of(answer: &str) -> Option<LocalProcess> {
    let answer: Value = serde_json::from_str(answer).ok()?;
    let is_ready = answer.get("ready")?.as_bool()?;
    answer.get("missing")?.as_array()?;
    Some(LocalProcess { is_ready })
}

/// Returns the address of the service on the same machine, also if the service listens on every address.
pub(crate) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn reason(error: &reqwest::Error) -> &'static str {
    if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "the connection was refused; is the service running?"
    } else {
        "the answer cannot be read"
    }
}

fn readiness(answer: &Value) -> String {
    if answer["ready"] == true {
        return "ready\n".to_owned();
    }
    let mut text = "not ready\n".to_owned();
    for missing in entries(answer, "missing") {
        let _ = write!(text, "  {}", cell(&missing["what"]));
        if missing["code"].is_string() {
            let _ = write!(
                text,
                ": {} [{}]: {}\n    what to do: {}",
                cell(&missing["message"]),
                cell(&missing["code"]),
                cell(&missing["detail"]),
                cell(&missing["action"])
            );
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_on_every_address_is_asked_on_loopback() {
        for (listen, asked) in [
            ("0.0.0.0:8481", "127.0.0.1:8481"),
            ("[::]:8481", "[::1]:8481"),
            ("10.1.2.3:8481", "10.1.2.3:8481"),
        ] {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[test]
    fn only_an_answer_of_tasksync_shows_a_process() {
        let ready = |answer| process_of(answer).map(|process| process.is_ready);
        assert_eq!(ready(r#"{"missing":[],"ready":true}"#), Some(true));
        assert_eq!(
            ready(r#"{"missing":[{"what":"queue"}],"ready":false}"#),
            Some(false)
        );
        for foreign in [
            "",
            "ok",
            "alive\n",
            "{}",
            r#"{"ready":true}"#,
            r#"{"status":"UP"}"#,
        ] {
            assert_eq!(ready(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn missing_parts_are_shown_with_what_to_do() {
        assert_eq!(readiness(&json!({ "ready": true, "missing": [] })), "ready\n");
        let text = readiness(&json!({ "ready": false, "missing": [
            { "what": "queue", "code": "queue-unavailable", "message": "The queue does not answer",
              "detail": "broker:5672 refuses connections", "action": "Start it." },
            { "what": "the service is stopping", "code": null, "message": null },
        ] }));
        assert_eq!(
            text,
            "not ready\n  queue: The queue does not answer [queue-unavailable]: broker:5672 refuses connections\n    what to do: Start it.\n  the service is stopping\n"
        );
    }
}
