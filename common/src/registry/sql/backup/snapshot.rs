//! Reading the whole registry as it was at one moment.

use jiff::Timestamp;

use super::super::connection::{Readable, SqlConnection};
use super::super::{SqlRegistry, sql_limit};
use super::PAGE_TIMEOUT;
use super::rows::{JournalEntryRow, LocationAlertRow, OpenAlertRow, PersonRow};
use crate::error::Failure;
use crate::registry::InstallationStore as _;
use crate::registry::backup::{BACKUP_FORMAT, BackupHeader, BackupRecord, RecordCounts};

const DOING: &str = "reading everything for a backup";

/// Number of tenants, alerts or journal entries read at once.
const PAGE: u32 = 500;
/// Number of people read at once; each comes with the whole state, which may be large.
const PEOPLE: u32 = 100;

const COUNTS: [(&str, &str); 5] = [
    ("tenant", "SELECT COUNT(*) FROM tenants"),
    ("person", "SELECT COUNT(*) FROM enrolments"),
    ("alert", "SELECT COUNT(*) FROM alerts"),
    ("location_alert", "SELECT COUNT(*) FROM location_alerts"),
    ("journal", "SELECT COUNT(*) FROM journal"),
];
const TENANTS: &str = "SELECT id, document FROM tenants WHERE id > $1 ORDER BY id LIMIT $2";
const PERSONS: &str = "SELECT e.tenant, e.user_id, e.source_login, e.mailbox, e.time_zone, e.opted_in_at, \
        e.disabled_since, e.failure AS disabled_for, e.permit_plan, e.permit_until, \
        t.stamp, t.last_success, t.failing_since, t.failures, t.failure AS failing_for, \
        s.version, s.present, s.fingerprint, s.state \
    FROM enrolments e \
    LEFT JOIN stamps t ON t.tenant = e.tenant AND t.user_id = e.user_id \
    LEFT JOIN sync_states s ON s.tenant = e.tenant AND s.user_id = e.user_id \
    WHERE (e.tenant, e.user_id) > ($1, $2) ORDER BY e.tenant, e.user_id LIMIT $3";
const ALERTS: &str = "SELECT id, since, tenant, user_id, code, failure, evidence FROM alerts \
    WHERE id > $1 ORDER BY id LIMIT $2";
const LOCATION_ALERTS: &str = "SELECT tenant, location, since, confirmed, failure FROM location_alerts \
    WHERE (tenant, location) > ($1, $2) ORDER BY tenant, location LIMIT $3";
const JOURNAL: &str = "SELECT id, at, tenant, user_id, task, kind, value_before, value_after FROM journal \
    WHERE id > $1 ORDER BY id LIMIT $2";

/// The last row that was read.
#[derive(Debug, Clone)]
enum SnapshotPosition {
    Tenant(String),
    Person(String, String),
    Alert(i64),
    LocationAlert(String, String),
    Journal(i64),
    End,
}

/// The registry as it was when this value was made, read page by page. Others may change the registry
/// meanwhile. Memory holds one page.
#[derive(Debug)]
pub struct RegistrySnapshot {
    registry: SqlRegistry,
    connection: SqlConnection,
    header: BackupHeader,
    position: SnapshotPosition,
}

impl SqlRegistry {
    /// Returns the registry's present content, with a header that names `made_at` and `moved`.
    ///
    /// # Errors
    /// The failure of the database.
    pub async fn snapshot(&self, made_at: Timestamp, moved: bool) -> Result<RegistrySnapshot, Failure> {
        // A registry that no process has started yet gets its id here, because a reading transaction cannot
        // make it.
        let installation = self.installation().await?;
        let mut connection = self.reading_transaction(DOING, PAGE_TIMEOUT).await?;
        let mut records = RecordCounts::new();
        for (kind, statement) in COUNTS {
            let (number,): (i64,) = connection
                .query(statement)
                .fetch_one()
                .await
                .map_err(|error| self.failure(DOING, &error))?;
            records.insert(kind.to_owned(), self.number(number)?);
        }
        Ok(RegistrySnapshot {
            registry: self.clone(),
            connection,
            header: BackupHeader {
                format: BACKUP_FORMAT,
                build: env!("CARGO_PKG_VERSION").to_owned(),
                installation,
                made_at,
                moved,
                records,
                skippable: Vec::new(),
            },
            position: SnapshotPosition::Tenant(String::new()),
        })
    }
}

