//! Broken servers and wrong settings of many tenants at once, beside a healthy tenant. Each problem is reported with
//! the right code and place, memory does not grow, the healthy tenant goes on, and everything recovers by itself.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tasksync_loadtest::exchange::MailboxItemEdit as CopyEdit;
use tasksync_loadtest::sharepoint::people::ListItemEdit;
use tasksync_loadtest::trial::{Farm, Ledger, Oracle, Service, secrets_folder};

use crate::faulty_proxy::{FaultyProxy, ProxyMode};
use crate::rig::{PATIENCE, ask, assert_no_writes, eventually_async, farm, start, wait_until_settled};
use tasksync_common::clock::monotonic;

const HTML: ProxyMode = ProxyMode::Answer(404, "text/html", "<html><title>Not Found</title></html>");
const PORTAL: ProxyMode = ProxyMode::Answer(
    200,
    "text/html",
    "<html><form>Please sign in to the guest network</form></html>",
);
const OTHER: ProxyMode = ProxyMode::Answer(200, "application/json", "{\"service\": \"something else\"}");
const XML: &str = "text/xml; charset=utf-8";
const JSON: &str = "application/json;odata=nometadata;charset=utf-8";

/// What is wrong with a tenant.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Something else answers in place of Exchange.
    Exchange(ProxyMode),
    /// Something else answers in place of SharePoint.
    SharePoint(ProxyMode),
    /// A setting of the tenant has another value.
    Setting(&'static str, &'static str),
}

/// The fault, the code that is reported, and a part of its detail; `@` stands for the server's address.
const FAULTS: &[(Fault, &str, &str)] = &[
    (Fault::Exchange(HTML), "exchange-bad-answer", "HTTP 404"),
    (Fault::Exchange(PORTAL), "exchange-bad-answer", "guest network"),
    (Fault::Exchange(OTHER), "exchange-bad-answer", "something else"),
    (
        Fault::Exchange(ProxyMode::Bytes("SSH-2.0-OpenSSH_9.9\r\n")),
        "exchange-unreachable",
        "@",
    ),
    (Fault::Exchange(ProxyMode::Closed), "exchange-unreachable", "@"),
    (
        Fault::Exchange(ProxyMode::Answer(200, XML, "\u{1}%<!not an answer {[")),
        "exchange-bad-answer",
        "not an answer",
    ),
    (
        Fault::Exchange(ProxyMode::Huge(XML)),
        "exchange-answer-too-large",
        "@",
    ),
    (Fault::Exchange(ProxyMode::Drip(XML)), "exchange-timeout", "@"),
    (Fault::Exchange(ProxyMode::Silent), "exchange-timeout", "@"),
    (Fault::SharePoint(HTML), "sharepoint-site-missing", "404"),
    (Fault::SharePoint(OTHER), "sharepoint-bad-answer", ""),
    (
        Fault::SharePoint(PORTAL),
        "sharepoint-bad-answer",
        "guest network",
    ),
    (
        Fault::SharePoint(ProxyMode::Closed),
        "sharepoint-unreachable",
        "@",
    ),
    (
        Fault::SharePoint(ProxyMode::Answer(200, JSON, "\u{1}%<!not an answer {[")),
        "sharepoint-bad-answer",
        "not an answer",
    ),
    (
        Fault::SharePoint(ProxyMode::Huge(JSON)),
        "sharepoint-answer-too-large",
        "@",
    ),
    (
        Fault::SharePoint(ProxyMode::Drip(JSON)),
        "sharepoint-timeout",
        "@",
    ),
    (Fault::SharePoint(ProxyMode::Silent), "sharepoint-timeout", "@"),
    (
        Fault::Setting("/mailbox/url", "http://no-such-host.invalid/EWS/Exchange.asmx"),
        "exchange-unreachable",
        "no-such-host.invalid",
    ),
    (
        Fault::Setting("/source/sites/0", "http://no-such-host.invalid/sites/x"),
        "sharepoint-unreachable",
        "no-such-host.invalid",
    ),
    (
        Fault::Setting("/mailbox/url", "http://10.1.2.3/EWS/Exchange.asmx"),
        "address-refused",
        "10.1.2.3",
    ),
    (
        Fault::Setting("/source/sites/0", "http://10.1.2.3/sites/x"),
        "address-refused",
        "10.1.2.3",
    ),
    (
        Fault::Setting("/mailbox/credentials/password", "file:WRONG"),
        "exchange-sign-in-refused",
        "401",
    ),
    (
        Fault::Setting("/source/credentials/password", "file:WRONG"),
        "sharepoint-sign-in-refused",
        "401",
    ),
    (
        Fault::Setting("/mailbox/credentials/password", "env:TASKSYNC_SECRET_NONE"),
        "secret-unavailable",
        "TASKSYNC_SECRET_NONE",
    ),
    (
        Fault::Setting("/source/credentials/password", "file:no-such-secret"),
        "secret-unavailable",
        "no-such-secret",
    ),
];

