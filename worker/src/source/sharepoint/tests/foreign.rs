//! Answers about something other than what was asked: nothing in them is used.

use super::*;

impl Stage {
    /// Returns whether an answer about item 17 shows it.
    async fn shows_it(&self) -> bool {
        let presences = self.source.tasks(&person("ana"), &[key(17)]).await;
        presences.is_ok_and(|presences| matches!(presences[0].1, TaskPresence::Present(_)))
    }

    async fn code(&self) -> (Code, String) {
        let failure = self.source.everything(&person("ana")).await.unwrap_err();
        (failure.code, failure.detail)
    }

    fn item(&self, id: i64) -> Value {
        self.fake.items.lock().unwrap()[&id].clone()
    }
}

async fn with_an_item() -> Stage {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    assert!(stage.shows_it().await);
    stage
}

#[tokio::test]
async fn an_item_that_is_requested_alone_is_that_item_of_that_list() {
    let stage = with_an_item().await;
    let (mut other, mut of_another_list) = (stage.item(17), stage.item(17));
    other["Id"] = json!(99);
    of_another_list["odata.editLink"] = json!(format!("Web/Lists(guid'{SITE}')/Items(17)"));
    for wrong in [other, of_another_list] {
        let answer = wrong.clone();
        stage.fake.special(move |request| {
            if request.path.contains("getitems") {
                return Some(Answer::Json(200, json!({"value": []})));
            }
            let alone = request.path.contains("items(17)");
            alone.then(|| Answer::Json(200, answer.clone()))
        });
        assert!(!stage.shows_it().await, "{wrong}");
    }
    stage.fake.special(|request| {
        let query = request.path.contains("getitems");
        query.then(|| Answer::Json(200, json!({"value": []})))
    });
    assert!(stage.shows_it().await, "by its id");
}

#[tokio::test]
async fn an_answer_to_a_query_has_each_requested_item_once_and_no_other() {
    let stage = with_an_item().await;
    let mut other = stage.item(17);
    other["Id"] = json!(99);
    let both = json!([stage.item(17), other]);
    let answer = both.clone();
    stage.fake.special(move |request| {
        let query = request.path.contains("getitems");
        query.then(|| Answer::Json(200, json!({"value": answer})))
    });
    assert!(!stage.shows_it().await);
    let twice = json!([stage.item(17), stage.item(17)]);
    stage.fake.special(move |request| {
        let query = request.path.contains("getitems");
        query.then(|| Answer::Json(200, json!({"value": twice})))
    });
    let (code, detail) = stage.code().await;
    assert_eq!(code, Code::SharePointBadAnswer);
    assert!(detail.contains("comes twice"), "{detail}");
}

#[tokio::test]
async fn the_next_page_goes_on_after_the_last_one() {
    let settings = SharePointSettings {
        page_size: 1,
        ..SharePointSettings::default()
    };
    let stage = stage_with(false, settings).await;
    stage.fake.put(17, 5, &[12], "t");
    let item = stage.item(17);
    stage.fake.special(move |request| {
        let query = request.path.contains("getitems");
        query.then(|| Answer::Json(200, json!({"value": [item]})))
    });
    let (_, detail) = stage.code().await;
    assert!(detail.contains("does not advance"), "{detail}");
    assert_eq!(stage.fake.count("getitems"), 2);
}

#[tokio::test]
async fn the_site_and_its_change_token_are_the_requested_ones() {
    let other = "00000000-0000-4000-8000-00000000000a";
    let stage = stage(false).await;
    stage.fake.special(move |request| {
        let token = token(0).replace(SITE, other);
        let position = request.path.contains("CurrentChangeToken");
        position.then(|| {
            Answer::Json(
                200,
                json!({"Id": SITE, "CurrentChangeToken": {"StringValue": token}}),
            )
        })
    });
    assert_eq!(stage.code().await.0, Code::SharePointForeignAnswer);
    stage.fake.normal();
    stage.pass_five_minutes();
    stage.source.everything(&person("ana")).await.unwrap();
    // The token is renewed after an hour. A site that was recreated gives this answer twice.
    stage.clock.advance(SignedDuration::from_hours(2));
    stage.fake.special(move |request| {
        let token = token(0).replace(SITE, other);
        let position = request.path.contains("CurrentChangeToken");
        position.then(|| {
            Answer::Json(
                200,
                json!({"Id": other, "CurrentChangeToken": {"StringValue": token}}),
            )
        })
    });
    assert_eq!(stage.code().await.0, Code::SharePointForeignAnswer);
    stage.pass_five_minutes();
    stage.source.everything(&person("ana")).await.unwrap();
}

