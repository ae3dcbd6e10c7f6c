//! A running API, and a client that reads its answers as JSON.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tasksync_common::clock::{Clock as _, SharedClock, SystemClock};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::facts::{MailboxFacts, PersonLookup, SiteCheck, SiteFacts};
use tasksync_common::fleet::{Fleet, FleetReport, Member, Role, open_fleet};
use tasksync_common::health::Health;
use tasksync_common::metrics::record::Store;
use tasksync_common::model::{TenantId, UserKey};
use tasksync_common::queue::{JobQueue, open_queue};
use tasksync_common::registry::{Enrolment, Registry, Tenant, open_registry};
use tasksync_common::schedule::{Schedule, open_schedule};
use tasksync_common::seam::{Hook, Intercept, StoreCall};
use tasksync_common::settings::Settings;
use tasksync_common::tasks::spawn;
use tasksync_scheduler::checks::{TenantChecks, UserCheck};
use tasksync_scheduler::{DispatchLimits, Door, Scheduler, Stores};
use tasksync_scheduler::{
    ServiceParts,
    api::{self, ApiToken},
};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const TOKEN: &str = "0123456789abcdef-token";

/// Tenants' servers that give the answers the test sets.
#[derive(Default)]
pub(crate) struct Servers {
    pub(crate) person: Mutex<Option<Failure>>,
    pub(crate) mailbox: Mutex<Option<Failure>>,
    pub(crate) asked: Mutex<u32>,
    pub(crate) lookups: Mutex<Vec<PersonLookup>>,
}

#[async_trait]
impl TenantChecks for Servers {
    async fn check_tenant(&self, _tenant: &Tenant) -> Vec<SiteCheck> {
        vec![SiteCheck {
            site: "https://sp.contoso.example/sites/projects".to_owned(),
            result: Ok(SiteFacts {
                title: "Projects".to_owned(),
                lists: 2,
                may_edit: true,
                clock_offset: Some(SignedDuration::from_secs(90)),
                ..SiteFacts::default()
            }),
        }]
    }

    async fn preview(&self, user: &UserKey) -> Result<Value, Failure> {
        Ok(json!({ "user": user.to_string(), "folders": [], "steps": [], "held": [] }))
    }

    async fn check_person(
        &self,
        _tenant: &Tenant,
        _source_login: &str,
        lookup: PersonLookup,
    ) -> Result<(), Failure> {
        self.lookups.lock().unwrap().push(lookup);
        self.person.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    async fn check_mailbox(&self, _tenant: &Tenant, user: &Enrolment) -> Result<MailboxFacts, Failure> {
        if user.mailbox.as_str().ends_with(".invalid") && self.mailbox.lock().unwrap().is_none() {
            return Err(Failure::new(
                ErrorClass::Refused,
                Code::ExchangeMailboxMissing,
                "no such mailbox",
            ));
        }
        self.mailbox.lock().unwrap().clone().map_or(
            Ok(MailboxFacts {
                version: "Exchange 15.2".to_owned(),
                access: "delegate".to_owned(),
                shares_requests: true,
                clock_offset: Some(SignedDuration::ZERO),
                idle_check: true,
                ..MailboxFacts::default()
            }),
            Err,
        )
    }

    async fn check_user(&self, tenant: &Tenant, user: &Enrolment, lookup: PersonLookup) -> UserCheck {
        *self.asked.lock().unwrap() += 1;
        UserCheck {
            person: self.check_person(tenant, &user.source_login, lookup).await,
            mailbox: self.check_mailbox(tenant, user).await,
        }
    }
}

pub(crate) struct Service {
    pub(crate) base: String,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) schedule: Arc<dyn Schedule>,
    pub(crate) queue: Arc<dyn JobQueue>,
    pub(crate) fleet: Arc<dyn Fleet>,
    pub(crate) servers: Arc<Servers>,
    pub(crate) stopping: CancellationToken,
    silent: Arc<AtomicBool>,
    client: reqwest::Client,
    _stop: DropGuard,
}

/// Lets every call of one store fail while it is silent.
struct SilenceHook {
    store: Option<Store>,
    silent: Arc<AtomicBool>,
}

impl Hook for SilenceHook {
    fn before(&self, call: StoreCall) -> Result<(), Failure> {
        if self.store == Some(call.store) && self.silent.load(Ordering::SeqCst) {
            return Err(Failure::new(
                ErrorClass::Transient,
                Code::RedisUnavailable,
                "stopped",
            ));
        }
        Ok(())
    }
}

