//! Filling an empty registry from the records of a backup, in one transaction.

use jiff::Timestamp;

use super::super::SqlRegistry;
use super::super::connection::SqlConnection;
use super::super::enrolments::digest_column;
use super::PAGE_TIMEOUT;
use crate::error::Failure;
use crate::model::InstallationId;
use crate::registry::Tenant;
use crate::registry::backup::{
    AlertRecord, BackupRecord, JournalRecord, LocationAlertRecord, PersonRecord, StampRecord, StateRecord,
};
use crate::schedule::FailureStreak;

const DOING: &str = "filling it from a backup";

const CONTENTS: &str = "SELECT (SELECT COUNT(*) FROM tenants), (SELECT COUNT(*) FROM enrolments), \
    (SELECT COUNT(*) FROM journal)";
/// The mark of the schedule goes, too: it belongs to the data that another store had with the earlier content.
const CLEAR: [&str; 8] = [
    "DELETE FROM alerts",
    "DELETE FROM location_alerts",
    "DELETE FROM sync_states",
    "DELETE FROM stamps",
    "DELETE FROM enrolments",
    "DELETE FROM tenants",
    "DELETE FROM journal",
    "DELETE FROM marks",
];
const INSTALLATION: &str =
    "INSERT INTO installation (one, id) VALUES (1, $1) ON CONFLICT (one) DO UPDATE SET id = excluded.id";
const ORIGIN: &str = "INSERT INTO backups (one, last_backup, filled_at, filled_from, moved_at) \
    VALUES (1, $1, $2, $1, NULL) ON CONFLICT (one) DO UPDATE SET last_backup = excluded.last_backup, \
    filled_at = excluded.filled_at, filled_from = excluded.filled_from, moved_at = NULL";

/// Declares the columns of a table and how rows are added: one for each statement on SQLite, where a
/// statement costs no round trip, and many in one statement on PostgreSQL.
macro_rules! columns {
    (
        $name:ident { $($column:ident: $type:ty),* $(,)? }
        $one:literal
        $many:literal
    ) => {
        struct $name {
            $($column: $type,)*
        }

        impl $name {
            async fn add(connection: &mut SqlConnection, rows: &[Self]) -> Result<(), sqlx::Error> {
                if rows.is_empty() {
                    return Ok(());
                }
                if let Some(postgres) = connection.postgres() {
                    let query = sqlx::query($many)
                        $(.bind(rows.iter().map(|row| row.$column.clone()).collect::<Vec<$type>>()))*;
                    postgres.execute(query).await?;
                    return Ok(());
                }
                for row in rows {
                    connection.query($one)$(.bind(&row.$column))*.execute().await?;
                }
                Ok(())
            }
        }
    };
}

