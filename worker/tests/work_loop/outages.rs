//! A tenant's server that fails for all users, with the failures that the EWS adapter reports: one circuit, one alert,
//! no disabled user, few requests, and all users synced again after the end.

use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tasksync_common::clock::SystemClock;
use tasksync_common::clock::monotonic;
use tasksync_common::error::{Code, Failure};
use tasksync_common::metrics::record::Server as Kind;
use tasksync_common::model::UserId;
use tasksync_common::registry::{Access, Credentials, EnrolmentState, SecretRef};
use tasksync_common::schedule::topics::*;
use tasksync_worker::auth::Authenticator;
use tasksync_worker::http::Http;
use tasksync_worker::mailbox::ews::{EwsConnection, EwsLimits, EwsMailbox};
use tasksync_worker::mailbox::{FolderId, Mailbox as _, Owner, ProbeRequest};
use tasksync_worker::throttle::{MailboxLocks, Servers};
use tokio::time::sleep;

use crate::bench::{Bench, SECOND};
use crate::server::{Reply, Server, secrets, settings};
use crate::support::{Act, key, tenant_id};

const TENANT: &str = "contoso";

fn maintenance() -> Reply {
    Reply::answer(200, "Content-Type: text/html\r\n", "<html>Maintenance</html>")
}

fn bad_request() -> Reply {
    Reply::answer(400, "Content-Type: text/html\r\n", "Bad Request")
}

fn silence() -> Reply {
    Reply::Hang
}

/// Returns the failures that the EWS adapter reports for each person when its server answers every request like this.
/// For one half they occur in the shared survey, for the other half in the person's own sync.
async fn failures(reply: fn() -> Reply, users: &[UserId]) -> Vec<Act> {
    let server = Server::plain(move |_, _| reply()).await;
    let clock = Arc::new(SystemClock);
    let http = Http::new(settings(), clock.clone()).unwrap();
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "secret").unwrap();
    let url = server.url("/EWS/Exchange.asmx");
    let servers = Servers::new(10, clock.clone());
    let limits = servers.limits_of(&url, Kind::Ews, TENANT);
    let mailbox = EwsMailbox::new(
        http.clone(),
        Authenticator::new(http, secrets()),
        EwsConnection {
            tenant: tenant_id(TENANT),
            url,
            credentials: Credentials::Basic {
                user: "svc".to_owned(),
                password: SecretRef::File(password.path().to_owned()),
            },
            access: Access::Delegate,
        },
        clock.clone(),
        EwsLimits {
            request_timeout: Duration::from_millis(100),
            ..EwsLimits::default()
        },
        limits,
        MailboxLocks::new(clock),
    );
    let owner = |user: &UserId| Owner {
        mailbox: format!("{user}@contoso.example").parse().unwrap(),
        zone: TimeZone::UTC,
        marker: format!("6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa/{TENANT}/{user}")
            .parse()
            .unwrap(),
    };
    let requests: Vec<ProbeRequest> = users
        .iter()
        .map(|user| ProbeRequest {
            mailbox: owner(user).mailbox,
            folders: vec![FolderId("folder".to_owned())],
        })
        .collect();
    let surveyed = mailbox.probe(&requests).await;
    assert_eq!(surveyed.len(), users.len());
    let mut acts = Vec::new();
    for (number, (user, surveyed)) in users.iter().zip(surveyed).enumerate() {
        acts.push(if number % 2 == 0 {
            Act::SurveyFails(surveyed.unwrap_err())
        } else {
            let failure = mailbox.folders(&owner(user)).await.unwrap_err();
            Act::SyncFails(SECOND, failure)
        });
    }
    acts
}

fn failure_of(act: &Act) -> &Failure {
    let (Act::SurveyFails(failure) | Act::SyncFails(_, failure)) = act else {
        panic!("{act:?}");
    };
    failure
}

/// Returns a worker whose tenant's server fails for these people, on paused time.
async fn failing_tenant(reply: fn() -> Reply, code: Code, people: usize) -> (Bench, Vec<UserId>) {
    let names: Vec<UserId> = (0..people)
        .map(|number| format!("u{number:03}").parse().unwrap())
        .collect();
    let acts = failures(reply, &names).await;
    tokio::time::pause();
    let bench = Bench::new(Act::Idle);
    assert_eq!(bench.enrol(TENANT, people).await, names);
    for (user, act) in names.iter().zip(acts) {
        assert_eq!(failure_of(&act).code, code);
        bench.sync.set(key(TENANT, user.as_str()), act);
    }
    bench.start();
    (bench, names)
}

/// Sends the due users, as the leader does, while `goes_on` returns true: all in one job, or each in a separate one.
async fn lead(bench: &Bench, each_alone: bool, mut goes_on: impl FnMut() -> bool) {
    while goes_on() {
        let not_after = bench.now() - bench.limits.pace.minimum;
        let due = bench
            .order
            .oldest(&tenant_id(TENANT), not_after, 100)
            .await
            .unwrap();
        let due: Vec<UserId> = due.into_iter().map(|(user, _)| user).collect();
        let jobs = due.chunks(if each_alone { 1 } else { 100 });
        for job in jobs {
            bench.send(TENANT, job).await;
        }
        sleep(SECOND * 30).await;
    }
}

/// Returns for how many people requests were made to the server so far.
fn surveyed_people(bench: &Bench) -> usize {
    bench.sync.surveys().iter().map(Vec::len).sum()
}

async fn assert_nobody_disabled(bench: &Bench, users: &[UserId]) {
    assert_eq!(bench.metrics_snapshot().users_disabled, 0);
    for user in users {
        let state = bench.enrolment_state(&key(TENANT, user.as_str())).await;
        assert_eq!(state, EnrolmentState::Enabled, "{user}");
        let failures = bench.status(TENANT, user).await.history.failures;
        assert!(failures <= 1, "{user}: {failures} failures");
    }
}

