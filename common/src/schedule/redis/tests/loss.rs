//! Servers that lose data.

use super::*;

#[tokio::test]
async fn an_emptied_server_is_noticed_and_its_numbers_are_not_used_again() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let bench = Bench::at(server.url());
    let schedule = &bench.schedule;
    enrol(schedule, "a", 0..2).await;
    let epoch = leader(schedule).await;
    let first = schedule.mark().await.unwrap().unwrap();
    assert!(first.before.is_none() && !first.went_back);
    let token = claim(schedule, epoch, "a", &[user_id("u0")], LONG).await;
    let second = schedule.mark().await.unwrap().unwrap();
    assert!(!second.shows_loss(Some(&first.after)) && second.after.number > first.after.number);

    flush(schedule).await;
    // No user is chosen before the leader has checked the loss; reports of workers change nothing.
    let failure = schedule.heads(9).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::ScheduleUnavailable)
    );
    let finish = [FinishedAttempt {
        user: user_id("u0"),
        result: Ok(()),
        history: History::default(),
        due_after: MINIMUM,
    }];
    assert!(
        schedule
            .finish(&tenant_id("a"), token, &finish)
            .await
            .unwrap()
            .is_empty()
    );
    let third = schedule.mark().await.unwrap().unwrap();
    assert!(third.went_back && third.shows_loss(Some(&second.after)));
    assert_ne!(third.after.id, second.after.id);
    assert!(schedule.heads(9).await.unwrap().is_empty());
    // Another process knows only the mark that the registry remembers.
    let fourth = bench.other().mark().await.unwrap().unwrap();
    assert!(fourth.shows_loss(Some(&second.after)) && !fourth.shows_loss(Some(&third.after)));

    enrol(schedule, "a", 0..2).await;
    let again = leader(schedule).await;
    assert!(again > epoch);
    assert!(claim(schedule, again, "a", &[user_id("u0")], LONG).await > token);
}

#[tokio::test]
async fn a_server_set_back_is_noticed_before_any_user_is_chosen() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let bench = Bench::at(server.url());
    let schedule = &bench.schedule;
    enrol(schedule, "a", 0..2).await;
    let epoch = leader(schedule).await;
    let remembered = schedule.mark().await.unwrap().unwrap().after;
    claim(schedule, epoch, "a", &[user_id("u0")], LONG).await;
    // The mark as a replica has it that did not receive the claim.
    let mut command = redis::cmd("HSET");
    command
        .arg(schedule.keys.index(&["mark"]))
        .arg("number")
        .arg(remembered.number);
    schedule
        .store
        .command::<i64>("testing", command, Repeat::Yes)
        .await
        .unwrap();
    assert!(schedule.heads(9).await.is_err());
    let marked = schedule.mark().await.unwrap().unwrap();
    assert!(marked.went_back && marked.shows_loss(Some(&remembered)));
    assert_eq!(schedule.heads(9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_restart_in_the_middle_is_an_error_and_then_work_goes_on() {
    let Some(mut server) = PrivateRedis::start(&[]) else {
        return;
    };
    let bench = Bench::at(server.url());
    let schedule = &bench.schedule;
    enrol(schedule, "a", 0..2).await;
    let epoch = leader(schedule).await;
    server.down();
    let failure = schedule
        .claim(epoch, &tenant_id("a"), &[user_id("u0")], LONG)
        .await
        .unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::RedisUnavailable)
    );
    assert!(failure.detail.contains("claiming 1 users of a"), "{failure}");
    server.up();
    let mut answer = schedule.lead("other", LONG).await;
    for _ in 0..100 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = schedule.lead("other", LONG).await;
    }
    assert!(
        answer.unwrap().unwrap() > epoch,
        "also in a server that lost everything"
    );
    assert!(schedule.is_empty().await.unwrap());
}

const NAMES_OF_A_TENANT: [&str; 9] = [
    "due",
    "claimed",
    "batches",
    "status",
    "meta",
    "failures",
    "failing",
    "intervals",
    "asked",
];
const NAMES_OF_THE_INDEX: [&str; 8] = [
    "heads",
    "tenants",
    "expiries",
    "failing",
    "totals",
    "intervals",
    "lease",
    "probe",
];

/// Enrols ten users of `a`, claims four of them in two batches, and enrols one user of `b`.
async fn enrol_and_claim(schedule: &RedisSchedule) -> (Token, Token) {
    enrol(schedule, "a", 0..10).await;
    enrol(schedule, "b", 0..1).await;
    let epoch = leader(schedule).await;
    let users = |names: [&str; 2]| names.map(user_id);
    let first = claim(schedule, epoch, "a", &users(["u0", "u1"]), LONG).await;
    let second = claim(schedule, epoch, "a", &users(["u2", "u3"]), LONG).await;
    (first, second)
}

