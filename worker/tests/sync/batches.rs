//! Whole batches through the worker's loop, and information about a user that becomes outdated within a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::SignedDuration;
use tasksync_common::clock::Clock as _;
use tasksync_common::error::{Code, ErrorClass};
use tasksync_common::fleet::MemoryFleet;
use tasksync_common::queue::{JobQueue as _, MemoryQueue, QueueName, Reason, SyncJob, VERSION, Workload};
use tasksync_common::registry::{Enrolment, EnrolmentResult};
use tasksync_common::schedule::topics::*;
use tasksync_common::schedule::{ClaimAnswer, MemorySchedule, StampSaver, UserStatus};
use tasksync_common::settings::Settings;
use tasksync_common::tasks::spawn;
use tasksync_common::trace::TraceContext;
use tasksync_loadtest::exchange::MailboxSpec;
use tasksync_loadtest::sim::answers::Tamper;
use tasksync_loadtest::sim::faults::Fault;
use tasksync_worker::work::{
    Consumers, FleetMember, Survey, UserSync as _, WorkLimits, WorkMetrics, WorkSnapshot, Worker, run,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::rig::{BUDGET, Rig, Spec};

const PEOPLE: usize = 25;

/// Runs one job about all users, as a worker does; none may fail. Returns how many were idle and how many were synced.
async fn run_job(rig: &Rig) -> (u64, u64) {
    let (counted, _) = job_about_everybody(rig).await;
    assert_eq!(counted.users_failed, 0);
    (counted.users_idle, counted.users_synced)
}

/// Runs one job about all users, as a worker does. Returns the counters, and how each user's attempt ended.
async fn job_about_everybody(rig: &Rig) -> (WorkSnapshot, Vec<UserStatus>) {
    let people = rig.everybody().len();
    let settings = Settings::default();
    let clock = Arc::clone(&rig.clock);
    let order = Arc::new(MemorySchedule::new(
        clock.clone(),
        settings.schedule.minimum_time_between_user_syncs,
    ));
    let long_ago = clock.now() - SignedDuration::from_hours(1);
    for person in 0..people {
        order.enrol(&rig.user(person), long_ago, None).await.unwrap();
    }
    let epoch = order.lead("test", Duration::from_mins(1)).await.unwrap().unwrap();
    let (tenant, everybody) = (rig.tenant_id(), rig.everybody());
    let claim = order.claim(epoch, &tenant, &everybody, settings.schedule.claim_lifetime);
    let ClaimAnswer::Claimed { token, users } = claim.await.unwrap() else {
        panic!("the test leads")
    };
    let queue = MemoryQueue::new(&settings.queue);
    let job = SyncJob {
        version: VERSION,
        id: Uuid::from_u128(1),
        tenant: rig.tenant_id(),
        workload: Workload::Tasks,
        reason: Reason::Scheduled,
        token,
        users: users.into_iter().map(|claimed| claimed.user).collect(),
        issued_at: clock.now(),
    };
    queue
        .publish(QueueName::Background, &job, &TraceContext::default())
        .await
        .unwrap();
    let limits = WorkLimits::of(&settings);
    let metrics: Arc<WorkMetrics> = Arc::default();
    let stop = CancellationToken::new();
    let fleet = Arc::new(MemoryFleet::new(clock.clone()));
    let fleet_member = FleetMember::new(&limits, Arc::clone(&metrics), fleet, Arc::default());
    let worker = Worker {
        fleet_member,
        schedule: order.clone(),
        queue: Arc::new(queue.clone()),
        registry: rig.registry.store(),
        clock,
        stamps: Arc::new(StampSaver::new(rig.registry.store(), 1_000, 10_000)),
        sync: Arc::clone(&rig.engine),
        consumers: Arc::new(Consumers::new(&limits)),
        limits,
        metrics: Arc::clone(&metrics),
    };
    let running = spawn(run(worker, stop.clone()));
    for _ in 0..3_000 {
        let depth = queue.depth(QueueName::Background).await.unwrap();
        if depth.ready + depth.unacknowledged.unwrap() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.cancel();
    running.await.unwrap();
    let mut ended = Vec::new();
    for person in 0..people {
        ended.push(order.status(&rig.user(person)).await.unwrap().unwrap());
    }
    (metrics.snapshot(), ended)
}

/// Returns a page of changes that is never the last one: `items` new items with long ids, followed by white space.
fn endless(number: usize, items: usize, padding: usize) -> String {
    let change = |item: usize| {
        let id = format!("{number:08}{item:08}").repeat(120);
        format!("<t:Create><t:Task><t:ItemId Id=\"{id}\" ChangeKey=\"ck\"/></t:Task></t:Create>")
    };
    let changes: String = (0..items).map(change).collect();
    format!(
        "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" \
         xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"><s:Body><m:SyncFolderItemsResponse>\
         <m:ResponseMessages><m:SyncFolderItemsResponseMessage ResponseClass=\"Success\">\
         <m:ResponseCode>NoError</m:ResponseCode><m:SyncState>page {number}</m:SyncState>\
         <m:IncludesLastItemInRange>false</m:IncludesLastItemInRange><m:Changes>{changes}</m:Changes>{}\
         </m:SyncFolderItemsResponseMessage></m:ResponseMessages></m:SyncFolderItemsResponse></s:Body></s:Envelope>",
        " ".repeat(padding)
    )
}

/// The answers of one person's server are limited in ids and in bytes, even if each page is valid and brings something
/// new.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_without_an_end_cost_one_person_one_attempt_and_a_bounded_number_of_bytes() {
    const MIB: usize = 1024 * 1024;
    // The limits are 16 MiB of ids and 256 MiB of answers.
    for (items, padding, most_pages) in [(512, 0, 20), (1, 8 * MIB, 40)] {
        let (rig, list, tasks) = Rig::with_tasks(1).await;
        rig.retitle_copy(0, list, tasks[0], "Edited");
        let sent = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&sent);
        let tamper = Tamper::new(move |answer| {
            let number = counting.fetch_add(1, Ordering::SeqCst);
            answer.with_body(endless(number, items, padding))
        });
        rig.farm
            .exchange
            .faults
            .next(Some("SyncFolderItems"), u64::MAX, Fault::Tamper(tamper));
        let (counted, ended) = job_about_everybody(&rig).await;
        assert_eq!((counted.users_failed, counted.users_cut), (1, 0));
        let failure = ended[0].last_failure.clone().unwrap();
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::Transient, Code::BudgetExhausted),
            "{failure}"
        );
        let pages = sent.load(Ordering::SeqCst);
        assert!((10..=most_pages).contains(&pages), "{pages} pages");
        rig.farm.exchange.faults.clear();
        let (counted, _) = job_about_everybody(&rig).await;
        assert_eq!((counted.users_failed, counted.users_synced), (0, 1));
        assert_eq!(rig.original(list, tasks[0]).title, "Edited");
    }
}

