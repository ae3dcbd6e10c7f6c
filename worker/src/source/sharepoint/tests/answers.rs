//! How the source handles wrong, strange and unreadable answers.

use super::*;

/// Half a character, a value of another type or a column lost in transit affects only its item.
#[tokio::test]
async fn one_item_that_cannot_be_read_is_that_items_matter() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.put(18, 5, &[12], "u");
    stage.fake.set(18, &[("DueDate", json!("soon"))]);
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(present(&changes), [(17, true)]);
    match &changes.tasks[1] {
        (unread, TaskPresence::Unreadable(failure)) => {
            assert_eq!(unread, &key(18));
            assert!(
                failure.detail.contains("DueDate") && failure.detail.contains("item 18"),
                "{failure}"
            );
        }
        other => panic!("{other:?}"),
    }
    for lost in ["AssignedToId", "Title", "HasUniqueRoleAssignments"] {
        stage.fake.put(18, 6, &[12], "u");
        stage
            .fake
            .items
            .lock()
            .unwrap()
            .get_mut(&18)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(lost);
        let presences = stage
            .source
            .tasks(&person("ana"), &[key(17), key(18)])
            .await
            .unwrap();
        assert!(matches!(presences[0].1, TaskPresence::Present(_)), "{lost}");
        assert!(matches!(presences[1].1, TaskPresence::Unreadable(_)), "{lost}");
    }
}

#[tokio::test]
async fn half_a_character_is_read_as_a_replacement_character() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "emoji cut X");
    let item = stage.fake.items.lock().unwrap()[&17]
        .to_string()
        .replace('X', "\\ud83d");
    stage.fake.special(move |request| {
        let body = format!("{{\"value\":[{item}]}}");
        let items = request.path.contains("getitems");
        items.then_some(Answer::With(200, "Content-Type", "application/json", body))
    });
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    let (_, TaskPresence::Present(item)) = &changes.tasks[0] else {
        panic!("{changes:?}")
    };
    assert_eq!(item.task.title, "emoji cut \u{fffd}");
}

/// A permission that cannot be read neither grants nor denies a right.
#[tokio::test]
async fn an_unreadable_permission_leaves_the_task_as_it_is() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.put(18, 5, &[12], "u");
    stage.fake.set(18, &[("HasUniqueRoleAssignments", json!(true))]);
    stage.fake.special(|request| {
        request
            .path
            .contains("items(18)/getusereffectivepermissions")
            .then(|| Answer::Json(200, json!({"High": "0"})))
    });
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(present(&changes), [(17, true)]);
    assert!(
        matches!(changes.tasks[1].1, TaskPresence::Unreadable(_)),
        "{changes:?}"
    );
}

/// Gives `answer` to the first request whose path contains `part`; later requests are answered normally.
fn answer_wrongly_once(fake: &Fake, part: &'static str, status: u16, answer: Value) {
    let answered = AtomicBool::new(false);
    fake.special(move |request| {
        let applies = request.path.contains(part) && !answered.swap(true, Ordering::SeqCst);
        applies.then(|| Answer::Json(status, answer.clone()))
    });
}

/// Every decision about a person's tasks depends on their id in the site and on their permissions.
#[tokio::test]
async fn one_wrong_answer_about_a_person_takes_no_task_away() {
    let unknown = json!({"odata.error": {
        "code": "-2146232832, Microsoft.SharePoint.SPException",
        "message": {"value": "The specified user could not be found."},
    }});
    let nothing = json!({"High": "432", "Low": "1011030766"});
    for (part, status, answer) in [
        ("ensureuser", 200, json!({"Id": 13, "LoginName": "i:0#.w|ana"})),
        ("ensureuser", 500, unknown),
        ("getusereffectivepermissions", 200, nothing),
    ] {
        let stage = stage(false).await;
        stage.fake.put(17, 5, &[12], "t");
        answer_wrongly_once(&stage.fake, part, status, answer.clone());
        let presences = stage.source.tasks(&person("ana"), &[key(17)]).await;
        let absent = |(_, presence): &(SourceKey, TaskPresence)| matches!(presence, TaskPresence::Absent(_));
        assert!(
            !presences.iter().flatten().any(absent),
            "{part} {status} {answer}: {presences:?}"
        );
        let presences = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
        assert!(
            matches!(presences[0].1, TaskPresence::Present(_)),
            "{part}: {presences:?}"
        );
    }
}

