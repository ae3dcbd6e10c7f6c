//! Rules for every request: answers belong to their request, texts contain no secrets, pauses apply to their
//! server.

use super::fake::Request;
use super::*;

#[tokio::test]
async fn an_answer_to_another_request_is_refused() {
    let stage = stage(false).await;
    stage.fake.special(|_| {
        let id = "00000000-0000-0000-0000-000000000000";
        Some(Answer::With(200, "client-request-id", id, "{}".to_owned()))
    });
    let failure = stage.source.everything(&person("ana")).await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::SharePointForeignAnswer)
    );
    stage.fake.normal();
    stage.pass_five_minutes();
    stage.fake.put(17, 5, &[12], "t");
    stage.source.everything(&person("ana")).await.unwrap();
    stage.fake.special(|request| {
        let write = request.headers.contains_key("if-match");
        let id = "00000000-0000-0000-0000-000000000000";
        write.then(|| Answer::With(204, "client-request-id", id, String::new()))
    });
    let failure = stage.source.update(&key(17), "5", &progress()).await.unwrap_err();
    assert_eq!(failure.class, ErrorClass::OutcomeUnknown, "{failure}");
}

/// A server, or a proxy in front of it, may repeat what was sent or what it issued earlier.
#[tokio::test]
async fn a_form_digest_comes_into_no_text() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    let given = "0xC4NARY0123456789ABCDEF,22 Nov 2026 14:00:00 -0000";
    let repeating = move |request: &Request| {
        Some(if request.path.contains("contextinfo") {
            Answer::Json(
                200,
                json!({"FormDigestValue": given, "FormDigestTimeoutSeconds": 1800}),
            )
        } else {
            error(
                500,
                "-1, Microsoft.SharePoint.SPException",
                &format!("you sent {given}"),
            )
        })
    };
    stage.fake.special(move |request| {
        let write = request.headers.contains_key("if-match");
        (write || request.path.contains("contextinfo"))
            .then(|| repeating(request))
            .flatten()
    });
    stage.source.everything(&person("ana")).await.unwrap();
    let write = stage.source.update(&key(17), "5", &progress()).await.unwrap_err();
    stage.fake.special(repeating);
    stage.pass_five_minutes();
    let read = stage.source.everything(&person("ana")).await.unwrap_err();
    for failure in [write, read] {
        assert!(!failure.detail.contains("C4NARY"), "{failure}");
        assert!(failure.detail.contains("you sent [secret]"), "{failure}");
    }
}

#[tokio::test]
async fn a_pause_without_a_length_grows_with_each_that_follows() {
    let settings = SharePointSettings {
        feed_window: Duration::ZERO,
        ..SharePointSettings::default()
    };
    let stage = stage_with(false, settings).await;
    stage
        .fake
        .special(|_| Some(Answer::With(503, "X-Nothing", "1", String::new())));
    let mut longest = Duration::ZERO;
    for _ in 0..4 {
        stage.source.everything(&person("ana")).await.unwrap_err();
        let left = stage.source.everything(&person("ana")).await.unwrap_err();
        let ErrorClass::Throttled {
            retry_after: Some(left),
        } = left.class
        else {
            panic!("{left}")
        };
        assert!(
            left >= longest && left <= Duration::from_secs(16),
            "{left:?} after {longest:?}"
        );
        longest = left;
        stage.clock.advance(SignedDuration::try_from(left).unwrap());
    }
    assert!(longest >= Duration::from_secs(8), "{longest:?}");
    // A success ends the series.
    stage.fake.normal();
    stage.source.everything(&person("ana")).await.unwrap();
    stage
        .fake
        .special(|_| Some(Answer::With(503, "X-Nothing", "1", String::new())));
    stage.source.everything(&person("ana")).await.unwrap_err();
    let left = stage.source.everything(&person("ana")).await.unwrap_err();
    let short = |left: Duration| left <= Duration::from_secs(2);
    assert!(
        matches!(left.class, ErrorClass::Throttled { retry_after: Some(left) } if short(left)),
        "{left}"
    );
}

/// A part of a batch is refused like the whole batch.
#[tokio::test]
async fn a_pause_that_a_part_of_a_batch_names_is_the_servers() {
    let stage = stage(true).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.special(|request| {
        let served = "--r\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{\"value\":[]}\r\n";
        let busy =
            "--r\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 429 Busy\r\nRetry-After: 120\r\n\r\n\r\n";
        let parts = request.body.matches(" HTTP/1.1\r\n").count();
        request.path.contains("$batch").then(|| {
            let body = format!("{}{busy}--r--\r\n", served.repeat(parts - 1));
            Answer::With(200, "Content-Type", "multipart/mixed; boundary=r", body)
        })
    });
    let busy = ErrorClass::Throttled {
        retry_after: Some(Duration::from_mins(2)),
    };
    let keys = [key(98), key(99)];
    let failure = stage.source.tasks(&person("ana"), &keys).await.unwrap_err();
    assert_eq!((failure.class, stage.fake.count("$batch")), (busy, 1));
    let asked = stage.fake.total();
    let kept = stage.source.tasks(&person("ana"), &keys).await.unwrap_err();
    assert_eq!((kept.class, stage.fake.total()), (busy, asked));
}

#[tokio::test]
async fn all_requests_keep_a_pause_without_asking_again() {
    let stage = stage(false).await;
    stage
        .fake
        .special(|_| Some(Answer::With(429, "Retry-After", "120", String::new())));
    let throttled = |failure: Failure| {
        let ErrorClass::Throttled { retry_after } = failure.class else {
            panic!("{failure:?}");
        };
        retry_after
    };
    let first = stage.source.everything(&person("ana")).await.unwrap_err();
    assert_eq!(throttled(first), Some(Duration::from_mins(2)));
    let asked = stage.fake.total();
    stage.clock.advance(SignedDuration::from_secs(20));
    let second = stage.source.everything(&person("bo")).await.unwrap_err();
    assert_eq!(throttled(second), Some(Duration::from_secs(100)));
    assert_eq!(stage.fake.total(), asked);
    stage.clock.advance(SignedDuration::from_secs(100));
    stage.fake.normal();
    assert!(stage.source.everything(&person("bo")).await.is_ok());
}
