//! The whole source against a small server of canned answers: what is asked, how often, and what comes of it.

mod fake;
mod session;

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::SignedDuration;
use serde_json::{Value, json};
use tasksync_common::clock::ManualClock;
use tasksync_common::error::{Code, ErrorClass};
use tasksync_common::model::{Field, FieldSet, LocationKey, Percent, SourceKey, Status, Task};
use tasksync_common::registry::{Credentials, SecretRef};
use tasksync_common::settings::OutboundSettings;

use super::*;
use crate::source::Absence;

use fake::{Answer, Fake, LIST, SITE, error, serve, token};

struct Stage {
    fake: Arc<Fake>,
    source: SharePointSource,
    clock: Arc<ManualClock>,
    _secret: tempfile::NamedTempFile,
}

async fn stage(batches: bool) -> Stage {
    stage_with(batches, SharePointSettings::default()).await
}

/// A stage whose answers may have `bytes` bytes.
async fn stage_limited(bytes: usize) -> Stage {
    stage_within(false, SharePointSettings::default(), bytes).await
}

async fn stage_with(batches: bool, settings: SharePointSettings) -> Stage {
    stage_within(
        batches,
        settings,
        OutboundSettings::default().maximum_answer_bytes,
    )
    .await
}

async fn stage_within(batches: bool, settings: SharePointSettings, maximum_answer_bytes: usize) -> Stage {
    let fake = Arc::new(Fake {
        requests: Mutex::default(),
        items: Mutex::default(),
        changes: Mutex::default(),
        permissions: Mutex::new(HashMap::from([("ana".into(), 5), ("bo".into(), 1)])),
        special: Mutex::default(),
        batches,
        digests: AtomicUsize::new(0),
        verbose: AtomicBool::new(false),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(Arc::clone(&fake), listener));
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "pw").unwrap();
    let clock = ManualClock::at("2026-11-22T14:00:00Z".parse().unwrap());
    let outbound = OutboundSettings {
        allow_plain_http: true,
        allowed_networks: vec!["127.0.0.0/8".into()],
        maximum_answer_bytes,
        ..OutboundSettings::default()
    };
    let http = Http::new(outbound, clock.clone()).unwrap();
    let connection = SharePointConnection {
        sites: vec![format!("http://{address}/sites/p/").parse().unwrap()],
        credentials: Credentials::Basic {
            user: "svc".into(),
            password: SecretRef::File(secret.path().into()),
        },
    };
    let source = SharePointSource::new(
        http.clone(),
        Authenticator::new(http),
        connection,
        "contoso".parse().unwrap(),
        clock.clone(),
        Servers::new(25, clock.clone()),
        settings,
    );
    Stage {
        fake,
        source,
        clock,
        _secret: secret,
    }
}

fn person(login: &str) -> Person {
    Person { login: login.into() }
}

fn key(id: i64) -> SourceKey {
    LocationKey::sharepoint_list(LIST).task(id)
}

fn present(changes: &SourceChanges) -> Vec<(i64, bool)> {
    changes
        .tasks
        .iter()
        .filter_map(|(key, presence)| match presence {
            Presence::Present(item) => Some((key.item_id().unwrap(), item.writable)),
            Presence::Absent(_) | Presence::Unreadable(_) => None,
        })
        .collect()
}

impl Stage {
    fn later(&self) {
        self.clock.advance(SignedDuration::from_secs(300));
    }

