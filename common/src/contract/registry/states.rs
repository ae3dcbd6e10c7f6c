//! Sync states.

use std::sync::Arc;

use super::{at, enrolment, with_users};
use crate::contract::{key, tenant_id, user_id};
use crate::registry::{Enrolment, EnrolmentResult, Registry, SaveResult, StoredState};
use crate::tasks::spawn;

/// The first state is saved over nothing, the next ones over the present version, and none over another
/// version.
pub async fn a_state_is_saved_only_over_the_version_expected(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let ana = key("a", "ana");
    let save = |expected, blob: &'static [u8]| {
        let registry = registry.clone();
        async move {
            registry
                .save_sync_state(&enrolment("a", "ana"), expected, b"f", blob)
                .await
                .unwrap()
        }
    };
    assert_eq!(registry.sync_state(&ana).await.unwrap(), None);
    assert_eq!(save(1, b"too early").await, SaveResult::VersionConflict);
    assert_eq!(registry.sync_state(&ana).await.unwrap(), None);
    assert_eq!(save(0, b"one").await, SaveResult::Stored(1));
    assert_eq!(save(0, b"again").await, SaveResult::VersionConflict);
    assert_eq!(save(1, b"two").await, SaveResult::Stored(2));
    assert_eq!(save(1, b"late").await, SaveResult::VersionConflict);
    assert_eq!(save(3, b"early").await, SaveResult::VersionConflict);
    assert_eq!(save(u64::MAX, b"absurd").await, SaveResult::VersionConflict);
    assert_eq!(
        registry.sync_state(&ana).await.unwrap(),
        Some(StoredState {
            version: 2,
            fingerprint: b"f".to_vec(),
            blob: b"two".to_vec(),
        })
    );
}

/// A worker that finishes after the opt-out leaves nothing behind.
pub async fn a_withdrawn_user_s_state_is_neither_kept_nor_saved(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let ana = key("a", "ana");
    registry
        .save_sync_state(&enrolment("a", "ana"), 0, b"f", b"one")
        .await
        .unwrap();
    registry.withdraw(&ana).await.unwrap();
    for expected in [0, 1] {
        assert_eq!(
            registry
                .save_sync_state(&enrolment("a", "ana"), expected, b"f", b"late")
                .await
                .unwrap(),
            SaveResult::VersionConflict
        );
    }
    registry.enrol(&enrolment("a", "ana")).await.unwrap();
    assert_eq!(registry.sync_state(&ana).await.unwrap(), None);
    assert_eq!(
        registry
            .save_sync_state(&enrolment("ghost", "ana"), 0, b"f", b"x")
            .await
            .unwrap(),
        SaveResult::VersionConflict
    );
}

/// Makes the registry drop a state by a change to another mailbox and back.
async fn forget(registry: &dyn Registry, of: &Enrolment) {
    let elsewhere = Enrolment {
        mailbox: "elsewhere@elsewhere.example".parse().unwrap(),
        ..of.clone()
    };
    for enrolment in [&elsewhere, of] {
        assert_eq!(registry.enrol(enrolment).await.unwrap(), EnrolmentResult::Updated);
    }
}

/// A worker that still holds the dropped state cannot save it over the new one.
pub async fn a_forgotten_state_starts_anew_with_a_version_never_used(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let ana = key("a", "ana");
    let enrolled = enrolment("a", "ana");
    registry
        .save_sync_state(&enrolled, 0, b"f", b"one")
        .await
        .unwrap();
    forget(&*registry, &enrolled).await;
    assert_eq!(registry.sync_state(&ana).await.unwrap(), None);
    assert_eq!(
        registry
            .enrolments_with_fingerprints(&ana.tenant, std::slice::from_ref(&ana.user))
            .await
            .unwrap(),
        [(enrolled.clone(), None)]
    );
    let save = |expected| registry.save_sync_state(&enrolled, expected, b"f", b"new");
    assert_eq!(save(1).await.unwrap(), SaveResult::VersionConflict);
    assert_eq!(save(0).await.unwrap(), SaveResult::Stored(2));
    assert_eq!(
        save(1).await.unwrap(),
        SaveResult::VersionConflict,
        "1 was another state"
    );
    assert_eq!(registry.sync_state(&ana).await.unwrap().unwrap().version, 2);
}

