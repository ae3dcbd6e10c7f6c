//! The part of the registry for one person, stored in the world.

use async_trait::async_trait;
use jiff::Timestamp;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{InstallationId, LocationKey, TenantId, UserId, UserKey};
use tasksync_common::plan::Policy;
use tasksync_common::registry::{
    Access, Alert, AlertCursor, AlertFilter, AlertPage, Alerts, BackupRecords, Credentials, DeletionPermit,
    DeletionPermits, Enrolment, EnrolmentCounts, EnrolmentResult, EnrolmentState, EnrolmentStore,
    InstallationStore, Journal, JournalEntry, LateUsers, MailboxConnection, MarkStore, SaveResult,
    SharePointConnection, SourceConnection, StampStore, StateStore, StoredState, Tenant, TenantCounts,
    TenantStore, WriteProbe,
};
use tasksync_common::schedule::{Mark, SavedStamp, TenantUsers};
use tasksync_common::state::SyncState;

use crate::engine::SharedWorld;
use crate::world::World;

/// A registry over the world.
pub(crate) struct ModelRegistry(pub(crate) SharedWorld);

/// Returns the only user.
pub(crate) fn user() -> UserKey {
    UserKey::new("contoso".parse().unwrap(), "ana".parse().unwrap())
}

fn enrolment() -> Enrolment {
    Enrolment {
        key: user(),
        source_login: "ana".to_owned(),
        mailbox: "ana@contoso.example".parse().unwrap(),
        time_zone: None,
        opted_in_at: Timestamp::UNIX_EPOCH,
        state: EnrolmentState::Enabled,
    }
}

fn tenant(policy: Policy) -> Tenant {
    let credentials = Credentials::Basic {
        user: "svc".to_owned(),
        password: "env:SVC".parse().unwrap(),
    };
    Tenant {
        id: user().tenant,
        display_name: "Contoso".to_owned(),
        enabled: true,
        time_zone: "UTC".to_owned(),
        source: SourceConnection::SharePoint(SharePointConnection {
            sites: Vec::new(),
            credentials: credentials.clone(),
        }),
        mailbox: MailboxConnection::Ews {
            url: "https://mail.example/EWS/Exchange.asmx".parse().unwrap(),
            credentials,
            access: Access::Auto,
        },
        policy,
        test: None,
    }
}

fn unused() -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::RegistryUnavailable,
        "not part of these tests",
    )
}

/// Encodes the saved state into bytes, as a real registry does.
fn stored(world: &World) -> Option<StoredState> {
    let state = world.saved.as_ref()?;
    Some(StoredState {
        version: world.version,
        fingerprint: state.fingerprint().encode().unwrap(),
        blob: state.encode().unwrap(),
    })
}

#[async_trait]
impl InstallationStore for ModelRegistry {
    async fn installation(&self) -> Result<InstallationId, Failure> {
        Ok("6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa".parse().unwrap())
    }
    async fn set_installation(&self, _: InstallationId) -> Result<(), Failure> {
        Err(unused())
    }
}

#[async_trait]
impl TenantStore for ModelRegistry {
    async fn put_tenant(&self, _: &Tenant) -> Result<bool, Failure> {
        Err(unused())
    }
    async fn tenant(&self, _: &TenantId) -> Result<Option<Tenant>, Failure> {
        Ok(Some(tenant(self.0.world().policy)))
    }
    async fn tenants(&self, _: Option<&TenantId>, _: u32) -> Result<Vec<Tenant>, Failure> {
        Err(unused())
    }
    async fn tenant_counts(&self) -> Result<TenantCounts, Failure> {
        Err(unused())
    }
    async fn remove_tenant(&self, _: &TenantId) -> Result<bool, Failure> {
        Err(unused())
    }
    async fn active_tenants(
        &self,
        _: Option<&TenantId>,
        _: u32,
    ) -> Result<Vec<(TenantId, TenantUsers)>, Failure> {
        Err(unused())
    }
}

#[async_trait]
impl EnrolmentStore for ModelRegistry {
    async fn enrol(&self, _: &Enrolment) -> Result<EnrolmentResult, Failure> {
        Err(unused())
    }
    async fn enrol_many(&self, _: &[Enrolment]) -> Result<Vec<EnrolmentResult>, Failure> {
        Err(unused())
    }
    async fn withdraw(&self, _: &UserKey) -> Result<bool, Failure> {
        Err(unused())
    }
    async fn enrolment(&self, _: &UserKey) -> Result<Option<Enrolment>, Failure> {
        Err(unused())
    }
    async fn enrolments_of(&self, _: &TenantId, _: &[UserId]) -> Result<Vec<Enrolment>, Failure> {
        Err(unused())
    }
    async fn enrolments(&self, _: &TenantId, _: Option<&UserId>, _: u32) -> Result<Vec<Enrolment>, Failure> {
        Err(unused())
    }
    async fn enrolment_counts(&self, _: Option<&TenantId>) -> Result<EnrolmentCounts, Failure> {
        Err(unused())
    }
    async fn digest_names(&self, _: &TenantId, _: u32) -> Result<u64, Failure> {
        Err(unused())
    }
    async fn set_enrolment_state(&self, _: &UserKey, _: &EnrolmentState) -> Result<bool, Failure> {
        Err(unused())
    }
}

