//! The suite of the registry.

pub mod alerts;
pub mod backups;
pub mod enrolments;
pub mod installation;
pub mod journal;
pub mod marks;
pub mod stamps;
pub mod states;
pub mod tenants;

use jiff::Timestamp;

use crate::error::{Code, ErrorClass, Failure};
use crate::registry::{
    Access, Credentials, Enrolment, EnrolmentResult, EnrolmentState, MailboxConnection, Registry,
    SharePointConnection, SourceConnection, Tenant,
};

use super::{key, tenant_id};

/// Returns a time this many seconds after the beginning of the tests, plus some microseconds, which must not
/// be lost.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_microsecond(1_795_000_000_000_123 + seconds * 1_000_000).unwrap()
}

fn tenant(name: &str) -> Tenant {
    let credentials = Credentials::Basic {
        user: format!("{name}\\svc-tasksync"),
        password: "env:PASSWORD".parse().unwrap(),
    };
    Tenant {
        id: tenant_id(name),
        display_name: format!("Example {name}"),
        enabled: true,
        time_zone: "Europe/Berlin".to_owned(),
        source: SourceConnection::SharePoint(SharePointConnection {
            sites: vec![format!("https://sp.{name}.example/sites/a").parse().unwrap()],
            credentials: credentials.clone(),
        }),
        mailbox: MailboxConnection::Ews {
            url: format!("https://mail.{name}.example/EWS/Exchange.asmx")
                .parse()
                .unwrap(),
            credentials,
            access: Access::Auto,
        },
        policy: crate::plan::Policy::default(),
        test: None,
    }
}

fn enrolment(tenant: &str, user: &str) -> Enrolment {
    Enrolment {
        key: key(tenant, user),
        source_login: format!("i:0#.w|{tenant}\\{user}"),
        mailbox: format!("{user}@{tenant}.example").parse().unwrap(),
        time_zone: Some("W. Europe Standard Time".to_owned()),
        opted_in_at: at(0),
        state: EnrolmentState::Enabled,
    }
}

fn failure() -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::ExchangeMailboxMissing,
        "GetFolder: ana@a.example: ErrorNonExistentMailbox",
    )
}

fn disabled() -> EnrolmentState {
    EnrolmentState::Disabled {
        failure: failure(),
        since: at(60),
    }
}

/// Stores the tenants and enrols the users in each of them.
async fn with_users(registry: &dyn Registry, tenants: &[&str], users: &[&str]) {
    for name in tenants {
        registry.put_tenant(&tenant(name)).await.unwrap();
        for user in users {
            assert_eq!(
                registry.enrol(&enrolment(name, user)).await.unwrap(),
                EnrolmentResult::Added
            );
        }
    }
}
