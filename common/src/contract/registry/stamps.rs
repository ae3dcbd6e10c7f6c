//! Saved stamps.

use std::sync::Arc;

use super::*;
use crate::schedule::SavedStamp;

fn stamp(user: &str, stamp: i64, last_success: Option<i64>) -> SavedStamp {
    SavedStamp {
        user: user_id(user),
        stamp: at(stamp),
        last_success: last_success.map(at),
    }
}

/// A newer stamp replaces an older one; a failure does not forget the last success.
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

/// Only who is to be synced is put back into the order.
pub async fn disabled_withdrawn_and_foreign_users_have_no_stamp(registry: Arc<dyn Registry>) {
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
    assert_eq!(
        registry.stamps(&a, None, 10).await.unwrap(),
        [stamp("cem", 70, Some(70))]
    );
    let others = registry.stamps(&tenant_id("b"), None, 10).await.unwrap();
    assert_eq!(others.len(), 3);
    assert!(others.iter().all(|saved| saved.stamp == at(0)));
    registry.enrol(&enrolment("a", "ben")).await.unwrap();
    assert_eq!(
        registry.stamps(&a, None, 1).await.unwrap(),
        [stamp("ben", 0, None)],
        "an old stamp does not come back"
    );
}
