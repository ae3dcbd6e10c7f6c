mod occupancy;
mod postgres;
mod server;
mod sqlite;

use super::SqlRegistry;

/// A tenant with Ana, written through the registry's own statements.
async fn with_ana(registry: &SqlRegistry) {
    let mut transaction = registry.transaction("test").await.unwrap();
    for statement in [
        "INSERT INTO tenants (id, enabled, document) VALUES ('a', TRUE, '{}')",
        "INSERT INTO enrolments (tenant, user_id, source_login, mailbox, opted_in_at) VALUES ('a', 'ana', 'ana', 'ana@a', 0)",
    ] {
        transaction.query(statement).execute().await.unwrap();
    }
    registry.commit("test", transaction).await.unwrap();
}
