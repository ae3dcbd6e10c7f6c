use serde_json::json;
use tasksync_common::error::ErrorClass;
use tasksync_common::versions::ExchangeBuild;

use super::*;

fn now() -> Timestamp {
    "2026-11-22T14:00:00Z".parse().unwrap()
}

fn server(kind: ServerKind, facts: ServerFacts) -> ServerCheck {
    ServerCheck {
        kind,
        host: "mail.contoso.example:443".to_owned(),
        result: Ok(facts),
    }
}

fn certificate(days: i64) -> ServerFacts {
    ServerFacts {
        encrypted: true,
        certificate: Some(CertificateFacts {
            expires_at: now() + SignedDuration::from_hours(24 * days + 1),
            names: vec!["mail.contoso.example".to_owned()],
            issuer: "CN=Contoso".to_owned(),
        }),
        ..ServerFacts::default()
    }
}

fn results(found: &[DoctorFinding]) -> Vec<CheckResult> {
    found.iter().map(|finding| finding.result).collect()
}

#[test]
fn a_certificate_is_judged_by_authority_name_and_life() {
    use CheckResult::{Failed, NotApplicable, Ok as Good, Warning};
    for (days, life) in [(31, Good), (29, Warning), (0, Warning), (-2, Failed)] {
        let found = judge_tls(
            "tenant t",
            &[server(ServerKind::Mailbox, certificate(days))],
            now(),
        );
        assert_eq!(results(&found), [Good, Good, Good, life], "{days}");
    }
    for (problem, expected) in [
        (
            CertificateProblem::Untrusted,
            [NotApplicable, Failed, NotApplicable, NotApplicable],
        ),
        (
            CertificateProblem::OtherName,
            [NotApplicable, NotApplicable, Failed, NotApplicable],
        ),
        (
            CertificateProblem::Expired,
            [NotApplicable, NotApplicable, NotApplicable, Failed],
        ),
    ] {
        let refused = ServerCheck {
            result: Err(ServerRefusal::Certificate(
                problem,
                "as the test set it".to_owned(),
            )),
            ..server(ServerKind::Mailbox, ServerFacts::default())
        };
        let found = judge_tls("tenant t", std::slice::from_ref(&refused), now());
        assert_eq!(results(&found), expected, "{problem:?}");
        let beside = server(ServerKind::Source, certificate(100));
        let found = judge_tls("tenant t", &[refused, beside], now());
        assert_eq!(found.iter().filter(|finding| finding.result == Failed).count(), 1);
    }
    let plain = judge_tls(
        "tenant t",
        &[server(ServerKind::Source, ServerFacts::default())],
        now(),
    );
    assert_eq!(
        results(&plain),
        [Warning, NotApplicable, NotApplicable, NotApplicable]
    );
    assert!(
        judge_tls("tenant t", &[], now())
            .iter()
            .all(|finding| finding.result == NotApplicable)
    );
}

#[test]
fn a_server_that_offers_other_schemes_is_named_with_them() {
    let credentials: Credentials =
        serde_json::from_value(json!({"kind": "basic", "user": "svc", "password": "env:A"})).unwrap();
    let offering = |schemes: &[&str]| {
        let schemes = schemes.iter().map(|scheme| (*scheme).to_owned()).collect();
        server(
            ServerKind::Mailbox,
            ServerFacts {
                schemes,
                ..ServerFacts::default()
            },
        )
    };
    let judged = |server: ServerCheck, signed_in| {
        judge_schemes(
            (&check::MAILBOX_SIGN_IN, "tenant t"),
            ServerKind::Mailbox,
            &credentials,
            signed_in,
            &[server],
        )
    };
    let found = judged(offering(&["Negotiate", "NTLM"]), false);
    assert_eq!(found.result, CheckResult::Failed);
    assert!(
        found.explanation.contains("Negotiate and NTLM and not Basic"),
        "{}",
        found.explanation
    );
    assert_eq!(
        judged(offering(&["NTLM", "basic"]), false).result,
        CheckResult::Ok
    );
    assert_eq!(judged(offering(&[]), false).result, CheckResult::NotApplicable);
    assert_eq!(judged(offering(&["NTLM"]), true).result, CheckResult::Ok);
}

