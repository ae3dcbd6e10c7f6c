//! Requests to the API while the fleet's processes are killed and replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::Method;
use tokio::task::JoinSet;

use super::file::RequestPlan;
use super::fleet::Fleet;
use super::result::RequestResult;
use crate::machine_clock::monotonic;
use crate::trial::{Farm, TOKEN};

/// Largest number of failures described.
const LINES_KEPT: usize = 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A running sequence of requests.
pub(super) struct ApiRequests {
    stop: Arc<AtomicBool>,
    sending: JoinSet<Result<RequestResult, String>>,
}

impl ApiRequests {
    /// Begins to send the requests of the plan, one after another.
    pub(super) fn begin(fleet: &Arc<Fleet>, farm: &Arc<Farm>, plan: RequestPlan) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (fleet, farm, stopped) = (Arc::clone(fleet), Arc::clone(farm), Arc::clone(&stop));
        let mut sending = JoinSet::new();
        sending.spawn(async move { send_all(&fleet, &farm, plan, &stopped).await });
        Self { stop, sending }
    }

    /// Ends the sequence after the request on its way. Returns what became of the requests.
    ///
    /// # Errors
    /// If no request could be made at all.
    pub(super) async fn stop(mut self) -> Result<RequestResult, String> {
        self.stop.store(true, Ordering::Relaxed);
        match self.sending.join_next().await {
            Some(ended) => ended.map_err(|error| error.to_string())?,
            None => Ok(RequestResult::default()),
        }
    }
}

/// Returns the request with this number: the status, a person, or a sync of that person. `people` are the people's
/// paths.
fn request(people: &[String], number: u64) -> (Method, String) {
    let position = usize::try_from(number / 3).unwrap_or(0) % people.len().max(1);
    match (number % 3, people.get(position)) {
        (1, Some(person)) => (Method::GET, person.clone()),
        (2, Some(person)) => (Method::POST, format!("{person}/sync")),
        _ => (Method::GET, "/status".to_owned()),
    }
}

async fn send_all(
    fleet: &Fleet,
    farm: &Farm,
    plan: RequestPlan,
    stop: &AtomicBool,
) -> Result<RequestResult, String> {
    let mut result = RequestResult::default();
    if plan.per_second <= 0.0 {
        return Ok(result);
    }
    // A new connection for each request: one that a process closed while it was idle would be no failed request.
    let http = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT)
        .timeout(PATIENCE)
        .build()
        .map_err(|error| error.to_string())?;
    let people: Vec<String> = farm
        .people()
        .map(|(_, tenant, person)| format!("/tenants/{}/users/{}", tenant.slug, Farm::user_name(person)))
        .collect();
    let began = monotonic();
    while !stop.load(Ordering::Relaxed) {
        let (method, path) = request(&people, result.sent);
        let outcome = send(&http, fleet, result.sent, &method, &path).await;
        result.sent += 1;
        if let Err(problem) = outcome {
            result.failed += 1;
            if result.lines.len() < LINES_KEPT {
                let at = began.elapsed().as_secs_f64();
                result
                    .lines
                    .push(format!("{at:.1} s: {method} {path}: {problem}"));
            }
        }
        tokio::time::sleep(Duration::from_secs_f64(1.0 / plan.per_second)).await;
    }
    Ok(result)
}

/// Sends one request to the first scheduler that is ready, beginning with another one each time, as a load balancer
/// does.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness calls a service that it started"
)]
async fn send(
    http: &reqwest::Client,
    fleet: &Fleet,
    number: u64,
    method: &Method,
    path: &str,
) -> Result<(), String> {
    let mut refused = "no scheduler has an API".to_owned();
    let apis = fleet.apis();
    let first = usize::try_from(number).unwrap_or(0) % apis.len().max(1);
    for api in apis.iter().cycle().skip(first).take(apis.len()) {
        match http.get(format!("{api}/readyz")).send().await {
            Ok(answer) if answer.status().is_success() => {}
            Ok(answer) => {
                refused = format!("{api} is not ready: {}", answer.status());
                continue;
            }
            Err(error) => {
                refused = format!("{error:?}");
                continue;
            }
        }
        let answer = http
            .request(method.clone(), format!("{api}/api/v1{path}"))
            .bearer_auth(TOKEN)
            .send()
            .await;
        match answer {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status();
                return Err(format!("{status}: {}", answer.text().await.unwrap_or_default()));
            }
            // As a load balancer does, the request goes to another process, for this one did not get it.
            Err(error) if error.is_connect() => refused = format!("{error:?}"),
            Err(error) => return Err(format!("{error:?}")),
        }
    }
    Err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_take_turns_over_all_people() {
        let people = [
            "/tenants/a/users/ana".to_owned(),
            "/tenants/a/users/bo".to_owned(),
        ];
        let paths: Vec<_> = (0..7).map(|number| request(&people, number)).collect();
        let expected = [
            (Method::GET, "/status"),
            (Method::GET, "/tenants/a/users/ana"),
            (Method::POST, "/tenants/a/users/ana/sync"),
            (Method::GET, "/status"),
            (Method::GET, "/tenants/a/users/bo"),
            (Method::POST, "/tenants/a/users/bo/sync"),
            (Method::GET, "/status"),
        ];
        assert_eq!(paths, expected.map(|(method, path)| (method, path.to_owned())));
    }
}
