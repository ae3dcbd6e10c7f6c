use proptest::prelude::*;

use super::*;

fn body(code: i64) -> SharePointErrorBody {
    SharePointErrorBody {
        code: Some(code),
        ..SharePointErrorBody::default()
    }
}

#[test]
fn bodies_in_every_shape() {
    for text in [
        r#"{"error":{"code":"-2147024891, System.UnauthorizedAccessException","message":{"lang":"en-US","value":"Access  denied.\r\n"}}}"#,
        r#"{"odata.error":{"code":"-2147024891, System.UnauthorizedAccessException","message":{"value":"Access denied."}}}"#,
        r#"<?xml version="1.0"?><m:error xmlns:m="x"><m:code>-2147024891, System.UnauthorizedAccessException</m:code><m:message xml:lang="en-US">Access denied.</m:message></m:error>"#,
    ] {
        let body = read_body(text.as_bytes());
        assert_eq!(body.code, Some(-2_147_024_891), "{text}");
        assert_eq!(body.kind, "System.UnauthorizedAccessException");
        assert_eq!(body.message, "Access denied.");
    }
    let oauth = read_body(br#"{"error_description":"Invalid JWT token."}"#);
    assert_eq!((oauth.code, oauth.message.as_str()), (None, "Invalid JWT token."));
    assert_eq!(read_body(b"<html>no</html>"), SharePointErrorBody::default());
}

/// An answer: status and body, and the subject and intent of the request.
type AnswerCase<'a> = (u16, &'a SharePointErrorBody, RequestSubject, Intent);

fn assert_meaning(class: ErrorClass, code: Code, cases: &[AnswerCase<'_>]) {
    for &(status, body, scope, intent) in cases {
        assert_eq!(
            classify(status, body, scope, intent),
            (class, code),
            "{status} {body:?} {scope:?}"
        );
    }
}

#[test]
fn the_table_says_what_each_answer_means() {
    use ErrorClass as C;
    use Intent::{Read, Write};
    use RequestSubject::{Feed, Item, List, Person, Site};
    let none = SharePointErrorBody::default();
    let old = SharePointErrorBody {
        code: Some(-1),
        message: "The changeToken refers to a time before the start of the current change log.".into(),
        ..none.clone()
    };
    assert_meaning(
        C::Refused,
        Code::SharePointSignInRefused,
        &[(401, &none, Site, Read)],
    );
    assert_meaning(
        C::Refused,
        Code::SharePointDenied,
        &[
            (403, &none, Site, Read),
            (403, &body(-2_147_024_891), Item, Write),
        ],
    );
    assert_meaning(
        C::Refused,
        Code::SharePointSiteMissing,
        &[(404, &none, Site, Read)],
    );
    assert_meaning(C::Refused, Code::SharePointBadAnswer, &[(302, &none, Site, Read)]);
    assert_meaning(
        C::Transient,
        Code::SharePointBadAnswer,
        &[
            // A bare 404 is not SharePoint's answer about a list or an item.
            (404, &none, List, Read),
            (410, &none, Item, Write),
            // SharePoint uses a code about a list or an item only for requests about lists and items.
            (404, &body(-2_130_575_322), Person, Read),
            (404, &body(-2_130_575_338), Person, Read),
            (404, &body(-2_130_575_338), Site, Read),
            (404, &body(-2_130_575_338), List, Read),
            (500, &body(-2_130_575_172), Item, Read),
            (409, &body(-2_130_575_305), Item, Read),
            (500, &body(-2_130_575_162), Site, Read),
        ],
    );
    assert_meaning(
        C::Gone,
        Code::SharePointListGone,
        &[
            (404, &body(-1), List, Read),
            (404, &body(-2_130_575_322), Item, Write),
        ],
    );
    assert_meaning(
        C::Gone,
        Code::SharePointItemGone,
        &[(404, &body(-2_130_575_338), Item, Write)],
    );
    assert_meaning(
        C::Conflict,
        Code::SharePointConflict,
        &[
            (412, &none, Item, Write),
            (500, &body(-2_130_575_305), Item, Write),
        ],
    );
    assert_meaning(
        C::Refused,
        Code::SharePointItemRefused,
        &[
            (400, &body(-1), Item, Write),
            // A list's validation formula refuses one task.
            (500, &body(-2_130_575_162), Item, Write),
        ],
    );
    assert_meaning(
        C::Refused,
        Code::SharePointUserUnknown,
        &[(500, &body(-2_146_232_832), Person, Read)],
    );
    assert_meaning(
        C::CursorInvalid,
        Code::SharePointTokenExpired,
        &[
            (500, &body(-2_130_575_172), Feed, Read),
            (500, &body(-2_130_575_173), Feed, Read),
            (500, &old, Feed, Read),
        ],
    );
    assert_meaning(
        C::OutcomeUnknown,
        Code::SharePointOutcomeUnknown,
        &[(500, &none, Item, Write), (502, &none, Item, Write)],
    );
    assert_meaning(
        C::Transient,
        Code::SharePointError,
        &[(500, &body(-1), Item, Write), (500, &none, Item, Read)],
    );
    assert_meaning(C::Transient, Code::SharePointTimeout, &[(504, &none, List, Read)]);
}

#[test]
fn a_foreign_page_is_shown_cleaned_and_cut() {
    let failure = bad_answer(
        "GET x",
        Some("text/html"),
        &b"<html>\r\n\t<body>Sign in ".repeat(20),
    );
    assert_eq!(failure.code, Code::SharePointBadAnswer);
    assert!(failure.detail.contains("text/html") && failure.detail.contains("<html> <body>"));
    assert!(failure.detail.len() < 200, "{}", failure.detail);
}

proptest! {
    #[test]
    fn no_body_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), status in 100_u16..600) {
        let body = read_body(&bytes);
        let _ = classify(status, &body, RequestSubject::Item, Intent::Write);
    }
}

/// A failure about one item never stops its list, and one about a list never its tenant, unless the request
/// was not processed at all.
#[test]
fn no_row_stops_more_than_it_is_about() {
    use tasksync_common::error::Stops;
    let codes = [
        None,
        Some(-1),
        Some(-2_147_024_891),
        Some(-2_130_575_339),
        Some(-2_130_575_338),
        Some(-2_130_575_322),
        Some(-2_130_575_172),
        Some(-2_130_575_252),
        Some(-2_147_024_860),
        Some(-2_130_575_340),
    ];
    for status in (300..=310).chain(400..=431).chain(500..=510) {
        for code in codes {
            for (scope, largest) in [
                (RequestSubject::Item, Stops::Part),
                (RequestSubject::List, Stops::Part),
            ] {
                for intent in [Intent::Read, Intent::Write] {
                    let body = SharePointErrorBody {
                        code,
                        ..SharePointErrorBody::default()
                    };
                    let (class, code) = classify(status, &body, scope, intent);
                    let failure = Failure::new(class, code, "").about(scope.stops(status, class, code));
                    let nobody_looked = sharepoint_code(body.code) == SharePointCode::Other
                        || sharepoint_code(body.code) == SharePointCode::Absent;
                    let expected = match status {
                        401 | 300..=399 if nobody_looked => Stops::Tenant,
                        _ => largest,
                    };
                    let stops = failure.stops();
                    assert!(
                        stops == Stops::NoWork || stops == expected,
                        "{status} {body:?} {scope:?} {intent:?}: {stops:?}"
                    );
                }
            }
        }
    }
}
