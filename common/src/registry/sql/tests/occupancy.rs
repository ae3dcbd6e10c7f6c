//! Places on a registry.

use super::server::TestDatabase;
use crate::error::{Code, ErrorClass};
use crate::registry::{RegistrySharing, occupy};
use crate::settings::RegistrySettings;

#[tokio::test]
async fn many_share_a_registry_and_one_alone_excludes_all_others() {
    let Some(database) = TestDatabase::new().await else {
        return;
    };
    let settings = database.settings();
    let first = occupy(&settings, RegistrySharing::Shared, "tasksync")
        .await
        .unwrap();
    let second = occupy(&settings, RegistrySharing::Shared, "tasksync")
        .await
        .unwrap();
    let refused = occupy(&settings, RegistrySharing::Exclusive, "tasksync")
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code, refused.class),
        (Code::RegistryOccupied, ErrorClass::Transient)
    );
    drop((first, second));
    // The server notices the end of a session with a delay.
    let alone = loop {
        match occupy(&settings, RegistrySharing::Exclusive, "tasksync").await {
            Ok(alone) => break alone,
            Err(failure) => assert_eq!(failure.code, Code::RegistryOccupied),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    for sharing in [RegistrySharing::Shared, RegistrySharing::Exclusive] {
        let refused = occupy(&settings, sharing, "tasksync").await.unwrap_err();
        assert_eq!(refused.code, Code::RegistryOccupied);
        assert!(refused.detail.contains(database.name()), "{refused}");
    }
    drop(alone);
}

#[tokio::test]
async fn a_fleet_with_another_key_prefix_is_refused_until_the_first_has_ended() {
    let Some(database) = TestDatabase::new().await else {
        return;
    };
    let settings = database.settings();
    let shared = |prefix: &'static str| occupy(&settings, RegistrySharing::Shared, prefix);
    let first = shared("one").await.unwrap();
    let second = shared("one").await.unwrap();
    let refused = shared("two").await.unwrap_err();
    assert_eq!(
        (refused.code, refused.class),
        (Code::RegistryOccupied, ErrorClass::Transient)
    );
    assert!(
        refused.detail.contains("schedule.key_prefix") && refused.detail.contains("\"two\""),
        "{refused}"
    );
    drop((first, second));
    // The server notices the end of a session with a delay.
    while let Err(failure) = shared("two").await {
        assert_eq!(failure.code, Code::RegistryOccupied);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_file_has_no_places() {
    let settings = RegistrySettings::default();
    assert!(
        occupy(&settings, RegistrySharing::Exclusive, "tasksync")
            .await
            .unwrap()
            .is_none()
    );
}
