//! Rules for every request: answers belong to their request, refusals have the right scope, texts contain no
//! secrets.

use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure, Stops};
use tasksync_common::model::Task;
use tasksync_common::registry::Access;

use super::rig::{Canned, Rig, ok, owner};
use super::{fault, location, response, success};
use crate::mailbox::{FolderId, Mailbox as _, NewItem};

async fn read(rig: &Rig) -> Result<(), Failure> {
    rig.mailbox.folders(&owner("ana")).await.map(|_| ())
}

async fn write(rig: &Rig) -> Result<(), Failure> {
    let new = NewItem {
        key: &location().task(1),
        task: &Task::default(),
        web_link: None,
        write_id: "4f0c",
    };
    let folder = FolderId("f".into());
    rig.mailbox.create(&owner("ana"), &folder, &new).await.map(|_| ())
}

async fn answering(answer: impl Fn(&str) -> Canned + Send + Sync + 'static) -> Rig {
    Rig::new(Access::Delegate, answer).await
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let line = request
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}: ")));
    line.and_then(|line| line.split_once(": ")).unwrap().1
}

#[tokio::test]
async fn an_answer_to_another_request_is_refused() {
    let empty = || {
        let none = "<m:RootFolder xmlns:m='m' IncludesLastItemInRange='true' TotalItemsInView='0'><t:Folders xmlns:t='t'/></m:RootFolder>";
        response("FindFolder", &[success("FindFolder", none)])
    };
    let foreign = answering(move |_| {
        let id = "client-request-id: 00000000-0000-0000-0000-000000000000\r\n";
        (200, id.to_owned(), empty())
    })
    .await;
    let failure = read(&foreign).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::ExchangeForeignAnswer)
    );
    assert!(failure.detail.contains("another request"), "{failure}");
    assert_eq!(
        write(&foreign).await.unwrap_err().class,
        ErrorClass::OutcomeUnknown
    );
    let correct = answering(move |request| {
        let id = header(request, "client-request-id").to_ascii_uppercase();
        (200, format!("client-request-id: {id}\r\n"), empty())
    })
    .await;
    if let Err(failure) = read(&correct).await {
        assert!(!failure.detail.contains("another request"), "{failure}");
    }
}

#[tokio::test]
async fn a_refusal_of_everything_is_counted_and_a_refused_write_is_the_tasks() {
    let bad_request: fn() -> Canned = || (400, String::new(), "Bad Request".to_owned());
    let schema: fn() -> Canned = || (500, String::new(), fault("ErrorSchemaValidation", ""));
    for canned in [bad_request, schema] {
        let rig = answering(move |_| canned()).await;
        let failure = read(&rig).await.unwrap_err();
        assert_eq!(
            (failure.class, failure.code, failure.stops()),
            (ErrorClass::Transient, Code::ExchangeError, Stops::Person)
        );
        let failure = write(&rig).await.unwrap_err();
        assert_eq!(
            (failure.class, failure.code, failure.stops()),
            (ErrorClass::Refused, Code::ExchangeItemRefused, Stops::Part)
        );
    }
}

#[tokio::test]
async fn an_internal_error_while_writing_is_the_tasks_and_while_reading_the_persons() {
    let rig = answering(|_| (500, String::new(), fault("ErrorInternalServerError", ""))).await;
    assert_eq!(read(&rig).await.unwrap_err().stops(), Stops::Person);
    assert_eq!(write(&rig).await.unwrap_err().stops(), Stops::Part);
}

#[tokio::test]
async fn a_pause_has_a_ceiling_of_a_day_and_says_until_when() {
    let rig = answering(|_| {
        let busy = "<t:MessageXml xmlns:t='t'><t:Value Name='BackOffMilliseconds'>2147483647</t:Value></t:MessageXml>";
        (500, String::new(), fault("ErrorServerBusy", busy))
    })
    .await;
    let day = Duration::from_hours(24);
    let expected = ErrorClass::Throttled {
        retry_after: Some(day),
    };
    assert_eq!(read(&rig).await.unwrap_err().class, expected);
    let kept = read(&rig).await.unwrap_err();
    assert_eq!((kept.class, rig.count()), (expected, 1));
    assert!(kept.detail.contains("until 2026-11-23T14:00:00Z"), "{kept}");
}

#[tokio::test]
async fn a_pause_that_is_named_as_a_date_is_counted_by_the_servers_clock() {
    let rig = answering(|_| {
        let ahead = "date: Sun, 22 Nov 2026 14:10:00 GMT\r\nretry-after: Sun, 22 Nov 2026 14:11:00 GMT\r\n";
        (503, ahead.to_owned(), String::new())
    })
    .await;
    let minute = ErrorClass::Throttled {
        retry_after: Some(Duration::from_mins(1)),
    };
    assert_eq!(read(&rig).await.unwrap_err().class, minute);
    assert_eq!((read(&rig).await.unwrap_err().class, rig.count()), (minute, 1));
}

