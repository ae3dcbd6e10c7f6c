//! One tenant on both simulated servers, with the real engine between them.

mod people;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::civil::{Date, date};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tasksync_common::clock::{Clock, SharedClock, SystemClock};
use tasksync_common::error::Failure;
use tasksync_common::model::{TenantId, UserId, UserKey};
use tasksync_common::registry::{Enrolment, EnrolmentState, SqlRegistry, Tenant};
use tasksync_common::settings::{GuardSettings, OutboundSettings, SecretsSettings, Settings, WorkerSettings};
use tasksync_common::state::SyncState;
use tasksync_loadtest::exchange::{ExchangeSettings, MailboxSpec};
use tasksync_loadtest::population::{AppliedTenant, Person, PopulationSpec, Tenant as SimTenant};
use tasksync_loadtest::sharepoint::people::{ItemId, ListId, SiteSpec};
use tasksync_loadtest::sharepoint::{Language, Settings as SharePointSettings};
use tasksync_loadtest::trial::{Farm, FarmSpec, Oracle, TenantPlan};
use tasksync_loadtest::wrong_answers::WrongAnswers;
use tasksync_worker::connect::ServerConnector;
use tasksync_worker::sync::{StoredUser, SyncEngine, SyncSettings, SyncWork, Tenants};
use tasksync_worker::work::{Survey, SyncReport, UserSync};
use tempfile::TempDir;

use crate::registry::CountingRegistry;

/// Time limit of one user's sync in a test.
pub(crate) const BUDGET: Duration = Duration::from_secs(30);

/// The computer's clock, which a test can advance.
#[derive(Default)]
pub(crate) struct MovedClock(AtomicI64);

impl MovedClock {
    pub(crate) fn advance(&self, by: SignedDuration) {
        self.0
            .fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + SignedDuration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

/// The description of the farm and the engine.
pub(crate) struct Spec {
    pub(crate) people: usize,
    pub(crate) site_zone: &'static str,
    /// The mailboxes' time zones, used in turn.
    pub(crate) mailbox_zones: &'static [&'static str],
    /// The mailboxes' back-end servers, used in turn.
    pub(crate) servers: &'static [&'static str],
    pub(crate) language: Language,
    pub(crate) plan: TenantPlan,
    pub(crate) exchange: ExchangeSettings,
    pub(crate) sharepoint: SharePointSettings,
    pub(crate) guard: GuardSettings,
    pub(crate) limits: fn(
        &mut tasksync_worker::source::sharepoint::SharePointSettings,
        &mut tasksync_worker::mailbox::ews::EwsLimits,
    ),
    pub(crate) request_timeout: Duration,
    /// A proxy between the engine and both servers.
    pub(crate) wrong_answers: Option<Arc<WrongAnswers>>,
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            people: 1,
            site_zone: "Europe/Berlin",
            mailbox_zones: &["Europe/Berlin"],
            servers: &["EX01"],
            language: Language::English,
            plan: TenantPlan::Delegate,
            exchange: ExchangeSettings::default(),
            sharepoint: SharePointSettings::default(),
            guard: GuardSettings::default(),
            limits: |_, _| {},
            request_timeout: Duration::from_secs(10),
            wrong_answers: None,
        }
    }
}

/// The result of one cycle of a user.
#[derive(Debug, Clone)]
pub(crate) enum Cycle {
    Idle,
    Synced(SyncReport),
}

impl Cycle {
    /// Returns the report. Panics for an idle cycle.
    pub(crate) fn report(self) -> SyncReport {
        match self {
            Self::Synced(report) => report,
            Self::Idle => panic!("the survey found nothing to do"),
        }
    }
}

/// The settings of an engine, apart from the registry and the clock.
struct Parts {
    guard: GuardSettings,
    limits: fn(
        &mut tasksync_worker::source::sharepoint::SharePointSettings,
        &mut tasksync_worker::mailbox::ews::EwsLimits,
    ),
    request_timeout: Duration,
}

