//! The rows of the tables as records of a backup file.

use serde_json::Value;

use super::super::SqlRegistry;
use crate::error::Failure;
use crate::model::{LocationKey, SourceKey};
use crate::registry::backup::{
    AlertRecord, BackupRecord, DisabledRecord, JournalRecord, LocationAlertRecord, PersonRecord, StampRecord,
    StateContent, StateRecord,
};
use crate::registry::{DeletionPermit, JournalKind};
use crate::schedule::FailureStreak;

/// A person's rows of three tables.
#[derive(sqlx::FromRow)]
pub(super) struct PersonRow {
    pub(super) tenant: String,
    pub(super) user_id: String,
    source_login: String,
    mailbox: String,
    time_zone: Option<String>,
    opted_in_at: i64,
    disabled_since: Option<i64>,
    disabled_for: Option<String>,
    permit_plan: Option<String>,
    permit_until: Option<i64>,
    stamp: Option<i64>,
    last_success: Option<i64>,
    failing_since: Option<i64>,
    failures: Option<i64>,
    failing_for: Option<String>,
    version: Option<i64>,
    present: Option<bool>,
    fingerprint: Option<Vec<u8>>,
    state: Option<Vec<u8>>,
}

#[derive(sqlx::FromRow)]
pub(super) struct OpenAlertRow {
    pub(super) id: i64,
    since: i64,
    tenant: String,
    user_id: Option<String>,
    code: String,
    failure: String,
    evidence: Option<String>,
}

#[derive(sqlx::FromRow)]
pub(super) struct LocationAlertRow {
    pub(super) tenant: String,
    pub(super) location: String,
    since: i64,
    confirmed: i64,
    failure: String,
}

#[derive(sqlx::FromRow)]
pub(super) struct JournalEntryRow {
    pub(super) id: i64,
    at: i64,
    tenant: String,
    user_id: String,
    task: String,
    kind: String,
    value_before: Option<String>,
    value_after: Option<String>,
}

impl SqlRegistry {
    /// Returns the record of a tenant's document.
    pub(super) fn tenant_record(&self, id: &str, document: &str) -> Result<BackupRecord, Failure> {
        let tenant = self.document(&format!("tenant {id}"), document)?;
        Ok(BackupRecord::Tenant(Box::new(tenant)))
    }

    /// Returns the record of a person.
    pub(super) fn person_record(&self, row: PersonRow) -> Result<BackupRecord, Failure> {
        let subject = format!("{}/{}", row.tenant, row.user_id);
        let what = |part: &str| format!("the {part} of {subject}");
        let disabled = match (row.disabled_since, row.disabled_for) {
            (Some(since), Some(failure)) => Some(DisabledRecord {
                since: self.time(since)?,
                failure: self.document(&what("reason"), &failure)?,
            }),
            // The table allows both columns or neither.
            (None, _) | (_, None) => None,
        };
        let permit = match (row.permit_plan, row.permit_until) {
            (Some(plan), Some(until)) => Some(DeletionPermit {
                plan,
                until: self.time(until)?,
            }),
            (None, _) | (_, None) => None,
        };
        let failing = match (row.failing_since, row.failing_for) {
            (Some(since), Some(failure)) => Some(FailureStreak {
                since: self.time(since)?,
                attempts: row
                    .failures
                    .map_or(0, |number| u32::try_from(number).unwrap_or(u32::MAX)),
                failure: self.document(&what("failure"), &failure)?,
            }),
            (None, _) | (_, None) => None,
        };
        let stamp = match row.stamp {
            Some(stamp) => Some(StampRecord {
                stamp: self.time(stamp)?,
                last_success: row.last_success.map(|at| self.time(at)).transpose()?,
                failing,
            }),
            None => None,
        };
        let state = match (row.version, row.fingerprint, row.state) {
            (Some(version), Some(fingerprint), Some(state)) => Some(StateRecord {
                version: self.number(version)?,
                content: (row.present == Some(true)).then_some(StateContent { fingerprint, state }),
            }),
            (None, _, _) | (_, None, _) | (_, _, None) => None,
        };
        Ok(BackupRecord::Person(Box::new(PersonRecord {
            tenant: self.name(&row.tenant)?,
            user: self.name(&row.user_id)?,
            source_login: row.source_login,
            mailbox: self.name(&row.mailbox)?,
            time_zone: row.time_zone,
            opted_in_at: self.time(row.opted_in_at)?,
            disabled,
            permit,
            stamp,
            state,
        })))
    }

    /// Returns the record of an open alert about a tenant or person.
    pub(super) fn alert_record(&self, row: OpenAlertRow) -> Result<BackupRecord, Failure> {
        let what = format!("the alert {} of {}", row.code, row.tenant);
        Ok(BackupRecord::Alert(Box::new(AlertRecord {
            since: self.time(row.since)?,
            tenant: self.name(&row.tenant)?,
            user: row.user_id.map(|user| self.name(&user)).transpose()?,
            failure: self.document(&what, &row.failure)?,
            evidence: self.optional_value(&what, row.evidence)?,
            code: row.code,
        })))
    }

    /// Returns the record of an open alert about a list or site.
    pub(super) fn location_alert_record(&self, row: &LocationAlertRow) -> Result<BackupRecord, Failure> {
        let what = format!("the alert about {} of {}", row.location, row.tenant);
        Ok(BackupRecord::LocationAlert(Box::new(LocationAlertRecord {
            since: self.time(row.since)?,
            confirmed: self.time(row.confirmed)?,
            tenant: self.name(&row.tenant)?,
            location: LocationKey::from_stored(&row.location),
            failure: self.document(&what, &row.failure)?,
        })))
    }

    /// Returns the record of a journal entry.
    pub(super) fn journal_record(&self, row: JournalEntryRow) -> Result<BackupRecord, Failure> {
        const WHAT: &str = "a journal value";
        Ok(BackupRecord::Journal(Box::new(JournalRecord {
            at: self.time(row.at)?,
            tenant: self.name(&row.tenant)?,
            user: self.name(&row.user_id)?,
            task: SourceKey::from_stored(&row.task),
            kind: JournalKind::from(row.kind),
            before: self.optional_value(WHAT, row.value_before)?,
            after: self.optional_value(WHAT, row.value_after)?,
        })))
    }

    fn optional_value(&self, what: &str, text: Option<String>) -> Result<Option<Value>, Failure> {
        text.map(|text| self.document(what, &text)).transpose()
    }
}