/// The idle users of a batch are read with one query, whatever groups they are surveyed in. A user with work costs one
/// more read.
#[tokio::test]
async fn a_batch_reads_the_registry_once_and_each_sync_once_more() {
    let mut rig = Rig::new(Spec {
        people: PEOPLE,
        ..Spec::default()
    })
    .await;
    let list = rig.tasks_list("Plan");
    for person in 0..PEOPLE {
        rig.add_task(list, person, "Report");
    }
    assert_eq!(run_job(&rig).await, (0, PEOPLE as u64));
    rig.assert_settled().await;

    let (look_ups, states) = (rig.registry.look_ups(), rig.registry.states());
    assert_eq!(run_job(&rig).await, (PEOPLE as u64, 0));
    assert_eq!(rig.registry.look_ups() - look_ups, 1);
    assert_eq!(rig.registry.states(), states, "a saved state was read or written");

    rig.add_task(list, 3, "Another");
    rig.add_task(list, 17, "Another");
    let look_ups = rig.registry.look_ups();
    let (read, _) = rig.registry.states();
    assert_eq!(run_job(&rig).await, (PEOPLE as u64 - 2, 2));
    assert_eq!(rig.registry.look_ups() - look_ups, 1);
    assert_eq!(rig.registry.states().0 - read, 2);
    rig.assert_settled().await;
}

