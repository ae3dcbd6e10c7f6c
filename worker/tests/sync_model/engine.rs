//! The real engine over the world: one sync at a time, with its faults.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;
use tasksync_common::clock::{Clock, SharedClock};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::UserKey;
use tasksync_common::plan::{GuardLimits, Plan, Policy};
use tasksync_common::registry::{Registry, Tenant};
use tasksync_worker::mailbox::MailboxCapabilities;
use tasksync_worker::sync::{Connections, SyncEngine, SyncSettings, TenantConnector, Tenants};
use tasksync_worker::work::{Survey, UserSync};
use tokio::sync::Notify;

use crate::faults::{Answer, Fault, Faults, failure};
use crate::mailbox::ModelMailbox;
use crate::registry::{ModelRegistry, user};
use crate::source::ModelSource;
use crate::world::{Act, World};

/// Time limit of one sync.
const BUDGET: Duration = Duration::from_secs(30);

/// The circumstances of one sync.
#[derive(Debug, Clone)]
pub(crate) struct SyncCircumstances {
    pub(crate) fault: Fault,
    /// Whether everything is compared.
    pub(crate) full: bool,
    /// Whether the folders' cursors are invalid.
    pub(crate) relist: bool,
    /// A person's action after the first folder was read.
    pub(crate) while_reading: Option<Act>,
    /// A person's action between reading and writing.
    pub(crate) before_writing: Option<Act>,
}

impl SyncCircumstances {
    pub(crate) const PLAIN: Self = Self {
        fault: Fault::None,
        full: false,
        relist: false,
        while_reading: None,
        before_writing: None,
    };
}

#[derive(Default)]
struct PendingActs {
    while_reading: Option<Act>,
    before_writing: Option<Act>,
}

struct Inner {
    world: Mutex<World>,
    meanwhile: Mutex<PendingActs>,
    killed: Notify,
}

/// The world, shared by the servers and the registry.
#[derive(Clone)]
pub(crate) struct SharedWorld(Arc<Inner>);

impl SharedWorld {
    pub(crate) fn new(skew: i64) -> Self {
        Self(Arc::new(Inner {
            world: Mutex::new(World::new(skew)),
            meanwhile: Mutex::default(),
            killed: Notify::new(),
        }))
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap()
    }

    /// Ends the process here.
    async fn end(&self) {
        self.0.killed.notify_one();
        std::future::pending::<()>().await;
    }

    /// Performs a read of a server.
    pub(crate) async fn read<T: Send>(
        &self,
        operation: impl FnOnce(&mut World, Answer) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        let result = {
            let mut world = self.world();
            let answer = world.faults.read();
            if world.faults.killed {
                None
            } else {
                Some(answer.and_then(|answer| operation(&mut world, answer)))
            }
        };
        if let Some(result) = result {
            result
        } else {
            self.end().await;
            Err(failure(ErrorClass::Transient))
        }
    }

    /// Performs a write to a server.
    pub(crate) async fn write<T: Send>(
        &self,
        write: impl FnOnce(&mut World) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        self.act_before_writing();
        let (result, killed, late) = {
            let mut world = self.world();
            world.all_writes += 1;
            let begun = world.faults.before_write();
            let result = if world.faults.killed {
                Err(failure(ErrorClass::Transient))
            } else {
                begun.and_then(|()| write(&mut world)).and_then(|value| {
                    world.faults.after_write()?;
                    Ok(value)
                })
            };
            (result, world.faults.killed, world.faults.is_late())
        };
        if killed {
            self.end().await;
        }
        if late {
            tokio::time::advance(BUDGET).await;
        }
        result
    }

    /// Performs a call of the registry.
    pub(crate) async fn registry<T: Send>(
        &self,
        call: impl FnOnce(&mut World) -> T + Send,
    ) -> Result<T, Failure> {
        let result = {
            let mut world = self.world();
            world.faults.call();
            (!world.faults.killed).then(|| call(&mut world))
        };
        if let Some(result) = result {
            Ok(result)
        } else {
            self.end().await;
            Err(failure(ErrorClass::Transient))
        }
    }

    /// Uses up the time before the first write, if the fault demands it.
    pub(crate) async fn late_before_first_write(&self) {
        let late = {
            let world = self.world();
            world.faults.writes == 0 && world.faults.is_late()
        };
        if late {
            tokio::time::advance(BUDGET).await;
        }
    }

    pub(crate) fn act_before_writing(&self) {
        let act = self.0.meanwhile.lock().unwrap().before_writing.take();
        if let Some(act) = act {
            self.world().act(&act);
        }
    }

    pub(crate) fn after_folder_read(&self) {
        let act = self.0.meanwhile.lock().unwrap().while_reading.take();
        if let Some(act) = act {
            self.world().act(&act);
        }
    }
}

struct WorldClock(SharedWorld);

impl Clock for WorldClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.world().now).unwrap()
    }
}

