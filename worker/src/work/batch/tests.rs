//! The bytes that the answers to one sync may have.

use std::sync::Mutex;

use async_trait::async_trait;
use tasksync_common::clock::SystemClock;
use tasksync_common::clock::monotonic;
use tasksync_common::fleet::MemoryFleet;
use tasksync_common::settings::Settings;

use super::*;
use crate::http::budget;

/// Records how many bytes each sync may receive.
#[derive(Default)]
struct Budgets(Mutex<Vec<Option<usize>>>);

#[async_trait]
impl UserSync for Budgets {
    type LookedUp = ();
    type Work = ();

    async fn look_up(&self, _: &TenantId, users: &[UserId]) -> Vec<Result<(), Failure>> {
        users.iter().map(|_| Ok(())).collect()
    }

    async fn survey(&self, _: &TenantId, users: Vec<(UserId, ())>) -> Vec<Result<Survey<()>, Failure>> {
        users.iter().map(|_| Ok(Survey::Work(()))).collect()
    }

    async fn sync(&self, _: &UserKey, (): (), _: Duration) -> Result<SyncReport, Failure> {
        self.0.lock().unwrap().push(budget::remaining());
        Ok(SyncReport::default())
    }
}

#[tokio::test]
async fn each_sync_has_a_budget_of_bytes_of_its_own() {
    let limits = WorkLimits::of(&Settings::default());
    let sync = Arc::new(Budgets::default());
    let metrics = Arc::default();
    let fleet = Arc::new(MemoryFleet::new(Arc::new(SystemClock)));
    let fleet_member = FleetMember::new(&limits, Arc::clone(&metrics), fleet, Arc::default());
    let tools = Tools {
        sync: &sync,
        limits: &limits,
        metrics: &metrics,
        fleet_member: &fleet_member,
    };
    let batch = UserBatch {
        tenant: "contoso".parse().unwrap(),
        users: ["ana", "ben"].map(|name| name.parse().unwrap()).to_vec(),
        serial: false,
        permission: Permission::Closed,
        started: monotonic(),
    };
    let (ended, mut ends) = mpsc::channel(2);
    work(tools, batch, &CancellationToken::new(), ended).await;
    for _ in 0..2 {
        assert!(matches!(ends.recv().await.unwrap().end, UserEnd::Synced(_)));
    }
    assert_eq!(*sync.0.lock().unwrap(), [Some(BYTES_PER_SYNC); 2]);
}
