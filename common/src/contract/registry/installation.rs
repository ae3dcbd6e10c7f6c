//! The installation's id.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::InstallationId;
use crate::registry::Registry;
use crate::tasks::spawn;

/// If several callers are first at the same time, all get the same id, and it stays.
pub async fn the_installation_s_id_is_made_once(registry: Arc<dyn Registry>) {
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let registry = Arc::clone(&registry);
            spawn(async move { registry.installation().await.unwrap() }).detach()
        })
        .collect();
    let mut ids = BTreeSet::new();
    for answer in asked {
        ids.insert(answer.await.unwrap());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(Some(&registry.installation().await.unwrap()), ids.first());
}

/// An operator can replace the id, whether one existed or not.
pub async fn the_installation_s_id_can_be_replaced(registry: Arc<dyn Registry>) {
    for _ in 0..2 {
        let id = InstallationId::random();
        registry.set_installation(id).await.unwrap();
        assert_eq!(registry.installation().await.unwrap(), id);
    }
}
