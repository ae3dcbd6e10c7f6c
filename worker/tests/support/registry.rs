//! A registry in memory for tests on paused time. A database's threads would not pause.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use jiff::Timestamp;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{InstallationId, LocationKey, TenantId, UserId, UserKey};
use tasksync_common::registry::{
    Access, Alert, AlertCursor, AlertFilter, AlertPage, Alerts, BackupRecords, Credentials, DeletionPermit,
    DeletionPermits, Enrolment, EnrolmentCounts, EnrolmentResult, EnrolmentState, EnrolmentStore,
    InstallationStore, Journal, JournalEntry, LateUsers, MailboxConnection, MarkStore, SaveResult,
    SharePointConnection, SourceConnection, StampStore, StateStore, StoredState, Tenant, TenantCounts,
    TenantStore, WriteProbe,
};
use tasksync_common::schedule::{Mark, SavedStamp, TenantUsers, digest_of, digest_of_all};

#[derive(Default)]
struct Rows {
    installation: Option<InstallationId>,
    tenants: BTreeMap<TenantId, Tenant>,
    enrolments: BTreeMap<UserKey, Enrolment>,
    stamps: BTreeMap<UserKey, SavedStamp>,
    alerts: Vec<Alert>,
    /// The last time that a person confirmed an alert about a list.
    confirmed: BTreeMap<(TenantId, LocationKey), Timestamp>,
    mark: Option<Mark>,
    /// Number of names that are not in the digest yet, for tenants without a complete digest.
    undigested: BTreeMap<TenantId, u32>,
}

impl Rows {
    /// Returns the last success of every enabled user, or the time of the opt-in if there was none.
    fn successes(&self) -> impl Iterator<Item = (&UserKey, Timestamp)> {
        self.enrolments
            .values()
            .filter(|row| row.state == EnrolmentState::Enabled)
            .filter(|row| {
                self.tenants
                    .get(&row.key.tenant)
                    .is_some_and(|tenant| tenant.enabled)
            })
            .map(|row| {
                let saved = self.stamps.get(&row.key).and_then(|saved| saved.last_success);
                (&row.key, saved.unwrap_or(row.opted_in_at))
            })
    }
}

#[derive(Default)]
pub(crate) struct MemoryRegistry {
    rows: Mutex<Rows>,
    down: AtomicBool,
}

impl MemoryRegistry {
    /// Adds a tenant with these users, who opted in at `at`.
    pub(crate) fn add(&self, tenant: &str, users: &[UserId], at: Timestamp) {
        let credentials = Credentials::Basic {
            user: "svc".to_owned(),
            password: "env:SVC".parse().unwrap(),
        };
        let id: TenantId = tenant.parse().unwrap();
        let mut rows = self.rows.lock().unwrap();
        rows.tenants.insert(
            id.clone(),
            Tenant {
                id: id.clone(),
                display_name: tenant.to_owned(),
                enabled: true,
                time_zone: "UTC".to_owned(),
                source: SourceConnection::SharePoint(SharePointConnection {
                    sites: vec!["https://sp.example/".parse().unwrap()],
                    credentials: credentials.clone(),
                }),
                mailbox: MailboxConnection::Ews {
                    url: "https://mail.example/EWS/Exchange.asmx".parse().unwrap(),
                    credentials,
                    access: Access::Auto,
                },
                policy: tasksync_common::plan::Policy::default(),
                test: None,
            },
        );
        for user in users {
            let key = UserKey::new(id.clone(), user.clone());
            let enrolment = Enrolment {
                key: key.clone(),
                source_login: user.to_string(),
                mailbox: format!("{user}@{tenant}.example").parse().unwrap(),
                time_zone: None,
                opted_in_at: at,
                state: EnrolmentState::Enabled,
            };
            rows.enrolments.insert(key, enrolment);
        }
    }

    /// Makes this number of a tenant's names miss in its digest, as if an earlier build had saved them.
    pub(crate) fn set_undigested(&self, tenant: &str, names: u32) {
        let tenant = tenant.parse().unwrap();
        self.rows.lock().unwrap().undigested.insert(tenant, names);
    }

    /// Returns the number of names that are in no digest yet.
    pub(crate) fn undigested(&self) -> u32 {
        self.rows.lock().unwrap().undigested.values().sum()
    }