columns! {
    TenantColumns { id: String, enabled: bool, document: String }
    "INSERT INTO tenants (id, enabled, document) VALUES ($1, $2, $3)"
    "INSERT INTO tenants (id, enabled, document) SELECT * FROM UNNEST($1::text[], $2::boolean[], $3::text[])"
}
columns! {
    PersonColumns {
        tenant: String,
        user_id: String,
        source_login: String,
        mailbox: String,
        time_zone: Option<String>,
        opted_in_at: i64,
        disabled_since: Option<i64>,
        failure: Option<String>,
        permit_plan: Option<String>,
        permit_until: Option<i64>,
        name_digest: i64,
    }
    "INSERT INTO enrolments (tenant, user_id, source_login, mailbox, time_zone, opted_in_at, disabled_since, failure, \
        permit_plan, permit_until, name_digest) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
    "INSERT INTO enrolments (tenant, user_id, source_login, mailbox, time_zone, opted_in_at, disabled_since, failure, \
        permit_plan, permit_until, name_digest) \
    SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], \
        $8::text[], $9::text[], $10::bigint[], $11::bigint[])"
}
columns! {
    StampColumns {
        tenant: String,
        user_id: String,
        stamp: i64,
        last_success: Option<i64>,
        failing_since: Option<i64>,
        failures: i64,
        failure: Option<String>,
    }
    "INSERT INTO stamps (tenant, user_id, stamp, last_success, failing_since, failures, failure) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)"
    "INSERT INTO stamps (tenant, user_id, stamp, last_success, failing_since, failures, failure) \
    SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])"
}
columns! {
    StateColumns {
        tenant: String,
        user_id: String,
        version: i64,
        present: bool,
        fingerprint: Vec<u8>,
        state: Vec<u8>,
    }
    "INSERT INTO sync_states (tenant, user_id, version, present, fingerprint, state) \
    VALUES ($1, $2, $3, $4, $5, $6)"
    "INSERT INTO sync_states (tenant, user_id, version, present, fingerprint, state) \
    SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::boolean[], $5::bytea[], $6::bytea[])"
}
columns! {
    OpenAlertColumns {
        since: i64,
        tenant: String,
        user_id: Option<String>,
        code: String,
        failure: String,
        evidence: Option<String>,
    }
    "INSERT INTO alerts (since, tenant, user_id, code, failure, evidence) VALUES ($1, $2, $3, $4, $5, $6)"
    "INSERT INTO alerts (since, tenant, user_id, code, failure, evidence) \
    SELECT since, tenant, user_id, code, failure, evidence \
    FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) \
        WITH ORDINALITY AS new (since, tenant, user_id, code, failure, evidence, place) ORDER BY place"
}
columns! {
    LocationAlertColumns { tenant: String, location: String, since: i64, confirmed: i64, failure: String }
    "INSERT INTO location_alerts (tenant, location, since, confirmed, failure) VALUES ($1, $2, $3, $4, $5)"
    "INSERT INTO location_alerts (tenant, location, since, confirmed, failure) \
    SELECT * FROM UNNEST($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::text[])"
}
columns! {
    JournalEntryColumns {
        at: i64,
        tenant: String,
        user_id: String,
        task: String,
        kind: String,
        value_before: Option<String>,
        value_after: Option<String>,
    }
    "INSERT INTO journal (at, tenant, user_id, task, kind, value_before, value_after) \
    VALUES ($1, $2, $3, $4, $5, $6, $7)"
    "INSERT INTO journal (at, tenant, user_id, task, kind, value_before, value_after) \
    SELECT at, tenant, user_id, task, kind, value_before, value_after \
    FROM UNNEST($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[]) \
        WITH ORDINALITY AS new (at, tenant, user_id, task, kind, value_before, value_after, place) ORDER BY place"
}

/// Numbers of rows that a registry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RegistryContents {
    /// Tenants.
    pub tenants: u64,
    /// People who opted in.
    pub people: u64,
    /// Entries of the journal.
    pub journal_entries: u64,
}

impl RegistryContents {
    /// Returns whether there is nothing to lose.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Where the content of a registry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilledFrom {
    /// The id that the registry gets.
    pub installation: InstallationId,
    /// When the backup was made.
    pub made_at: Timestamp,
    /// Now.
    pub filled_at: Timestamp,
}

/// A transaction that fills the registry. Without [`Self::commit`] it changes nothing.
#[derive(Debug)]
pub struct RegistryFilling {
    registry: SqlRegistry,
    connection: SqlConnection,
}

impl SqlRegistry {
    /// Begins to fill the registry. No other process may use it until the end.
    ///
    /// # Errors
    /// The failure of the database.
    pub async fn begin_filling(&self) -> Result<RegistryFilling, Failure> {
        Ok(RegistryFilling {
            registry: self.clone(),
            connection: self.long_transaction(DOING, PAGE_TIMEOUT).await?,
        })
    }
}

impl RegistryFilling {
    /// Returns what the registry has now.
    ///
    /// # Errors
    /// The failure of the database.
    pub async fn contents(&mut self) -> Result<RegistryContents, Failure> {
        let row: Result<(i64, i64, i64), sqlx::Error> = self.connection.query(CONTENTS).fetch_one().await;
        let (tenants, people, journal_entries) = row.map_err(|error| self.registry.failure(DOING, &error))?;
        Ok(RegistryContents {
            tenants: self.registry.number(tenants)?,
            people: self.registry.number(people)?,
            journal_entries: self.registry.number(journal_entries)?,
        })
    }