/// A tenant whose two servers are behind gates.
struct Site {
    slug: String,
    settings: Value,
    exchange: FaultyProxy,
    sharepoint: FaultyProxy,
}

fn authority(url: &str) -> SocketAddr {
    url.split('/').nth(2).unwrap().parse().unwrap()
}

impl Site {
    async fn new(farm: &Farm, at: usize, folder: &std::path::Path) -> Self {
        let tenant = &farm.population.tenants[at];
        let (_, password) = farm.write_secrets(folder).unwrap();
        let mut settings = farm.tenant_settings(tenant, &password);
        let exchange = FaultyProxy::before(authority(&farm.ews_url())).await;
        let sharepoint = FaultyProxy::before(authority(&farm.site_url(tenant))).await;
        settings["mailbox"]["url"] = json!(format!("http://{}/EWS/Exchange.asmx", exchange.authority()));
        settings["source"]["sites"] = json!([format!("http://{}{}", sharepoint.authority(), tenant.site)]);
        Self {
            slug: tenant.slug.clone(),
            settings,
            exchange,
            sharepoint,
        }
    }

    async fn put(&self, service: &Service, settings: &Value) {
        let path = format!("/api/v1/tenants/{}", self.slug);
        service
            .call(reqwest::Method::PUT, &path, Some(settings.clone()))
            .await
            .unwrap();
    }

    async fn breaks(&self, service: &Service, fault: Fault) {
        match fault {
            Fault::Exchange(mode) => self.exchange.set(mode),
            Fault::SharePoint(mode) => self.sharepoint.set(mode),
            Fault::Setting(pointer, value) => {
                let mut settings = self.settings.clone();
                let wrong = secrets_folder(service.folder()).join("wrong.password");
                std::fs::write(&wrong, "no such password").unwrap();
                *settings.pointer_mut(pointer).unwrap() =
                    json!(value.replace("WRONG", &wrong.display().to_string()));
                self.put(service, &settings).await;
            }
        }
    }

    async fn heals(&self, service: &Service) {
        self.exchange.set(ProxyMode::Open);
        self.sharepoint.set(ProxyMode::Open);
        self.put(service, &self.settings).await;
    }

    fn faulty_authority(&self, fault: Fault) -> String {
        match fault {
            Fault::Exchange(_) => self.exchange.authority(),
            Fault::SharePoint(_) => self.sharepoint.authority(),
            Fault::Setting(..) => String::new(),
        }
    }
}

/// Returns every failure that the status of a user shows: that of the last attempt, and open alerts.
fn shown_failures(status: &Value) -> Vec<(String, String)> {
    let alerts = status["alerts"].as_array().cloned().unwrap_or_default();
    let alerts = alerts.iter().map(|alert| alert["failure"].clone());
    std::iter::once(status["schedule"]["last_failure"].clone())
        .chain(alerts)
        .filter(|failure| !failure.is_null())
        .map(|failure| {
            let text = |field: &str| failure[field].as_str().unwrap_or_default().to_owned();
            (text("code"), text("detail"))
        })
        .collect()
}

