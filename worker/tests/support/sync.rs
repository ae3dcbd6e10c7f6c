//! A sync that does what it is told, and remembers what it was asked.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tasksync_common::error::Failure;
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_worker::work::{Survey, SyncReport, UserSync};
use tokio::time::{Instant, sleep};

/// What happens to a user.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// The survey finds nothing.
    Idle,
    /// The sync takes this long and writes once.
    Work(Duration),
    /// The survey fails.
    SurveyFails(Failure),
    /// The sync fails after this time.
    SyncFails(Duration, Failure),
    SurveyPanics,
    SyncPanics,
    /// The sync never ends by itself.
    Hangs,
}

#[derive(Default)]
struct Log {
    surveys: Vec<Vec<UserKey>>,
    started: Vec<(UserKey, Instant)>,
    ended: Vec<(UserKey, Instant)>,
}

/// Users idle unless told otherwise.
pub(crate) struct FakeSync {
    otherwise: Mutex<Act>,
    acts: Mutex<HashMap<UserKey, Act>>,
    log: Mutex<Log>,
    survey_takes: Duration,
    running: Arc<AtomicUsize>,
    most: AtomicUsize,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FakeSync {
    pub(crate) fn new(otherwise: Act) -> Arc<Self> {
        Arc::new(Self {
            otherwise: Mutex::new(otherwise),
            acts: Mutex::default(),
            log: Mutex::default(),
            survey_takes: Duration::from_millis(20),
            running: Arc::default(),
            most: AtomicUsize::new(0),
        })
    }

    pub(crate) fn set(&self, user: UserKey, act: Act) {
        self.acts.lock().unwrap().insert(user, act);
    }

    pub(crate) fn set_all(&self, act: Act) {
        self.acts.lock().unwrap().clear();
        *self.otherwise.lock().unwrap() = act;
    }

    fn act(&self, user: &UserKey) -> Act {
        let acts = self.acts.lock().unwrap();
        acts.get(user)
            .cloned()
            .unwrap_or_else(|| self.otherwise.lock().unwrap().clone())
    }

    /// Every survey's users.
    pub(crate) fn surveys(&self) -> Vec<Vec<UserKey>> {
        self.log.lock().unwrap().surveys.clone()
    }

    /// Syncs in the order they started.
    pub(crate) fn started(&self) -> Vec<(UserKey, Instant)> {
        self.log.lock().unwrap().started.clone()
    }

    /// Syncs that ended, and users found idle, in the order they ended.
    pub(crate) fn ended(&self) -> Vec<(UserKey, Instant)> {
        self.log.lock().unwrap().ended.clone()
    }

    /// Syncs running now, and the most that ran at once.
    pub(crate) fn running(&self) -> (usize, usize) {
        (
            self.running.load(Ordering::SeqCst),
            self.most.load(Ordering::SeqCst),
        )
    }
}

#[async_trait]
impl UserSync for FakeSync {
    type Known = UserKey;
    type Work = Act;

    async fn look_up(&self, tenant: &TenantId, users: &[UserId]) -> Vec<Result<UserKey, Failure>> {
        let keys = users
            .iter()
            .map(|user| UserKey::new(tenant.clone(), user.clone()));
        keys.map(Ok).collect()
    }

    async fn survey(
        &self,
        tenant: &TenantId,
        users: Vec<(UserId, UserKey)>,
    ) -> Vec<Result<Survey<Act>, Failure>> {
        let keys: Vec<_> = users
            .into_iter()
            .map(|(user, known)| {
                assert_eq!(
                    known,
                    UserKey::new(tenant.clone(), user),
                    "what is known goes with its user"
                );
                known
            })
            .collect();
        self.log.lock().unwrap().surveys.push(keys.clone());
        sleep(self.survey_takes).await;
        keys.into_iter()
            .map(|key| match self.act(&key) {
                Act::Idle => {
                    self.log.lock().unwrap().ended.push((key, Instant::now()));
                    Ok(Survey::Idle)
                }
                Act::SurveyFails(failure) => Err(failure),
                Act::SurveyPanics => panic!("survey of {key}"),
                act => Ok(Survey::Work(act)),
            })
            .collect()
    }

    async fn sync(&self, user: &UserKey, work: Act, budget: Duration) -> Result<SyncReport, Failure> {
        let _running = Running(Arc::clone(&self.running));
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.log
            .lock()
            .unwrap()
            .started
            .push((user.clone(), Instant::now()));
        let result = match work {
            Act::Work(takes) if takes <= budget => {
                sleep(takes).await;
                Ok(SyncReport {
                    mailbox_writes: 1,
                    ..SyncReport::default()
                })
            }
            Act::Work(_) => {
                sleep(budget).await;
                Ok(SyncReport {
                    unfinished: true,
                    ..SyncReport::default()
                })
            }
            Act::SyncFails(takes, failure) => {
                sleep(takes).await;
                Err(failure)
            }
            Act::SyncPanics => panic!("sync of {user}"),
            Act::Hangs => std::future::pending().await,
            Act::Idle | Act::SurveyFails(_) | Act::SurveyPanics => Ok(SyncReport::default()),
        };
        self.log
            .lock()
            .unwrap()
            .ended
            .push((user.clone(), Instant::now()));
        result
    }
}
