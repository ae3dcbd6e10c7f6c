//! A sync that counts its look-ups, which can be made to fail.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tasksync_common::error::Failure;
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_worker::work::{Survey, SyncReport, UserSync};

use crate::support::{Act, FakeSync};

pub(crate) struct LookUps {
    sync: Arc<FakeSync>,
    log: Mutex<Vec<Vec<UserId>>>,
    fails: Mutex<Option<Failure>>,
    panics: Mutex<Option<UserId>>,
}

impl LookUps {
    pub(crate) fn of(sync: Arc<FakeSync>) -> Arc<Self> {
        Arc::new(Self {
            sync,
            log: Mutex::default(),
            fails: Mutex::default(),
            panics: Mutex::default(),
        })
    }

    /// Returns the users of every look-up.
    pub(crate) fn all(&self) -> Vec<Vec<UserId>> {
        self.log.lock().unwrap().clone()
    }

    /// Makes look-ups fail from now on, or succeed again.
    pub(crate) fn fail(&self, failure: Option<Failure>) {
        *self.fails.lock().unwrap() = failure;
    }

    /// Makes look-ups of this user panic.
    pub(crate) fn panic_at(&self, user: UserId) {
        *self.panics.lock().unwrap() = Some(user);
    }
}

#[async_trait]
impl UserSync for LookUps {
    type LookedUp = UserKey;
    type Work = Act;

    async fn look_up(&self, tenant: &TenantId, users: &[UserId]) -> Vec<Result<UserKey, Failure>> {
        self.log.lock().unwrap().push(users.to_vec());
        let broken = self.panics.lock().unwrap().clone();
        if let Some(user) = broken.filter(|user| users.contains(user)) {
            panic!("look-up of {user}");
        }
        let fails = self.fails.lock().unwrap().clone();
        match fails {
            Some(failure) => users.iter().map(|_| Err(failure.clone())).collect(),
            None => self.sync.look_up(tenant, users).await,
        }
    }

    async fn survey(
        &self,
        tenant: &TenantId,
        users: Vec<(UserId, UserKey)>,
    ) -> Vec<Result<Survey<Act>, Failure>> {
        self.sync.survey(tenant, users).await
    }

    async fn sync(&self, user: &UserKey, work: Act, budget: Duration) -> Result<SyncReport, Failure> {
        self.sync.sync(user, work, budget).await
    }
}