    async fn changes(&self, login: &str, cursor: &str, linked: &[i64]) -> SourceChanges {
        let linked: BTreeSet<SourceKey> = linked.iter().map(|id| key(*id)).collect();
        self.source.refresh(&[cursor]).await.unwrap();
        self.source
            .changes(&person(login), cursor, &linked)
            .await
            .unwrap()
    }
}

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
        let (_, Presence::Present(item)) = &ana.tasks[0] else {
            panic!()
        };
        assert_eq!(
            (item.version.as_str(), item.task.due),
            ("5", Some("2026-12-04".parse().unwrap()))
        );
        let bo = stage.source.everything(&person("bo")).await.unwrap();
        assert_eq!(present(&bo), [(17, false), (18, false)]);

        // Nothing happened: one request, the feed, for both.
        stage.later();
        let before = stage.fake.total();
        let idle = stage.changes("ana", &ana.cursor, &[17]).await;
        assert!(idle.tasks.is_empty() && !idle.complete);
        assert!(stage.changes("bo", &bo.cursor, &[17, 18]).await.tasks.is_empty());
        assert_eq!(stage.fake.total() - before, 1);

        // One item is given from Bo to Ana, one deleted: the item is read once for both.
        stage.later();
        stage.fake.put(18, 2, &[12], "ana's now");
        stage.fake.change(2, Some(18));
        stage.fake.items.lock().unwrap().remove(&17);
        stage.fake.change(3, Some(17));
        let before = stage.fake.count("getitems");
        let ana = stage.changes("ana", &idle.cursor, &[17]).await;
        assert_eq!(present(&ana), [(18, true)]);
        assert!(ana.tasks.contains(&(key(17), Presence::Absent(Absence::Deleted))));
        let bo = stage.changes("bo", &bo.cursor, &[17, 18]).await;
        assert!(
            bo.tasks
                .contains(&(key(18), Presence::Absent(Absence::NotAssigned)))
        );
        assert_eq!(stage.fake.count("getitems") - before, 1);
    }
}

#[tokio::test]
async fn access_that_comes_later_brings_the_task() {
    let stage = stage(true).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.permissions.lock().unwrap().insert("ana".into(), 0);
    let first = stage.source.everything(&person("ana")).await.unwrap();
    assert!(first.tasks.is_empty());
    stage.later();
    stage.fake.permissions.lock().unwrap().insert("ana".into(), 5);
    stage.fake.change(11, None);
    let second = stage.changes("ana", &first.cursor, &[]).await;
    assert_eq!(present(&second), [(17, true)]);
    stage.later();
    stage.fake.permissions.lock().unwrap().insert("ana".into(), 0);
    stage.fake.change(12, None);
    let third = stage.changes("ana", &second.cursor, &[17]).await;
    assert_eq!(third.tasks, [(key(17), Presence::Absent(Absence::NoAccess))]);
}

#[tokio::test]
async fn a_deleted_list_takes_its_linked_tasks_along() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    let first = stage.source.everything(&person("ana")).await.unwrap();
    stage.later();
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
    // Once is not enough: the list may only be hidden for a while.
    let second = stage.changes("ana", &first.cursor, &[17]).await;
    assert!(second.tasks.is_empty());
    assert_eq!(second.unread[0].key, key(17).location());
    assert_eq!(second.unread[0].failure.code, Code::SharePointListGone);
    let told = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
    assert!(matches!(told[0].1, Presence::Unreadable(_)));
    stage.later();
    let third = stage.changes("ana", &second.cursor, &[17]).await;
    assert_eq!(third.tasks, [(key(17), Presence::Absent(Absence::LocationGone))]);
    assert!(third.unread.is_empty());
}

/// What cannot be seen is not gone, however often it cannot be seen.
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
            stage.later();
            let changes = stage.changes("ana", &first.cursor, &[17]).await;
            assert!(changes.tasks.is_empty(), "{what}");
            assert_eq!(changes.unread.len(), 1, "{what}");
            let told = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
            assert!(matches!(told[0].1, Presence::Unreadable(_)), "{what}");
        }
        stage.fake.normal();
        stage.later();
        stage.source.check().await;
        let told = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
        assert!(matches!(told[0].1, Presence::Present(_)), "{what}");
    }
}

/// A process that has just been started knows no list of a closed web.
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
    // The web may even be hidden: the list is then missing in every web that can be seen.
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
        second.later();
        let told = second
            .source
            .tasks(&person("ana"), std::slice::from_ref(&other))
            .await
            .unwrap();
        assert!(matches!(told[0].1, Presence::Unreadable(_)), "{told:?}");
    }
    for _ in 0..3 {
        stage.later();
        let told = stage
            .source
            .tasks(&person("ana"), std::slice::from_ref(&other))
            .await
            .unwrap();
        match &told[0].1 {
            Presence::Unreadable(failure) => assert!(failure.detail.contains("/sites/p/closed"), "{failure}"),
            other => panic!("{other:?}"),
        }
    }
}

