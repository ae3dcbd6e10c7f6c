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
    let first = occupy(&settings, RegistrySharing::Shared).await.unwrap();
    let second = occupy(&settings, RegistrySharing::Shared).await.unwrap();
    let refused = occupy(&settings, RegistrySharing::Exclusive).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.class),
        (Code::RegistryOccupied, ErrorClass::Transient)
    );
    drop((first, second));
    // The server notices the end of a session with a delay.
    let alone = loop {
        match occupy(&settings, RegistrySharing::Exclusive).await {
            Ok(alone) => break alone,
            Err(failure) => assert_eq!(failure.code, Code::RegistryOccupied),
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    for sharing in [RegistrySharing::Shared, RegistrySharing::Exclusive] {
        let refused = occupy(&settings, sharing).await.unwrap_err();
        assert_eq!(refused.code, Code::RegistryOccupied);
        assert!(refused.detail.contains(database.name()), "{refused}");
    }
    drop(alone);
}

#[tokio::test]
async fn a_file_has_no_places() {
    let settings = RegistrySettings::default();
    assert!(
        occupy(&settings, RegistrySharing::Exclusive)
            .await
            .unwrap()
            .is_none()
    );
}