struct ModelConnector {
    shared_world: SharedWorld,
    capabilities: MailboxCapabilities,
}

impl TenantConnector for ModelConnector {
    fn connect(&self, _: &Tenant) -> Result<Connections, Failure> {
        Ok(Connections {
            source: Arc::new(ModelSource {
                world: self.shared_world.clone(),
            }),
            mailbox: Arc::new(ModelMailbox {
                world: self.shared_world.clone(),
                capabilities: self.capabilities,
            }),
        })
    }
}

/// A world with two engines.
pub(crate) struct Stage {
    pub(crate) shared_world: SharedWorld,
    engine: SyncEngine,
    /// An engine that compares everything in every sync.
    thorough: SyncEngine,
    user: UserKey,
    failure: Mutex<Option<Code>>,
    runtime: tokio::runtime::Runtime,
}

impl Stage {
    pub(crate) fn new(skew: i64, capabilities: MailboxCapabilities, policy: Policy) -> Self {
        let shared_world = SharedWorld::new(skew);
        {
            let mut world = shared_world.world();
            world.lists_deleted_items = capabilities.deleted_items;
            world.policy = policy;
        }
        let registry: Arc<dyn Registry> = Arc::new(ModelRegistry(shared_world.clone()));
        let clock: SharedClock = Arc::new(WorldClock(shared_world.clone()));
        let connector = ModelConnector {
            shared_world: shared_world.clone(),
            capabilities,
        };
        let tenants = Arc::new(Tenants::new(
            Arc::clone(&registry),
            Arc::new(connector),
            Arc::clone(&clock),
            1,
            Duration::from_hours(1),
        ));
        let engine = |full_check_interval| {
            SyncEngine::new(
                Arc::clone(&registry),
                Arc::clone(&tenants),
                Arc::clone(&clock),
                SyncSettings {
                    full_check_interval,
                    deep_check_interval: Duration::from_hours(168),
                    limits: GuardLimits {
                        deletions: usize::MAX,
                        percent: 100,
                        emptied_from: usize::MAX,
                    },
                },
            )
        };
        Self {
            engine: engine(Duration::from_secs(1_000_000_000)),
            thorough: engine(Duration::ZERO),
            shared_world,
            user: user(),
            failure: Mutex::default(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap(),
        }
    }

    /// Runs one turn of the person: look-up, survey, and a sync if there may be something to do. Returns whether it
    /// went without any fault.
    pub(crate) fn sync(&self, way: &SyncCircumstances) -> bool {
        self.shared_world
            .world()
            .begin_sync(Faults::of(way.fault, way.relist));
        *self.shared_world.0.meanwhile.lock().unwrap() = PendingActs {
            while_reading: way.while_reading.clone(),
            before_writing: way.before_writing.clone(),
        };
        let engine = if way.full || way.relist {
            &self.thorough
        } else {
            &self.engine
        };
        let ended = self.runtime.block_on(async {
            tokio::select! {
                biased;
                ended = survey_and_sync(engine, &self.user) => Some(ended),
                () = self.shared_world.0.killed.notified() => None,
            }
        });
        *self.shared_world.0.meanwhile.lock().unwrap() = PendingActs::default();
        {
            let mut world = self.shared_world.world();
            world.deceived |= world.faults.wrong_or_refused;
            world.faults = Faults::default();
            let parked = world.saved.iter().flat_map(|state| state.parked.keys().cloned());
            let parked: Vec<_> = parked.collect();
            world.oracle.refused.extend(parked);
        }
        let failed = ended.as_ref().and_then(|ended| ended.as_ref().err());
        *self.failure.lock().unwrap() = failed.map(|failure| failure.code);
        matches!(ended, Some(Ok(())))
    }

    /// Returns the failure of the last sync.
    pub(crate) fn failure(&self) -> Option<Code> {
        *self.failure.lock().unwrap()
    }

    /// Returns the plan of a sync that compares the values of every pair.
    pub(crate) fn preview(&self) -> Plan {
        self.shared_world.world().faults = Faults::default();
        let (plan, held) = self.runtime.block_on(self.engine.preview(&self.user)).unwrap();
        assert!(held.is_empty());
        plan
    }

    pub(crate) fn lose_state(&self) {
        let mut world = self.shared_world.world();
        world.saved = None;
        world.oracle.record_lost_state();
    }
}

async fn survey_and_sync(engine: &SyncEngine, user: &UserKey) -> Result<(), Failure> {
    let users = [user.user.clone()];
    let looked_up = engine.look_up(&user.tenant, &users).await.pop().unwrap()?;
    let surveyed = engine
        .survey(&user.tenant, vec![(user.user.clone(), looked_up)])
        .await
        .pop()
        .unwrap()?;
    match surveyed {
        Survey::Idle => Ok(()),
        Survey::Work(work) => engine.sync(user, work, BUDGET).await.map(|_| ()),
    }
}
