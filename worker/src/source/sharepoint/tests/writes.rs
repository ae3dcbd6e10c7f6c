//! Writes: conditional, proved, and looked up if the proof is missing.

use super::*;

/// Returns the fields of a task that was completed.
fn completed_fields() -> [(&'static str, Value); 2] {
    [("Status", json!("Completed")), ("PercentComplete", json!(1))]
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
        // The same answer, after the write was carried out.
        stage.fake.set(17, &[("odata.etag", json!("\"6\""))]);
        stage.fake.set(17, &completed_fields());
        let written = stage.source.update(&key(17), "5", &progress()).await.unwrap();
        assert_eq!(written.version, "6");
    }
}

/// A later version than the write's shows that a user wrote later. It does not prove the write.
#[tokio::test]
async fn a_later_version_without_the_written_values_proves_no_write() {
    let stage = stage(false).await;
    stage.fake.put(17, 9, &[12], "t");
    stage.fake.special(|request| {
        let merge = request.headers.contains_key("if-match");
        merge.then(|| Answer::With(204, "ETag", "\"6\"", String::new()))
    });
    let open = stage.source.update(&key(17), "5", &progress()).await.unwrap_err();
    assert_eq!(open.class, ErrorClass::OutcomeUnknown);
    // The write happened, and another column was edited since: the next reading finds that edit.
    stage.fake.set(17, &completed_fields());
    let written = stage.source.update(&key(17), "5", &progress()).await.unwrap();
    assert_eq!(written.version, "6");
}

/// The task shows the values to be written, and the version says that no write happened.
#[tokio::test]
async fn an_old_version_with_the_values_that_were_to_be_written_proves_no_write() {
    let stage = stage(false).await;
    stage.fake.put(17, 5, &[12], "t");
    stage.fake.set(17, &completed_fields());
    let answer = |etag: &'static str, body: &'static str| {
        move |request: &fake::Request| {
            let merge = request.headers.contains_key("if-match");
            merge.then(|| Answer::With(200, "ETag", etag, body.to_owned()))
        }
    };
    stage.fake.special(answer("\"6\"", ""));
    let open = stage.source.update(&key(17), "5", &progress()).await.unwrap_err();
    assert_eq!(open.class, ErrorClass::OutcomeUnknown);
    // An entity tag that comes with a body is that of a page.
    stage.fake.set(17, &[("odata.etag", json!("\"9\""))]);
    stage.fake.special(answer("\"6\"", "<html>"));
    let written = stage.source.update(&key(17), "5", &progress()).await.unwrap();
    assert_eq!(written.version, "9");
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
    // The same applies if the answer names an entry of the recycle bin.
    stage.fake.special(|request| {
        request
            .path
            .contains("recycle")
            .then(|| Answer::Json(200, json!({"value": fake::SITE})))
    });
    let open = stage.source.delete(&key(17), "5").await.unwrap_err();
    assert_eq!(open.class, ErrorClass::OutcomeUnknown);
}

#[tokio::test]
async fn an_update_is_conditional_and_returns_the_new_version() {
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
        let is_old = request
            .headers
            .get("x-requestdigest")
            .is_some_and(|digest| digest == "digest-0");
        is_old.then(|| {
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
