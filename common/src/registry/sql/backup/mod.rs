//! Reading the whole registry at one moment, filling an empty one, and what the registry remembers about
//! backups.

mod fill;
mod records;
mod rows;
mod snapshot;

use std::time::Duration;

pub use self::fill::{FilledFrom, RegistryContents, RegistryFilling};
pub use self::snapshot::RegistrySnapshot;

/// Time limit of one statement that reads or writes a page, or counts a table.
const PAGE_TIMEOUT: Duration = Duration::from_mins(10);

/// The tables and columns that a backup holds, or that it can do without for the reason given. A test compares
/// them with the tables, so that a new column is not forgotten.
#[cfg(test)]
pub(super) const TABLES: &[(&str, Result<&[&str], &str>)] = &[
    ("tenants", Ok(&["id", "enabled", "document"])),
    (
        "enrolments",
        Ok(&[
            "tenant",
            "user_id",
            "source_login",
            "mailbox",
            "time_zone",
            "opted_in_at",
            "disabled_since",
            "failure",
            "permit_plan",
            "permit_until",
            // Computed from the name.
            "name_digest",
            // Of earlier builds; no build reads it.
            "deletion_permit",
        ]),
    ),
    (
        "stamps",
        Ok(&[
            "tenant",
            "user_id",
            "stamp",
            "last_success",
            "failing_since",
            "failures",
            "failure",
        ]),
    ),
    (
        "sync_states",
        Ok(&["tenant", "user_id", "version", "present", "fingerprint", "state"]),
    ),
    (
        "alerts",
        Ok(&["id", "since", "tenant", "user_id", "code", "failure", "evidence"]),
    ),
    (
        "location_alerts",
        Ok(&["tenant", "location", "since", "confirmed", "failure"]),
    ),
    (
        "journal",
        Ok(&[
            "id",
            "at",
            "tenant",
            "user_id",
            "task",
            "kind",
            "value_before",
            "value_after",
        ]),
    ),
    ("installation", Ok(&["one", "id"])),
    (
        "backups",
        Err("it is about this registry and not about its content"),
    ),
    ("marks", Err("a mark belongs to the data of another store")),
    ("write_probe", Err("it holds no row")),
    ("compatibility", Err("it belongs to the tables")),
    ("_sqlx_migrations", Err("it belongs to the tables")),
];