async fn delete(schedule: &RedisSchedule, key: &str) {
    let mut command = redis::cmd("DEL");
    command.arg(key);
    schedule
        .store
        .command::<i64>("testing", command, Repeat::Yes)
        .await
        .unwrap();
}

/// Does what the leader does in turn: checks the schedule for consistency and compares it with the registry,
/// which knows ten users of `a` and one of `b`.
async fn run_leader_check(schedule: &RedisSchedule, lasts: Duration) {
    schedule.inspect(1_000, lasts).await.unwrap();
    let expected = [(tenant_id("a"), 10), (tenant_id("b"), 1)];
    for (tenant, _) in schedule.differing(&expected).await.unwrap() {
        let users = if tenant.as_str() == "a" { 10 } else { 1 };
        let stamp = schedule.now().await.unwrap() - jiff::SignedDuration::from_hours(24);
        let saved: Vec<SavedStamp> = (0..users)
            .map(|number| SavedStamp {
                user: user_id(&format!("u{number}")),
                stamp,
                last_success: None,
                failing: None,
            })
            .collect();
        schedule.enrol_claimed(&tenant, &saved, lasts).await.unwrap();
    }
    schedule.inspect(1_000, lasts).await.unwrap();
}

async fn waiting_users(schedule: &RedisSchedule, tenant: &str) -> Vec<String> {
    let now = schedule.now().await.unwrap();
    let mut users: Vec<String> = schedule
        .oldest(&tenant_id(tenant), now, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|(user, _)| user.to_string())
        .collect();
    users.sort();
    users
}

/// No user is lost, and a user whose claim was lost is not due before the claim would have ended.
#[tokio::test]
async fn whatever_single_key_is_lost_all_users_are_due_again_and_none_too_early() {
    let Some(bench) = bench_at(SINGLE) else {
        return;
    };
    let all: Vec<String> = (0..10).map(|number| format!("u{number}")).collect();
    let keys = NAMES_OF_A_TENANT
        .map(|name| format!("{{a}}:{name}"))
        .into_iter()
        .chain(NAMES_OF_THE_INDEX.map(|name| format!("{{_}}:{name}")));
    for key in keys {
        let prefix = own_prefix();
        let schedule = Bench::open(&bench.url, &prefix);
        enrol_and_claim(&schedule).await;
        delete(&schedule, &format!("{prefix}:{key}")).await;
        let leader_process = Bench::open(&bench.url, &prefix);
        run_leader_check(&leader_process, LONG).await;
        let now = waiting_users(&schedule, "a").await;
        for claimed in &all[..4] {
            assert!(!now.contains(claimed), "{key}: {claimed} may still be worked on");
        }
        assert_eq!(
            schedule.differing(&[(tenant_id("a"), 10)]).await.unwrap(),
            [],
            "{key}"
        );
        assert_eq!(waiting_users(&schedule, "b").await, ["u0"], "{key}");
        // Another check sees what the first one restored.
        run_leader_check(&leader_process, LONG).await;
        assert_eq!(schedule.summary(None).await.unwrap().users, 11, "{key}");
        let inspected = leader_process.inspect(1_000, LONG).await.unwrap();
        assert_eq!(
            (inspected.repaired_tenants, inspected.lost),
            (Vec::new(), Vec::new()),
            "{key}"
        );
        // Every claim ends: all claims are made to expire now.
        let mut command = redis::cmd("ZRANGE");
        command.arg(format!("{prefix}:{{a}}:claimed")).arg(0).arg(-1);
        let tokens: Vec<String> = schedule
            .store
            .command("testing", command, Repeat::Yes)
            .await
            .unwrap();
        for token in tokens {
            let mut command = redis::cmd("ZADD");
            command.arg(format!("{prefix}:{{a}}:claimed")).arg(1).arg(token);
            schedule
                .store
                .command::<i64>("testing", command, Repeat::Yes)
                .await
                .unwrap();
        }
        run_leader_check(&leader_process, LONG).await;
        leader_process.reclaim(100).await.unwrap();
        assert_eq!(waiting_users(&schedule, "a").await, all, "{key}");
        let heads = schedule.heads(9).await.unwrap();
        assert_eq!(heads.len(), 2, "{key}: {heads:?}");
        remove_prefix(&bench.url, &prefix).await;
    }
    bench.end().await;
}

