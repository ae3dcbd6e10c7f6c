//! When a list that cannot be seen counts as gone, and when it does not.

use std::collections::BTreeMap;

use super::*;

fn no_such_list() -> Answer {
    error(
        404,
        "-2130575322, Microsoft.SharePoint.SPException",
        "List does not exist.",
    )
}

fn empty_answer() -> Answer {
    Answer::Json(200, json!({"value": []}))
}

fn asks_for_lists(request: &fake::Request) -> bool {
    request.path.contains("/_api/web/lists?")
}

/// Returns whether this is the check that the site answers, which accompanies a request for a list.
fn asks_for_site(request: &fake::Request) -> bool {
    request.path.ends_with("/_api/web?$select=Id")
}

/// Answers as if no walk showed the list and it did not exist under its id.
fn hidden_and_denied(request: &fake::Request) -> Option<Answer> {
    if asks_for_lists(request) {
        return Some(empty_answer());
    }
    request.path.contains(LIST).then(no_such_list)
}

impl Stage {
    /// Returns a stage on which a walk of this process found the list and read a task.
    async fn with_known_list() -> Self {
        let stage = stage(false).await;
        stage.fake.put(17, 5, &[12], "t");
        assert!(!stage.is_gone().await);
        stage
    }

    async fn is_gone(&self) -> bool {
        let presences = self.source.tasks(&person("ana"), &[key(17)]).await;
        matches!(
            presences.as_deref(),
            Ok([(_, TaskPresence::Absent(Absence::LocationGone))])
        )
    }

    fn pass(&self, seconds: i64) {
        self.clock.advance(SignedDuration::from_secs(seconds));
    }
}

#[tokio::test]
async fn a_list_is_gone_five_minutes_after_it_was_missed_and_not_before() {
    let stage = Stage::with_known_list().await;
    stage.pass_five_minutes();
    stage.fake.special(hidden_and_denied);
    assert!(!stage.is_gone().await);
    stage.pass(299);
    assert!(!stage.is_gone().await);
    stage.pass(1);
    assert!(stage.is_gone().await);
}

/// An event between the two answers that a list is missing starts the five minutes again.
#[tokio::test]
async fn a_list_that_was_seen_or_closed_meanwhile_is_missed_anew() {
    let closed: fn(&fake::Request) -> Option<Answer> = |request| {
        if asks_for_lists(request) {
            return Some(empty_answer());
        }
        let denied = "-2147024891, System.UnauthorizedAccessException";
        request
            .path
            .contains(LIST)
            .then(|| error(403, denied, "Access denied."))
    };
    for meanwhile in [closed, |_| None] {
        let stage = Stage::with_known_list().await;
        stage.pass_five_minutes();
        stage.fake.special(hidden_and_denied);
        assert!(!stage.is_gone().await);
        stage.pass(200);
        stage.fake.special(meanwhile);
        assert!(!stage.is_gone().await);
        stage.pass(200);
        stage.fake.special(hidden_and_denied);
        assert!(!stage.is_gone().await);
        stage.pass(299);
        assert!(!stage.is_gone().await);
        stage.pass(1);
        assert!(stage.is_gone().await);
    }
}

/// While its site does not answer, or answers something else, a denied list proves nothing.
#[tokio::test]
async fn no_list_is_gone_while_its_site_does_not_answer() {
    type Reply = fn() -> Answer;
    let answers: [Reply; 3] = [
        || error(500, "-1, System.Exception", "broken"),
        || Answer::Json(200, json!({})),
        || Answer::Json(403, json!({})),
    ];
    for answer in answers {
        let stage = Stage::with_known_list().await;
        stage.fake.special(move |request| {
            if asks_for_site(request) {
                return Some(answer());
            }
            hidden_and_denied(request)
        });
        for _ in 0..3 {
            stage.pass_five_minutes();
            assert!(!stage.is_gone().await);
        }
        stage.fake.special(hidden_and_denied);
        assert!(!stage.is_gone().await);
        stage.pass_five_minutes();
        assert!(stage.is_gone().await);
    }
}

/// A list counts as missing only after a walk of its site. A walk that fails proves nothing.
#[tokio::test]
async fn no_list_is_gone_while_its_site_cannot_be_walked() {
    let stage = Stage::with_known_list().await;
    stage.pass_five_minutes();
    stage.fake.special(hidden_and_denied);
    assert!(!stage.is_gone().await);
    stage.fake.special(|request| {
        if asks_for_lists(request) {
            return Some(error(500, "-1, System.Exception", "broken"));
        }
        request.path.contains(LIST).then(no_such_list)
    });
    for _ in 0..3 {
        stage.pass_five_minutes();
        assert!(!stage.is_gone().await);
    }
    stage.fake.special(hidden_and_denied);
    stage.pass_five_minutes();
    assert!(stage.is_gone().await);
}

/// An address that leads nowhere is not a missing list of the root web, whatever code the error has.
#[tokio::test]
async fn a_list_of_the_root_web_is_gone_only_by_its_own_error() {
    for code in [
        "-1, Microsoft.SharePoint.Client.ResourceNotFoundException",
        "-2147024894, System.IO.FileNotFoundException",
    ] {
        let stage = Stage::with_known_list().await;
        stage.fake.special(move |request| {
            if asks_for_lists(request) {
                return Some(empty_answer());
            }
            request
                .path
                .contains(LIST)
                .then(|| error(404, code, "Not found."))
        });
        for _ in 0..3 {
            stage.pass(6 * 3600);
            assert!(!stage.is_gone().await, "{code}");
        }
    }
}

