//! Saved stamps.

use std::sync::Arc;

use super::{at, disabled, enrolment, failure, tenant, with_users};
use crate::contract::{key, tenant_id, user_id};
use crate::registry::{LateUsers, Registry, Tenant};
use crate::schedule::{FailureStreak, SavedStamp};

fn stamp(user: &str, stamp: i64, last_success: Option<i64>) -> SavedStamp {
    SavedStamp {
        user: user_id(user),
        stamp: at(stamp),
        last_success: last_success.map(at),
        failing: None,
    }
}

/// A newer stamp replaces an older one. A failure keeps the last success.
pub async fn stamps_are_kept_and_start_with_the_opt_in(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana", "ben", "cem"]).await;
    let a = tenant_id("a");
    let all = |registry: Arc<dyn Registry>| async move {
        registry.stamps(&tenant_id("a"), None, 10).await.unwrap()
    };
    assert_eq!(
        all(registry.clone()).await,
        [
            stamp("ana", 0, None),
            stamp("ben", 0, None),
            stamp("cem", 0, None)
        ]
    );
    registry
        .save_stamps(&a, &[stamp("ben", 70, Some(60)), stamp("ana", 50, None)])
        .await
        .unwrap();
    registry.save_stamps(&a, &[stamp("ben", 90, None)]).await.unwrap();
    registry.save_stamps(&a, &[]).await.unwrap();
    assert_eq!(
        all(registry.clone()).await,
        [
            stamp("ana", 50, None),
            stamp("ben", 90, Some(60)),
            stamp("cem", 0, None)
        ]
    );
    let after = user_id("ana");
    assert_eq!(
        registry.stamps(&a, Some(&after), 1).await.unwrap(),
        [stamp("ben", 90, Some(60))]
    );
}

/// Withdrawn users and users who were never enrolled have no stamp. The stamp of a disabled user counts enough
/// failures that the next success is a recovery.
pub async fn withdrawn_and_foreign_users_have_no_stamp_and_disabled_ones_say_so(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a", "b"], &["ana", "ben", "cem"]).await;
    let a = tenant_id("a");
    let stamps = ["ana", "ben", "cem", "nobody"].map(|user| stamp(user, 70, Some(70)));
    registry.save_stamps(&a, &stamps).await.unwrap();
    registry.save_stamps(&tenant_id("ghost"), &stamps).await.unwrap();
    registry
        .set_enrolment_state(&key("a", "ana"), &disabled())
        .await
        .unwrap();
    registry.withdraw(&key("a", "ben")).await.unwrap();
    let failing = |since, attempts| SavedStamp {
        failing: Some(FailureStreak {
            since: at(since),
            attempts,
            failure: failure(),
        }),
        ..stamp("ana", 70, Some(70))
    };
    // The number of failures was never saved.
    assert_eq!(
        registry.stamps(&a, None, 10).await.unwrap(),
        [failing(60, 10), stamp("cem", 70, Some(70))]
    );
    // A saved number of failures below the one that disables, and one above it.
    for (saved, read) in [(3, 10), (12, 12)] {
        registry.save_stamps(&a, &[failing(80, saved)]).await.unwrap();
        assert_eq!(registry.stamps(&a, None, 1).await.unwrap(), [failing(80, read)]);
    }
    let others = registry.stamps(&tenant_id("b"), None, 10).await.unwrap();
    assert_eq!(others.len(), 3);
    assert!(others.iter().all(|saved| saved.stamp == at(0)));
    registry.enrol(&enrolment("a", "ben")).await.unwrap();
    assert_eq!(
        registry.stamps(&a, Some(&user_id("ana")), 1).await.unwrap(),
        [stamp("ben", 0, None)],
        "an old stamp does not come back"
    );
}

/// Beginning, number and reason of the failures are kept from the first one on; a success clears them.
pub async fn failures_in_a_row_are_kept_until_a_success(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let a = tenant_id("a");
    let failed = |second, attempts| SavedStamp {
        failing: Some(FailureStreak {
            since: at(second),
            attempts,
            failure: failure(),
        }),
        ..stamp("ana", second, None)
    };
    let read = || async { registry.stamps(&a, None, 9).await.unwrap().remove(0) };
    assert!(read().await.is_first());
    registry.save_stamps(&a, &[failed(10, 1)]).await.unwrap();
    assert_eq!(read().await, failed(10, 1));
    registry
        .save_stamps(&a, &[failed(20, 2), failed(30, 3)])
        .await
        .unwrap();
    let failing = read().await.failing.unwrap();
    assert_eq!((failing.since, failing.attempts), (at(10), 3));
    registry
        .save_stamps(&a, &[stamp("ana", 40, Some(40))])
        .await
        .unwrap();
    assert_eq!(read().await, stamp("ana", 40, Some(40)));
}

/// For users who were never synced, the time of the opt-in counts. Disabled users and tenants do not count.
pub async fn late_users_are_counted_by_tenant(registry: Arc<dyn Registry>) {
    assert_eq!(registry.oldest_success(None).await.unwrap(), None);
    with_users(&*registry, &["a", "b", "off"], &["ana", "ben", "cem"]).await;
    for (tenant, user, success) in [
        ("a", "ana", 500),
        ("a", "ben", 40),
        ("b", "ana", 500),
        ("b", "ben", 500),
    ] {
        registry
            .save_stamps(&tenant_id(tenant), &[stamp(user, success, Some(success))])
            .await
            .unwrap();
    }
    registry
        .set_enrolment_state(&key("b", "cem"), &disabled())
        .await
        .unwrap();
    let off = Tenant {
        enabled: false,
        ..tenant("off")
    };
    registry.put_tenant(&off).await.unwrap();
    let late = LateUsers {
        tenant: tenant_id("a"),
        users: 2,
        oldest: at(0),
    };
    assert_eq!(registry.late(at(100), 9).await.unwrap(), [late]);
    assert_eq!(registry.late(at(0), 9).await.unwrap(), []);
    assert_eq!(registry.oldest_success(None).await.unwrap(), Some(at(0)));
    let of_b = registry.oldest_success(Some(&tenant_id("b"))).await.unwrap();
    assert_eq!(of_b, Some(at(500)));
}