/// Links into the old mailbox have no meaning in the new one.
pub async fn another_mailbox_forgets_the_state(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let ana = enrolment("a", "ana");
    registry.save_sync_state(&ana, 0, b"f", b"one").await.unwrap();
    registry.enrol(&ana).await.unwrap();
    assert!(registry.sync_state(&ana.key).await.unwrap().is_some());
    let moved = Enrolment {
        mailbox: "ana@new.example".parse().unwrap(),
        ..ana.clone()
    };
    registry.enrol(&moved).await.unwrap();
    assert_eq!(registry.sync_state(&ana.key).await.unwrap(), None);
    assert_eq!(
        registry.save_sync_state(&ana, 1, b"f", b"late").await.unwrap(),
        SaveResult::VersionConflict
    );
}

/// A worker that read the enrolment before the mailbox changed has no version to compare, and still must not
/// save.
pub async fn a_first_state_of_another_mailbox_is_not_saved(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let before = enrolment("a", "ana");
    let moved = Enrolment {
        mailbox: "ana@new.example".parse().unwrap(),
        ..before.clone()
    };
    registry.enrol(&moved).await.unwrap();
    let save = |of, expected| registry.save_sync_state(of, expected, b"f", b"state");
    assert_eq!(save(&before, 0).await.unwrap(), SaveResult::VersionConflict);
    assert_eq!(registry.sync_state(&before.key).await.unwrap(), None);
    assert_eq!(save(&moved, 0).await.unwrap(), SaveResult::Stored(1));
    for expected in [0, 1] {
        assert_eq!(
            save(&before, expected).await.unwrap(),
            SaveResult::VersionConflict
        );
    }
    assert_eq!(save(&moved, 1).await.unwrap(), SaveResult::Stored(2));
}

/// Versions begin anew with an opt-in, so a state under an earlier opt-in must not match one.
pub async fn a_state_of_an_earlier_opt_in_is_not_saved(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let before = enrolment("a", "ana");
    let save = |of, expected| registry.save_sync_state(of, expected, b"f", b"state");
    assert_eq!(save(&before, 0).await.unwrap(), SaveResult::Stored(1));
    registry.withdraw(&before.key).await.unwrap();
    let again = Enrolment {
        opted_in_at: at(5),
        ..before.clone()
    };
    registry.enrol(&again).await.unwrap();
    assert_eq!(save(&before, 0).await.unwrap(), SaveResult::VersionConflict);
    assert_eq!(save(&again, 0).await.unwrap(), SaveResult::Stored(1));
    assert_eq!(save(&before, 1).await.unwrap(), SaveResult::VersionConflict);
    // Another opt-in that changes only the name at the source leaves the enrolment the same.
    let renamed = Enrolment {
        source_login: "renamed".to_owned(),
        opted_in_at: at(9),
        ..again.clone()
    };
    registry.enrol(&renamed).await.unwrap();
    assert_eq!(save(&again, 1).await.unwrap(), SaveResult::Stored(2));
}

/// The mailbox changes while its first state is being saved. Whichever comes first, the new mailbox begins
/// without a state.
pub async fn a_first_state_never_survives_a_change_of_mailbox_at_the_same_time(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let mut current = enrolment("a", "ana");
    for round in 0..20_u32 {
        let moved = Enrolment {
            mailbox: format!("ana{round}@new.example").parse().unwrap(),
            ..current.clone()
        };
        let (saved, enrolled) = tokio::join!(
            spawn({
                let (registry, current) = (registry.clone(), current.clone());
                async move { registry.save_sync_state(&current, 0, b"f", b"old").await }
            }),
            spawn({
                let (registry, moved) = (registry.clone(), moved.clone());
                async move { registry.enrol(&moved).await }
            }),
        );
        saved.unwrap().unwrap();
        enrolled.unwrap().unwrap();
        assert_eq!(
            registry.sync_state(&current.key).await.unwrap(),
            None,
            "round {round}"
        );
        current = moved;
    }
}

