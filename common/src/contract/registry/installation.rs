//! The installation's id.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::registry::Registry;

/// Of several callers that are first at the same time, all get one id, and it stays.
pub async fn the_installation_s_id_is_made_once(registry: Arc<dyn Registry>) {
    let asked: Vec<_> = (0..8)
        .map(|_| {
            let registry = Arc::clone(&registry);
            tokio::spawn(async move { registry.installation().await.unwrap() })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for answer in asked {
        ids.insert(answer.await.unwrap());
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(Some(&registry.installation().await.unwrap()), ids.first());
}