/// The digest of names follows every change, and is computed anew from the names if it is missing.
#[tokio::test]
async fn the_digest_of_names_covers_the_users_in_the_schedule() {
    let Some(bench) = bench_at(SINGLE) else {
        return;
    };
    let schedule = &bench.schedule;
    let a = tenant_id("a");
    let names = async || {
        let consistent = schedule.inspect(1_000, LONG).await.unwrap().consistent;
        consistent
            .into_iter()
            .find(|(tenant, _)| *tenant == a)
            .and_then(|(_, members)| members.names)
    };
    let of = |numbers: &[u32]| {
        let users = numbers.iter().map(|number| user_id(&format!("u{number}")));
        Some(digest_of_all(users.map(|user| digest_of(&user))))
    };
    enrol(schedule, "a", 0..4).await;
    assert_eq!(names().await, of(&[0, 1, 2, 3]));
    enrol(schedule, "a", 4..6).await;
    assert_eq!(names().await, of(&[0, 1, 2, 3, 4, 5]));
    assert!(schedule.withdraw(&key("a", "u1")).await.unwrap());
    assert!(!schedule.withdraw(&key("a", "u9")).await.unwrap());
    assert_eq!(names().await, of(&[0, 2, 3, 4, 5]));
    // After a loss the digest is unknown until it is computed anew.
    delete(schedule, &schedule.keys.status(&a)).await;
    schedule.inspect(1_000, LONG).await.unwrap();
    assert_eq!(names().await, None);
    schedule.recount_names(&a).await.unwrap();
    assert_eq!(names().await, of(&[0, 2, 3, 4, 5]));
    // A withdrawn tenant leaves no key behind, not even a digest.
    schedule.withdraw_tenant(&a).await.unwrap();
    schedule.recount_names(&a).await.unwrap();
    assert_eq!(names().await, None);
    enrol(schedule, "a", 0..1).await;
    assert_eq!(names().await, of(&[0]));
    bench.end().await;
}

/// Loses one key after the other, each drawn at random, between claims and their ends.
#[tokio::test]
async fn a_thousand_lost_keys_lose_no_user() {
    let Some(bench) = bench_at(SINGLE) else {
        return;
    };
    let schedule = &bench.schedule;
    let leader_process = bench.other();
    enrol_and_claim(schedule).await;
    let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |sides: usize| {
        dice = dice
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(dice >> 33).unwrap() % sides
    };
    let all: Vec<String> = (0..10).map(|number| format!("u{number}")).collect();
    for round in 0..1_000 {
        let names = NAMES_OF_A_TENANT.len() + NAMES_OF_THE_INDEX.len();
        let at = draw(names);
        let key = match NAMES_OF_A_TENANT.get(at) {
            Some(name) => format!("{{a}}:{name}"),
            None => format!("{{_}}:{}", NAMES_OF_THE_INDEX[at - NAMES_OF_A_TENANT.len()]),
        };
        delete(schedule, &format!("{}:{key}", bench.prefix)).await;
        run_leader_check(&leader_process, Duration::ZERO).await;
        leader_process.reclaim(100).await.unwrap();
        assert_eq!(
            schedule.differing(&[(tenant_id("a"), 10)]).await.unwrap(),
            [],
            "round {round}: {key}"
        );
        // A user is being worked on while the next key is lost.
        let epoch = schedule.lead("leader", LONG).await.unwrap().unwrap();
        let user = user_id(&format!("u{}", draw(10)));
        let claimed = schedule
            .claim(
                epoch,
                &tenant_id("a"),
                std::slice::from_ref(&user),
                Duration::ZERO,
            )
            .await
            .unwrap();
        if let ClaimAnswer::Claimed { token, .. } = claimed
            && draw(2) == 0
        {
            let finish = FinishedAttempt {
                user,
                result: Ok(()),
                history: History::default(),
                due_after: Duration::ZERO,
            };
            schedule.finish(&tenant_id("a"), token, &[finish]).await.unwrap();
        }
    }
    for _ in 0..2 {
        run_leader_check(&leader_process, Duration::ZERO).await;
        leader_process.reclaim(100).await.unwrap();
    }
    assert_eq!(waiting_users(schedule, "a").await, all);
    bench.end().await;
}

/// A replica still answers reads.
#[tokio::test]
async fn a_server_that_became_a_replica_is_not_writable_and_is_again_when_it_leads() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let bench = Bench::at(server.url());
    let schedule = &bench.schedule;
    schedule.check_writable().await.unwrap();
    let replicate = |host: &str, port: &str| {
        let mut command = redis::cmd("REPLICAOF");
        command.arg(host).arg(port);
        command
    };
    let store = RedisStore::new("schedule.url", &server.url(), RedisOptions::default()).unwrap();
    store
        .command::<()>("testing", replicate("127.0.0.1", "1"), Repeat::Yes)
        .await
        .unwrap();
    assert!(schedule.check_writable().await.is_err());
    store
        .command::<()>("testing", replicate("NO", "ONE"), Repeat::Yes)
        .await
        .unwrap();
    schedule.check_writable().await.unwrap();
    let mut full = redis::cmd("CONFIG");
    full.arg("SET").arg("maxmemory").arg("1");
    store.command::<()>("testing", full, Repeat::Yes).await.unwrap();
    let refused = schedule.check_writable().await.unwrap_err();
    assert_eq!(refused.class, ErrorClass::Transient, "{refused}");
}
