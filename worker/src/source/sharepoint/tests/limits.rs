//! The limits of what one server may send: pages, entries, lists and webs.

use super::*;

impl Stage {
    async fn refusal(&self) -> Failure {
        self.source.everything(&person("ana")).await.unwrap_err()
    }
}

#[tokio::test]
async fn a_person_has_so_many_tasks_and_bytes_of_tasks_and_no_more() {
    let limits = [
        SharePointSettings {
            person_items: 3,
            ..SharePointSettings::default()
        },
        SharePointSettings {
            person_bytes: 1_100,
            ..SharePointSettings::default()
        },
    ];
    for settings in limits {
        let stage = stage_with(false, settings).await;
        for id in 1..=3 {
            stage.fake.put(id, 1, &[12], "t");
        }
        let all = stage.source.everything(&person("ana")).await.unwrap();
        assert_eq!(present(&all).len(), 3);
        stage.fake.put(4, 1, &[12], "t");
        assert_eq!(stage.refusal().await.code, Code::SharePointAnswerTooLarge);
    }
}

#[tokio::test]
async fn a_page_with_more_items_than_requested_is_no_answer() {
    let settings = SharePointSettings {
        page_size: 2,
        ..SharePointSettings::default()
    };
    let stage = stage_with(false, settings).await;
    for id in 1..=3 {
        stage.fake.put(id, 1, &[12], "t");
    }
    let items: Vec<Value> = (1..=3)
        .map(|id| stage.fake.items.lock().unwrap()[&id].clone())
        .collect();
    stage.fake.special(move |request| {
        let listing = request.path.contains("getitems");
        listing.then(|| Answer::Json(200, json!({"value": items})))
    });
    let failure = stage.refusal().await;
    assert!(failure.detail.contains("3 items to a request of 2"), "{failure}");
}

#[tokio::test]
async fn a_list_with_more_pages_than_are_read_is_unread_and_no_shorter_list() {
    let settings = SharePointSettings {
        page_size: 2,
        pages_per_list: 2,
        ..SharePointSettings::default()
    };
    let stage = stage_with(false, settings).await;
    for id in 1..=3 {
        stage.fake.put(id, 1, &[12], "t");
    }
    let all = stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(present(&all).len(), 3);
    stage.fake.put(4, 1, &[12], "t");
    let all = stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!((present(&all).len(), all.unread.len()), (0, 1));
    assert_eq!(all.unread[0].failure.code, Code::SharePointAnswerTooLarge);
}

#[tokio::test]
async fn the_lists_inside_an_answer_have_a_limit() {
    let stage = stage(false).await;
    stage.fake.put(17, 1, &[12], "t");
    stage.fake.put(18, 1, &[12], "t");
    let many: Vec<i64> = (12..=1_012).collect();
    // One item with too many people is unread; the others of its list are read.
    stage.fake.set(17, &[("AssignedToId", json!(many))]);
    let all = stage.source.everything(&person("ana")).await.unwrap();
    assert!(all.unread.is_empty(), "{:?}", all.unread);
    assert_eq!(present(&all), [(18, true)]);
    assert!(
        all.tasks
            .iter()
            .any(|(listed_key, presence)| *listed_key == key(17)
                && matches!(presence, TaskPresence::Unreadable(_)))
    );
    stage.fake.set(17, &[("AssignedToId", json!(many[..1_000]))]);
    let all = stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(present(&all), [(17, true), (18, true)]);
    stage.pass_five_minutes();
    stage.fake.special(|request| {
        let entries = "{},".repeat(20_000);
        let feed = request.path.contains("getchanges");
        let body = format!("{{\"value\":[{entries}{{}}]}}");
        feed.then_some(Answer::With(200, "Content-Type", "application/json", body))
    });
    let failure = stage.refusal().await;
    assert!(failure.detail.contains("more than 20000 entries"), "{failure}");
}

#[tokio::test]
async fn an_overlong_change_token_is_not_kept() {
    let stage = stage(false).await;
    let long = "x".repeat(301);
    let answered_token = long.clone();
    stage.fake.special(move |request| {
        let position = request.path.contains("CurrentChangeToken");
        position.then(|| {
            Answer::Json(
                200,
                json!({"Id": SITE, "CurrentChangeToken": {"StringValue": answered_token}}),
            )
        })
    });
    let first = stage.source.everything(&person("ana")).await.unwrap();
    assert!(first.cursor.len() < 200, "{}", first.cursor);
    stage.pass_five_minutes();
    stage.fake.special(move |request| {
        let change =
            json!({"ChangeToken": {"StringValue": long}, "ChangeType": 2, "ListId": LIST, "ItemId": 17});
        let feed = request.path.contains("getchanges");
        feed.then(|| Answer::Json(200, json!({"value": [change]})))
    });
    assert_eq!(stage.refusal().await.code, Code::SharePointBadAnswer);
}

