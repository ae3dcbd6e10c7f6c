//! Both simulated servers with a population on them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::accounts::{AccountRights, Scope, ServiceAccount};
use crate::exchange::{Exchange, ExchangeSettings, MailboxSpec};
use crate::population::{AppliedTenant, Person, Population, PopulationSpec, Tenant};
use crate::sharepoint::{Settings, SharePoint};
use crate::sim::http::Listener;
use crate::sim::tls::SimTls;

/// Name and password of the service account on both servers.
pub(super) const ACCOUNT: &str = "svc-tasksync";
/// See [`ACCOUNT`].
pub(super) const PASSWORD: &str = "correct horse battery staple";

/// How mailboxes may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TenantPlan {
    /// Delegate access to every mailbox; impersonation as well.
    #[default]
    Delegate,
    /// Only impersonation.
    Impersonation,
}

/// What the farm is to be.
#[derive(Debug, Clone, Default)]
pub struct FarmSpec {
    /// Tenants, people, lists and tasks.
    pub population: PopulationSpec,
    /// HTTPS with an authority of its own, instead of plain HTTP.
    pub tls: bool,
    /// How mailboxes may be opened.
    pub plan: TenantPlan,
    /// How Exchange behaves.
    pub exchange: ExchangeSettings,
    /// How SharePoint behaves.
    pub sharepoint: Settings,
}

/// The running servers.
pub struct Farm {
    /// Simulated Exchange.
    pub exchange: Arc<Exchange>,
    /// Simulated SharePoint.
    pub sharepoint: Arc<SharePoint>,
    /// Who lives there.
    pub population: Population,
    /// Ids on SharePoint, in the tenants' order.
    pub applied: Vec<AppliedTenant>,
    exchange_listener: Listener,
    sharepoint_listener: Listener,
    authority: Option<String>,
    plan: TenantPlan,
}

impl Farm {
    /// Starts both servers on free loopback ports and fills them.
    ///
    /// # Errors
    /// Says what could not be started or filled.
    pub async fn start(spec: FarmSpec) -> Result<Self, String> {
        let tls = if spec.tls { Some(SimTls::generate()?) } else { None };
        let exchange = Exchange::new(spec.exchange);
        let sharepoint = SharePoint::new(spec.sharepoint);
        let population = Population::generate(&spec.population);
        for (_, person) in population.mailboxes() {
            let mailbox = MailboxSpec::new(&person.smtp, &person.name);
            exchange.add_mailbox(MailboxSpec {
                time_zone: person.time_zone.to_owned(),
                ..mailbox
            });
        }
        let full_access = match spec.plan {
            TenantPlan::Delegate => Scope::All,
            TenantPlan::Impersonation => Scope::None,
        };
        exchange.add_account(ServiceAccount {
            user: ACCOUNT.to_owned(),
            password: PASSWORD.to_owned(),
            rights: AccountRights {
                impersonate: Scope::All,
                full_access,
            },
        });
        sharepoint.add_account(ACCOUNT, PASSWORD);
        let start = |error: std::io::Error| format!("the simulated servers cannot listen: {error}");
        let exchange_listener = Listener::start(Arc::clone(&exchange), tls.as_ref())
            .await
            .map_err(start)?;
        let sharepoint_listener = sharepoint.serve(tls.as_ref()).await.map_err(start)?;
        let applied = population.apply_to_sharepoint(&sharepoint)?;
        Ok(Self {
            exchange,
            sharepoint,
            population,
            applied,
            exchange_listener,
            sharepoint_listener,
            authority: tls.map(|tls| tls.authority_pem),
            plan: spec.plan,
        })
    }

    /// Address of Exchange's web services.
    #[must_use]
    pub fn ews_url(&self) -> String {
        format!("{}/EWS/Exchange.asmx", self.exchange_listener.base_url())
    }

    /// Address of a tenant's site.
    #[must_use]
    pub fn site_url(&self, tenant: &Tenant) -> String {
        format!("{}{}", self.sharepoint_listener.base_url(), tenant.site)
    }

    /// Writes the authority's certificate and the account's password into `folder`; the paths of both.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write_secrets(&self, folder: &Path) -> Result<(Option<PathBuf>, PathBuf), String> {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .map_err(|error| format!("{}: {error}", path.display()))
                .map(|()| path)
        };
        let password = write("service-account.password", PASSWORD)?;
        let authority = self
            .authority
            .as_deref()
            .map(|pem| write("authority.pem", pem))
            .transpose()?;
        Ok((authority, password))
    }

    /// A tenant's settings as the API takes them.
    #[must_use]
    pub fn tenant_settings(&self, tenant: &Tenant, password: &Path) -> Value {
        let credentials =
            json!({ "kind": "basic", "user": ACCOUNT, "password": format!("file:{}", password.display()) });
        let access = match self.plan {
            TenantPlan::Delegate => "auto",
            TenantPlan::Impersonation => "impersonation",
        };
        json!({
            "id": tenant.slug,
            "display_name": tenant.slug,
            "time_zone": tenant.time_zone,
            "source": { "kind": "sharepoint", "sites": [self.site_url(tenant)], "credentials": credentials.clone() },
            "mailbox": { "kind": "ews", "url": self.ews_url(), "credentials": credentials, "access": access },
        })
    }

    /// Every person with the position of the tenant.
    pub fn people(&self) -> impl Iterator<Item = (usize, &Tenant, &Person)> {
        self.population
            .tenants
            .iter()
            .enumerate()
            .flat_map(|(at, tenant)| tenant.people.iter().map(move |person| (at, tenant, person)))
    }

    /// A person's name in tasksync.
    #[must_use]
    pub fn user_name(person: &Person) -> String {
        person.smtp.to_lowercase()
    }

    /// The key tasksync writes on the copy of a task (a stored format, known here by heart).
    #[must_use]
    pub fn key(list: Uuid, item: i32) -> String {
        format!("sp|{list}|{item}")
    }

    /// Requests both servers answered so far: Exchange, SharePoint.
    #[must_use]
    pub fn requests(&self) -> (u64, u64) {
        (
            self.exchange.stats.snapshot().total,
            self.sharepoint.stats.requests(),
        )
    }

    /// Stops both servers.
    pub async fn stop(&self) {
        self.exchange_listener.stop().await;
        self.sharepoint_listener.stop().await;
    }
}