    /// Removes what the registry has.
    ///
    /// # Errors
    /// The failure of the database.
    pub async fn clear(&mut self) -> Result<(), Failure> {
        for statement in CLEAR {
            let cleared = self.connection.query(statement).execute().await;
            cleared.map_err(|error| self.registry.failure(DOING, &error))?;
        }
        Ok(())
    }

    /// Adds records. They come in the order of a backup file: tenants before their people.
    ///
    /// # Errors
    /// The failure of the database, for example if two records are about the same person.
    pub async fn add(&mut self, records: Vec<BackupRecord>) -> Result<(), Failure> {
        let batch = FillBatch::of(&self.registry, records)?;
        let added = batch.add(&mut self.connection).await;
        added.map_err(|error| self.registry.failure(DOING, &error))
    }

    /// Ends the transaction: from here on the registry has the new content and the id.
    ///
    /// # Errors
    /// The failure of the database; nothing was changed.
    pub async fn commit(mut self, from: FilledFrom) -> Result<(), Failure> {
        let FilledFrom {
            installation,
            made_at,
            filled_at,
        } = from;
        let ended = async {
            let connection = &mut self.connection;
            let id = installation.to_string();
            connection.query(INSTALLATION).bind(id).execute().await?;
            let origin = connection.query(ORIGIN).bind(made_at.as_microsecond());
            origin.bind(filled_at.as_microsecond()).execute().await
        };
        let ended = ended.await;
        ended.map_err(|error| self.registry.failure(DOING, &error))?;
        self.registry.commit(DOING, self.connection).await
    }

    /// Ends the transaction without a change.
    ///
    /// # Errors
    /// The failure of the database; nothing was changed.
    pub async fn cancel(self) -> Result<(), Failure> {
        self.registry.rollback(DOING, self.connection).await
    }
}

/// Records as rows of the tables.
#[derive(Default)]
struct FillBatch {
    tenants: Vec<TenantColumns>,
    people: Vec<PersonColumns>,
    stamps: Vec<StampColumns>,
    states: Vec<StateColumns>,
    alerts: Vec<OpenAlertColumns>,
    location_alerts: Vec<LocationAlertColumns>,
    journal: Vec<JournalEntryColumns>,
}

impl FillBatch {
    fn of(registry: &SqlRegistry, records: Vec<BackupRecord>) -> Result<Self, Failure> {
        let mut batch = Self::default();
        for record in records {
            match record {
                BackupRecord::Tenant(tenant) => batch.tenants.push(tenant_columns(registry, &tenant)?),
                BackupRecord::Person(person) => batch.push_person(registry, *person)?,
                BackupRecord::Alert(alert) => batch.alerts.push(alert_columns(registry, *alert)?),
                BackupRecord::LocationAlert(alert) => {
                    batch
                        .location_alerts
                        .push(location_alert_columns(registry, &alert)?);
                }
                BackupRecord::Journal(entry) => batch.journal.push(journal_columns(registry, &entry)?),
            }
        }
        Ok(batch)
    }

    async fn add(&self, connection: &mut SqlConnection) -> Result<(), sqlx::Error> {
        TenantColumns::add(connection, &self.tenants).await?;
        PersonColumns::add(connection, &self.people).await?;
        StampColumns::add(connection, &self.stamps).await?;
        StateColumns::add(connection, &self.states).await?;
        OpenAlertColumns::add(connection, &self.alerts).await?;
        LocationAlertColumns::add(connection, &self.location_alerts).await?;
        JournalEntryColumns::add(connection, &self.journal).await
    }