/// Edits a task of this tenant on each side.
fn edit_both_sides(farm: &Farm, at: usize, round: &str) -> (String, String) {
    let (tenant, applied) = (&farm.population.tenants[at], &farm.applied[at]);
    let mut edited = Vec::new();
    'found: for person in &tenant.people {
        for copy in farm.exchange.items(&person.smtp) {
            let Some(key) = copy
                .named
                .get("TaskSyncSourceKey")
                .filter(|_| !copy.in_deleted_items)
            else {
                continue;
            };
            if !edited
                .iter()
                .any(|(_, _, edited_key): &(String, String, String)| edited_key == key)
            {
                edited.push((person.smtp.clone(), copy.id.clone(), key.clone()));
            }
            if edited.len() == 2 {
                break 'found;
            }
        }
    }
    let [first, second] = <[_; 2]>::try_from(edited).unwrap();
    let (here, there) = (
        format!("at the source {round}"),
        format!("in the mailbox {round}"),
    );
    let (list, item) = first.2.rsplit_once('|').unwrap();
    let list = list.trim_start_matches("sp|").parse().unwrap();
    let edit = ListItemEdit {
        title: Some(here.clone()),
        ..ListItemEdit::default()
    };
    farm.sharepoint
        .person_edits(&tenant.site, list, item.parse().unwrap(), edit, applied.users[0])
        .unwrap();
    let edit = CopyEdit {
        subject: Some(there.clone()),
        ..CopyEdit::default()
    };
    farm.exchange.person_edits(&second.0, &second.1, edit).unwrap();
    (here, there)
}

/// Returns true if both edits are on both sides.
fn is_mirrored(farm: &Farm, at: usize, (here, there): &(String, String)) -> bool {
    let (tenant, applied) = (&farm.population.tenants[at], &farm.applied[at]);
    let in_mailbox = tenant
        .people
        .iter()
        .flat_map(|person| farm.exchange.items(&person.smtp))
        .any(|copy| copy.subject == *here);
    let at_source = applied
        .lists
        .iter()
        .flat_map(|(list, _)| farm.sharepoint.items(&tenant.site, *list).unwrap())
        .any(|item| item.title == *there);
    in_mailbox && at_source
}

async fn alerts(service: &Service) -> Vec<Value> {
    let answer = service
        .call(reqwest::Method::GET, "/api/v1/alerts", None)
        .await
        .unwrap();
    answer["alerts"].as_array().unwrap().clone()
}

/// Returns the first tenant whose fault has this code.
fn at_of(code: &str) -> usize {
    FAULTS
        .iter()
        .position(|(_, fault_code, _)| *fault_code == code)
        .unwrap()
}