/// An answer: status and JSON body.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body.get("code").and_then(Value::as_str).unwrap_or_default()
    }
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_with(Some(TOKEN)).await
    }

    /// Starts a service with a tenant and one user, of which one store then answers no call. A silent schedule is
    /// silent together with the fleet in a real store; here only its own calls fail.
    pub(crate) async fn start_silent(store: Store) -> Self {
        let service = Self::start_hooked(Some(TOKEN), Some(store)).await;
        service.put("/tenants/contoso", &tenant("contoso")).await;
        service.put("/tenants/contoso/users/ana", &opt_in("ana")).await;
        service.silent.store(true, Ordering::SeqCst);
        service
    }

    pub(crate) async fn start_with(token: Option<&str>) -> Self {
        Self::start_hooked(token, None).await
    }

    /// Reports a worker to the fleet.
    pub(crate) async fn worker_reports(&self) {
        let report = FleetReport {
            number: 1,
            lifetime: Duration::from_mins(1),
            member: Member::new("w1", Role::Worker, SystemClock.now()),
            servers: Vec::new(),
            circuits: Vec::new(),
            circuits_version: 0,
        };
        self.fleet.exchange(&report).await.unwrap();
    }

    async fn start_hooked(token: Option<&str>, silenced: Option<Store>) -> Self {
        let mut settings = Settings::default();
        // The tests of access send many; those of the door have limits of their own.
        settings.api.wrong_tokens = 1_000;
        Self::start_with_hook(token, settings, silenced).await
    }

    pub(crate) async fn start_as(token: Option<&str>, settings: Settings) -> Self {
        Self::start_with_hook(token, settings, None).await
    }

    async fn start_with_hook(token: Option<&str>, mut settings: Settings, silenced: Option<Store>) -> Self {
        settings.registry.url = String::from("sqlite::memory:");
        settings.schedule.heartbeat_interval = Duration::from_millis(100);
        let clock: SharedClock = Arc::new(SystemClock);
        let registry = open_registry(&settings.registry).await.unwrap();
        let schedule = open_schedule(&settings.schedule, Arc::clone(&clock))
            .await
            .unwrap();
        let fleet = open_fleet(&settings.schedule, Arc::clone(&clock)).unwrap();
        let queue = open_queue(&settings.queue, settings.schedule.claim_lifetime)
            .await
            .unwrap();
        let silent = Arc::new(AtomicBool::new(false));
        let hook: Arc<dyn Hook> = Arc::new(SilenceHook {
            store: silenced,
            silent: Arc::clone(&silent),
        });
        let registry: Arc<dyn Registry> = Arc::new(Intercept::new(registry, Arc::clone(&hook)));
        let schedule: Arc<dyn Schedule> = Arc::new(Intercept::new(schedule, Arc::clone(&hook)));
        let queue: Arc<dyn JobQueue> = Arc::new(Intercept::new(queue, hook));
        let servers = Arc::new(Servers::default());
        let stores = Stores {
            schedule: Arc::clone(&schedule),
            queue: Arc::clone(&queue),
            registry: Arc::clone(&registry),
            fleet: Arc::clone(&fleet),
            clock: Arc::clone(&clock),
        };
        let door = Door::of_api(&settings.api).unwrap();
        let scheduler = Scheduler::new(stores, DispatchLimits::of(&settings), "test", Arc::default());
        let stopping = CancellationToken::new();
        let parts = ServiceParts {
            registry: Arc::clone(&registry),
            schedule: Arc::clone(&schedule),
            queue: Arc::clone(&queue),
            fleet: Arc::clone(&fleet),
            checks: Arc::<Servers>::clone(&servers),
            settings: Arc::new(settings),
            clock,
            leading: scheduler.leading_epoch(),
            requests: scheduler.requests(),
            health: {
                let health = Health::new(stopping.clone());
                health.add_store_probes(Arc::clone(&registry), Arc::clone(&schedule), Arc::clone(&queue));
                health
            },
        };
        let router = api::router(parts, token.map(|token| ApiToken::new(token).unwrap()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let stop = CancellationToken::new();
        spawn(api::serve(
            listener,
            router,
            door,
            stop.clone(),
            Duration::from_secs(1),
        ))
        .detach();
        rustls::crypto::ring::default_provider().install_default().ok();
        Self {
            base,
            registry,
            schedule,
            queue,
            fleet,
            servers,
            stopping,
            silent,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
            _stop: stop.drop_guard(),
        }
    }

    /// Returns a request as it is; the test adds the headers.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method.parse().unwrap(), format!("{}{path}", self.base))
    }

    #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Answer { status, body }
    }

    /// Sends a request with the token to an address of the API.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let mut request = self.request(method, &format!("/api/v1{path}")).bearer_auth(TOKEN);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.call("PUT", path, Some(body)).await
    }

    /// Starts a service with a tenant and one user.
    pub(crate) async fn with_ana() -> Self {
        let service = Self::start().await;
        assert_eq!(
            service.put("/tenants/contoso", &tenant("contoso")).await.status,
            201
        );
        let answer = service.put("/tenants/contoso/users/ana", &opt_in("ana")).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        service
    }
}

pub(crate) fn ana() -> UserKey {
    UserKey::new(contoso(), "ana".parse().unwrap())
}

pub(crate) fn contoso() -> TenantId {
    "contoso".parse().unwrap()
}

pub(crate) fn tenant(id: &str) -> Value {
    json!({
        "id": id,
        "display_name": "Contoso",
        "time_zone": "W. Europe Standard Time",
        "source": {
            "kind": "sharepoint",
            "sites": ["https://sp.contoso.example/sites/projects"],
            "credentials": { "kind": "basic", "user": "contoso\\svc", "password": "env:TASKSYNC_SECRET_CONTOSO" },
        },
        "mailbox": {
            "kind": "ews",
            "url": "https://mail.contoso.example/EWS/Exchange.asmx",
            "credentials": { "kind": "basic", "user": "contoso\\svc", "password": "env:TASKSYNC_SECRET_CONTOSO" },
        },
    })
}

pub(crate) fn opt_in(user: &str) -> Value {
    json!({
        "source_login": format!("i:0#.w|contoso\\{user}"),
        "mailbox": format!("{user}@contoso.example"),
    })
}