/// An enrolment is read with its own state, never with that of another mailbox.
pub async fn an_enrolment_comes_with_its_state(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let ana = enrolment("a", "ana");
    let read = || registry.enrolment_with_state(&ana.key);
    assert_eq!(read().await.unwrap(), Some((ana.clone(), None)));
    registry.save_sync_state(&ana, 0, b"f", b"one").await.unwrap();
    let state = StoredState {
        version: 1,
        fingerprint: b"f".to_vec(),
        blob: b"one".to_vec(),
    };
    assert_eq!(read().await.unwrap(), Some((ana.clone(), Some(state))));
    forget(&*registry, &ana).await;
    assert_eq!(read().await.unwrap(), Some((ana.clone(), None)));
    registry.withdraw(&ana.key).await.unwrap();
    assert_eq!(read().await.unwrap(), None);
    assert_eq!(
        registry.enrolment_with_state(&key("ghost", "ana")).await.unwrap(),
        None
    );
}

/// A blob of a megabyte is not read. Users without a state are left out.
pub async fn fingerprints_come_without_blobs(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana", "ben", "cem"]).await;
    let blob: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    registry
        .save_sync_state(&enrolment("a", "ana"), 0, b"fa", &blob)
        .await
        .unwrap();
    registry
        .save_sync_state(&enrolment("a", "cem"), 0, b"", b"")
        .await
        .unwrap();
    let state = |fingerprint: &[u8]| StoredState {
        version: 1,
        fingerprint: fingerprint.to_vec(),
        blob: Vec::new(),
    };
    forget(&*registry, &enrolment("a", "cem")).await;
    let users = ["cem", "nobody", "ana", "ben", "ana"].map(user_id);
    let mut found = registry
        .enrolments_with_fingerprints(&tenant_id("a"), &users)
        .await
        .unwrap();
    found.sort_by(|one, other| one.0.key.user.cmp(&other.0.key.user));
    assert_eq!(
        found,
        [
            (enrolment("a", "ana"), Some(state(b"fa"))),
            (enrolment("a", "ben"), None),
            (enrolment("a", "cem"), None)
        ]
    );
    assert_eq!(
        registry
            .enrolments_with_fingerprints(&tenant_id("b"), &users)
            .await
            .unwrap(),
        []
    );
    assert_eq!(
        registry.sync_state(&key("a", "ana")).await.unwrap().unwrap().blob,
        blob
    );
}

/// If many save at once over the same version, exactly one state is stored.
pub async fn of_many_savers_one_wins(registry: Arc<dyn Registry>) {
    with_users(&*registry, &["a"], &["ana"]).await;
    let ana = key("a", "ana");
    for round in 0..3_u64 {
        let savers = (0..8_u8).map(|saver| {
            let (registry, ana) = (registry.clone(), enrolment("a", "ana"));
            spawn(async move {
                registry
                    .save_sync_state(&ana, round, &[saver], &[saver])
                    .await
                    .unwrap()
            })
            .detach()
        });
        let answers = futures::future::join_all(savers).await;
        let stored = answers
            .into_iter()
            .map(Result::unwrap)
            .filter(|answer| *answer == SaveResult::Stored(round + 1))
            .count();
        assert_eq!(stored, 1, "round {round}");
        let state = registry.sync_state(&ana).await.unwrap().unwrap();
        assert_eq!(state.fingerprint, state.blob, "never a mixture of two");
    }
}