impl Parts {
    /// Returns the connections, an engine, and an engine that compares everything in every pass.
    fn engines(
        &self,
        registry: &CountingRegistry,
        shared_clock: &SharedClock,
    ) -> (Arc<Tenants>, Arc<SyncEngine>, SyncEngine) {
        let limits = self.limits;
        let settings = Settings {
            outbound: OutboundSettings {
                allowed_networks: vec!["127.0.0.0/8".to_owned()],
                allow_plain_http: true,
                request_timeout: self.request_timeout,
                ..OutboundSettings::default()
            },
            secrets: SecretsSettings {
                // Some tests write their secrets beside the rig's own folder.
                folder: std::env::temp_dir(),
                ..SecretsSettings::default()
            },
            ..Settings::default()
        };
        let connector = ServerConnector::new(&settings, Arc::clone(shared_clock))
            .unwrap()
            .with_limits(|source, mailbox| {
                source.feed_window = Duration::ZERO;
                limits(source, mailbox);
            });
        let tenants = Arc::new(Tenants::new(
            registry.store(),
            Arc::new(connector),
            Arc::clone(shared_clock),
            10,
            Duration::from_secs(10),
        ));
        let engine = |worker: &WorkerSettings| {
            SyncEngine::new(
                registry.store(),
                Arc::clone(&tenants),
                Arc::clone(shared_clock),
                SyncSettings::new(worker, &self.guard),
            )
        };
        let thorough = WorkerSettings {
            full_check_interval: Duration::ZERO,
            ..WorkerSettings::default()
        };
        (
            Arc::clone(&tenants),
            Arc::new(engine(&WorkerSettings::default())),
            engine(&thorough),
        )
    }
}

pub(crate) struct Rig {
    pub(crate) farm: Farm,
    pub(crate) registry: Arc<CountingRegistry>,
    pub(crate) clock: Arc<MovedClock>,
    pub(crate) tenants: Arc<Tenants>,
    pub(crate) engine: Arc<SyncEngine>,
    /// An engine that compares everything in every pass.
    pub(crate) thorough: SyncEngine,
    pub(crate) folder: TempDir,
    omits_signs: bool,
    parts: Parts,
}

impl Rig {
    /// Returns a farm with one person and nothing else.
    pub(crate) async fn plain() -> Self {
        Self::new(Spec::default()).await
    }

    /// Returns a farm with one person, and a list with `count` synced tasks of that person.
    pub(crate) async fn with_tasks(count: usize) -> (Self, ListId, Vec<ItemId>) {
        let mut rig = Self::plain().await;
        let list = rig.tasks_list("Plan");
        let items = (0..count)
            .map(|number| rig.add_task(list, 0, &format!("Task {number}")))
            .collect();
        rig.cycle(0).await;
        rig.assert_settled().await;
        (rig, list, items)
    }

    /// Returns a farm with people and no list.
    pub(crate) async fn new(spec: Spec) -> Self {
        Self::with_settings(spec, |_, settings| settings).await
    }

    /// Does the same as [`Self::new`], with `change` applied to the tenant's settings before they are stored.
    pub(crate) async fn with_settings(spec: Spec, change: impl FnOnce(&Farm, Value) -> Value) -> Self {
        let omits_signs = spec.exchange.omit_probe_tags;
        let mut farm = Farm::start(FarmSpec {
            population: PopulationSpec {
                tenants: 0,
                ..PopulationSpec::default()
            },
            tls: false,
            plan: spec.plan,
            exchange: spec.exchange,
            sharepoint: spec.sharepoint,
            wrong_answers: spec.wrong_answers,
            ..FarmSpec::default()
        })
        .await
        .unwrap();
        let people: Vec<Person> = (0..spec.people)
            .map(|id| {
                let smtp = format!("user{id:02}@contoso.example");
                Person {
                    id,
                    name: format!("Person {id}"),
                    login: format!("i:0#.f|membership|{smtp}"),
                    smtp,
                    time_zone: spec.mailbox_zones[id % spec.mailbox_zones.len()],
                }
            })
            .collect();
        let tenant = SimTenant {
            slug: "contoso".to_owned(),
            domain: "contoso.example".to_owned(),
            site: "/sites/contoso".to_owned(),
            time_zone: spec.site_zone,
            language: spec.language,
            people: people.clone(),
            lists: Vec::new(),
            group: 0,
        };
        farm.sharepoint
            .add_site(&SiteSpec {
                path: tenant.site.clone(),
                title: "Contoso".to_owned(),
                time_zone: spec.site_zone.to_owned(),
                language: spec.language,
            })
            .unwrap();
        let mut users = Vec::new();
        for (at, person) in people.iter().enumerate() {
            let user = farm
                .sharepoint
                .add_user(&tenant.site, &person.login, &person.name, &person.smtp);
            users.push(user.unwrap());
            farm.exchange.add_mailbox(MailboxSpec {
                time_zone: person.time_zone.to_owned(),
                server: spec.servers[at % spec.servers.len()].to_owned(),
                ..MailboxSpec::new(&person.smtp, &person.name)
            });
        }
        farm.population.tenants.push(tenant);
        farm.applied.push(AppliedTenant {
            users,
            lists: Vec::new(),
        });
        let folder = tempfile::tempdir().unwrap();
        let (_, password) = farm.write_secrets(folder.path()).unwrap();
        let settings = change(
            &farm,
            farm.tenant_settings(&farm.population.tenants[0], &password),
        );
        Self::connect(
            spec.guard,
            spec.limits,
            spec.request_timeout,
            farm,
            folder,
            settings,
            omits_signs,
        )
        .await
    }

