//! Users whose attempt fails, and the consequences.

use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::registry::EnrolmentState;
use tasksync_common::schedule::topics::*;
use tokio::time::sleep;

use crate::bench::{Bench, MINUTE, SECOND};
use crate::support::{Act, key};

fn mailbox_missing() -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::ExchangeMailboxMissing,
        "u000@contoso.example",
    )
}

fn refused() -> Failure {
    Failure::new(ErrorClass::Refused, Code::ExchangeSignInRefused, "401")
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_the_failure_of_one_user_only() {
    let bench = Bench::new(Act::Work(SECOND));
    let users = bench.enrol("contoso", 20).await;
    bench.sync.set(key("contoso", "u003"), Act::SurveyPanics);
    bench.sync.set(key("contoso", "u013"), Act::SyncPanics);
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    for user in &users {
        let status = bench.status("contoso", user).await;
        assert!(!status.claimed, "{user}");
        match user.as_str() {
            "u003" | "u013" => {
                let failure = status.last_failure.unwrap();
                assert_eq!(failure.code, Code::Panic, "{user}");
                assert!(failure.detail.contains(user.as_str()), "{}", failure.detail);
                assert_eq!(status.history.failures, 1);
            }
            _ => assert_eq!(status.last_failure, None, "{user}"),
        }
    }
    assert_eq!(
        (
            bench.metrics_snapshot().panics,
            bench.metrics_snapshot().users_synced
        ),
        (2, 18)
    );
}

#[tokio::test(start_paused = true)]
async fn a_mailbox_that_is_missing_twice_disables_the_user_and_a_later_success_enables_it_again() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 3).await;
    let ana = key("contoso", "u000");
    bench.sync.set(ana.clone(), Act::SurveyFails(mailbox_missing()));
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    // One answer may be a mistake.
    assert_eq!(bench.enrolment_state(&ana).await, EnrolmentState::Enabled);
    assert!(bench.open_alerts().await.is_empty());
    sleep(MINUTE * 5).await;
    bench.send("contoso", &users[..1]).await;
    bench.wait_until_idle().await;
    assert!(
        matches!(bench.enrolment_state(&ana).await, EnrolmentState::Disabled { failure, .. } if failure == mailbox_missing())
    );
    let alerts = bench.open_alerts().await;
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].user.as_ref(), Some(&users[0]));
    let status = bench.status("contoso", &users[0]).await;
    assert!(
        !status.claimed,
        "the user keeps a place in the schedule and is tried again"
    );

    // The retry fails for another reason: there is one alert, about the current reason.
    let denied = Failure::new(ErrorClass::Refused, Code::ExchangeMailboxDenied, "u000");
    bench.sync.set(ana.clone(), Act::SurveyFails(denied));
    sleep(MINUTE * 60).await;
    bench.send("contoso", &users[..1]).await;
    bench.wait_until_idle().await;
    let codes: Vec<_> = bench
        .open_alerts()
        .await
        .iter()
        .map(|alert| alert.failure.code)
        .collect();
    assert_eq!(codes, [Code::ExchangeMailboxDenied]);

    // It works again while the registry is down: the user stays disabled.
    bench.sync.set_all(Act::Idle);
    bench.registry.set_down(true);
    bench.send("contoso", &users[..1]).await;
    bench.wait_until_idle().await;
    bench.registry.set_down(false);
    assert!(matches!(
        bench.enrolment_state(&ana).await,
        EnrolmentState::Disabled { .. }
    ));
    bench.send("contoso", &users[..1]).await;
    bench.wait_until_idle().await;
    assert_eq!(bench.enrolment_state(&ana).await, EnrolmentState::Enabled);
    assert!(bench.open_alerts().await.is_empty());
    assert_eq!(
        (
            bench.metrics_snapshot().users_disabled,
            bench.metrics_snapshot().users_recovered
        ),
        (1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_throttled_user_waits_as_long_as_the_server_asked_and_is_not_counted_as_failing() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 1).await;
    let class = ErrorClass::Throttled {
        retry_after: Some(MINUTE * 20),
    };
    let busy = Failure::new(class, Code::ExchangeBusy, "back off");
    bench
        .sync
        .set(key("contoso", "u000"), Act::SyncFails(SECOND, busy));
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    let status = bench.status("contoso", &users[0]).await;
    assert_eq!(status.history.failures, 0);
    let due_after = status.stamp.duration_since(status.last_attempt.unwrap());
    assert_eq!(
        Duration::try_from(due_after).unwrap(),
        MINUTE * 15,
        "20 minutes less the minimum of 5"
    );
    assert_eq!(bench.metrics_snapshot().users_throttled, 1);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_has_opted_out_leaves_the_schedule() {
    let bench = Bench::new(Act::Idle);
    let users = bench.enrol("contoso", 2).await;
    let gone = Failure::new(ErrorClass::Gone, Code::UserUnknown, "u001");
    bench.sync.set(key("contoso", "u001"), Act::SurveyFails(gone));
    bench.send("contoso", &users).await;
    bench.start();
    bench.wait_until_idle().await;
    assert_eq!(bench.order.status(&key("contoso", "u001")).await.unwrap(), None);
    assert_eq!(bench.order.summary(None).await.unwrap().users, 1);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_cannot_be_synced_is_postponed_as_a_whole_and_probed_by_one_user() {
    let bench = Bench::new(Act::SurveyFails(refused()));
    let users = bench.enrol("contoso", 100).await;
    let others = bench.enrol("fabrikam", 10).await;
    for user in &others {
        bench.sync.set(key("fabrikam", user.as_str()), Act::Idle);
    }
    bench.send("contoso", &users).await;
    bench.send("fabrikam", &others).await;
    bench.start();
    bench.wait_until_idle().await;
    assert_eq!(
        bench.sync.surveys().len(),
        2,
        "one group of contoso was enough, fabrikam was not touched"
    );
    assert_eq!(bench.metrics_snapshot().users_postponed, 100);
    for user in &users {
        let status = bench.status("contoso", user).await;
        assert_eq!((status.claimed, status.history.failures), (false, 0), "{user}");
        assert_eq!(status.last_failure.unwrap().code, Code::ExchangeSignInRefused);
    }
    for user in &others {
        assert!(bench.status("fabrikam", user).await.last_success.is_some());
    }
    let alerts = bench.open_alerts().await;
    assert_eq!(alerts.len(), 1, "one alert for the tenant, none per user");
    assert_eq!(alerts[0].user, None);

    // During the pause no request is sent.
    sleep(MINUTE).await;
    bench.send("contoso", &users).await;
    bench.wait_until_idle().await;
    assert_eq!(bench.sync.surveys().len(), 2);

    // After the pause one user is tried, and the pause grows.
    sleep(MINUTE * 10).await;
    bench.send("contoso", &users).await;
    bench.wait_until_idle().await;
    let surveys = bench.sync.surveys();
    assert_eq!((surveys.len(), surveys[2].len()), (3, 1));
    assert_eq!(bench.open_alerts().await.len(), 1);

    // The password was corrected: one user is tried, then all users, and the alert ends.
    bench.sync.set_all(Act::Idle);
    sleep(MINUTE * 20).await;
    bench.send("contoso", &users).await;
    bench.wait_until_idle().await;
    let surveys = bench.sync.surveys();
    assert_eq!((surveys[3].len(), surveys[4].len()), (1, 10));
    for user in &users {
        assert!(bench.status("contoso", user).await.last_success.is_some());
    }
    assert!(bench.open_alerts().await.is_empty());
}
