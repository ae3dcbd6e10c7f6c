//! The client's CPU time per idle user, compared with a bare keep-alive loop.
//!
//! The simulated servers run in a separate process (`tasksync-loadtest simulate`), so the CPU time of this
//! process is the client's alone. The baseline uses the same HTTP library, client settings, runtime and
//! number of requests in flight. For every user it sends one SharePoint GET and one EWS `GetFolder` about the
//! same folders; it reads the answers and parses nothing. tasksync sends fewer requests than that: the
//! tenant's change feed is read once for all users, and with delegate access one `GetFolder` serves ten
//! mailboxes. So a stricter baseline is reported, too: one EWS call per user and no SharePoint call at all.

mod cpu;
#[path = "../../../common/benches/support/mod.rs"]
mod ending;
mod farm;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ending::{end, say};
use farm::{Bed, Setting};
use futures::{StreamExt as _, TryStreamExt as _};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use std::process::ExitCode;
use support::{median, verdict};
use tasksync_common::clock::monotonic;
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::registry::topics::*;
use tasksync_common::state::Fingerprint;
use tasksync_common::tasks::spawn;
use tasksync_worker::sync::SyncWork;
use tasksync_worker::work::{Survey, UserSync as _};

/// A debug build rehearses, as the gate does: every step is done once with few users, and the figures mean
/// nothing.
const REHEARSAL: bool = cfg!(debug_assertions);
/// Rounds of each side, alternating.
const ROUNDS: usize = if REHEARSAL { 1 } else { 7 };
/// Shortest duration of a round, which repeats whole passes over all users.
const ROUND: Duration = Duration::from_millis(if REHEARSAL { 50 } else { 1_200 });
/// Users surveyed together, as `worker.users_at_once`.
const GROUP: usize = 10;
/// Users looked up together, as many as in a job.
const BATCH: usize = 100;
/// Groups in flight: enough to use every request that the server's limit allows.
const GROUPS_AT_ONCE: usize = 8;
/// Passes of whole syncs after which all users must be idle.
const PASSES: usize = 10;
/// The aim with impersonation: an idle user costs at most this many times the bare loop.
const AIM_IMPERSONATION: f64 = 1.3;
/// The aim with delegate access: at most this many EWS requests per idle user.
const AIM_REQUESTS: f64 = 0.1;

fn main() -> ExitCode {
    let measured = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(run()));
    end("idle", measured)
}

async fn run() -> Result<(), String> {
    say("Client CPU per idle user sync, against a bare keep-alive loop with the same HTTP client");
    say(&format!(
        "(median of {ROUNDS} alternating rounds; {} people with about {} tasks each; surveys in groups of {GROUP}, looked up by {BATCH}, counted:\n\
         registry (SQLite), change feed, probe, parsing, comparing; not counted: queue and schedule.\n\
         last figure: the cost with look-ups by {GROUP}, as a multiple of that;\n\
         bare 1+1: one SharePoint GET and one EWS call per user; bare 0+1: the EWS call alone)\n",
        farm::TENANTS * farm::USERS,
        farm::TASKS,
    ));
    say("                         requests per user      CPU per user              against    against");
    say(
        "                             EWS  SharePoint    tasksync  bare 1+1  bare 0+1   bare 1+1   bare 0+1  aim",
    );
    // The filter, as in `cargo bench … -- delegate`; cargo adds options of its own.
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|part| !part.starts_with('-'))
        .collect();
    for tls in [true, false] {
        for delegate in [false, true] {
            let setting = Setting { delegate, tls };
            let name = setting.name();
            if !only.is_empty() && !only.iter().any(|part| name.contains(part.as_str())) {
                continue;
            }
            let row = measure(setting)
                .await
                .map_err(|error| format!("{name}: {error}"))?;
            let aim = if delegate {
                let met = row.exchange <= AIM_REQUESTS && row.ratio < 1.0;
                format!("≤ {AIM_REQUESTS} EWS requests: {}", verdict(met))
            } else {
                format!(
                    "≤ {AIM_IMPERSONATION}x: {}",
                    verdict(row.ratio <= AIM_IMPERSONATION)
                )
            };
            say(&format!(
                "  {name:<24} {:>5.2} {:>11.3} {:>8.1} µs {:>6.1} µs {:>6.1} µs {:>9.2}x {:>9.2}x  {aim}; {:.2}x",
                row.exchange,
                row.sharepoint,
                row.tasksync * 1e6,
                row.bare * 1e6,
                row.bare_exchange * 1e6,
                row.ratio,
                row.strict,
                row.by_group,
            ));
        }
    }
    say("");
    Ok(())
}