async fn two_people() -> Rig {
    let mut rig = Rig::new(Spec {
        people: 2,
        ..Spec::default()
    })
    .await;
    let list = rig.tasks_list("Plan");
    for number in 0..4 {
        rig.add_task(list, 0, &format!("Task {number}"));
    }
    rig.cycle_all().await;
    rig.assert_settled().await;
    // Create work, so that the survey does not end the user's turn.
    rig.add_task(list, 0, "Meanwhile");
    rig
}

/// Returns everything in a mailbox, to check that nothing changed.
fn contents(rig: &Rig, mailbox: &str) -> String {
    format!(
        "{:?} {:?}",
        rig.farm.exchange.folders(mailbox),
        rig.farm.exchange.items(mailbox)
    )
}

/// A user who opts out while the batch waits for their turn is not synced any more.
#[tokio::test]
async fn a_user_who_opts_out_after_the_look_up_is_not_synced() {
    let rig = two_people().await;
    let user = rig.user(0);
    let looked_up = rig.look_up(&rig.engine, std::slice::from_ref(&user.user)).await;
    rig.registry.withdraw(&user).await.unwrap();
    let (writes, before) = (rig.writes(), contents(&rig, rig.smtp(0)));
    let Survey::Work(work) = rig
        .engine
        .survey(&user.tenant, looked_up)
        .await
        .pop()
        .unwrap()
        .unwrap()
    else {
        panic!("there is a new task")
    };
    let failure = rig.engine.sync(&user, work, BUDGET).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Gone, Code::UserUnknown)
    );
    assert_eq!(rig.writes(), writes);
    assert_eq!(contents(&rig, rig.smtp(0)), before);
    assert_eq!(rig.registry.sync_state(&user).await.unwrap(), None);
}

/// If a user's mailbox is replaced between look-up and survey, or between survey and sync, the new mailbox gets a
/// complete sync. The old one is not touched, and nothing is deleted because it is missing in the new one.
#[tokio::test]
async fn a_user_whose_mailbox_changes_after_the_look_up_is_synced_with_the_new_one() {
    for before_survey in [true, false] {
        let rig = two_people().await;
        let user = rig.user(0);
        let new = "moved@contoso.example";
        rig.farm.exchange.add_mailbox(MailboxSpec {
            time_zone: rig.person(0).time_zone.to_owned(),
            ..MailboxSpec::new(new, "Person 0")
        });
        let moved = Enrolment {
            mailbox: new.parse().unwrap(),
            ..rig.registry.enrolment(&user).await.unwrap().unwrap()
        };
        let looked_up = rig.look_up(&rig.engine, std::slice::from_ref(&user.user)).await;
        if before_survey {
            assert_eq!(
                rig.registry.enrol(&moved).await.unwrap(),
                EnrolmentResult::Updated
            );
        }
        let surveyed = rig.engine.survey(&user.tenant, looked_up).await.pop().unwrap();
        if !before_survey {
            assert_eq!(
                rig.registry.enrol(&moved).await.unwrap(),
                EnrolmentResult::Updated
            );
        }
        let Survey::Work(work) = surveyed.unwrap() else {
            panic!("there is a new task")
        };
        let before = contents(&rig, rig.smtp(0));
        let report = rig.engine.sync(&user, work, BUDGET).await.unwrap();
        assert_eq!((report.source_writes, report.mailbox_writes), (0, 1 + 5));
        assert_eq!(contents(&rig, rig.smtp(0)), before);
        let copies = rig.farm.exchange.items(new);
        assert_eq!(copies.len(), 5, "{copies:#?}");
    }
}