/// One list that cannot be read keeps neither the other lists nor other people waiting.
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
        // The cursor does not cover what was not read.
        stage.later();
        let second = stage.changes("ana", &first.cursor, &[]).await;
        assert_eq!(second.unread.len(), 1);
        stage.fake.normal();
        stage.later();
        let third = stage.changes("ana", &second.cursor, &[]).await;
        assert_eq!(present(&third), [(17, true)]);
        assert!(third.unread.is_empty());
        let asked = stage.fake.count("getitems");
        stage.later();
        assert!(stage.changes("ana", &third.cursor, &[17]).await.tasks.is_empty());
        assert_eq!(stage.fake.count("getitems"), asked);
    }
}

/// Half a character, a value of another kind or a column that was lost on the way is one item's matter.
#[tokio::test]
async fn one_item_that_cannot_be_read_is_that_items_matter() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.put(18, 5, &[12], "u");
    stage.fake.items.lock().unwrap().get_mut(&18).unwrap()["DueDate"] = json!("soon");
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(present(&changes), [(17, true)]);
    match &changes.tasks[1] {
        (unread, Presence::Unreadable(failure)) => {
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
        let told = stage
            .source
            .tasks(&person("ana"), &[key(17), key(18)])
            .await
            .unwrap();
        assert!(matches!(told[0].1, Presence::Present(_)), "{lost}");
        assert!(matches!(told[1].1, Presence::Unreadable(_)), "{lost}");
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
    let (_, Presence::Present(item)) = &changes.tasks[0] else {
        panic!("{changes:?}")
    };
    assert_eq!(item.task.title, "emoji cut \u{fffd}");
}

/// A permission that cannot be read is neither "may see" nor "may not see".
#[tokio::test]
async fn an_unreadable_permission_leaves_the_task_as_it_is() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.put(18, 5, &[12], "u");
    stage.fake.items.lock().unwrap().get_mut(&18).unwrap()["HasUniqueRoleAssignments"] = json!(true);
    stage.fake.special(|request| {
        request
            .path
            .contains("items(18)/getusereffectivepermissions")
            .then(|| Answer::Json(200, json!({"High": "0"})))
    });
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(present(&changes), [(17, true)]);
    assert!(
        matches!(changes.tasks[1].1, Presence::Unreadable(_)),
        "{changes:?}"
    );
}

/// Gives `answer` to the first request whose path contains `part`; the server answers as ever afterwards.
fn lie_once(fake: &Fake, part: &'static str, status: u16, answer: Value) {
    let told = AtomicBool::new(false);
    fake.special(move |request| {
        let lies = request.path.contains(part) && !told.swap(true, Ordering::SeqCst);
        lies.then(|| Answer::Json(status, answer.clone()))
    });
}

/// Every judgement about a person's tasks rests on their id in the site and on their permissions.
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
        lie_once(&stage.fake, part, status, answer.clone());
        let told = stage.source.tasks(&person("ana"), &[key(17)]).await;
        let absent = |(_, told): &(SourceKey, Presence)| matches!(told, Presence::Absent(_));
        assert!(
            !told.iter().flatten().any(absent),
            "{part} {status} {answer}: {told:?}"
        );
        let told = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
        assert!(matches!(told[0].1, Presence::Present(_)), "{part}: {told:?}");
    }
}