/// The figures of one setting; CPU seconds and requests per idle user.
struct Row {
    exchange: f64,
    sharepoint: f64,
    tasksync: f64,
    bare: f64,
    bare_exchange: f64,
    ratio: f64,
    strict: f64,
    by_group: f64,
}

async fn measure(setting: Setting) -> Result<Row, String> {
    let bed = Arc::new(Bed::start(setting).await?);
    settle(&bed).await?;
    let calls = Calls::prepare(&bed).await?;
    let (mut tasksync, mut bare, mut bare_exchange) = (Vec::new(), Vec::new(), Vec::new());
    let (mut ratios, mut stricts, mut by_group) = (Vec::new(), Vec::new(), Vec::new());
    let mut requests = (0_u64, 0_u64);
    let mut surveyed = 0_usize;
    for round in 0..=ROUNDS {
        let before = bed.requests();
        let (users, survey_cost) = timed(|| survey_everybody(&bed, BATCH)).await?;
        let after = bed.requests();
        let (_, by_group_cost) = timed(|| survey_everybody(&bed, GROUP)).await?;
        let (_, both_cost) = timed(|| calls.everybody(true)).await?;
        let (_, exchange_cost) = timed(|| calls.everybody(false)).await?;
        // The first round opens connections and warms caches.
        if round == 0 {
            continue;
        }
        requests = (requests.0 + after.0 - before.0, requests.1 + after.1 - before.1);
        surveyed += users;
        ratios.push(survey_cost / both_cost);
        stricts.push(survey_cost / exchange_cost);
        by_group.push(by_group_cost / survey_cost);
        tasksync.push(survey_cost);
        bare.push(both_cost);
        bare_exchange.push(exchange_cost);
    }
    if requests.0 == 0 {
        return Err("no request to Exchange was counted".to_owned());
    }
    Ok(Row {
        exchange: float(requests.0)? / float(surveyed)?,
        sharepoint: float(requests.1)? / float(surveyed)?,
        tasksync: median(&tasksync),
        bare: median(&bare),
        bare_exchange: median(&bare_exchange),
        ratio: median(&ratios),
        strict: median(&stricts),
        by_group: median(&by_group),
    })
}

/// Returns a count as a number that can be divided.
///
/// # Errors
/// The count exceeds 32 bits.
fn float(count: impl TryInto<u32>) -> Result<f64, String> {
    let count: u32 = count
        .try_into()
        .map_err(|_| "a count exceeds 32 bits".to_owned())?;
    Ok(f64::from(count))
}

/// Repeats `pass`, which returns the number of users it served, for a round. Returns the users served and the
/// CPU seconds per user.
async fn timed<F: Future<Output = Result<usize, String>>>(
    pass: impl Fn() -> F,
) -> Result<(usize, f64), String> {
    let (started, cpu) = (monotonic(), cpu::seconds()?);
    let mut users = 0_usize;
    while started.elapsed() < ROUND {
        users += pass().await?;
    }
    Ok((users, (cpu::seconds()? - cpu) / float(users)?))
}

/// Syncs until all users are idle.
async fn settle(bed: &Arc<Bed>) -> Result<(), String> {
    for _ in 0..PASSES {
        let busy: usize = groups(bed, GROUP)
            .map(|(tenant, users)| async move {
                let mut busy = 0;
                for (user, survey) in survey(bed, tenant, users, 1).await? {
                    if let Survey::Work(work) = survey {
                        busy += 1;
                        let key = UserKey::new(tenant.clone(), user);
                        bed.engine
                            .sync(&key, work, Duration::from_mins(1))
                            .await
                            .map_err(|failure| failure.to_string())?;
                    }
                }
                Ok::<_, String>(busy)
            })
            .buffer_unordered(GROUPS_AT_ONCE)
            .try_fold(0, |sum, busy| async move { Ok(sum + busy) })
            .await?;
        if busy == 0 {
            return Ok(());
        }
        // Our own writes are reported once, at the next reading of the feed.
        tokio::time::sleep(Duration::from_millis(2_100)).await;
    }
    Err(format!(
        "not every user is idle after {PASSES} syncs of a quiet farm"
    ))
}