/// While its web lists it, an answer that denies the list by its id is wrong, however often it comes.
#[tokio::test]
async fn a_list_that_its_web_shows_is_not_gone() {
    let stage = Stage::with_known_list().await;
    let denied = |request: &fake::Request| request.path.contains(LIST).then(no_such_list);
    stage.fake.special(move |request| {
        let of_the_web = request.path.contains("/fields?");
        if of_the_web { None } else { denied(request) }
    });
    for _ in 0..3 {
        stage.pass_five_minutes();
        assert!(!stage.is_gone().await);
    }
    // The same applies if the web shows it again only after it was missed.
    stage.fake.special(hidden_and_denied);
    stage.pass_five_minutes();
    assert!(!stage.is_gone().await);
    stage.fake.special(move |request| {
        let of_the_web = request.path.contains("/fields?");
        if of_the_web { None } else { denied(request) }
    });
    stage.pass_five_minutes();
    assert!(!stage.is_gone().await);
}

/// Returns a stage with a list in a web below the site. `special` answers for that web after the list was
/// read.
async fn of_a_web(special: fn(&fake::Request) -> Option<Answer>) -> Stage {
    of_a_web_with(SharePointSettings::default(), special).await
}

async fn of_a_web_with(settings: SharePointSettings, special: fn(&fake::Request) -> Option<Answer>) -> Stage {
    fn of_the_site(request: &fake::Request) -> Option<Answer> {
        if request.path.starts_with("/sites/p/_api/web/webs") {
            return Some(Answer::Json(200, json!({"value": [{"Url": "/sites/p/sub"}]})));
        }
        let lists = request.path.starts_with("/sites/p/_api/web/lists?");
        lists.then(empty_answer)
    }
    let stage = stage_with(false, settings).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.special(of_the_site);
    let presences = stage.source.tasks(&person("ana"), &[key(17)]).await.unwrap();
    assert!(matches!(&presences[0].1, TaskPresence::Present(item) if item.web_url.contains("/sites/p/sub/")));
    stage.pass_five_minutes();
    stage.fake.special(move |request| {
        if request.path.starts_with("/sites/p/sub/") {
            special(request)
        } else {
            of_the_site(request)
        }
    });
    stage
}

#[tokio::test]
async fn the_lists_of_a_missing_web_are_gone_after_one_full_check_and_those_of_a_closed_one_never() {
    // A short interval does not let two answers of one outage count as two.
    for (full_check, believed_after) in [(6 * 3600, 6 * 3600), (9 * 3600, 9 * 3600), (10, 300)] {
        let settings = SharePointSettings {
            full_check_interval: Duration::from_secs(full_check),
            ..SharePointSettings::default()
        };
        let stage = of_a_web_with(settings, |_| {
            let missing = "-1, Microsoft.SharePoint.Client.ResourceNotFoundException";
            Some(error(404, missing, "Cannot find resource."))
        })
        .await;
        assert!(!stage.is_gone().await);
        stage.pass(believed_after - 1);
        assert!(!stage.is_gone().await, "full check every {full_check} s");
        stage.pass(1);
        assert!(stage.is_gone().await, "full check every {full_check} s");
    }
    let others: [fn(&fake::Request) -> Option<Answer>; 4] = [
        |_| {
            let denied = "-2147024891, System.UnauthorizedAccessException";
            Some(error(403, denied, "Access denied."))
        },
        |_| {
            let page = "<html>Not found</html>".to_owned();
            Some(Answer::With(404, "Content-Type", "text/html", page))
        },
        |_| {
            let elsewhere = "https://login.example/";
            Some(Answer::With(302, "Location", elsewhere, String::new()))
        },
        |_| Some(Answer::Json(401, json!({}))),
    ];
    for other in others {
        let stage = of_a_web(other).await;
        for _ in 0..3 {
            assert!(!stage.is_gone().await);
            if let Ok(all) = stage.source.everything(&person("ana")).await {
                assert_eq!(all.unread.len(), 1, "its list is named");
            }
            stage.pass(6 * 3600);
        }
    }
}

/// Returns a cursor of an earlier process. It does not cover the lists in `unread`.
fn cursor_of(stage: &Stage, unread: BTreeMap<uuid::Uuid, String>) -> String {
    let site = &stage.source.sites[0];
    let tokens = [(site.name.clone(), token(0))].into();
    cursor::SourceCursor::new("2026-11-22T13:00:00Z".parse().unwrap(), tokens, unread).to_text()
}

/// A process that was just started learns the web of an unread list from the cursor, and a deleted list from
/// the feed.
#[tokio::test]
async fn after_a_restart_a_list_is_gone_that_its_web_denies_or_the_feed_calls_deleted() {
    for told_by_feed in [false, true] {
        let stage = stage(false).await;
        stage.fake.special(hidden_and_denied);
        let list = LIST.parse().unwrap();
        let unread = if told_by_feed {
            stage.fake.change(3, None);
            BTreeMap::new()
        } else {
            [(list, stage.source.sites[0].address.clone())].into()
        };
        let cursor = cursor_of(&stage, unread);
        let first = stage.changes("ana", &cursor, &[17]).await;
        assert!(first.tasks.is_empty() && first.unread.len() == 1, "{first:?}");
        stage.pass_five_minutes();
        let second = stage.changes("ana", &first.cursor, &[17]).await;
        let gone = (key(17), TaskPresence::Absent(Absence::LocationGone));
        assert_eq!(second.tasks, [gone], "told by the feed: {told_by_feed}");
    }
    // If nothing names its web, it stays.
    let stage = stage(false).await;
    stage.fake.special(hidden_and_denied);
    let cursor = cursor_of(&stage, [(LIST.parse().unwrap(), String::new())].into());
    for _ in 0..3 {
        let changes = stage.changes("ana", &cursor, &[17]).await;
        assert!(
            changes.tasks.is_empty() && changes.unread.len() == 1,
            "{changes:?}"
        );
        stage.pass_five_minutes();
    }
}