#[tokio::test]
async fn a_web_and_its_lists_are_the_requested_ones() {
    for (part, answer) in [
        (
            "web?$select=Id,Title,Url",
            json!({"Id": SITE, "Title": "Q", "Url": "https://h/sites/q"}),
        ),
        (
            "web/lists?",
            json!({"value": [{"Id": LIST, "Title": "Tasks", "BaseTemplate": 171, "ParentWebUrl": "/sites/q"}]}),
        ),
    ] {
        let stage = stage(false).await;
        stage.fake.special(move |request| {
            let asked = request.path.contains(part);
            asked.then(|| Answer::Json(200, answer.clone()))
        });
        let (code, detail) = stage.code().await;
        assert_eq!(code, Code::SharePointBadAnswer, "{part}");
        assert!(detail.contains("another web"), "{detail}");
    }
    // A web on another server is not asked at all: it would receive the tenant's credentials.
    let stage = stage(false).await;
    stage.fake.special(|request| {
        let webs = ["/sites/pq", "/sites/p", "http://127.0.0.1:1/sites/p/sub"].map(|url| json!({"Url": url}));
        let asked = request.path.contains("web/webs");
        asked.then(|| Answer::Json(200, json!({"value": webs})))
    });
    stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(stage.fake.count("/sites/pq/"), 0);
    assert_eq!(stage.fake.count("web?$select=Id,Title,Url"), 1);
    assert!(
        stage.source.sites[0]
            .catalogue
            .last()
            .unwrap()
            .incomplete()
            .is_none()
    );
}

/// The answer does not say to which web the time zone belongs.
#[tokio::test]
async fn a_time_zone_is_believed_when_two_readings_agree() {
    let stage = stage(false).await;
    let asked = AtomicUsize::new(0);
    stage.fake.special(move |request| {
        request.path.contains("timezone").then(|| {
            let bias = if asked.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) {
                480
            } else {
                -60
            };
            let information = json!({"Bias": bias, "StandardBias": 0, "DaylightBias": -60});
            Answer::Json(200, json!({"Id": 4, "Information": information}))
        })
    });
    stage.fake.put(17, 5, &[12], "t");
    let all = stage.source.everything(&person("ana")).await.unwrap();
    assert!(!all.locations[0].holds.contains(Field::Due));
    stage.fake.normal();
    stage.clock.advance(SignedDuration::from_mins(11));
    let all = stage.source.everything(&person("ana")).await.unwrap();
    assert!(all.locations[0].holds.contains(Field::Due));
}

#[tokio::test]
async fn a_batch_that_answers_fewer_requests_is_made_one_by_one() {
    let stage = stage(true).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.special(|request| {
        let part = "--r\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 404 X\r\n\r\n\r\n--r--\r\n";
        let batch = request.path.contains("$batch");
        batch.then(|| {
            Answer::With(
                200,
                "Content-Type",
                "multipart/mixed; boundary=r",
                part.to_owned(),
            )
        })
    });
    let keys = [key(98), key(99)];
    let presences = stage.source.tasks(&person("ana"), &keys).await.unwrap();
    let gone =
        |(_, presence): &(SourceKey, TaskPresence)| *presence == TaskPresence::Absent(Absence::Deleted);
    assert!(presences.iter().all(gone), "{presences:?}");
    assert_eq!(stage.fake.count("$batch"), 1);
}

#[tokio::test]
async fn a_list_that_changed_is_neither_missed_nor_unread() {
    let stage = with_an_item().await;
    let first = stage.source.everything(&person("ana")).await.unwrap();
    stage.pass_five_minutes();
    stage.fake.change(2, None);
    let changes = stage.changes("ana", &first.cursor, &[17]).await;
    assert_eq!((present(&changes), changes.unread.len()), (vec![(17, true)], 0));
}