/// One answer that denies a right would set a person's edit back.
#[tokio::test]
async fn one_wrong_answer_about_rights_makes_no_task_read_only() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    let read_only = json!({"High": "432", "Low": "1011030763"});
    answer_wrongly_once(&stage.fake, "getusereffectivepermissions", 200, read_only);
    let presences = stage.source.tasks(&person("ana"), &[key(17)]).await;
    let read_only = |(_, presence): &(SourceKey, TaskPresence)| matches!(presence, TaskPresence::Present(item) if !item.writable);
    assert!(!presences.iter().flatten().any(read_only), "{presences:?}");
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(present(&changes), [(17, true)]);
}

/// An answer that belongs to another request changes nothing.
#[tokio::test]
async fn an_answer_about_something_else_is_refused() {
    let foreign = json!({
        "Id": 99, "odata.etag": "\"5\"", "Title": "other", "Modified": "2026-11-22T13:00:00Z", "AssignedToId": [12],
        "Status": "In Progress", "PercentComplete": 0.5, "DueDate": null, "HasUniqueRoleAssignments": false, "Body": null,
        "StartDate": null, "Priority": "(2) Normal", "OData__DateCompleted": null, "ActualWork": null,
    });
    let mut of_another_list = foreign.clone();
    of_another_list["Id"] = json!(17);
    of_another_list["odata.editLink"] = json!(format!("Web/Lists(guid'{SITE}')/Items(17)"));
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.source.everything(&person("ana")).await.unwrap();
    for wrong in [foreign, of_another_list] {
        let answer = wrong.clone();
        stage.fake.special(move |request| {
            if request.path.contains("getitems") {
                return Some(Answer::Json(200, json!({"value": [answer]})));
            }
            request
                .path
                .contains("items(")
                .then(|| Answer::Json(200, answer.clone()))
        });
        let presences = stage.source.tasks(&person("ana"), &[key(17)]).await;
        assert!(
            !matches!(&presences, Ok(presences) if !matches!(presences[0].1, TaskPresence::Unreadable(_))),
            "{presences:?}"
        );
    }
    // A query that leaves an item out does not prove that it was deleted.
    stage.fake.special(|request| {
        request
            .path
            .contains("getitems")
            .then(|| Answer::Json(200, json!({"value": []})))
    });
    let presences = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
    assert!(
        matches!(presences[0].1, TaskPresence::Present(_)),
        "{presences:?}"
    );
    // An answer about another person's account.
    stage.fake.special(|request| {
        request
            .path
            .contains("ensureuser")
            .then(|| Answer::Json(200, json!({"Id": 13, "LoginName": "i:0#.w|bo"})))
    });
    let failure = stage.source.everything(&person("cleo")).await.unwrap_err();
    assert_eq!(failure.code, Code::SharePointForeignAnswer);
    // An answer with the feed of another site.
    stage.pass_five_minutes();
    stage.fake.special(|request| {
        let other = token(7).replace(SITE, "00000000-0000-4000-8000-00000000000a");
        request.path.contains("getchanges").then(|| {
            Answer::Json(200, json!({"value": [{"ChangeToken": {"StringValue": other}, "ChangeType": 3, "ListId": LIST, "ItemId": 17}]}))
        })
    });
    let failure = stage.source.everything(&person("ana")).await.unwrap_err();
    assert_eq!(failure.code, Code::SharePointForeignAnswer);
}

