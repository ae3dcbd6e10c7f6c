//! What the registry remembers about backups and moves.

use std::sync::Arc;

use super::at;
use crate::registry::Registry;

/// The last backup and a move are remembered apart, and a move can be taken back.
pub async fn backups_and_moves_are_remembered(registry: Arc<dyn Registry>) {
    assert_eq!(registry.last_backup().await.unwrap(), None);
    assert_eq!(registry.moved_away().await.unwrap(), None);
    registry.set_moved_away(Some(at(5))).await.unwrap();
    registry.record_backup(at(10)).await.unwrap();
    registry.record_backup(at(20)).await.unwrap();
    assert_eq!(registry.last_backup().await.unwrap(), Some(at(20)));
    assert_eq!(registry.moved_away().await.unwrap(), Some(at(5)));
    registry.set_moved_away(None).await.unwrap();
    assert_eq!(registry.moved_away().await.unwrap(), None);
    assert_eq!(registry.last_backup().await.unwrap(), Some(at(20)));
    registry.checkpoint().await.unwrap();
}