fn pause_of(milliseconds: u32) -> String {
    format!(
        "<t:MessageXml xmlns:t='t'><t:Value Name='BackOffMilliseconds'>{milliseconds}</t:Value></t:MessageXml>"
    )
}

#[tokio::test]
async fn any_code_may_come_with_a_pause_and_the_longest_of_an_answer_counts() {
    let seconds = |seconds| ErrorClass::Throttled {
        retry_after: Some(Duration::from_secs(seconds)),
    };
    let faulty = answering(|_| {
        (
            500,
            String::new(),
            fault("ErrorInternalServerError", &pause_of(5_000)),
        )
    })
    .await;
    assert_eq!(read(&faulty).await.unwrap_err().class, seconds(5));
    let several = answering(|_| {
        let message = |code: &str, pause: u32| {
            let refused = super::refusal("GetItem", code);
            refused.replace(
                "<m:DescriptiveLinkKey>",
                &format!("{}<m:DescriptiveLinkKey>", pause_of(pause)),
            )
        };
        let messages = [
            message("ErrorInternalServerError", 60_000),
            message("ErrorServerBusy", 1_000),
        ];
        ok(response("GetItem", &messages))
    })
    .await;
    let items = || async {
        let ids = ["a", "b"].map(str::to_owned);
        several
            .mailbox
            .items(&owner("ana"), &ids)
            .await
            .unwrap_err()
            .class
    };
    assert!(matches!(items().await, ErrorClass::Throttled { .. }));
    assert_eq!((items().await, several.count()), (seconds(60), 1));
}

#[tokio::test]
async fn a_server_that_repeats_the_password_does_not_bring_it_into_a_text() {
    let echoing_server = |kind: &'static str, status: u16| {
        answering(move |request| {
            let sent = header(request, "authorization");
            (
                status,
                format!("content-type: {kind}\r\n"),
                format!("you sent {sent}"),
            )
        })
    };
    for (kind, status) in [("text/html", 200), ("text/html", 500), ("text/xml", 404)] {
        let rig = echoing_server(kind, status).await;
        for failure in [read(&rig).await.unwrap_err(), write(&rig).await.unwrap_err()] {
            // "svc:secret" in base64, and its beginning.
            assert!(!failure.detail.contains("c3Zj"), "{failure}");
            assert!(failure.detail.contains("you sent Basic [secret]"), "{failure}");
        }
    }
    let fault_text = answering(|request| {
        let sent = header(request, "authorization").to_owned();
        let text = fault("ErrorInternalServerError", "").replace("ErrorInternalServerError", &sent);
        (500, String::new(), text)
    })
    .await;
    let failure = read(&fault_text).await.unwrap_err();
    assert!(!failure.detail.contains("c3Zj"), "{failure}");
    let message = answering(|request| {
        let sent = header(request, "authorization").to_owned();
        let refused = super::refusal("FindFolder", "ErrorFolderNotFound");
        let text = refused.replace(
            "<m:ResponseCode>",
            &format!("<m:MessageText>{sent}</m:MessageText><m:ResponseCode>"),
        );
        ok(response("FindFolder", &[text]))
    })
    .await;
    let failure = read(&message).await.unwrap_err();
    assert!(!failure.detail.contains("c3Zj"), "{failure}");
}

#[tokio::test]
async fn a_busy_status_stops_all_requests_for_the_pause_it_names() {
    for status in [429, 503] {
        let rig = answering(move |_| (status, "retry-after: 90\r\n".to_owned(), "<html>".to_owned())).await;
        let named = ErrorClass::Throttled {
            retry_after: Some(Duration::from_secs(90)),
        };
        let failure = write(&rig).await.unwrap_err();
        assert_eq!(
            (failure.class, failure.code),
            (named, Code::ExchangeBusy),
            "{status}"
        );
        assert_eq!(
            (read(&rig).await.unwrap_err().class, rig.count()),
            (named, 1),
            "{status}"
        );
    }
}

/// The file of a password is read at most once a second, and at once after the password was refused.
#[tokio::test]
async fn a_changed_password_is_used_at_once_when_the_old_one_is_refused() {
    let rig = answering(|request| {
        // "svc:secret" in base64.
        if header(request, "authorization").ends_with("c3ZjOnNlY3JldA==") {
            return (401, String::new(), String::new());
        }
        ok(response(
            "FindFolder",
            &[super::refusal("FindFolder", "ErrorFolderNotFound")],
        ))
    })
    .await;
    assert_eq!(read(&rig).await.unwrap_err().code, Code::ExchangeSignInRefused);
    rig.set_password("changed\n");
    let failure = read(&rig).await.unwrap_err();
    assert_ne!(failure.code, Code::ExchangeSignInRefused, "{failure}");
}