    /// Makes every call fail from now on, or succeed again.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    fn rows<T>(&self, access: impl FnOnce(&mut Rows) -> T) -> Result<T, Failure> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Failure::new(
                ErrorClass::Transient,
                Code::RegistryUnavailable,
                "down",
            ));
        }
        Ok(access(&mut self.rows.lock().unwrap()))
    }
}

fn unused() -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::RegistryUnavailable,
        "not part of these tests",
    )
}

fn page<K: Ord + Clone, V>(rows: impl Iterator<Item = (K, V)>, after: Option<&K>, limit: u32) -> Vec<V> {
    rows.filter(|(name, _)| after.is_none_or(|after| name > after))
        .take(limit as usize)
        .map(|(_, row)| row)
        .collect()
}

#[async_trait]
impl InstallationStore for MemoryRegistry {
    async fn installation(&self) -> Result<InstallationId, Failure> {
        self.rows(|rows| *rows.installation.get_or_insert_with(InstallationId::random))
    }
    async fn set_installation(&self, id: InstallationId) -> Result<(), Failure> {
        self.rows(|rows| rows.installation = Some(id))
    }
}

#[async_trait]
impl TenantStore for MemoryRegistry {
    async fn put_tenant(&self, tenant: &Tenant) -> Result<bool, Failure> {
        self.rows(|rows| rows.tenants.insert(tenant.id.clone(), tenant.clone()).is_none())
    }
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, Failure> {
        self.rows(|rows| rows.tenants.get(id).cloned())
    }
    async fn tenants(&self, after: Option<&TenantId>, limit: u32) -> Result<Vec<Tenant>, Failure> {
        self.rows(|rows| {
            let all = rows
                .tenants
                .iter()
                .map(|(id, tenant)| (id.clone(), tenant.clone()));
            page(all, after, limit)
        })
    }
    async fn tenant_counts(&self) -> Result<TenantCounts, Failure> {
        self.rows(|rows| TenantCounts {
            tenants: rows.tenants.len() as u64,
            enabled: rows.tenants.values().filter(|tenant| tenant.enabled).count() as u64,
        })
    }
    async fn remove_tenant(&self, id: &TenantId) -> Result<bool, Failure> {
        self.rows(|rows| {
            rows.enrolments.retain(|key, _| key.tenant != *id);
            rows.stamps.retain(|key, _| key.tenant != *id);
            rows.alerts.retain(|alert| alert.tenant != *id);
            rows.tenants.remove(id).is_some()
        })
    }
    async fn active_tenants(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Vec<(TenantId, TenantUsers)>, Failure> {
        self.rows(|rows| {
            let mut parts: BTreeMap<TenantId, Vec<u64>> = BTreeMap::new();
            for key in rows.enrolments.keys() {
                if rows.tenants.get(&key.tenant).is_some_and(|tenant| tenant.enabled) {
                    parts
                        .entry(key.tenant.clone())
                        .or_default()
                        .push(digest_of(&key.user));
                }
            }
            let all = parts.into_iter().map(|(id, parts)| {
                let members = TenantUsers {
                    users: parts.len() as u64,
                    names: (!rows.undigested.contains_key(&id)).then(|| digest_of_all(parts)),
                };
                (id.clone(), (id, members))
            });
            page(all, after, limit)
        })
    }
}

/// Returns a sign-in name without the provider and without the case of letters.
fn account(login: &str) -> String {
    let account = login.rsplit('|').next().unwrap_or_default();
    account.trim().to_ascii_lowercase()
}

#[async_trait]
impl EnrolmentStore for MemoryRegistry {
    async fn enrol(&self, enrolment: &Enrolment) -> Result<EnrolmentResult, Failure> {
        self.rows(|rows| {
            let others = || rows.enrolments.values().filter(|row| row.key != enrolment.key);
            if let Some(owner) = others().find(|row| row.mailbox == enrolment.mailbox) {
                return EnrolmentResult::MailboxTaken(owner.key.clone());
            }
            let of_login = |row: &&Enrolment| {
                row.key.tenant == enrolment.key.tenant
                    && account(&row.source_login) == account(&enrolment.source_login)
            };
            if let Some(owner) = others().find(of_login) {
                return EnrolmentResult::LoginTaken(owner.key.clone());
            }
            let earlier_opt_in = rows.enrolments.get(&enrolment.key).map(|row| row.opted_in_at);
            let row = Enrolment {
                opted_in_at: earlier_opt_in.unwrap_or(enrolment.opted_in_at),
                ..enrolment.clone()
            };
            rows.enrolments.insert(row.key.clone(), row);
            if earlier_opt_in.is_some() {
                EnrolmentResult::Updated
            } else {
                EnrolmentResult::Added
            }
        })
    }
    async fn enrol_many(&self, enrolments: &[Enrolment]) -> Result<Vec<EnrolmentResult>, Failure> {
        let mut answers = Vec::new();
        for enrolment in enrolments {
            answers.push(self.enrol(enrolment).await?);
        }
        Ok(answers)
    }
    async fn withdraw(&self, user: &UserKey) -> Result<bool, Failure> {
        self.rows(|rows| {
            rows.stamps.remove(user);
            rows.alerts
                .retain(|alert| alert.tenant != user.tenant || alert.user.as_ref() != Some(&user.user));
            rows.enrolments.remove(user).is_some()
        })
    }
    async fn enrolment(&self, user: &UserKey) -> Result<Option<Enrolment>, Failure> {
        self.rows(|rows| rows.enrolments.get(user).cloned())
    }
    async fn enrolments_of(&self, tenant: &TenantId, users: &[UserId]) -> Result<Vec<Enrolment>, Failure> {
        self.rows(|rows| {
            let keys = users
                .iter()
                .map(|user| UserKey::new(tenant.clone(), user.clone()));
            keys.filter_map(|key| rows.enrolments.get(&key).cloned())
                .collect()
        })
    }
    async fn enrolments(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<Enrolment>, Failure> {
        self.rows(|rows| {
            let all = rows.enrolments.values().filter(|row| row.key.tenant == *tenant);
            page(all.map(|row| (row.key.user.clone(), row.clone())), after, limit)
        })
    }
    async fn enrolment_counts(&self, _: Option<&TenantId>) -> Result<EnrolmentCounts, Failure> {
        Err(unused())
    }
    async fn digest_names(&self, tenant: &TenantId, limit: u32) -> Result<u64, Failure> {
        self.rows(|rows| {
            let Some(left) = rows.undigested.get_mut(tenant) else {
                return 0;
            };
            let made = limit.min(*left);
            *left -= made;
            if *left == 0 {
                rows.undigested.remove(tenant);
            }
            u64::from(made)
        })
    }
    async fn set_enrolment_state(&self, user: &UserKey, state: &EnrolmentState) -> Result<bool, Failure> {
        self.rows(|rows| {
            let row = rows.enrolments.get_mut(user);
            row.map(|row| row.state = state.clone()).is_some()
        })
    }
}

#[async_trait]
impl StateStore for MemoryRegistry {
    async fn enrolments_with_fingerprints(
        &self,
        _: &TenantId,
        _: &[UserId],
    ) -> Result<Vec<(Enrolment, Option<StoredState>)>, Failure> {
        Err(unused())
    }
    async fn enrolment_with_state(
        &self,
        _: &UserKey,
    ) -> Result<Option<(Enrolment, Option<StoredState>)>, Failure> {
        Err(unused())
    }
    async fn sync_state(&self, _: &UserKey) -> Result<Option<StoredState>, Failure> {
        Err(unused())
    }
    async fn save_sync_state(
        &self,
        _: &Enrolment,
        _: u64,
        _: &[u8],
        _: &[u8],
    ) -> Result<SaveResult, Failure> {
        Err(unused())
    }
}

#[async_trait]
impl StampStore for MemoryRegistry {
    async fn save_stamps(&self, tenant: &TenantId, stamps: &[SavedStamp]) -> Result<(), Failure> {
        self.rows(|rows| {
            for stamp in stamps {
                let key = UserKey::new(tenant.clone(), stamp.user.clone());
                if !rows.enrolments.contains_key(&key) {
                    continue;
                }
                let mut stamp = stamp.clone();
                if let Some(stored) = rows.stamps.get(&key) {
                    stamp.last_success = stamp.last_success.or(stored.last_success);
                    if let (Some(failing), Some(before)) = (&mut stamp.failing, &stored.failing) {
                        failing.since = before.since;
                    }
                }
                rows.stamps.insert(key, stamp);
            }
        })
    }
    async fn stamps(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        limit: u32,
    ) -> Result<Vec<SavedStamp>, Failure> {
        self.rows(|rows| {
            let enrolled = rows.enrolments.values().filter(|row| row.key.tenant == *tenant);
            let all = enrolled.map(|row| {
                let saved = rows.stamps.get(&row.key).cloned().unwrap_or(SavedStamp {
                    user: row.key.user.clone(),
                    stamp: row.opted_in_at,
                    last_success: None,
                    failing: None,
                });
                let saved = match &row.state {
                    EnrolmentState::Enabled => saved,
                    EnrolmentState::Disabled { failure, since } => saved.disabled(*since, failure),
                };
                (row.key.user.clone(), saved)
            });
            page(all, after, limit)
        })
    }
    async fn late(&self, before: Timestamp, limit: u32) -> Result<Vec<LateUsers>, Failure> {
        self.rows(|rows| {
            let mut late: BTreeMap<TenantId, LateUsers> = BTreeMap::new();
            for (key, success) in rows.successes().filter(|(_, success)| *success < before) {
                let of = late.entry(key.tenant.clone()).or_insert(LateUsers {
                    tenant: key.tenant.clone(),
                    users: 0,
                    oldest: success,
                });
                of.users += 1;
                of.oldest = of.oldest.min(success);
            }
            late.into_values().take(limit as usize).collect()
        })
    }
    async fn oldest_success(&self, tenant: Option<&TenantId>) -> Result<Option<Timestamp>, Failure> {
        self.rows(|rows| {
            let of = rows
                .successes()
                .filter(|(key, _)| tenant.is_none_or(|tenant| key.tenant == *tenant));
            of.map(|(_, success)| success).min()
        })
    }
}

#[async_trait]
impl Journal for MemoryRegistry {
    async fn journal(&self, _: &[JournalEntry]) -> Result<(), Failure> {
        Err(unused())
    }
    async fn journal_of(&self, _: &UserKey, _: u32) -> Result<Vec<JournalEntry>, Failure> {
        Err(unused())
    }
    async fn prune_journal(&self, _: Timestamp, _: u32) -> Result<u64, Failure> {
        Ok(0)
    }
}

#[async_trait]
impl Alerts for MemoryRegistry {
    async fn raise_alert(&self, alert: &Alert) -> Result<bool, Failure> {
        self.rows(|rows| {
            let gone = |code| Failure::new(ErrorClass::Gone, code, "an alert about nobody");
            if !rows.tenants.contains_key(&alert.tenant) {
                return Err(gone(Code::TenantUnknown));
            }
            if let Some(user) = &alert.user
                && !rows
                    .enrolments
                    .contains_key(&UserKey::new(alert.tenant.clone(), user.clone()))
            {
                return Err(gone(Code::UserUnknown));
            }
            if let Some(location) = &alert.location {
                rows.confirmed
                    .insert((alert.tenant.clone(), location.clone()), alert.since);
            }
            let same = |open: &&mut Alert| {
                let code = alert.location.is_some() || open.failure.code == alert.failure.code;
                code && (&open.tenant, &open.user, &open.location)
                    == (&alert.tenant, &alert.user, &alert.location)
            };
            let Some(open) = rows.alerts.iter_mut().find(same) else {
                rows.alerts.push(alert.clone());
                return Ok(true);
            };
            let since = open.since.min(alert.since);
            *open = Alert {
                since,
                ..alert.clone()
            };
            Ok(false)
        })?
    }
    async fn end_alert(&self, tenant: &TenantId, user: Option<&UserId>, code: Code) -> Result<u64, Failure> {
        self.rows(|rows| {
            let before = rows.alerts.len();
            rows.alerts.retain(|open| {
                open.tenant != *tenant
                    || open.failure.code != code
                    || open.location.is_some()
                    || open.user.as_ref() != user
            });
            (before - rows.alerts.len()) as u64
        })
    }
    async fn end_location_alert(&self, tenant: &TenantId, location: &LocationKey) -> Result<bool, Failure> {
        self.rows(|rows| {
            let before = rows.alerts.len();
            rows.alerts
                .retain(|open| open.tenant != *tenant || open.location.as_ref() != Some(location));
            before > rows.alerts.len()
        })
    }
    async fn end_stale_location_alerts(&self, confirmed_before: Timestamp) -> Result<u64, Failure> {
        self.rows(|rows| {
            let before = rows.alerts.len();
            let confirmed = &rows.confirmed;
            rows.alerts.retain(|open| {
                open.location.as_ref().is_none_or(|location| {
                    let key = (open.tenant.clone(), location.clone());
                    confirmed.get(&key).is_none_or(|at| *at >= confirmed_before)
                })
            });
            (before - rows.alerts.len()) as u64
        })
    }
    async fn find_alerts(
        &self,
        filter: &AlertFilter,
        after: Option<&AlertCursor>,
        limit: u32,
    ) -> Result<AlertPage, Failure> {
        self.rows(|rows| {
            let mut found: Vec<Alert> = rows
                .alerts
                .iter()
                .filter(|alert| {
                    filter
                        .tenant
                        .as_ref()
                        .is_none_or(|tenant| alert.tenant == *tenant)
                })
                .filter(|alert| filter.user.is_none() || alert.user == filter.user)
                .filter(|alert| filter.code.is_none_or(|code| alert.failure.code == code))
                .filter(|alert| filter.since.is_none_or(|since| alert.since >= since))
                .cloned()
                .collect();
            let place = |alert: &Alert| {
                let location = alert.location.as_ref().map(ToString::to_string);
                (
                    alert.since,
                    // As in the databases, alerts about people come last.
                    alert.user.is_some(),
                    location,
                    alert.tenant.to_string(),
                    alert.user.as_ref().map(ToString::to_string),
                )
            };
            found.sort_by_key(place);
            let start = after
                .and_then(|AlertCursor(text)| text.parse().ok())
                .unwrap_or(0_usize);
            let end = start.saturating_add(limit as usize);
            let next = (end < found.len()).then(|| AlertCursor(end.to_string()));
            AlertPage {
                alerts: found.into_iter().skip(start).take(limit as usize).collect(),
                next,
            }
        })
    }
    async fn alerts(&self, tenant: Option<&TenantId>, limit: u32) -> Result<Vec<Alert>, Failure> {
        self.rows(|rows| {
            let open = rows.alerts.iter();
            let mut open: Vec<Alert> = open
                .filter(|alert| tenant.is_none_or(|tenant| alert.tenant == *tenant))
                .cloned()
                .collect();
            open.sort_by_key(|alert| alert.since);
            open.truncate(limit as usize);
            open
        })
    }
}

#[async_trait]
impl DeletionPermits for MemoryRegistry {
    async fn allow_deletions(&self, _: &UserKey, _: &DeletionPermit) -> Result<bool, Failure> {
        Err(unused())
    }
    async fn take_deletion_permit(&self, _: &UserKey, _: &str, _: Timestamp) -> Result<bool, Failure> {
        Err(unused())
    }
    async fn deletion_permit(&self, _: &UserKey) -> Result<Option<DeletionPermit>, Failure> {
        Err(unused())
    }
}

#[async_trait]
impl MarkStore for MemoryRegistry {
    async fn mark(&self) -> Result<Option<Mark>, Failure> {
        self.rows(|rows| rows.mark.clone())
    }
    async fn save_mark(&self, mark: &Mark) -> Result<(), Failure> {
        self.rows(|rows| rows.mark = Some(mark.clone()))
    }
}

/// Nothing here is backed up: a test that asks gets a failure.
#[async_trait]
impl BackupRecords for MemoryRegistry {
    async fn last_backup(&self) -> Result<Option<Timestamp>, Failure> {
        self.rows(|_| None)
    }
    async fn record_backup(&self, _: Timestamp) -> Result<(), Failure> {
        Err(no_backups())
    }
    async fn moved_away(&self) -> Result<Option<Timestamp>, Failure> {
        self.rows(|_| None)
    }
    async fn set_moved_away(&self, _: Option<Timestamp>) -> Result<(), Failure> {
        Err(no_backups())
    }
    async fn checkpoint(&self) -> Result<(), Failure> {
        self.rows(|_| ())
    }
}

fn no_backups() -> Failure {
    let detail = "a registry in memory has no backups";
    Failure::new(ErrorClass::Refused, Code::RegistryUnavailable, detail)
}

#[async_trait]
impl WriteProbe for MemoryRegistry {
    async fn check_writable(&self) -> Result<(), Failure> {
        self.rows(|_| ())
    }
}