fn resident_megabytes(service: &Service) -> u64 {
    let path = format!("/proc/{}/status", service.process_id().unwrap());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// Waits until the status of a user of each broken tenant shows the fault. Meanwhile the healthy tenant's edits arrive
/// on both sides, round after round.
async fn wait_until_shown(farm: &Farm, service: &Service, sites: &[Site], healthy: usize) {
    let started = monotonic();
    let mut waiting: Vec<usize> = (0..FAULTS.len()).collect();
    let (mut round, mut healthy_edit) = (1, edit_both_sides(farm, healthy, "round 1"));
    while round < 6 || !waiting.is_empty() {
        if is_mirrored(farm, healthy, &healthy_edit) && round < 6 {
            round += 1;
            healthy_edit = edit_both_sides(farm, healthy, &format!("round {round}"));
        }
        let (mut still, mut not_shown) = (Vec::new(), Vec::new());
        for at in waiting {
            let (fault, code, part) = FAULTS[at];
            let person = &farm.population.tenants[at].people[0];
            let path = format!(
                "/api/v1/tenants/{}/users/{}",
                sites[at].slug,
                Farm::user_name(person)
            );
            let status = service.call(reqwest::Method::GET, &path, None).await.unwrap();
            let part = part.replace('@', &sites[at].faulty_authority(fault));
            let shown = shown_failures(&status);
            if !shown
                .iter()
                .any(|(shown_code, detail)| shown_code == code && detail.contains(&part))
            {
                not_shown.push(format!(
                    "{fault:?}: expected {code} with {part:?}, shown {shown:?}"
                ));
                still.push(at);
            }
        }
        waiting = still;
        assert!(
            started.elapsed() < PATIENCE,
            "round {round} of the healthy tenant; not shown:\n{}",
            not_shown.join("\n")
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Fails unless the commands and the doctor report the faults, too.
fn assert_commands_report(farm: &Farm, service: &Service, sites: &[Site]) {
    let person = Farm::user_name(&farm.population.tenants[0].people[0]);
    let status = ask(service, &["user", "status", &sites[0].slug, &person]);
    assert!(
        status.out.contains("[exchange-bad-answer]") && status.out.contains("What to do:"),
        "{status:?}"
    );
    let shown = ask(
        service,
        &[
            "alerts",
            "--tenant",
            &sites[at_of("exchange-sign-in-refused")].slug,
        ],
    );
    assert!(shown.out.contains("[exchange-sign-in-refused]"), "{shown:?}");
    let doctor = ask(
        service,
        &["doctor", "--tenant", &sites[at_of("sharepoint-unreachable")].slug],
    );
    assert_eq!(doctor.code, 1, "{doctor:?}");
    assert!(
        doctor
            .out
            .contains(&sites[at_of("sharepoint-unreachable")].sharepoint.authority()),
        "{}",
        doctor.out
    );
}

/// Waits until both sides agree again and every edit is on both of them.
async fn wait_until_recovered(farm: &Farm, service: &Service, edits: &[(String, String)]) {
    let healed = monotonic();
    loop {
        let verdict = Oracle::new(farm).compare_sides();
        let open: Vec<usize> = (0..FAULTS.len())
            .filter(|&at| !is_mirrored(farm, at, &edits[at]))
            .collect();
        if verdict.agrees() && open.is_empty() {
            break;
        }
        assert!(
            healed.elapsed() < PATIENCE * 2,
            "{}\nnot recovered: {:?}\n{}",
            verdict.lines(20).join("\n"),
            open.iter().map(|&at| FAULTS[at]).collect::<Vec<_>>(),
            service.log_tail(20)
        );
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_tenants_are_distinguished_and_recover_while_a_healthy_tenant_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    // Three people in a row who fail show that the server is at fault.
    let farm = farm(7, FAULTS.len() + 1, 3, 2.0).await;
    let more = "request_timeout = \"2s\"\nconnect_timeout = \"1s\"\n\n[worker]\nuser_budget = \"6s\"\n";
    let service = start(folder.path(), &farm, Duration::from_secs(1), more).await;
    service.enrol(&farm).await.unwrap();
    let mut sites = Vec::new();
    for at in 0..=FAULTS.len() {
        let site = Site::new(&farm, at, folder.path()).await;
        site.put(&service, &site.settings).await;
        sites.push(site);
    }
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    // A change of a tenant's settings is noticed within ten seconds. After that, every tenant goes through its gates.
    tokio::time::sleep(Duration::from_secs(11)).await;

    let (sick, healthy) = (sites[..FAULTS.len()].iter(), FAULTS.len());
    let mut edits = Vec::new();
    for (at, (site, (fault, ..))) in sick.clone().zip(FAULTS).enumerate() {
        site.breaks(&service, *fault).await;
        edits.push(edit_both_sides(&farm, at, "while broken"));
    }
    wait_until_shown(&farm, &service, &sites, healthy).await;
    // Each outage is one alert of its tenant, and no user is disabled for it.
    eventually_async("one alert for each sick tenant", async || {
        let all = alerts(&service).await;
        sick.clone().zip(FAULTS).all(|(site, (_, code, _))| {
            let of_tenant = all.iter().filter(|alert| alert["tenant"] == site.slug);
            let codes: Vec<&Value> = of_tenant.map(|alert| &alert["failure"]["code"]).collect();
            codes == [code]
        })
    })
    .await;
    let of_people: Vec<Value> = alerts(&service)
        .await
        .into_iter()
        .filter(|alert| !alert["user"].is_null())
        .collect();
    assert_eq!(of_people, [] as [Value; 0]);
    let status = service
        .call(reqwest::Method::GET, "/api/v1/status", None)
        .await
        .unwrap();
    assert_eq!(status["disabled"], 0);
    assert!(
        resident_megabytes(&service) < 300,
        "{} MB",
        resident_megabytes(&service)
    );
    assert_commands_report(&farm, &service, &sites);

    for site in sick {
        site.heals(&service).await;
    }
    wait_until_recovered(&farm, &service, &edits).await;
    assert_no_writes(&farm).await;
    assert_eq!(
        alerts(&service).await,
        [] as [Value; 0],
        "alerts end by themselves"
    );
    farm.stop().await;
}
