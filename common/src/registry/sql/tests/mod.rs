mod backup;
mod occupancy;
mod postgres;
mod postgres_tls;
mod server;
mod sqlite;

use jiff::Timestamp;

use super::SqlRegistry;
use crate::contract::key;
use crate::registry::{Enrolment, EnrolmentState};

/// Returns Ana's enrolment as [`with_ana`] stores it.
fn ana() -> Enrolment {
    Enrolment {
        key: key("a", "ana"),
        source_login: "ana".to_owned(),
        mailbox: "ana@a.example".parse().unwrap(),
        time_zone: None,
        opted_in_at: Timestamp::UNIX_EPOCH,
        state: EnrolmentState::Enabled,
    }
}

/// Stores a tenant with Ana through the registry's own connection.
async fn with_ana(registry: &SqlRegistry) {
    let mut transaction = registry.transaction("test").await.unwrap();
    for statement in [
        "INSERT INTO tenants (id, enabled, document) VALUES ('a', TRUE, '{}')",
        "INSERT INTO enrolments (tenant, user_id, source_login, mailbox, opted_in_at) VALUES ('a', 'ana', 'ana', 'ana@a.example', 0)",
    ] {
        transaction.query(statement).execute().await.unwrap();
    }
    registry.commit("test", transaction).await.unwrap();
}