/// The rest of a feed with many pages is read by the next readings.
#[tokio::test]
async fn a_feed_without_end_takes_a_few_pages_at_a_time() {
    let settings = SharePointSettings {
        feed_pages: 2,
        ..SharePointSettings::default()
    };
    let stage = stage_with(false, settings).await;
    stage.source.everything(&person("ana")).await.unwrap();
    stage.pass_five_minutes();
    let page = AtomicUsize::new(0);
    stage.fake.special(move |request| {
        let feed = request.path.contains("getchanges");
        feed.then(|| {
            let number = page.fetch_add(1, Ordering::SeqCst).min(10) + 1;
            let token = json!({"StringValue": token(number)});
            let change = json!({"ChangeToken": token, "ChangeType": 2, "ListId": LIST, "ItemId": 17});
            Answer::Json(200, json!({"value": [change]}))
        })
    });
    stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(stage.fake.count("getchanges"), 2);
}

/// For a cursor older than the log, a limited number of pages is read. Beyond that the cursor is invalid, and
/// everything is listed.
#[tokio::test]
async fn an_old_cursor_reaches_back_a_few_pages_and_no_further() {
    let settings = SharePointSettings {
        feed_pages: 2,
        ..SharePointSettings::default()
    };
    let stage = stage_with(false, settings).await;
    let at = |number: usize| {
        let tokens = [(stage.source.sites[0].name.clone(), token(number))].into();
        let birth = "2026-11-22T13:00:00Z".parse().unwrap();
        cursor::SourceCursor::new(birth, tokens, std::collections::BTreeMap::new()).to_text()
    };
    for _ in 0..60 {
        stage.fake.change(2, Some(17));
    }
    stage.changes("ana", &at(55), &[]).await;
    let page = AtomicUsize::new(0);
    stage.fake.special(move |request| {
        let feed = request.path.contains("getchanges");
        feed.then(|| {
            let number = page.fetch_add(1, Ordering::SeqCst).min(40) + 1;
            let token = json!({"StringValue": token(number)});
            let change = json!({"ChangeToken": token, "ChangeType": 2, "ListId": LIST, "ItemId": 17});
            Answer::Json(200, json!({"value": [change]}))
        })
    });
    let asked = stage.fake.count("getchanges");
    let linked = BTreeSet::new();
    let changes = stage.source.changes(&person("ana"), &at(0), &linked).await;
    assert_eq!(changes.unwrap_err().class, ErrorClass::CursorInvalid);
    assert_eq!(stage.fake.count("getchanges") - asked, 2);
}

#[tokio::test]
async fn a_collection_has_twenty_pages_and_its_pages_lie_in_its_web() {
    for (elsewhere, asked) in [(false, 20), (true, 1)] {
        let stage = stage(false).await;
        let page = AtomicUsize::new(0);
        stage.fake.special(move |request| {
            let lists = request.path.contains("/_api/web/lists?");
            lists.then(|| {
                let number = page.fetch_add(1, Ordering::SeqCst);
                let web = if elsewhere { "q" } else { "p" };
                let next = format!(
                    "http://{}/sites/{web}/_api/web/lists?page={number}",
                    request.headers["host"]
                );
                let mut answer = json!({"value": []});
                if number < 30 {
                    answer["odata.nextLink"] = json!(next);
                }
                Answer::Json(200, answer)
            })
        });
        assert_eq!(stage.refusal().await.code, Code::SharePointBadAnswer);
        assert_eq!(stage.fake.count("/_api/web/lists?"), asked);
    }
}

/// A walk that does not see everything reports so: what it leaves out is not gone.
#[tokio::test]
async fn a_walk_reads_so_many_webs_and_lists_and_no_more() {
    let other = "3f1c2f0e-0000-4000-8000-000000000002";
    let settings = SharePointSettings {
        webs_per_site: 2,
        lists_per_site: 1,
        ..SharePointSettings::default()
    };
    let stage = stage_with(false, settings).await;
    stage.fake.special(move |request| {
        if request.path.contains("/_api/web/webs") {
            let webs = ["/sites/p/a", "/sites/p/b"].map(|url| json!({"Url": url}));
            return Some(Answer::Json(200, json!({"value": webs})));
        }
        if request.path.contains("/_api/web/lists?") {
            let list = |id: &str| json!({"Id": id, "Title": "Tasks", "BaseTemplate": 171, "Hidden": false});
            return Some(Answer::Json(200, json!({"value": [list(LIST), list(other)]})));
        }
        let columns = request.path.contains(other) && request.path.contains("/fields?");
        columns.then(|| Answer::Json(200, columns::tests::columns(false)))
    });
    stage.source.everything(&person("ana")).await.unwrap();
    let found = stage.source.sites[0].catalogue.last().unwrap();
    assert_eq!(found.lists.len(), 1);
    assert!(found.incomplete().is_some());
    assert!(stage.fake.count("/sites/p/a/") > 0);
    assert_eq!(stage.fake.count("/sites/p/b/"), 0);
}
