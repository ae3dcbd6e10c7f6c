//! Servers that lose what they held.

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
    // Nobody is chosen before somebody looked into it; what a worker reports changes nothing.
    let failure = schedule.heads(9).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::ScheduleUnavailable)
    );
    let finish = [Finish {
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
    // Another process, which knows only what the registry remembers.
    let fourth = bench.other().mark().await.unwrap().unwrap();
    assert!(fourth.shows_loss(Some(&second.after)) && !fourth.shows_loss(Some(&third.after)));

    enrol(schedule, "a", 0..2).await;
    let again = leader(schedule).await;
    assert!(again > epoch);
    assert!(claim(schedule, again, "a", &[user_id("u0")], LONG).await > token);
}

#[tokio::test]
async fn a_server_set_back_is_noticed_before_anybody_is_chosen() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let bench = Bench::at(server.url());
    let schedule = &bench.schedule;
    enrol(schedule, "a", 0..2).await;
    let epoch = leader(schedule).await;
    let remembered = schedule.mark().await.unwrap().unwrap().after;
    claim(schedule, epoch, "a", &[user_id("u0")], LONG).await;
    // As a replica has it that did not get the claim.
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