#[test]
fn versions_are_judged_by_the_day() {
    let judged = |version: &str, day: &str| {
        let facts = ServerFacts {
            sharepoint_version: Some(version.to_owned()),
            ..ServerFacts::default()
        };
        judge_source_version(
            "tenant t",
            &[server(ServerKind::Source, facts)],
            day.parse().unwrap(),
        )
        .result
    };
    assert_eq!(judged("16.0.0.10417", "2026-07-14T23:00:00Z"), CheckResult::Ok);
    assert_eq!(
        judged("16.0.0.10417", "2026-07-15T01:00:00Z"),
        CheckResult::Warning
    );
    assert_eq!(judged("14.0.0.1", "2026-07-15T01:00:00Z"), CheckResult::Failed);
    let none = judge_source_version("tenant t", &[], now());
    assert_eq!(none.result, CheckResult::NotApplicable);
}

#[test]
fn exchange_online_is_told_from_the_build_or_the_address_and_a_block_says_what_to_do() {
    let url = |text: &str| url::Url::parse(text).unwrap();
    let online = url("https://outlook.office365.com/EWS/Exchange.asmx");
    let nothing = MailboxServerAnswer::default();
    assert!(is_exchange_online(&online, &nothing));
    assert!(!is_exchange_online(
        &url("https://mail.contoso.example/"),
        &nothing
    ));
    let facts = MailboxFacts {
        exchange_build: Some(ExchangeBuild {
            major: 15,
            minor: 20,
            build: 1,
            revision: 1,
        }),
        ..MailboxFacts::default()
    };
    let opened = MailboxServerAnswer {
        opened: vec![&facts],
        ..MailboxServerAnswer::default()
    };
    assert!(is_exchange_online(&url("https://mail.contoso.example/"), &opened));
    assert_eq!(
        judge_exchange_online("t", true, &opened).result,
        CheckResult::Warning
    );
    assert_eq!(
        judge_exchange_online("t", false, &nothing).result,
        CheckResult::NotApplicable
    );
    let failure = Failure::new(ErrorClass::Refused, Code::ExchangeForbidden, "403");
    let blocked = MailboxServerAnswer {
        failure: Some(&failure),
        ..MailboxServerAnswer::default()
    };
    let finding = judge_exchange_online("t", true, &blocked);
    assert_eq!(finding.result, CheckResult::Failed);
    assert!(finding.solution.contains("EwsAllowedAppIDs") && finding.solution.contains("1 April 2027"));
}

#[test]
fn secrets_are_named_and_certificates_for_signing_in_have_a_life() {
    let secret = |result| SecretCheck {
        key: "mailbox.credentials.certificate".to_owned(),
        reference: "file:contoso.pem".to_owned(),
        result,
    };
    let failure = Failure::new(
        ErrorClass::Refused,
        Code::SecretUnavailable,
        "file:contoso.pem: not found",
    );
    let finding = judge_secrets("t", &[secret(Ok(None)), secret(Err(failure))]);
    assert_eq!(finding.result, CheckResult::Failed);
    assert!(
        finding
            .additional_information
            .iter()
            .any(|line| line.ends_with("names file:contoso.pem"))
    );
    assert_eq!(judge_secrets("t", &[]).result, CheckResult::NotApplicable);
    let facts = |days| certificate(days).certificate;
    for (days, expected) in [
        (3, CheckResult::Warning),
        (-3, CheckResult::Failed),
        (40, CheckResult::Ok),
    ] {
        let finding = judge_client_certificates("t", &[secret(Ok(facts(days)))], now());
        assert_eq!(finding.result, expected, "{days}");
    }
    let none = judge_client_certificates("t", &[secret(Ok(None))], now());
    assert_eq!(none.result, CheckResult::NotApplicable);
}