    async fn connect(
        guard: GuardSettings,
        limits: fn(
            &mut tasksync_worker::source::sharepoint::SharePointSettings,
            &mut tasksync_worker::mailbox::ews::EwsLimits,
        ),
        request_timeout: Duration,
        farm: Farm,
        folder: TempDir,
        settings: Value,
        omits_signs: bool,
    ) -> Self {
        let tenant: Tenant = serde_json::from_value(settings).unwrap();
        let clock = Arc::new(MovedClock::default());
        let shared_clock: SharedClock = Arc::clone(&clock) as SharedClock;
        let url = format!("sqlite:{}", folder.path().join("registry.sqlite").display());
        let registry = Arc::new(CountingRegistry::new(
            SqlRegistry::open_sqlite(&url).await.unwrap(),
        ));
        registry.put_tenant(&tenant).await.unwrap();
        for person in &farm.population.tenants[0].people {
            let enrolment = Enrolment {
                key: key_of(person),
                source_login: person.login.clone(),
                mailbox: person.smtp.parse().unwrap(),
                time_zone: Some(person.time_zone.to_owned()),
                opted_in_at: clock.now(),
                state: EnrolmentState::Enabled,
            };
            registry.enrol(&enrolment).await.unwrap();
        }
        let parts = Parts {
            guard,
            limits,
            request_timeout,
        };
        let (tenants, engine, thorough) = parts.engines(&registry, &shared_clock);
        Self {
            farm,
            registry,
            clock,
            tenants,
            engine,
            thorough,
            folder,
            omits_signs,
            parts,
        }
    }

    /// Simulates a new process. It knows nothing of the servers except what the registry contains.
    pub(crate) fn restart(&mut self) {
        let shared_clock: SharedClock = Arc::clone(&self.clock) as SharedClock;
        (self.tenants, self.engine, self.thorough) = self.parts.engines(&self.registry, &shared_clock);
    }

    pub(crate) fn tenant_id(&self) -> TenantId {
        self.user(0).tenant
    }

    pub(crate) fn user(&self, person: usize) -> UserKey {
        key_of(self.person(person))
    }

    pub(crate) fn everybody(&self) -> Vec<UserId> {
        let people = &self.farm.population.tenants[0].people;
        people.iter().map(|person| key_of(person).user).collect()
    }

    /// Surveys one user.
    pub(crate) async fn survey(&self, person: usize) -> Result<Survey<SyncWork>, Failure> {
        let users = [self.user(person).user];
        self.survey_all(&self.engine, &users).await.pop().unwrap()
    }

    /// Looks users up and surveys them, as the worker's batch does.
    pub(crate) async fn survey_all(
        &self,
        engine: &SyncEngine,
        users: &[UserId],
    ) -> Vec<Result<Survey<SyncWork>, Failure>> {
        let looked_up = self.look_up(engine, users).await;
        engine.survey(&self.tenant_id(), looked_up).await
    }

    /// Looks users up. A failure is a panic.
    pub(crate) async fn look_up(&self, engine: &SyncEngine, users: &[UserId]) -> Vec<(UserId, StoredUser)> {
        let looked_up = engine.look_up(&self.tenant_id(), users).await;
        users
            .iter()
            .cloned()
            .zip(looked_up.into_iter().map(Result::unwrap))
            .collect()
    }

