//! The whole loop, scheduler and workers together, over hours.

use std::collections::HashMap;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::UserKey;
use tasksync_common::schedule::topics::*;
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, MINUTE, SECOND};
use crate::support::{Act, key};

fn by_user(log: &[(UserKey, Instant)]) -> HashMap<&UserKey, Vec<Instant>> {
    let mut times: HashMap<_, Vec<_>> = HashMap::new();
    for (user, at) in log {
        times.entry(user).or_default().push(*at);
    }
    times
}

#[tokio::test(start_paused = true)]
async fn with_too_much_work_no_user_has_a_second_turn_before_all_had_one() {
    let mut bench = Bench::new(Act::Work(SECOND * 10));
    bench.settings.worker.batches_at_once = 2;
    bench.settings.schedule.users_per_batch = 40;
    let mut users = bench.enrol("adatum", 500).await;
    users.extend(bench.enrol("contoso", 690).await);
    users.extend(bench.enrol("fabrikam", 10).await);
    bench.scheduler("a");
    bench.worker();
    // 1,200 users of 10 s each, 20 at once: a round takes 10 minutes, twice the shortest interval.
    sleep(MINUTE * 60).await;
    let mut turns: HashMap<UserKey, u32> = users.iter().map(|user| (user.clone(), 0)).collect();
    let mut fewest = 0;
    for (user, at) in bench.sync.started() {
        let turn = turns.get_mut(&user).unwrap();
        *turn += 1;
        assert!(
            *turn <= fewest + 2,
            "{user} has turn {turn} after {:?}",
            at - bench.began
        );
        fewest = *turns.values().min().unwrap();
    }
    assert!(fewest >= 4, "{fewest}");
    let started = bench.sync.started();
    for (user, times) in by_user(&started) {
        for pair in times.windows(2) {
            let interval = pair[1] - pair[0];
            assert!(
                (MINUTE * 5..=MINUTE * 15).contains(&interval),
                "{user}: {interval:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn with_little_work_every_user_is_synced_every_5_to_12_minutes() {
    let bench = Bench::new(Act::Idle);
    bench.enrol("adatum", 300).await;
    bench.enrol("contoso", 20).await;
    let busy = bench.enrol("fabrikam", 1).await;
    bench.sync.set(busy[0].clone(), Act::Work(SECOND));
    bench.scheduler("a");
    bench.worker();
    sleep(MINUTE * 120).await;
    let ended = bench.sync.ended();
    let times = by_user(&ended);
    assert_eq!(times.len(), 321);
    for (user, times) in &times {
        for pair in times.windows(2) {
            let interval = pair[1] - pair[0];
            // A job also waits for the next look at the queue and for its turn in the batch.
            assert!(
                (MINUTE * 5..=MINUTE * 12 + SECOND * 5).contains(&interval),
                "{user}: {interval:?}"
            );
        }
    }
    assert!(times[&busy[0]].len() >= 23, "a busy user comes every 5 minutes");
    assert!(
        times[&key("contoso", "u000")].len() <= 13,
        "an idle one less and less often"
    );
}

#[tokio::test(start_paused = true)]
async fn failing_users_do_not_delay_others_and_none_is_stuck() {
    let failing = |class, code| Act::SyncFails(SECOND * 5, Failure::new(class, code, "u"));
    let bench = Bench::new(Act::Idle);
    let troubled = bench.enrol("adatum", 70).await;
    let healthy = bench.enrol("contoso", 100).await;
    let busy = ErrorClass::Throttled {
        retry_after: Some(MINUTE * 8),
    };
    let acts = [
        Act::Hangs,
        Act::SyncPanics,
        Act::SurveyPanics,
        failing(ErrorClass::Transient, Code::ExchangeTimeout),
        failing(busy, Code::ExchangeBusy),
        Act::SurveyFails(Failure::new(
            ErrorClass::Refused,
            Code::ExchangeMailboxMissing,
            "u",
        )),
        Act::Work(MINUTE * 60),
    ];
    for (user, act) in troubled.iter().zip(acts.iter().cycle()) {
        bench.sync.set(user.clone(), act.clone());
    }
    let process = bench.scheduler("a");
    bench.worker();
    sleep(MINUTE * 90).await;
    let ended = bench.sync.ended();
    let times = by_user(&ended);
    for user in &healthy {
        for pair in times[user].windows(2) {
            assert!(pair[1] - pair[0] <= MINUTE * 13, "{user}");
        }
    }
    assert_eq!(
        process.metrics.users_reclaimed.get(),
        0,
        "every claim was given back by its worker"
    );
    // After the trouble, every user is synced again. Disabled users are synced at their next test, which by then
    // comes after 2 hours.
    bench.sync.set_all(Act::Idle);
    sleep(MINUTE * 60 * 5).await;
    for user in &troubled {
        let status = bench.status(user).await;
        assert_eq!(
            (status.last_failure, status.history.failures),
            (None, 0),
            "{user}"
        );
    }
    assert_eq!(bench.sync.running().0, 0);
    let summary = bench.order.summary(None).await.unwrap();
    assert_eq!((summary.users, summary.tenants), (170, 2));
    assert!(summary.oldest_success_seconds.unwrap() < 13 * 60);
}