/// A right that one answer denies would set a person's edit back.
#[tokio::test]
async fn one_wrong_answer_about_rights_makes_no_task_read_only() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    let read_only = json!({"High": "432", "Low": "1011030763"});
    lie_once(&stage.fake, "getusereffectivepermissions", 200, read_only);
    let told = stage.source.tasks(&person("ana"), &[key(17)]).await;
    let read_only =
        |(_, told): &(SourceKey, Presence)| matches!(told, Presence::Present(item) if !item.writable);
    assert!(!told.iter().flatten().any(read_only), "{told:?}");
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
        let told = stage.source.tasks(&person("ana"), &[key(17)]).await;
        assert!(
            !matches!(&told, Ok(told) if !matches!(told[0].1, Presence::Unreadable(_))),
            "{told:?}"
        );
    }
    // A query that leaves an item out does not prove that it was deleted.
    stage.fake.special(|request| {
        request
            .path
            .contains("getitems")
            .then(|| Answer::Json(200, json!({"value": []})))
    });
    let told = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
    assert!(matches!(told[0].1, Presence::Present(_)), "{told:?}");
    // Another person's account.
    stage.fake.special(|request| {
        request
            .path
            .contains("ensureuser")
            .then(|| Answer::Json(200, json!({"Id": 13, "LoginName": "i:0#.w|bo"})))
    });
    let failure = stage.source.everything(&person("cleo")).await.unwrap_err();
    assert_eq!(failure.code, Code::SharePointForeignAnswer);
    // The feed of another site.
    stage.later();
    stage.fake.special(|request| {
        let other = token(7).replace(SITE, "00000000-0000-4000-8000-00000000000a");
        request.path.contains("getchanges").then(|| {
            Answer::Json(200, json!({"value": [{"ChangeToken": {"StringValue": other}, "ChangeType": 3, "ListId": LIST, "ItemId": 17}]}))
        })
    });
    let failure = stage.source.everything(&person("ana")).await.unwrap_err();
    assert_eq!(failure.code, Code::SharePointForeignAnswer);
}

/// A write counts as done only with proof.
#[tokio::test]
async fn a_success_without_a_new_version_is_read_back() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    let merge = |request: &fake::Request| request.headers.contains_key("if-match");
    for answer in [
        || Answer::Json(200, json!({})),
        || {
            Answer::With(
                200,
                "Content-Type",
                "text/html",
                "<html>Maintenance</html>".into(),
            )
        },
        || Answer::With(200, "ETag", "\"5\"", String::new()),
        || Answer::With(204, "X-Nothing", "1", String::new()),
        || Answer::With(204, "ETag", "\"6\"", String::new()),
    ] {
        stage.fake.put(17, 5, &[12], "t");
        stage.fake.special(move |request| merge(request).then(answer));
        let open = stage.source.update(&key(17), "5", &progress()).await.unwrap_err();
        assert_eq!(
            (open.class, open.code),
            (ErrorClass::OutcomeUnknown, Code::SharePointOutcomeUnknown)
        );
        // The same answer after the write was carried out.
        let mut done = stage.fake.items.lock().unwrap()[&17].clone();
        done["odata.etag"] = json!("\"6\"");
        done["Status"] = json!("Completed");
        done["PercentComplete"] = json!(1);
        stage.fake.items.lock().unwrap().insert(17, done);
        let written = stage.source.update(&key(17), "5", &progress()).await.unwrap();
        assert_eq!(written.version, "6");
    }
}

#[tokio::test]
async fn a_deletion_without_proof_is_looked_up() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.special(|request| {
        request
            .path
            .contains("recycle")
            .then(|| Answer::With(200, "X-Nothing", "1", String::new()))
    });
    let open = stage.source.delete(&key(17), "5").await.unwrap_err();
    assert_eq!(open.class, ErrorClass::OutcomeUnknown);
    // Also when it names a place in the recycle bin.
    stage.fake.special(|request| {
        request
            .path
            .contains("recycle")
            .then(|| Answer::Json(200, json!({"value": fake::SITE})))
    });
    let open = stage.source.delete(&key(17), "5").await.unwrap_err();
    assert_eq!(open.class, ErrorClass::OutcomeUnknown);
}

