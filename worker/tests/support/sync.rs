//! A sync with prescribed behaviour that records its calls.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tasksync_common::clock::monotonic;
use tasksync_common::error::Failure;
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_worker::work::{Survey, SyncReport, UserSync};
use tokio::time::{Instant, sleep};

/// The behaviour for one user.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// The survey finds nothing to do.
    Idle,
    /// The sync takes this time and makes one write.
    Work(Duration),
    /// The survey fails.
    SurveyFails(Failure),
    /// The sync fails after this time.
    SyncFails(Duration, Failure),
    SurveyPanics,
    SyncPanics,
    /// The sync never ends.
    Hangs,
}

#[derive(Default)]
struct Log {
    surveys: Vec<Vec<UserKey>>,
    started: Vec<(UserKey, Instant)>,
    ended: Vec<(UserKey, Instant)>,
}

/// By default every user is idle.
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

    /// Returns the users of every survey.
    pub(crate) fn surveys(&self) -> Vec<Vec<UserKey>> {
        self.log.lock().unwrap().surveys.clone()
    }

    /// Returns the syncs in the order in which they started.
    pub(crate) fn started(&self) -> Vec<(UserKey, Instant)> {
        self.log.lock().unwrap().started.clone()
    }

    /// Returns the syncs that ended, and the users found idle, in the order in which they ended.
    pub(crate) fn ended(&self) -> Vec<(UserKey, Instant)> {
        self.log.lock().unwrap().ended.clone()
    }

    /// Returns the number of syncs running now, and the largest number that ran at once.
    pub(crate) fn running(&self) -> (usize, usize) {
        (
            self.running.load(Ordering::SeqCst),
            self.most.load(Ordering::SeqCst),
        )
    }
}

#[async_trait]
impl UserSync for FakeSync {
    type LookedUp = UserKey;
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
            .map(|(user, key)| {
                assert_eq!(
                    key,
                    UserKey::new(tenant.clone(), user),
                    "the known data belongs to its user"
                );
                key
            })
            .collect();
        self.log.lock().unwrap().surveys.push(keys.clone());
        sleep(self.survey_takes).await;
        keys.into_iter()
            .map(|key| match self.act(&key) {
                Act::Idle => {
                    self.log.lock().unwrap().ended.push((key, monotonic()));
                    Ok(Survey::Idle)
                }
                Act::SurveyFails(failure) => Err(failure),
                Act::SurveyPanics => panic!("survey of {key}"),
                act @ (Act::Work(_) | Act::SyncFails(..) | Act::SyncPanics | Act::Hangs) => {
                    Ok(Survey::Work(act))
                }
            })
            .collect()
    }

    async fn sync(&self, user: &UserKey, work: Act, budget: Duration) -> Result<SyncReport, Failure> {
        let _running = Running(Arc::clone(&self.running));
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        self.log.lock().unwrap().started.push((user.clone(), monotonic()));
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
        self.log.lock().unwrap().ended.push((user.clone(), monotonic()));
        result
    }
}