    /// Surveys a user and syncs them if needed, as the worker's batch does.
    pub(crate) async fn try_cycle(&self, person: usize) -> Result<Cycle, Failure> {
        self.cycle_of(&self.engine, person).await
    }

    /// Runs a cycle that compares everything.
    pub(crate) async fn try_thorough_cycle(&self, person: usize) -> Result<Cycle, Failure> {
        self.cycle_of(&self.thorough, person).await
    }

    async fn cycle_of(&self, engine: &SyncEngine, person: usize) -> Result<Cycle, Failure> {
        let user = self.user(person);
        let mut answers = self.survey_all(engine, std::slice::from_ref(&user.user)).await;
        match answers.pop().unwrap()? {
            Survey::Idle => Ok(Cycle::Idle),
            Survey::Work(work) => engine.sync(&user, work, BUDGET).await.map(Cycle::Synced),
        }
    }

    /// Runs a cycle that must not fail.
    pub(crate) async fn cycle(&self, person: usize) -> Cycle {
        match self.try_cycle(person).await {
            Ok(cycle) => cycle,
            Err(failure) => panic!("the sync of person {person} failed: {failure}"),
        }
    }

    /// Runs a cycle of every person; none may fail.
    pub(crate) async fn cycle_all(&self) {
        for person in 0..self.farm.population.tenants[0].people.len() {
            self.cycle(person).await;
        }
    }

    /// Returns how many objects clients wrote so far on Exchange and on SharePoint.
    pub(crate) fn writes(&self) -> (u64, u64) {
        (
            self.farm.exchange.stats.snapshot().writes,
            self.farm.sharepoint.stats.item_writes(),
        )
    }

    /// Asserts that both sides agree, that further passes write nothing, and that a survey finds every user idle.
    pub(crate) async fn assert_settled(&self) {
        self.assert_sides_agree();
        self.assert_no_more_writes().await;
        self.assert_sides_agree();
    }

    /// Asserts that the oracle finds no difference.
    pub(crate) fn assert_sides_agree(&self) {
        let verdict = Oracle::new(&self.farm).compare_sides();
        assert!(verdict.agrees(), "{:#?}", verdict.lines(20));
    }

    /// Asserts that further passes write nothing, and that a survey finds every user idle.
    pub(crate) async fn assert_no_more_writes(&self) {
        let before = self.writes();
        self.cycle_all().await;
        assert_eq!(
            self.writes(),
            before,
            "a second pass wrote (Exchange, SharePoint)"
        );
        self.assert_idle().await;
        for person in 0..self.farm.population.tenants[0].people.len() {
            if let Err(failure) = self.cycle_of(&self.thorough, person).await {
                panic!("the full pass of person {person} failed: {failure}");
            }
        }
        assert_eq!(self.writes(), before, "a full pass wrote (Exchange, SharePoint)");
        self.assert_idle().await;
    }

    /// Asserts that a survey finds every user idle, if the server provides the signs.
    pub(crate) async fn assert_idle(&self) {
        if self.omits_signs {
            return;
        }
        let users = self.everybody();
        for (user, answer) in users.iter().zip(self.survey_all(&self.engine, &users).await) {
            match answer {
                Ok(Survey::Idle) => {}
                Ok(Survey::Work(_)) => panic!("{user} is not idle: {:#?}", self.state_of(user).await),
                Err(failure) => panic!("the survey of {user} failed: {failure}"),
            }
        }
    }

    pub(crate) async fn state(&self, person: usize) -> SyncState {
        self.state_of(&self.user(person).user).await
    }

    async fn state_of(&self, user: &UserId) -> SyncState {
        let key = UserKey::new(self.tenant_id(), user.clone());
        match self.registry.sync_state(&key).await.unwrap() {
            Some(stored) => SyncState::decode(&stored.blob).unwrap(),
            None => SyncState::default(),
        }
    }
}

fn key_of(person: &Person) -> UserKey {
    UserKey::new(
        "contoso".parse().unwrap(),
        Farm::user_name(person).parse().unwrap(),
    )
}

/// Returns a day of 2026.
pub(crate) fn day(month: i8, day: i8) -> Date {
    date(2026, month, day)
}