    fn push_person(&mut self, registry: &SqlRegistry, person: PersonRecord) -> Result<(), Failure> {
        let (tenant, user) = (person.tenant.to_string(), person.user.to_string());
        if let Some(stamp) = &person.stamp {
            self.stamps.push(stamp_columns(registry, &tenant, &user, stamp)?);
        }
        if let Some(state) = &person.state {
            self.states.push(state_columns(&tenant, &user, state));
        }
        let failure = person
            .disabled
            .as_ref()
            .map(|disabled| registry.to_document("the reason", &disabled.failure))
            .transpose()?;
        self.people.push(PersonColumns {
            tenant,
            name_digest: digest_column(&person.user),
            user_id: user,
            source_login: person.source_login,
            mailbox: person.mailbox.to_string(),
            time_zone: person.time_zone,
            opted_in_at: person.opted_in_at.as_microsecond(),
            disabled_since: person.disabled.map(|disabled| disabled.since.as_microsecond()),
            failure,
            permit_until: person.permit.as_ref().map(|permit| permit.until.as_microsecond()),
            permit_plan: person.permit.map(|permit| permit.plan),
        });
        Ok(())
    }
}

fn tenant_columns(registry: &SqlRegistry, tenant: &Tenant) -> Result<TenantColumns, Failure> {
    Ok(TenantColumns {
        id: tenant.id.to_string(),
        enabled: tenant.enabled,
        document: registry.to_document("the tenant", tenant)?,
    })
}

fn stamp_columns(
    registry: &SqlRegistry,
    tenant: &str,
    user: &str,
    record: &StampRecord,
) -> Result<StampColumns, Failure> {
    let (since, attempts, failure) = match &record.failing {
        Some(FailureStreak {
            since,
            attempts,
            failure,
        }) => (
            Some(since.as_microsecond()),
            i64::from(*attempts),
            Some(registry.to_document("a failure", failure)?),
        ),
        None => (None, 0, None),
    };
    Ok(StampColumns {
        tenant: tenant.to_owned(),
        user_id: user.to_owned(),
        stamp: record.stamp.as_microsecond(),
        last_success: record.last_success.map(Timestamp::as_microsecond),
        failing_since: since,
        failures: attempts,
        failure,
    })
}

fn state_columns(tenant: &str, user: &str, record: &StateRecord) -> StateColumns {
    let (fingerprint, state) = record
        .content
        .as_ref()
        .map(|content| (content.fingerprint.clone(), content.state.clone()))
        .unwrap_or_default();
    StateColumns {
        tenant: tenant.to_owned(),
        user_id: user.to_owned(),
        // No stored version is that large.
        version: i64::try_from(record.version).unwrap_or(i64::MAX),
        present: record.content.is_some(),
        fingerprint,
        state,
    }
}

fn alert_columns(registry: &SqlRegistry, record: AlertRecord) -> Result<OpenAlertColumns, Failure> {
    Ok(OpenAlertColumns {
        since: record.since.as_microsecond(),
        tenant: record.tenant.to_string(),
        user_id: record.user.map(|user| user.to_string()),
        code: record.code,
        failure: registry.to_document("the failure", &record.failure)?,
        evidence: optional_document(registry, "the evidence", record.evidence.as_ref())?,
    })
}

fn location_alert_columns(
    registry: &SqlRegistry,
    record: &LocationAlertRecord,
) -> Result<LocationAlertColumns, Failure> {
    Ok(LocationAlertColumns {
        tenant: record.tenant.to_string(),
        location: record.location.to_string(),
        since: record.since.as_microsecond(),
        confirmed: record.confirmed.as_microsecond(),
        failure: registry.to_document("the failure", &record.failure)?,
    })
}

fn journal_columns(registry: &SqlRegistry, record: &JournalRecord) -> Result<JournalEntryColumns, Failure> {
    const WHAT: &str = "a journal value";
    Ok(JournalEntryColumns {
        at: record.at.as_microsecond(),
        tenant: record.tenant.to_string(),
        user_id: record.user.to_string(),
        task: record.task.to_string(),
        kind: record.kind.name().to_owned(),
        value_before: optional_document(registry, WHAT, record.before.as_ref())?,
        value_after: optional_document(registry, WHAT, record.after.as_ref())?,
    })
}

fn optional_document(
    registry: &SqlRegistry,
    what: &str,
    value: Option<&serde_json::Value>,
) -> Result<Option<String>, Failure> {
    value.map(|value| registry.to_document(what, value)).transpose()
}
