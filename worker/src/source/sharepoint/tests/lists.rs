//! Lists: which exist, which are closed to the account, and whether one was read completely.

use super::*;

#[tokio::test]
async fn access_that_comes_later_brings_the_task() {
    let stage = stage(true).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.permissions.lock().unwrap().insert("ana".into(), 0);
    let first = stage.source.everything(&person("ana")).await.unwrap();
    assert!(first.tasks.is_empty());
    stage.pass_five_minutes();
    stage.fake.permissions.lock().unwrap().insert("ana".into(), 5);
    stage.fake.change(11, None);
    let second = stage.changes("ana", &first.cursor, &[]).await;
    assert_eq!(present(&second), [(17, true)]);
    stage.pass_five_minutes();
    stage.fake.permissions.lock().unwrap().insert("ana".into(), 0);
    stage.fake.change(12, None);
    let third = stage.changes("ana", &second.cursor, &[17]).await;
    assert_eq!(third.tasks, [(key(17), TaskPresence::Absent(Absence::NoAccess))]);
}

#[tokio::test]
async fn a_deleted_list_takes_its_linked_tasks_along() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    let first = stage.source.everything(&person("ana")).await.unwrap();
    stage.pass_five_minutes();
    stage.fake.change(3, None);
    stage.fake.special(|request| {
        if request.path.contains("/_api/web/lists?") {
            return Some(Answer::Json(200, json!({"value": []})));
        }
        let gone = request.path.contains(LIST);
        gone.then(|| {
            error(
                404,
                "-2130575322, Microsoft.SharePoint.SPException",
                "List does not exist.",
            )
        })
    });
    // One answer is not enough: the list may only be hidden for a while.
    let second = stage.changes("ana", &first.cursor, &[17]).await;
    assert!(second.tasks.is_empty());
    assert_eq!(second.unread[0].key, key(17).location());
    assert_eq!(second.unread[0].failure.code, Code::SharePointListGone);
    let presences = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
    assert!(matches!(presences[0].1, TaskPresence::Unreadable(_)));
    stage.pass_five_minutes();
    let third = stage.changes("ana", &second.cursor, &[17]).await;
    assert_eq!(
        third.tasks,
        [(key(17), TaskPresence::Absent(Absence::LocationGone))]
    );
    assert!(third.unread.is_empty());
}

/// A list that cannot be seen is not gone, however often that happens.
#[tokio::test]
async fn a_list_that_is_closed_or_answered_by_something_else_is_not_gone() {
    type Reply = fn() -> Answer;
    let answers: [(&str, Reply); 5] = [
        ("closed", || {
            error(
                403,
                "-2147024891, System.UnauthorizedAccessException",
                "Access denied.",
            )
        }),
        ("signed out", || Answer::Json(401, json!({}))),
        ("redirected", || {
            Answer::With(302, "Location", "https://login.example/", String::new())
        }),
        ("a proxy's 404", || {
            Answer::With(404, "Content-Type", "text/html", "<html>Not found</html>".into())
        }),
        ("hidden in a listing", || Answer::Json(200, json!({"Id": SITE}))),
    ];
    for (what, answer) in answers {
        let stage = stage(false).await;
        stage.fake.put(17, 5, &[12], "t");
        let first = stage.source.everything(&person("ana")).await.unwrap();
        stage.fake.change(3, None);
        stage.fake.special(move |request| {
            if request.path.contains("/_api/web/lists?") {
                return Some(Answer::Json(200, json!({"value": []})));
            }
            request.path.contains(LIST).then(answer)
        });
        for _ in 0..3 {
            stage.pass_five_minutes();
            let changes = stage.changes("ana", &first.cursor, &[17]).await;
            assert!(changes.tasks.is_empty(), "{what}");
            assert_eq!(changes.unread.len(), 1, "{what}");
            let presences = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
            assert!(matches!(presences[0].1, TaskPresence::Unreadable(_)), "{what}");
        }
        stage.fake.normal();
        stage.pass_five_minutes();
        stage.source.check().await;
        let presences = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
        assert!(matches!(presences[0].1, TaskPresence::Present(_)), "{what}");
    }
}