/// Without the site's zone no date is read or written, and the task counts as changed once the zone is known
/// again.
#[tokio::test]
async fn a_zone_that_cannot_be_read_shifts_no_date() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.special(|request| {
        request
            .path
            .contains("timezone")
            .then(|| Answer::Json(200, json!({})))
    });
    let first = stage.source.everything(&person("ana")).await.unwrap();
    let (_, TaskPresence::Present(without)) = &first.tasks[0] else {
        panic!("{first:?}")
    };
    assert_eq!(without.task.due, None);
    assert!(!first.locations[0].holds.contains(Field::Due));
    let due = TaskChanges {
        task: Task {
            due: Some("2026-12-05".parse().unwrap()),
            ..Task::default()
        },
        fields: FieldSet::of(&[Field::Due]),
    };
    let written = stage
        .source
        .update(&key(17), &without.version, &due)
        .await
        .unwrap();
    assert_eq!(
        (written.version.as_str(), stage.fake.count("items(17)")),
        ("5", 0)
    );
    stage
        .source
        .update(&key(17), &without.version, &progress())
        .await
        .unwrap();
    assert_eq!(stage.fake.last_write("items(17)").headers["if-match"], "\"5\"");
    stage.fake.normal();
    stage.clock.advance(SignedDuration::from_mins(11));
    let second = stage.source.everything(&person("ana")).await.unwrap();
    let (_, TaskPresence::Present(with)) = &second.tasks[0] else {
        panic!("{second:?}")
    };
    assert_eq!(with.task.due, Some("2026-12-04".parse().unwrap()));
    assert_ne!(with.version, without.version);
    // Once known, a zone stays in use while it cannot be read.
    stage.fake.special(|request| {
        request
            .path
            .contains("timezone")
            .then(|| Answer::Json(200, json!({})))
    });
    stage.source.check().await;
    let third = stage.source.everything(&person("ana")).await.unwrap();
    assert!(third.locations[0].holds.contains(Field::Due));
}

#[tokio::test]
async fn the_doctor_learns_what_is_wrong() {
    let stage = stage(false).await;
    let checks = stage.source.check().await;
    let facts = checks[0].result.as_ref().unwrap();
    assert_eq!(
        (facts.title.as_str(), facts.lists, facts.may_edit),
        ("Projects", 1, true)
    );
    for lookup in [PersonLookup::Read, PersonLookup::Resolve] {
        assert!(stage.source.check_person(&person("ana"), lookup).await.is_ok());
        let unknown = stage.source.check_person(&person("nobody"), lookup).await;
        let unknown = unknown.unwrap_err();
        assert_eq!(
            (unknown.class, unknown.code),
            (ErrorClass::Refused, Code::SharePointUserUnknown),
            "{lookup:?}"
        );
    }
    let listing = stage.source.everything(&person("nobody")).await.unwrap_err();
    assert_eq!(listing.code, Code::SharePointUserUnknown);
    stage.fake.special(|_| {
        Some(Answer::With(
            200,
            "Content-Type",
            "text/html",
            "<html>Sign in</html>".into(),
        ))
    });
    let failure = stage.source.check().await.remove(0).result.unwrap_err();
    assert_eq!(failure.code, Code::SharePointBadAnswer);
    assert!(failure.detail.contains("text/html") && failure.detail.contains("<html>Sign in"));
    stage.fake.special(|_| Some(Answer::Json(401, json!({}))));
    let failure = stage.source.check().await.remove(0).result.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Refused, Code::SharePointSignInRefused)
    );
}

#[tokio::test]
async fn a_server_without_light_odata_is_spoken_to_in_its_own_way() {
    let stage = stage(false).await;
    stage.fake.verbose.store(true, Ordering::SeqCst);
    stage.fake.put(17, 5, &[12], "t");
    assert_eq!(
        present(&stage.source.everything(&person("ana")).await.unwrap()),
        [(17, true)]
    );
    stage.source.update(&key(17), "5", &progress()).await.unwrap();
    let body: Value = serde_json::from_str(&stage.fake.last_write("items(17)").body).unwrap();
    assert_eq!(body["__metadata"]["type"], "SP.Data.TasksListItem");
    // A POST without a body has a content length of 0: some servers require it.
    assert_eq!(stage.fake.last("contextinfo").headers["content-length"], "0");
}
