//! The change feed: which user gets which changes, and how long a cursor is valid.

use super::*;

#[tokio::test]
async fn everything_then_idle_then_changes_for_two_people() {
    for batches in [false, true] {
        let stage = stage(batches).await;
        stage.fake.put(17, 5, &[12, 13], "both");
        stage.fake.put(18, 1, &[13], "bo's");
        let ana = stage.source.everything(&person("ana")).await.unwrap();
        assert!(ana.complete);
        assert_eq!(present(&ana), [(17, true)]);
        assert_eq!(ana.locations[0].name, "Projects - Tasks");
        let (_, TaskPresence::Present(item)) = &ana.tasks[0] else {
            panic!()
        };
        assert_eq!(
            (item.version.as_str(), item.task.due),
            ("5", Some("2026-12-04".parse().unwrap()))
        );
        let bo = stage.source.everything(&person("bo")).await.unwrap();
        assert_eq!(present(&bo), [(17, false), (18, false)]);

        // Nothing happened: one request for the feed serves both users.
        stage.pass_five_minutes();
        let before = stage.fake.total();
        let idle = stage.changes("ana", &ana.cursor, &[17]).await;
        assert!(idle.tasks.is_empty() && !idle.complete);
        assert!(stage.changes("bo", &bo.cursor, &[17, 18]).await.tasks.is_empty());
        assert_eq!(stage.fake.total() - before, 1);

        // One item is reassigned from Bo to Ana, one is deleted: the item is read once for both.
        stage.pass_five_minutes();
        stage.fake.put(18, 2, &[12], "ana's now");
        stage.fake.change(2, Some(18));
        stage.fake.items.lock().unwrap().remove(&17);
        stage.fake.change(3, Some(17));
        let before = stage.fake.count("getitems");
        let ana = stage.changes("ana", &idle.cursor, &[17]).await;
        assert_eq!(present(&ana), [(18, true)]);
        assert!(
            ana.tasks
                .contains(&(key(17), TaskPresence::Absent(Absence::Deleted)))
        );
        let bo = stage.changes("bo", &bo.cursor, &[17, 18]).await;
        assert!(
            bo.tasks
                .contains(&(key(18), TaskPresence::Absent(Absence::NotAssigned)))
        );
        assert_eq!(stage.fake.count("getitems") - before, 1);
    }
}

#[tokio::test]
async fn refused_and_old_cursors_are_invalid() {
    let stage = stage(false).await;
    let first = stage.source.everything(&person("ana")).await.unwrap();
    stage.clock.advance(SignedDuration::from_hours(24 * 31));
    let asked = stage.fake.total();
    let linked = BTreeSet::new();
    let old = stage
        .source
        .changes(&person("ana"), &first.cursor, &linked)
        .await
        .unwrap_err();
    assert_eq!(old.class, ErrorClass::CursorInvalid);
    assert_eq!(stage.fake.total(), asked);
    let other = first
        .cursor
        .replace(SITE, "00000000-0000-4000-8000-00000000000a")
        .replace("\"b\":1", "\"b\":2");
    stage.fake.special(|request| {
        let foreign = request.body.contains("00000000000a");
        foreign.then(|| {
            error(
                500,
                "-2130575173, Microsoft.SharePoint.SPException",
                "Invalid change token.",
            )
        })
    });
    let foreign = stage
        .source
        .changes(&person("ana"), &other, &linked)
        .await
        .unwrap_err();
    assert_eq!(
        (foreign.class, foreign.code),
        (ErrorClass::CursorInvalid, Code::SharePointTokenExpired)
    );
}

#[tokio::test]
async fn a_new_process_answers_old_cursors_and_reaches_back_for_older_ones() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.put(18, 5, &[12], "t");
    let at = |number: usize| {
        let tokens = [(stage.source.sites[0].name.clone(), token(number))].into();
        cursor::SourceCursor::new(
            "2026-11-22T13:00:00Z".parse().unwrap(),
            tokens,
            std::collections::BTreeMap::new(),
        )
        .to_text()
    };
    stage.fake.change(2, Some(17));
    stage.fake.change(2, Some(18));
    assert_eq!(present(&stage.changes("ana", &at(1), &[]).await), [(18, true)]);
    let before = stage.fake.count("getchanges");
    assert_eq!(
        present(&stage.changes("ana", &at(0), &[]).await),
        [(17, true), (18, true)]
    );
    assert!(stage.fake.count("getchanges") > before);
    let before = stage.fake.count("getchanges");
    assert_eq!(present(&stage.changes("ana", &at(0), &[]).await).len(), 2);
    assert_eq!(stage.fake.count("getchanges"), before);
}

#[tokio::test]
async fn users_at_the_same_moment_share_one_reading_of_the_feed() {
    let stage = stage(false).await;
    let first = stage.source.everything(&person("ana")).await.unwrap();
    stage.pass_five_minutes();
    let before = stage.fake.count("getchanges");
    let linked = BTreeSet::new();
    let ana = person("ana");
    let calls = (0..20).map(|_| stage.source.changes(&ana, &first.cursor, &linked));
    for result in futures::future::join_all(calls).await {
        assert!(result.unwrap().tasks.is_empty());
    }
    assert_eq!(stage.fake.count("getchanges") - before, 1);
}

#[tokio::test]
async fn an_idle_site_gets_a_new_token_before_the_old_one_grows_too_old() {
    let stage = stage(false).await;
    let first = stage.source.everything(&person("ana")).await.unwrap();
    stage.clock.advance(SignedDuration::from_hours(25));
    let second = stage.changes("ana", &first.cursor, &[]).await;
    let birth = |cursor: &str| cursor::SourceCursor::parse(cursor).unwrap().birth();
    assert!(birth(&first.cursor).duration_until(birth(&second.cursor)) >= SignedDuration::from_hours(24));
}

#[tokio::test]
async fn single_tasks_are_read_anew() {
    let stage = stage(true).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.put(18, 5, &[13], "t");
    let keys = [key(99), key(18), key(17), SourceKey::from_stored("x")];
    let presences = stage.source.tasks(&person("ana"), &keys).await.unwrap();
    assert_eq!(
        presences.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(),
        keys
    );
    assert_eq!(presences[0].1, TaskPresence::Absent(Absence::Deleted));
    assert_eq!(presences[1].1, TaskPresence::Absent(Absence::NotAssigned));
    assert!(matches!(&presences[2].1, TaskPresence::Present(item) if item.version == "5"));
    assert_eq!(presences[3].1, TaskPresence::Absent(Absence::LocationGone));
}
