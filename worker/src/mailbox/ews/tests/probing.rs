//! Probing many mailboxes: batches, entries they do not process, and access modes.

use jiff::Timestamp;
use tasksync_common::error::{Code, ErrorClass};
use tasksync_common::registry::Access;

use super::rig::{Canned, Rig, ask, impersonates, ok};
use super::{fault, folder, refusal, response, success};
use crate::mailbox::{Mailbox as _, Probed, Signs};

/// Returns the folder ids that a `GetFolder` request names.
pub(super) fn asked_folders(request: &str) -> Vec<String> {
    request
        .split("<t:FolderId Id=\"")
        .skip(1)
        .map(|rest| rest[..rest.find('"').unwrap()].to_owned())
        .collect()
}

pub(super) fn signs(deletions: i64) -> Probed {
    Probed::Signs(Signs {
        latest_commit_us: "2026-11-22T14:00:00Z"
            .parse::<Timestamp>()
            .unwrap()
            .as_microsecond(),
        deletions,
        parent: 0,
    })
}

/// Answers a `GetFolder` with a code per folder; `None` is a success.
pub(super) fn folders_by(request: &str, code: impl Fn(&str) -> Option<&'static str>) -> Canned {
    let messages: Vec<String> = asked_folders(request)
        .iter()
        .map(|id| match code(id) {
            Some(code) => refusal("GetFolder", code),
            None => success("GetFolder", &folder(id, 7)),
        })
        .collect();
    ok(response("GetFolder", &messages))
}

#[tokio::test]
async fn one_request_probes_many_mailboxes_as_delegate() {
    let rig = Rig::new(Access::Delegate, |request| {
        folders_by(request, |id| (id == "gone").then_some("ErrorItemNotFound"))
    })
    .await;
    let requests: Vec<_> = (0..10)
        .map(|number| ask(&format!("u{number}"), &[&format!("f{number}"), "gone"]))
        .collect();
    let answers = rig.mailbox.probe(&requests).await;
    assert_eq!(rig.count(), 1);
    for answer in answers {
        assert_eq!(answer.unwrap(), [signs(7), Probed::Gone]);
    }
    let request = rig.last();
    assert!(!impersonates(&request) && !request.contains("x-anchormailbox"));
    for header in [
        "user-agent: tasksync/",
        "client-request-id: ",
        "authorization: Basic ",
        "accept-encoding: gzip",
        "soapaction: \"http://schemas.microsoft.com/exchange/services/2006/messages/GetFolder\"",
        "content-type: text/xml; charset=utf-8",
    ] {
        assert!(request.contains(header), "{header} in {request}");
    }
}

#[tokio::test]
async fn requests_hold_at_most_a_hundred_folders() {
    let rig = Rig::new(Access::Delegate, |request| folders_by(request, |_| None)).await;
    let ids: Vec<String> = (0..205).map(|number| format!("f{number}")).collect();
    let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    let answers = rig.mailbox.probe(&[ask("ana", &ids), ask("ben", &[])]).await;
    assert_eq!(answers[0].as_ref().unwrap().len(), 205);
    assert_eq!(answers[1].as_ref().unwrap().len(), 0);
    let sizes: Vec<usize> = rig
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|request| asked_folders(request).len())
        .collect();
    assert_eq!(sizes, [100, 100, 5]);
}

