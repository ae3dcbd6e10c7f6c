//! The first sync, idle passes and their costs.

use tasksync_loadtest::trial::TenantPlan;

use crate::rig::{Rig, Spec};

/// After the opt-in, each task of a person is in the mailbox exactly once, in one folder per list.
#[tokio::test]
async fn a_first_sync_brings_every_task_once() {
    let mut rig = Rig::new(Spec {
        people: 2,
        ..Spec::default()
    })
    .await;
    let (plan, moves) = (rig.tasks_list("Plan"), rig.tasks_list("Moves"));
    for number in 0..5 {
        rig.add_task(plan, number % 2, &format!("Task {number}"));
        rig.add_task(moves, 0, &format!("Move {number}"));
    }
    let report = rig.cycle(0).await.report();
    assert_eq!((report.source_writes, report.items_failed), (0, 0));
    assert_eq!(report.mailbox_writes, 2 + 3 + 5);
    rig.cycle(1).await;
    assert_eq!(rig.our_folders(0).len(), 2);
    assert_eq!(rig.our_folders(1).len(), 1);
    rig.assert_settled().await;
}

/// Idle users are the common case and must be cheap: one request for ten mailboxes, and no read or write of a saved
/// state.
#[tokio::test]
async fn an_idle_user_costs_a_tenth_of_a_request_as_delegate() {
    idle_costs(TenantPlan::Delegate, 1).await;
}

/// With impersonation a request opens one mailbox, so ten idle users cost at most ten requests.
#[tokio::test]
async fn an_idle_user_costs_one_request_with_impersonation() {
    idle_costs(TenantPlan::Impersonation, 10).await;
}

async fn idle_costs(plan: TenantPlan, most: u64) {
    let mut rig = Rig::new(Spec {
        people: 10,
        plan,
        ..Spec::default()
    })
    .await;
    let list = rig.tasks_list("Plan");
    for person in 0..10 {
        rig.add_task(list, person, "Report");
    }
    rig.cycle_all().await;
    rig.assert_settled().await;
    let (requests, states) = (rig.farm.exchange.stats.snapshot().total, rig.registry.states());
    rig.assert_idle().await;
    let used = rig.farm.exchange.stats.snapshot().total - requests;
    assert!(used <= most, "{used} requests for ten idle users");
    assert_eq!(rig.registry.states(), states, "a saved state was read or written");
}
