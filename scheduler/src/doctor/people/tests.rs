use tasksync_common::error::ErrorClass;
use tasksync_common::fleet::{Role, ThrottledServer};
use tasksync_common::model::UserKey;

use super::*;

fn disabled(user: &str, code: Code) -> Enrolment {
    Enrolment {
        key: UserKey::new("contoso".parse().unwrap(), user.parse().unwrap()),
        source_login: format!("contoso\\{user}"),
        mailbox: format!("{user}@contoso.example").parse().unwrap(),
        time_zone: None,
        opted_in_at: Timestamp::UNIX_EPOCH,
        state: EnrolmentState::Disabled {
            failure: Failure::new(ErrorClass::Refused, code, "as the test set it"),
            since: Timestamp::UNIX_EPOCH,
        },
    }
}

#[test]
fn people_who_are_not_found_are_named_up_to_five() {
    let mut users: Vec<_> = (0..7)
        .map(|number| disabled(&format!("user{number}"), Code::SharePointUserUnknown))
        .collect();
    users.push(disabled("ana", Code::ExchangeMailboxMissing));
    users.push(disabled("bob", Code::ExchangeSignInRefused));
    let [logins, mailboxes] = judge_people("tenant t", &users);
    assert_eq!(
        (logins.result, mailboxes.result),
        (CheckResult::Warning, CheckResult::Warning)
    );
    assert!(
        logins.explanation.starts_with("7 people"),
        "{}",
        logins.explanation
    );
    assert_eq!(logins.additional_information.len(), 6);
    assert_eq!(logins.additional_information[5], "and 2 more");
    assert!(mailboxes.additional_information[0].starts_with("ana (contoso\\ana, ana@contoso.example): "));
    let [logins, mailboxes] = judge_people("tenant t", &[]);
    assert_eq!(
        (logins.result, mailboxes.result),
        (CheckResult::Ok, CheckResult::Ok)
    );
}

#[test]
fn pauses_of_all_processes_are_added_and_those_of_other_servers_left_out() {
    let url = |text: &str| url::Url::parse(text).unwrap();
    let server =
        |host: &str| ServerName::new(&url(host), tasksync_common::metrics::record::Server::Ews, "svc");
    let (own, other) = (
        server("https://mail.contoso.example/"),
        server("https://x.example/"),
    );
    let at = |second| Timestamp::from_second(second).unwrap();
    let member = |name: &str, reports: &[(&ServerName, u64, i64)]| {
        let reports = reports.iter().map(|(server, times, second)| ThrottledServer {
            name: server.to_string(),
            times: *times,
            last_at: at(*second),
        });
        Member {
            throttled: reports.collect(),
            ..Member::new(name, Role::Worker, Timestamp::UNIX_EPOCH)
        }
    };
    let members = [
        member("a", &[(&own, 2, 100), (&other, 9, 900)]),
        member("b", &[(&own, 1, 300)]),
    ];
    let finding = judge_throttled("tenant t", std::slice::from_ref(&own), &members);
    assert_eq!(finding.result, CheckResult::Warning);
    assert!(
        finding.explanation.contains(" 3 pauses"),
        "{}",
        finding.explanation
    );
    assert!(
        finding.additional_information[0].contains("3 times, last at 1970-01-01T00:05:00Z"),
        "{finding:?}"
    );
    assert_eq!(judge_throttled("tenant t", &[own], &[]).result, CheckResult::Ok);
}

#[test]
fn tenants_that_share_an_account_are_named() {
    let server = ServerName::new(
        &url::Url::parse("https://mail.contoso.example/").unwrap(),
        tasksync_common::metrics::record::Server::Ews,
        "svc",
    );
    let finding = judge_sharing("tenant t", &BTreeMap::from([("fabrikam".to_owned(), server)]));
    assert_eq!(finding.result, CheckResult::Warning);
    assert_eq!(
        finding.additional_information,
        ["tenant fabrikam: mail.contoso.example:443 as svc"]
    );
    assert_eq!(
        judge_sharing("tenant t", &BTreeMap::new()).result,
        CheckResult::Ok
    );
}