fn groups(bed: &Bed, size: usize) -> futures::stream::Iter<std::vec::IntoIter<(&TenantId, &[UserId])>> {
    let groups: Vec<_> = bed
        .people
        .iter()
        .flat_map(|(tenant, users)| users.chunks(size).map(move |users| (tenant, users)))
        .collect();
    futures::stream::iter(groups)
}

/// Looks users up and surveys them in groups, `at_once` groups at the same time.
async fn survey(
    bed: &Bed,
    tenant: &TenantId,
    users: &[UserId],
    at_once: usize,
) -> Result<Vec<(UserId, Survey<SyncWork>)>, String> {
    let looked_up = bed.engine.look_up(tenant, users).await;
    let mut looked_up = users
        .iter()
        .zip(looked_up)
        .map(|(user, looked_up)| Ok((user.clone(), looked_up.map_err(|failure| failure.to_string())?)))
        .collect::<Result<Vec<_>, String>>()?;
    let mut groups = Vec::new();
    while !looked_up.is_empty() {
        groups.push(looked_up.drain(..GROUP.min(looked_up.len())).collect::<Vec<_>>());
    }
    let answers: Vec<Vec<_>> = futures::stream::iter(groups)
        .map(|group| async move {
            let users: Vec<UserId> = group.iter().map(|(user, _)| user.clone()).collect();
            users
                .into_iter()
                .zip(bed.engine.survey(tenant, group).await)
                .collect()
        })
        .buffered(at_once)
        .collect()
        .await;
    answers
        .into_iter()
        .flatten()
        .map(|(user, answer)| Ok((user, answer.map_err(|failure| failure.to_string())?)))
        .collect()
}

/// Surveys all users once, with `together` users per look-up. Returns the number of users.
async fn survey_everybody(bed: &Arc<Bed>, together: usize) -> Result<usize, String> {
    let owned: Vec<(TenantId, Vec<UserId>)> = groups(bed, together)
        .map(|(tenant, users)| (tenant.clone(), users.to_vec()))
        .collect()
        .await;
    // The number of groups in flight is the same for every size of look-up.
    let batches_at_once = owned.len().clamp(1, GROUPS_AT_ONCE);
    let at_once = (GROUPS_AT_ONCE / batches_at_once).max(1);
    // Each runs in a task of its own, like the worker's batches.
    futures::stream::iter(owned)
        .map(|(tenant, users)| {
            let bed = Arc::clone(bed);
            spawn(async move {
                for (user, survey) in survey(&bed, &tenant, &users, at_once).await? {
                    match survey {
                        Survey::Idle => {}
                        Survey::Work(_) => return Err(format!("{user} is not idle")),
                    }
                }
                Ok(users.len())
            })
            .detach()
        })
        .buffer_unordered(batches_at_once)
        .map(|joined| joined.map_err(|error| error.to_string())?)
        .try_fold(0, |sum, users| async move { Ok(sum + users) })
        .await
}

/// The requests of the bare loop.
struct Calls {
    http: reqwest::Client,
    exchange: reqwest::Url,
    exchange_headers: HeaderMap,
    sharepoint_headers: HeaderMap,
    at_once: usize,
    /// For each user, the SharePoint address and the EWS body.
    users: Vec<(reqwest::Url, Bytes)>,
}

impl Calls {
    async fn prepare(bed: &Bed) -> Result<Arc<Self>, String> {
        let header = |text: &str| HeaderValue::from_str(text).map_err(|error| error.to_string());
        let authorization = header(&bed.authorization)?;
        let sharepoint_headers = HeaderMap::from_iter([
            (AUTHORIZATION, authorization.clone()),
            (
                reqwest::header::ACCEPT,
                HeaderValue::from_static("application/json;odata=nometadata"),
            ),
        ]);
        let exchange_headers = HeaderMap::from_iter([
            (AUTHORIZATION, authorization),
            (CONTENT_TYPE, HeaderValue::from_static("text/xml; charset=utf-8")),
        ]);
        let mut users = Vec::new();
        for (tenant, people) in &bed.people {
            let site = bed.sites.get(tenant).ok_or("a tenant without site")?;
            let address = format!("{site}/_api/site?$select=Id,CurrentChangeToken");
            let address = reqwest::Url::parse(&address).map_err(|error| format!("{address}: {error}"))?;
            let people = bed.registry.enrolments_with_fingerprints(tenant, people).await;
            for (enrolment, stored) in people.map_err(|failure| failure.to_string())? {
                let user = &enrolment.key.user;
                let fingerprint = stored
                    .map(|stored| Fingerprint::decode(&stored.fingerprint))
                    .transpose();
                let folders = fingerprint
                    .map_err(|error| error.to_string())?
                    .map(|known| known.folders);
                let folders = folders.filter(|folders| !folders.is_empty());
                let folders = folders.ok_or_else(|| format!("{user} has no folder"))?;
                let ids: Vec<&str> = folders.iter().map(|(id, _)| id.as_str()).collect();
                let owner = (!bed.setting.delegate).then_some(enrolment.mailbox.as_str());
                users.push((address.clone(), get_folder(owner, &ids)));
            }
        }
        let calls = Self {
            http: bed.bare_client()?,
            exchange: bed.exchange.clone(),
            exchange_headers,
            sharepoint_headers,
            at_once: bed.outbound.requests_per_server,
            users,
        };
        calls.try_one().await?;
        Ok(Arc::new(calls))
    }