impl RegistrySnapshot {
    /// Returns the header of a backup of this content.
    #[must_use]
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// Returns the next records, in the order of a backup file; none after the last one.
    ///
    /// # Errors
    /// The failure of the database, or a stored value that cannot be read.
    pub async fn next_page(&mut self) -> Result<Vec<BackupRecord>, Failure> {
        loop {
            let page = match self.position.clone() {
                SnapshotPosition::Tenant(after) => self.tenants(&after).await?,
                SnapshotPosition::Person(tenant, user) => self.people(&tenant, &user).await?,
                SnapshotPosition::Alert(after) => self.alerts(after).await?,
                SnapshotPosition::LocationAlert(tenant, location) => {
                    self.location_alerts(&tenant, &location).await?
                }
                SnapshotPosition::Journal(after) => self.journal(after).await?,
                SnapshotPosition::End => return Ok(Vec::new()),
            };
            if !page.is_empty() {
                return Ok(page);
            }
        }
    }

    /// Ends the reading transaction.
    ///
    /// # Errors
    /// The failure of the database; everything was read before.
    pub async fn close(self) -> Result<(), Failure> {
        self.registry.rollback(DOING, self.connection).await
    }

    async fn tenants(&mut self, after: &str) -> Result<Vec<BackupRecord>, Failure> {
        let query = self.connection.query(TENANTS).bind(after).bind(sql_limit(PAGE));
        let rows: Vec<(String, String)> = checked_rows(&self.registry, query.fetch_all().await)?;
        self.position = rows.last().map_or(
            SnapshotPosition::Person(String::new(), String::new()),
            |(id, _)| SnapshotPosition::Tenant(id.clone()),
        );
        rows.iter()
            .map(|(id, document)| self.registry.tenant_record(id, document))
            .collect()
    }

    async fn people(&mut self, tenant: &str, user: &str) -> Result<Vec<BackupRecord>, Failure> {
        let query = self
            .connection
            .query(PERSONS)
            .bind(tenant)
            .bind(user)
            .bind(sql_limit(PEOPLE));
        let rows: Vec<PersonRow> = checked_rows(&self.registry, query.fetch_all().await)?;
        self.position = rows.last().map_or(SnapshotPosition::Alert(0), |row| {
            SnapshotPosition::Person(row.tenant.clone(), row.user_id.clone())
        });
        rows.into_iter()
            .map(|row| self.registry.person_record(row))
            .collect()
    }

    async fn alerts(&mut self, after: i64) -> Result<Vec<BackupRecord>, Failure> {
        let query = self.connection.query(ALERTS).bind(after).bind(sql_limit(PAGE));
        let rows: Vec<OpenAlertRow> = checked_rows(&self.registry, query.fetch_all().await)?;
        self.position = rows.last().map_or(
            SnapshotPosition::LocationAlert(String::new(), String::new()),
            |row| SnapshotPosition::Alert(row.id),
        );
        rows.into_iter()
            .map(|row| self.registry.alert_record(row))
            .collect()
    }

    async fn location_alerts(&mut self, tenant: &str, location: &str) -> Result<Vec<BackupRecord>, Failure> {
        let query = self
            .connection
            .query(LOCATION_ALERTS)
            .bind(tenant)
            .bind(location)
            .bind(sql_limit(PAGE));
        let rows: Vec<LocationAlertRow> = checked_rows(&self.registry, query.fetch_all().await)?;
        self.position = rows.last().map_or(SnapshotPosition::Journal(0), |row| {
            SnapshotPosition::LocationAlert(row.tenant.clone(), row.location.clone())
        });
        rows.iter()
            .map(|row| self.registry.location_alert_record(row))
            .collect()
    }

    async fn journal(&mut self, after: i64) -> Result<Vec<BackupRecord>, Failure> {
        let query = self.connection.query(JOURNAL).bind(after).bind(sql_limit(PAGE));
        let rows: Vec<JournalEntryRow> = checked_rows(&self.registry, query.fetch_all().await)?;
        self.position = rows
            .last()
            .map_or(SnapshotPosition::End, |row| SnapshotPosition::Journal(row.id));
        rows.into_iter()
            .map(|row| self.registry.journal_record(row))
            .collect()
    }
}

fn checked_rows<T: Readable>(
    registry: &SqlRegistry,
    rows: Result<Vec<T>, sqlx::Error>,
) -> Result<Vec<T>, Failure> {
    rows.map_err(|error| registry.failure(DOING, &error))
}
