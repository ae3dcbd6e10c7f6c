//! Idle checks of many mailboxes when some of the mailboxes fail.

use tasksync_loadtest::exchange::ExchangeSettings;
use tasksync_loadtest::sim::faults::{Fault, Rule};
use tasksync_worker::work::Survey;

use crate::rig::{Cycle, Rig, Spec};

async fn ten_people(spec: Spec) -> Rig {
    let mut rig = Rig::new(Spec { people: 10, ..spec }).await;
    let list = rig.tasks_list("Plan");
    for person in 0..10 {
        rig.add_task(list, person, &format!("Task of {person}"));
    }
    rig.cycle_all().await;
    rig
}

/// A delegate request may not mix mailboxes of several back-end servers. The refused mailboxes are queried in another
/// way.
#[tokio::test]
async fn mailboxes_of_another_server_are_queried_in_another_way() {
    let rig = ten_people(Spec {
        servers: &["EX01", "EX02"],
        exchange: ExchangeSettings {
            refuse_cross_server: true,
            ..ExchangeSettings::default()
        },
        ..Spec::default()
    })
    .await;
    rig.assert_settled().await;
}

/// A mailbox that cannot be read is a failure of that user and not of the group.
#[tokio::test]
async fn one_unreadable_mailbox_leaves_nine_idle() {
    let rig = ten_people(Spec::default()).await;
    rig.assert_settled().await;
    rig.farm.exchange.faults.add(Rule {
        operation: None,
        subject: Some(rig.smtp(4).to_owned()),
        fault: Fault::Error("ErrorMailboxStoreUnavailable".into()),
        remaining: u64::MAX,
    });
    let answers = rig.survey_all(&rig.engine, &rig.everybody()).await;
    for (person, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(Survey::Idle) => assert_ne!(person, 4),
            Ok(Survey::Work(_)) => panic!("{person} has work"),
            Err(failure) => assert_eq!(person, 4, "{failure}"),
        }
    }
    rig.farm.exchange.faults.clear();
    rig.assert_settled().await;
}

/// If a server does not provide the signs, its changes are read instead: the user is never idle, and nothing is
/// missed.
#[tokio::test]
async fn without_signs_the_changes_are_read() {
    let mut rig = Rig::new(Spec {
        exchange: ExchangeSettings {
            omit_probe_tags: true,
            ..ExchangeSettings::default()
        },
        ..Spec::default()
    })
    .await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;
    rig.retitle_copy(0, list, item, "Edited");
    assert!(matches!(rig.cycle(0).await, Cycle::Synced(_)));
    assert_eq!(rig.original(list, item).title, "Edited");
    rig.assert_settled().await;
}