#[async_trait]
impl StateStore for ModelRegistry {
    async fn enrolments_with_fingerprints(
        &self,
        _: &TenantId,
        _: &[UserId],
    ) -> Result<Vec<(Enrolment, Option<StoredState>)>, Failure> {
        self.0.registry(|world| vec![(enrolment(), stored(world))]).await
    }
    async fn enrolment_with_state(
        &self,
        _: &UserKey,
    ) -> Result<Option<(Enrolment, Option<StoredState>)>, Failure> {
        self.0.registry(|world| Some((enrolment(), stored(world)))).await
    }
    async fn sync_state(&self, _: &UserKey) -> Result<Option<StoredState>, Failure> {
        Err(unused())
    }
    async fn save_sync_state(
        &self,
        _: &Enrolment,
        version: u64,
        _: &[u8],
        blob: &[u8],
    ) -> Result<SaveResult, Failure> {
        self.0.act_before_writing();
        let saved = self
            .0
            .registry(|world| {
                let stored = if world.saved.is_some() { world.version } else { 0 };
                assert_eq!(version, stored, "one process at a time");
                world.version += 1;
                world.saved = Some(SyncState::decode(blob).unwrap());
                SaveResult::Stored(world.version)
            })
            .await;
        self.0.late_before_first_write().await;
        saved
    }
}

#[async_trait]
impl StampStore for ModelRegistry {
    async fn save_stamps(&self, _: &TenantId, _: &[SavedStamp]) -> Result<(), Failure> {
        Err(unused())
    }
    async fn stamps(&self, _: &TenantId, _: Option<&UserId>, _: u32) -> Result<Vec<SavedStamp>, Failure> {
        Err(unused())
    }
    async fn late(&self, _: Timestamp, _: u32) -> Result<Vec<LateUsers>, Failure> {
        Err(unused())
    }
    async fn oldest_success(&self, _: Option<&TenantId>) -> Result<Option<Timestamp>, Failure> {
        Err(unused())
    }
}

#[async_trait]
impl Journal for ModelRegistry {
    async fn journal(&self, entries: &[JournalEntry]) -> Result<(), Failure> {
        self.0
            .registry(|world| {
                for entry in entries {
                    world.oracle.journal(entry);
                }
            })
            .await
    }
    async fn journal_of(&self, _: &UserKey, _: u32) -> Result<Vec<JournalEntry>, Failure> {
        Err(unused())
    }
    async fn prune_journal(&self, _: Timestamp, _: u32) -> Result<u64, Failure> {
        Err(unused())
    }
}

#[async_trait]
impl Alerts for ModelRegistry {
    async fn raise_alert(&self, _: &Alert) -> Result<bool, Failure> {
        Ok(true)
    }
    async fn end_alert(&self, _: &TenantId, _: Option<&UserId>, _: Code) -> Result<u64, Failure> {
        Ok(0)
    }
    async fn end_location_alert(&self, _: &TenantId, _: &LocationKey) -> Result<bool, Failure> {
        Ok(true)
    }
    async fn end_stale_location_alerts(&self, _: Timestamp) -> Result<u64, Failure> {
        Err(unused())
    }
    async fn find_alerts(
        &self,
        _: &AlertFilter,
        _: Option<&AlertCursor>,
        _: u32,
    ) -> Result<AlertPage, Failure> {
        Err(unused())
    }
    async fn alerts(&self, _: Option<&TenantId>, _: u32) -> Result<Vec<Alert>, Failure> {
        Err(unused())
    }
}

#[async_trait]
impl DeletionPermits for ModelRegistry {
    async fn allow_deletions(&self, _: &UserKey, _: &DeletionPermit) -> Result<bool, Failure> {
        Err(unused())
    }
    async fn take_deletion_permit(&self, _: &UserKey, _: &str, _: Timestamp) -> Result<bool, Failure> {
        Ok(false)
    }
    async fn deletion_permit(&self, _: &UserKey) -> Result<Option<DeletionPermit>, Failure> {
        Ok(None)
    }
}

#[async_trait]
impl MarkStore for ModelRegistry {
    async fn mark(&self) -> Result<Option<Mark>, Failure> {
        Err(unused())
    }
    async fn save_mark(&self, _: &Mark) -> Result<(), Failure> {
        Err(unused())
    }
}

#[async_trait]
impl BackupRecords for ModelRegistry {
    async fn last_backup(&self) -> Result<Option<Timestamp>, Failure> {
        Err(unused())
    }
    async fn record_backup(&self, _: Timestamp) -> Result<(), Failure> {
        Err(unused())
    }
    async fn moved_away(&self) -> Result<Option<Timestamp>, Failure> {
        Err(unused())
    }
    async fn set_moved_away(&self, _: Option<Timestamp>) -> Result<(), Failure> {
        Err(unused())
    }
    async fn checkpoint(&self) -> Result<(), Failure> {
        Err(unused())
    }
}

#[async_trait]
impl WriteProbe for ModelRegistry {
    async fn check_writable(&self) -> Result<(), Failure> {
        Err(unused())
    }
}
