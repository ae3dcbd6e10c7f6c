//! The journal.

use std::sync::Arc;

use super::at;
use crate::contract::key;
use crate::model::SourceKey;
use crate::registry::{JournalEntry, JournalKind, Registry};

fn entry(tenant: &str, user: &str, seconds: i64, kind: &str) -> JournalEntry {
    JournalEntry {
        at: at(seconds),
        user: key(tenant, user),
        task: SourceKey::from_stored("sp|3f1c2f0e|17"),
        kind: JournalKind::from(kind.to_owned()),
        before: Some(serde_json::json!({"title": "Größe", "percent": 50})),
        after: None,
    }
}

fn kinds(entries: &[JournalEntry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.kind.name()).collect()
}

/// Entries are ordered by time, and those of the same time by the order of writing. They are returned
/// unchanged.
pub async fn the_newest_entries_come_first_and_only_the_user_s(registry: Arc<dyn Registry>) {
    registry
        .journal(&[
            entry("a", "ana", 20, "second"),
            entry("a", "ben", 25, "ben's"),
            entry("b", "ana", 26, "foreign"),
            entry("a", "ana", 10, "first"),
        ])
        .await
        .unwrap();
    registry.journal(&[]).await.unwrap();
    registry.journal(&[entry("a", "ana", 20, "third")]).await.unwrap();
    let ana = key("a", "ana");
    let all = registry.journal_of(&ana, 10).await.unwrap();
    assert_eq!(kinds(&all), ["third", "second", "first"]);
    assert_eq!(all[2], entry("a", "ana", 10, "first"));
    assert_eq!(kinds(&registry.journal_of(&ana, 1).await.unwrap()), ["third"]);
    assert!(
        registry
            .journal_of(&key("a", "nobody"), 10)
            .await
            .unwrap()
            .is_empty()
    );
}

/// The oldest entries are dropped first, and younger ones never.
pub async fn old_entries_are_dropped_a_few_at_a_time(registry: Arc<dyn Registry>) {
    let entries: Vec<_> = (0..10)
        .map(|n| entry("a", "ana", n, &format!("entry {n}")))
        .collect();
    registry.journal(&entries).await.unwrap();
    assert_eq!(registry.prune_journal(at(5), 3).await.unwrap(), 3);
    let ana = key("a", "ana");
    assert_eq!(
        registry
            .journal_of(&ana, 20)
            .await
            .unwrap()
            .last()
            .unwrap()
            .kind
            .name(),
        "entry 3"
    );
    assert_eq!(registry.prune_journal(at(5), 3).await.unwrap(), 2);
    assert_eq!(registry.prune_journal(at(5), 3).await.unwrap(), 0);
    assert_eq!(registry.journal_of(&ana, 20).await.unwrap().len(), 5);
}