/// A process that was just started knows no list of a closed web.
#[tokio::test]
async fn after_a_restart_a_list_of_a_closed_web_is_not_gone() {
    let stage = stage(false).await;
    stage.fake.special(|request| {
        if request.path.contains("/_api/web/webs") {
            return Some(Answer::Json(200, json!({"value": [{"Url": "/sites/p/closed"}]})));
        }
        request.path.contains("/sites/p/closed/_api/").then(|| {
            error(
                403,
                "-2147024891, System.UnauthorizedAccessException",
                "Access denied.",
            )
        })
    });
    let other = LocationKey::sharepoint_list("3f1c2f0e-0000-4000-8000-00000000000f").task(1);
    // The web may even be hidden: the list is then missing in every web that is visible.
    let hidden = |request: &fake::Request| {
        request.path.contains("00000000000f").then(|| {
            error(
                404,
                "-2130575322, Microsoft.SharePoint.SPException",
                "List does not exist.",
            )
        })
    };
    let second = stage_with(false, SharePointSettings::default()).await;
    second.fake.special(hidden);
    for _ in 0..3 {
        second.pass_five_minutes();
        let presences = second
            .source
            .tasks(&person("ana"), std::slice::from_ref(&other))
            .await
            .unwrap();
        assert!(
            matches!(presences[0].1, TaskPresence::Unreadable(_)),
            "{presences:?}"
        );
    }
    for _ in 0..3 {
        stage.pass_five_minutes();
        let presences = stage
            .source
            .tasks(&person("ana"), std::slice::from_ref(&other))
            .await
            .unwrap();
        let TaskPresence::Unreadable(failure) = &presences[0].1 else {
            panic!("{presences:?}");
        };
        assert!(failure.detail.contains("/sites/p/closed"), "{failure}");
    }
}

/// One list that cannot be read delays neither the other lists nor other people.
#[tokio::test]
async fn a_list_that_cannot_be_read_is_named_and_read_once_it_can_be() {
    for code in [
        "-2147024749, Microsoft.SharePoint.SPQueryThrottledException",
        "-2147024860, Microsoft.SharePoint.SPQueryThrottledException",
    ] {
        let stage = stage(false).await;
        stage.fake.put(17, 5, &[12], "t");
        let refuse = move |request: &fake::Request| {
            request
                .path
                .contains("getitems")
                .then(|| error(500, code, "threshold"))
        };
        stage.fake.special(refuse);
        let first = stage.source.everything(&person("ana")).await.unwrap();
        assert!(first.tasks.is_empty() && first.complete);
        assert_eq!(first.unread[0].key, key(17).location());
        assert!(first.unread[0].failure.detail.contains(LIST));
        // The cursor does not cover the list that was not read.
        stage.pass_five_minutes();
        let second = stage.changes("ana", &first.cursor, &[]).await;
        assert_eq!(second.unread.len(), 1);
        stage.fake.normal();
        stage.pass_five_minutes();
        let third = stage.changes("ana", &second.cursor, &[]).await;
        assert_eq!(present(&third), [(17, true)]);
        assert!(third.unread.is_empty());
        let asked = stage.fake.count("getitems");
        stage.pass_five_minutes();
        assert!(stage.changes("ana", &third.cursor, &[17]).await.tasks.is_empty());
        assert_eq!(stage.fake.count("getitems"), asked);
    }
}

#[tokio::test]
async fn a_listing_is_complete_or_its_list_is_unread() {
    let settings = SharePointSettings {
        page_size: 2,
        ..SharePointSettings::default()
    };
    let stage = stage_with(false, settings).await;
    for id in 1..=5 {
        stage.fake.put(id, 1, &[12], "t");
    }
    assert_eq!(
        stage.source.everything(&person("ana")).await.unwrap().tasks.len(),
        5
    );
    stage.fake.special(|request| {
        let second_page = request.body.contains("<Gt>");
        second_page.then(|| error(500, "-1, System.Exception", "broken"))
    });
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    assert!(changes.tasks.is_empty());
    let failure = &changes.unread[0].failure;
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::SharePointError)
    );
    assert!(failure.detail.starts_with("contoso: "));
    // A page from something in front of SharePoint, for every list of the site, is the site's failure.
    stage.fake.special(|request| {
        let items = request.path.contains("getitems");
        items.then(|| {
            Answer::With(
                200,
                "Content-Type",
                "text/html",
                "<html>Maintenance</html>".into(),
            )
        })
    });
    let failure = stage.source.everything(&person("ana")).await.unwrap_err();
    assert_eq!(failure.code, Code::SharePointBadAnswer);
}

#[tokio::test]
async fn a_list_beyond_the_threshold_is_read_whole() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.put(18, 5, &[13], "t");
    let items = stage.fake.items.lock().unwrap().clone();
    stage.fake.special(move |request| {
        if request.path.contains("getitems") && request.body.contains("LookupId") {
            return Some(error(
                500,
                "-2147024860, Microsoft.SharePoint.SPQueryThrottledException",
                "threshold",
            ));
        }
        let items = [items[&17].clone(), items[&18].clone()];
        request
            .path
            .contains("getitems")
            .then(|| Answer::Json(200, json!({"value": items})))
    });
    assert_eq!(
        present(&stage.source.everything(&person("ana")).await.unwrap()),
        [(17, true)]
    );
}