/// Runs ten rounds of an outage, and its end.
async fn an_outage(reply: fn() -> Reply, code: Code, each_alone: bool) {
    const ROUNDS: u32 = 10;
    let (bench, users) = failing_tenant(reply, code, 5).await;
    let step = bench.limits.pace.minimum;
    // The first round meets all five users. Each later one is a probe of a single user.
    lead(&bench, each_alone, || {
        surveyed_people(&bench) + 1 < users.len() + ROUNDS as usize
    })
    .await;
    let ended = monotonic();
    assert_eq!(bench.metrics_snapshot().circuits_opened, 1);
    let alerts = bench.open_alerts().await;
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    assert_eq!((alerts[0].user.clone(), alerts[0].failure.code), (None, code));
    assert_nobody_disabled(&bench, &users).await;

    bench.sync.set_all(Act::Work(SECOND));
    let before = bench.sync.ended().len();
    let back = || bench.sync.ended()[before..].to_vec();
    lead(&bench, each_alone, || {
        back().len() < users.len() && ended.elapsed() < step * 100
    })
    .await;
    let back = back();
    for user in &users {
        let (_, at) = back.iter().find(|(synced, _)| synced.user == *user).unwrap();
        // Allow the pause that the last failed probe began, and one step for a user who comes due while the next probe
        // runs.
        assert!(
            *at - ended <= step * (ROUNDS + 2) + SECOND * 60,
            "{user} was synced {:?} after the end",
            *at - ended
        );
        assert!(bench.status(TENANT, user).await.last_success.is_some());
    }
    bench.wait_until_idle().await;
    assert_eq!(bench.open_alerts().await, []);
    assert_nobody_disabled(&bench, &users).await;
}

#[tokio::test]
async fn a_page_instead_of_every_answer_is_one_circuit_and_one_alert_and_disables_no_user() {
    an_outage(maintenance, Code::ExchangeBadAnswer, false).await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_one_circuit_and_one_alert_and_disables_no_user() {
    an_outage(silence, Code::ExchangeTimeout, false).await;
}

/// Users come due one by one, so no batch contains more than one of them.
#[tokio::test]
async fn an_outage_that_people_meet_one_by_one_is_one_circuit_and_one_alert_and_disables_no_user() {
    an_outage(maintenance, Code::ExchangeBadAnswer, true).await;
}

/// A failing server fails in more than one way. The alert shows the last failure, and the time since when the trouble
/// lasts.
#[tokio::test]
async fn an_outage_in_more_than_one_way_is_one_circuit_and_one_alert() {
    let ana = ["u000".parse().unwrap()];
    let timeout = failure_of(&failures(silence, &ana).await[0]).clone();
    let page = failure_of(&failures(maintenance, &ana).await[0]).clone();
    let (bench, users) = failing_tenant(maintenance, Code::ExchangeBadAnswer, 5).await;
    let mut since = None;
    let mut shown = std::collections::BTreeSet::new();
    for round in 0..8 {
        let before = surveyed_people(&bench);
        lead(&bench, false, || surveyed_people(&bench) == before).await;
        let alerts = bench.open_alerts().await;
        assert!(alerts.len() <= 1, "{alerts:#?}");
        for alert in alerts {
            assert_eq!(*since.get_or_insert(alert.since), alert.since);
            shown.insert(alert.failure.code);
        }
        let act = if round % 2 == 0 {
            Act::SurveyFails(timeout.clone())
        } else {
            Act::SurveyFails(page.clone())
        };
        bench.sync.set_all(act);
    }
    assert_eq!(bench.metrics_snapshot().circuits_opened, 1);
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert_nobody_disabled(&bench, &users).await;
    bench.sync.set_all(Act::Idle);
    let before = bench.sync.ended().len();
    lead(&bench, false, || bench.sync.ended().len() < before + users.len()).await;
    bench.wait_until_idle().await;
    assert_eq!(bench.open_alerts().await, []);
}

#[tokio::test]
async fn a_refusal_of_everything_is_one_alert_and_few_requests() {
    let (bench, users) = failing_tenant(bad_request, Code::ExchangeError, 5).await;
    let began = monotonic();
    lead(&bench, false, || began.elapsed() < SECOND * 3_600).await;
    // All five once; then one each 5, 15, 30 and 50 minutes after the first.
    assert_eq!(surveyed_people(&bench), 9);
    let alerts = bench.open_alerts().await;
    assert_eq!(alerts.len(), 1, "{alerts:#?}");
    assert_eq!(alerts[0].user, None);
    assert_nobody_disabled(&bench, &users).await;
    lead(&bench, false, || began.elapsed() < SECOND * 24 * 3_600).await;
    // There is never more than an hour between two probes, and hardly more than one probe per hour.
    assert!(
        (20..=35).contains(&surveyed_people(&bench)),
        "{}",
        surveyed_people(&bench)
    );
    assert_eq!(bench.open_alerts().await.len(), 1);
    assert_nobody_disabled(&bench, &users).await;
}

/// Without other users, a server's failure cannot be told from a person's.
#[tokio::test]
async fn a_refusal_of_everything_that_the_tenants_only_person_meets_is_one_alert_and_few_requests() {
    let (bench, _) = failing_tenant(bad_request, Code::ExchangeError, 1).await;
    let began = monotonic();
    lead(&bench, false, || began.elapsed() < SECOND * 24 * 3_600).await;
    // Ten within four hours, and then after one, two, four and eight hours.
    assert!(
        (10..=15).contains(&surveyed_people(&bench)),
        "{}",
        surveyed_people(&bench)
    );
    assert_eq!(bench.open_alerts().await.len(), 1);
}
