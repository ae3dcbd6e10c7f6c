//! The size of requests.

use super::*;

/// Pages that are too large are requested in halves; one item that is too large is refused alone.
#[tokio::test]
async fn a_page_that_is_too_large_is_requested_in_halves() {
    let stage = stage_limited(64 * 1024).await;
    for id in 1..=9 {
        stage.fake.put(id, 1, &[12], "t");
        stage.fake.set(id, &[("Body", json!("x".repeat(20_000)))]);
    }
    stage.fake.set(4, &[("Body", json!("x".repeat(100_000)))]);
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    let ids: Vec<i64> = present(&changes).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [1, 2, 3, 5, 6, 7, 8, 9]);
    let large = changes.tasks.iter().find(|(found, _)| *found == key(4));
    match large {
        Some((_, TaskPresence::Unreadable(failure))) => {
            assert!(failure.detail.contains("item 4"), "{failure}");
        }
        other => panic!("{other:?}"),
    }
    let keys: Vec<SourceKey> = (1..=9).map(key).collect();
    let presences = stage.source.tasks(&person("ana"), &keys).await.unwrap();
    let unread: Vec<bool> = presences
        .iter()
        .map(|(_, presence)| matches!(presence, TaskPresence::Unreadable(_)))
        .collect();
    assert_eq!(
        unread,
        [false, false, false, true, false, false, false, false, false]
    );
}

#[tokio::test]
async fn a_large_answer_is_read_like_a_small_one() {
    let stage = stage(false).await;
    for id in 1..=9 {
        stage.fake.put(id, 1, &[12], "t");
        stage.fake.set(id, &[("Body", json!("x".repeat(20_000)))]);
    }
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(present(&changes).len(), 9);
}

#[tokio::test]
async fn a_query_names_the_columns_it_reads() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    let names_columns = || {
        let body = stage.fake.last("getitems").body;
        body.contains("<ViewFields><FieldRef Name='ID'/>")
    };
    stage.source.everything(&person("ana")).await.unwrap();
    assert!(names_columns());
    stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
    assert!(names_columns());
}