/// Without the zone of the site, no date is read or written, and the task counts as changed when it is known again.
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
    let (_, Presence::Present(without)) = &first.tasks[0] else {
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
    let (_, Presence::Present(with)) = &second.tasks[0] else {
        panic!("{second:?}")
    };
    assert_eq!(with.task.due, Some("2026-12-04".parse().unwrap()));
    assert_ne!(with.version, without.version);
    // Once known, a zone holds although it cannot be read for a while.
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

/// Pages that are too large are asked for in halves; one item that is too large is refused alone.
#[tokio::test]
async fn a_page_that_is_too_large_is_asked_for_in_halves() {
    let stage = stage_limited(64 * 1024).await;
    for id in 1..=9 {
        stage.fake.put(id, 1, &[12], "t");
        stage.fake.items.lock().unwrap().get_mut(&id).unwrap()["Body"] = json!("x".repeat(20_000));
    }
    stage.fake.items.lock().unwrap().get_mut(&4).unwrap()["Body"] = json!("x".repeat(100_000));
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    let ids: Vec<i64> = present(&changes).into_iter().map(|(id, _)| id).collect();
    assert_eq!(ids, [1, 2, 3, 5, 6, 7, 8, 9]);
    let large = changes.tasks.iter().find(|(found, _)| *found == key(4));
    match large {
        Some((_, Presence::Unreadable(failure))) => assert!(failure.detail.contains("item 4"), "{failure}"),
        other => panic!("{other:?}"),
    }
    let keys: Vec<SourceKey> = (1..=9).map(key).collect();
    let told = stage.source.tasks(&person("ana"), &keys).await.unwrap();
    let unread: Vec<bool> = told
        .iter()
        .map(|(_, presence)| matches!(presence, Presence::Unreadable(_)))
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
        stage.fake.items.lock().unwrap().get_mut(&id).unwrap()["Body"] = json!("x".repeat(20_000));
    }
    let changes = stage.source.everything(&person("ana")).await.unwrap();
    assert_eq!(present(&changes).len(), 9);
}

#[tokio::test]
async fn a_query_names_the_columns_it_reads() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.source.everything(&person("ana")).await.unwrap();
    assert!(
        stage
            .fake
            .last("getitems")
            .body
            .contains("<ViewFields><FieldRef Name='ID'/>")
    );
    stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
    assert!(
        stage
            .fake
            .last("getitems")
            .body
            .contains("<ViewFields><FieldRef Name='ID'/>")
    );
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
    // A page of something before SharePoint, from every list of the site, is the site's failure.
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

#[tokio::test]
async fn a_pause_is_kept_by_everybody_without_asking_again() {
    let stage = stage(false).await;
    stage
        .fake
        .special(|_| Some(Answer::With(429, "Retry-After", "120", String::new())));
    let throttled = |failure: Failure| match failure.class {
        ErrorClass::Throttled { retry_after } => retry_after,
        other => panic!("{other:?}"),
    };
    let first = stage.source.everything(&person("ana")).await.unwrap_err();
    assert_eq!(throttled(first), Some(Duration::from_secs(120)));
    let asked = stage.fake.total();
    stage.clock.advance(SignedDuration::from_secs(20));
    let second = stage.source.everything(&person("bo")).await.unwrap_err();
    assert_eq!(throttled(second), Some(Duration::from_secs(100)));
    assert_eq!(stage.fake.total(), asked);
    stage.clock.advance(SignedDuration::from_secs(100));
    stage.fake.normal();
    assert!(stage.source.everything(&person("bo")).await.is_ok());
}

fn progress() -> TaskChanges {
    TaskChanges {
        task: Task {
            status: Status::Completed,
            percent: Percent::DONE,
            ..Task::default()
        },
        fields: FieldSet::of(&[Field::Progress]),
    }
}