#[tokio::test]
async fn folders_that_a_batch_did_not_process_are_asked_again_and_the_refused_mailbox_is_not() {
    let rig = Rig::new(Access::Delegate, |request| {
        let ids = asked_folders(request);
        let denied = ids.iter().position(|id| id.starts_with("ben"));
        let messages: Vec<String> = ids
            .iter()
            .enumerate()
            .map(|(position, id)| match denied {
                Some(denied) if position == denied => refusal("GetFolder", "ErrorAccessDenied"),
                Some(denied) if position > denied => refusal("GetFolder", "ErrorBatchProcessingStopped"),
                _ => success("GetFolder", &folder(id, 7)),
            })
            .collect();
        ok(response("GetFolder", &messages))
    })
    .await;
    let answers = rig
        .mailbox
        .probe(&[
            ask("ana", &["ana1"]),
            ask("ben", &["ben1", "ben2"]),
            ask("cem", &["cem1", "cem2"]),
        ])
        .await;
    assert_eq!(answers[0].as_ref().unwrap(), &[signs(7)]);
    let failure = answers[1].as_ref().unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Refused, Code::ExchangeMailboxDenied)
    );
    assert!(
        failure.detail.contains("ben@contoso.example") && failure.detail.contains("ErrorAccessDenied"),
        "{failure}"
    );
    assert_eq!(answers[2].as_ref().unwrap(), &[signs(7), signs(7)]);
    assert_eq!(rig.count(), 2);
    assert_eq!(asked_folders(&rig.last()), ["cem1", "cem2"]);
}

#[tokio::test]
async fn a_server_that_only_stops_is_given_up() {
    let rig = Rig::new(Access::Delegate, |request| {
        folders_by(request, |_| Some("ErrorBatchProcessingStopped"))
    })
    .await;
    let answers = rig.mailbox.probe(&[ask("ana", &["a"]), ask("ben", &["b"])]).await;
    assert!(
        answers
            .iter()
            .all(|answer| answer.as_ref().unwrap_err().class == ErrorClass::Transient)
    );
    assert_eq!(rig.count(), 1);
}

#[tokio::test]
async fn auto_falls_back_per_mailbox_and_remembers() {
    let rig = Rig::new(Access::Auto, |request| {
        let alone = impersonates(request);
        folders_by(request, move |id| {
            (id.starts_with("ben") && !alone).then_some("ErrorItemNotFound")
        })
    })
    .await;
    let requests = [ask("ana", &["ana1"]), ask("ben", &["ben1"])];
    for round in 1..=2 {
        let answers = rig.mailbox.probe(&requests).await;
        assert_eq!(answers[0].as_ref().unwrap(), &[signs(7)]);
        assert_eq!(answers[1].as_ref().unwrap(), &[signs(7)], "round {round}");
        // First delegate for both together, then one alone; later one request each, because the working mode
        // is remembered.
        assert_eq!(rig.count(), 2 * round);
        assert_eq!(asked_folders(&rig.last()), ["ben1"]);
        assert!(rig.last().contains("x-anchormailbox: ben@contoso.example"));
    }
}

#[tokio::test]
async fn folders_that_are_gone_by_either_way_are_gone() {
    let rig = Rig::new(Access::Auto, |request| {
        if impersonates(request) {
            (500, String::new(), fault("ErrorImpersonationDenied", ""))
        } else {
            folders_by(request, |_| Some("ErrorFolderNotFound"))
        }
    })
    .await;
    let answers = rig.mailbox.probe(&[ask("ana", &["a"]), ask("ben", &["b"])]).await;
    for answer in answers {
        assert_eq!(answer.unwrap(), [Probed::Gone]);
    }
}

#[tokio::test]
async fn one_mailbox_that_spoils_the_whole_request_fails_alone() {
    let rig = Rig::new(Access::Delegate, |request| {
        if asked_folders(request).iter().any(|id| id == "ben") {
            (500, String::new(), fault("ErrorNonExistentMailbox", ""))
        } else {
            folders_by(request, |_| None)
        }
    })
    .await;
    let answers = rig
        .mailbox
        .probe(&[ask("ana", &["ana"]), ask("ben", &["ben"]), ask("cem", &["cem"])])
        .await;
    assert_eq!(answers[0].as_ref().unwrap(), &[signs(7)]);
    assert_eq!(
        answers[1].as_ref().unwrap_err().code,
        Code::ExchangeMailboxMissing
    );
    assert_eq!(answers[2].as_ref().unwrap(), &[signs(7)]);
}