    /// Sends the first user's calls and checks the answers.
    async fn try_one(&self) -> Result<(), String> {
        let (site, body) = self.users.first().ok_or("the farm has no user")?;
        let answer = self.sharepoint(site).await?;
        if !String::from_utf8_lossy(&answer).contains("CurrentChangeToken") {
            return Err("SharePoint's answer to the bare loop is not as expected".to_owned());
        }
        let answer = self.exchange(body).await?;
        let answer = String::from_utf8_lossy(&answer);
        if answer.contains("NoError") && !answer.contains("ResponseClass=\"Error\"") {
            Ok(())
        } else {
            Err("Exchange's answer to the bare loop is not as expected".to_owned())
        }
    }

    async fn sharepoint(&self, address: &reqwest::Url) -> Result<Bytes, String> {
        let request = self
            .http
            .get(address.clone())
            .headers(self.sharepoint_headers.clone());
        read(request).await
    }

    async fn exchange(&self, body: &Bytes) -> Result<Bytes, String> {
        let request = self
            .http
            .post(self.exchange.clone())
            .headers(self.exchange_headers.clone())
            .body(body.clone());
        read(request).await
    }

    /// Sends the calls of all users once, with as many loops as the server takes requests. Returns the number
    /// of users.
    async fn everybody(self: &Arc<Self>, sharepoint: bool) -> Result<usize, String> {
        let loops: Vec<_> = (0..self.at_once)
            .map(|first| {
                let calls = Arc::clone(self);
                spawn(async move {
                    for (site, body) in calls.users.iter().skip(first).step_by(calls.at_once) {
                        if sharepoint {
                            calls.sharepoint(site).await?;
                        }
                        calls.exchange(body).await?;
                    }
                    Ok::<_, String>(())
                })
                .detach()
            })
            .collect();
        for ended in loops {
            ended.await.map_err(|error| error.to_string())??;
        }
        Ok(self.users.len())
    }
}

#[expect(clippy::disallowed_methods, reason = "the bare loop is a client of its own")]
async fn read(request: reqwest::RequestBuilder) -> Result<Bytes, String> {
    let answer = request.send().await.map_err(|error| error.to_string())?;
    if answer.status() != 200 {
        return Err(format!("{} answered {}", answer.url(), answer.status()));
    }
    answer.bytes().await.map_err(|error| error.to_string())
}

/// Returns the survey's request for one mailbox.
fn get_folder(owner: Option<&str>, folders: &[&str]) -> Bytes {
    let owner = owner.map_or_else(String::new, |owner| {
        format!(
            "<t:ExchangeImpersonation><t:ConnectingSID><t:PrimarySmtpAddress>{owner}</t:PrimarySmtpAddress>\
             </t:ConnectingSID></t:ExchangeImpersonation>"
        )
    });
    let folders = folders
        .iter()
        .map(|id| format!("<t:FolderId Id=\"{id}\"/>"))
        .collect::<Vec<_>>()
        .concat();
    Bytes::from(format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"><s:Header>\
         <t:RequestServerVersion Version=\"Exchange2013_SP1\"/>{owner}\
         <t:DateTimePrecision>Milliseconds</t:DateTimePrecision></s:Header><s:Body><m:GetFolder><m:FolderShape>\
         <t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
         <t:ExtendedFieldURI PropertyTag=\"0x670A\" PropertyType=\"SystemTime\"/>\
         <t:ExtendedFieldURI PropertyTag=\"0x670B\" PropertyType=\"Integer\"/>\
         </t:AdditionalProperties></m:FolderShape><m:FolderIds>{folders}</m:FolderIds></m:GetFolder></s:Body></s:Envelope>"
    ))
}