#[tokio::test]
async fn an_update_is_conditional_and_tells_the_new_version() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    let written = stage.source.update(&key(17), "5", &progress()).await.unwrap();
    assert_eq!(written.version, "77");
    let request = stage.fake.last_write("items(17)");
    assert_eq!(request.headers["x-http-method"], "MERGE");
    assert_eq!(request.headers["if-match"], "\"5\"");
    assert_eq!(request.headers["x-requestdigest"], "digest-0");
    let body: Value = serde_json::from_str(&request.body).unwrap();
    assert_eq!(body, json!({"Status": "Completed", "PercentComplete": 1.0}));
    let class = |failure: Failure| failure.class;
    let conflict = stage.source.update(&key(17), "4", &progress()).await.unwrap_err();
    assert_eq!(class(conflict), ErrorClass::Conflict);
    let gone = stage.source.update(&key(99), "4", &progress()).await.unwrap_err();
    assert_eq!(class(gone), ErrorClass::Gone);
    stage
        .fake
        .special(|request| request.headers.contains_key("if-match").then_some(Answer::Cut));
    let open = stage.source.update(&key(17), "5", &progress()).await.unwrap_err();
    assert_eq!(
        (open.class, open.code),
        (ErrorClass::OutcomeUnknown, Code::SharePointOutcomeUnknown)
    );
    stage.fake.special(|request| {
        let write = request.headers.contains_key("if-match");
        write.then(|| {
            error(
                400,
                "-2130575340, Microsoft.SharePoint.SPException",
                "Invalid data.",
            )
        })
    });
    let refused = stage.source.update(&key(17), "5", &progress()).await.unwrap_err();
    assert_eq!(
        (refused.class, refused.code),
        (ErrorClass::Refused, Code::SharePointItemRefused)
    );
}

#[tokio::test]
async fn a_stale_digest_is_renewed_once() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.special(|request| {
        let stale = request
            .headers
            .get("x-requestdigest")
            .is_some_and(|digest| digest == "digest-0");
        stale.then(|| {
            error(
                403,
                "-2130575252, Microsoft.SharePoint.SPException",
                "The security validation is invalid.",
            )
        })
    });
    assert!(stage.source.update(&key(17), "5", &progress()).await.is_ok());
    assert_eq!(
        stage.fake.last_write("items(17)").headers["x-requestdigest"],
        "digest-1"
    );
    stage.fake.special(|request| {
        let write = request.headers.contains_key("if-match");
        write.then(|| {
            error(
                403,
                "-2130575252, Microsoft.SharePoint.SPException",
                "The security validation is invalid.",
            )
        })
    });
    let before = stage.fake.count("items(17)");
    assert_eq!(
        stage
            .source
            .update(&key(17), "5", &progress())
            .await
            .unwrap_err()
            .class,
        ErrorClass::Transient
    );
    assert_eq!(stage.fake.count("items(17)") - before, 2);
}

#[tokio::test]
async fn a_delete_compares_the_version_first_and_recycles() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    assert_eq!(
        stage.source.delete(&key(17), "4").await.unwrap_err().class,
        ErrorClass::Conflict
    );
    assert_eq!(stage.fake.count("recycle"), 0);
    stage.source.delete(&key(17), "5").await.unwrap();
    assert_eq!(stage.fake.count("recycle"), 1);
    stage.source.delete(&key(99), "5").await.unwrap();
    stage
        .source
        .delete(&SourceKey::from_stored("other"), "5")
        .await
        .unwrap();
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
        cursor::Cursor::new(
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
    stage.later();
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
    let birth = |cursor: &str| cursor::Cursor::parse(cursor).unwrap().birth();
    assert!(birth(&first.cursor).duration_until(birth(&second.cursor)) >= SignedDuration::from_hours(24));
}

#[tokio::test]
async fn single_tasks_are_read_anew() {
    let stage = stage(true).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.put(18, 5, &[13], "t");
    let keys = [key(99), key(18), key(17), SourceKey::from_stored("x")];
    let told = stage.source.tasks(&person("ana"), &keys).await.unwrap();
    assert_eq!(told.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), keys);
    assert_eq!(told[0].1, Presence::Absent(Absence::Deleted));
    assert_eq!(told[1].1, Presence::Absent(Absence::NotAssigned));
    assert!(matches!(&told[2].1, Presence::Present(item) if item.version == "5"));
    assert_eq!(told[3].1, Presence::Absent(Absence::LocationGone));
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
    assert!(stage.source.check_person(&person("ana")).await.is_ok());
    let unknown = stage.source.check_person(&person("nobody")).await.unwrap_err();
    assert_eq!(
        (unknown.class, unknown.code),
        (ErrorClass::Refused, Code::SharePointUserUnknown)
    );
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
    // A POST without a body says so: some servers insist.
    assert_eq!(stage.fake.last("contextinfo").headers["content-length"], "0");
}
