//! What reaches the tenants' servers: made once per process, here and nowhere else.
//!
//! [`connect`] is the one place that knows which source and mailbox clients there are.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tasksync_common::clock::SharedClock;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::registry::{Enrolment, Registry, Tenant};
use tasksync_common::settings::Settings;
use tasksync_scheduler::checks::{SiteCheck, TenantChecks, UserCheck};
use tasksync_worker::work::{Survey, SyncReport, UserSync};

use crate::exit::Stop;

/// The sync of users, and the checks of tenants' servers.
pub(crate) struct Connected<S: UserSync> {
    pub(crate) sync: Arc<S>,
    pub(crate) checks: Arc<dyn TenantChecks>,
}

/// Makes the clients and what is built on them.
///
/// # Errors
/// Names the setting that cannot be used.
pub(crate) fn connect(
    _settings: &Settings,
    _registry: &Arc<dyn Registry>,
    _clock: &SharedClock,
) -> Result<Connected<Unconnected>, Stop> {
    Ok(Connected {
        sync: Arc::new(Unconnected),
        checks: Arc::new(Unconnected),
    })
}

/// Stands where the clients will be: says so, and makes nobody fail.
pub(crate) struct Unconnected;

fn unconnected() -> Failure {
    Failure::new(
        ErrorClass::Throttled {
            retry_after: Some(Duration::from_secs(60)),
        },
        Code::SharePointError,
        "this build has no clients for SharePoint and Exchange yet",
    )
}

#[async_trait]
impl UserSync for Unconnected {
    type Work = ();

    async fn survey(&self, _tenant: &TenantId, users: &[UserId]) -> Vec<Result<Survey<()>, Failure>> {
        users.iter().map(|_| Err(unconnected())).collect()
    }

    async fn sync(&self, _user: &UserKey, _work: (), _budget: Duration) -> Result<SyncReport, Failure> {
        Err(unconnected())
    }
}

#[async_trait]
impl TenantChecks for Unconnected {
    async fn check_tenant(&self, tenant: &Tenant) -> Vec<SiteCheck> {
        let tasksync_common::registry::SourceConnection::SharePoint(source) = &tenant.source;
        source
            .sites
            .iter()
            .map(|site| SiteCheck {
                site: site.to_string(),
                result: Err(unconnected()),
            })
            .collect()
    }

    async fn check_user(&self, _tenant: &Tenant, _user: &Enrolment) -> UserCheck {
        UserCheck {
            person: Err(unconnected()),
            mailbox: Err(unconnected()),
        }
    }
}
