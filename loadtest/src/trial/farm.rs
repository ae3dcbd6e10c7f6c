//! Both simulated servers, filled with a population.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::accounts::{AccountRights, MailboxScope, ServiceAccount};
use crate::exchange::{Exchange, ExchangeSettings, MailboxSpec};
use crate::population::{AppliedTenant, Person, Population, PopulationSpec, Tenant};
use crate::sharepoint::{Settings, SharePoint};
use crate::sim::conditions::GroupId;
use crate::sim::http::Listener;
use crate::sim::tls::SimTls;
use crate::wrong_answers::{TargetServer, WrongAnswerProxy, WrongAnswers};

/// Name of the service account on both servers.
pub(super) const ACCOUNT: &str = "svc-tasksync";
/// Every address of this machine: tenants may use many addresses of the loopback network. Callers from other machines
/// are rejected.
const EVERYWHERE: std::net::SocketAddr =
    std::net::SocketAddr::V4(std::net::SocketAddrV4::new(std::net::Ipv4Addr::UNSPECIFIED, 0));
/// Password of the service account.
pub(super) const PASSWORD: &str = "correct horse battery staple";

/// How mailboxes may be opened by the service account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TenantPlan {
    /// Delegate access to every mailbox, and impersonation as well.
    #[default]
    Delegate,
    /// Only impersonation.
    Impersonation,
}

/// What a farm consists of and how it behaves.
#[derive(Debug, Clone, Default)]
pub struct FarmSpec {
    /// Tenants, people, lists and tasks.
    pub population: PopulationSpec,
    /// HTTPS with an authority of its own instead of plain HTTP.
    pub tls: bool,
    /// How mailboxes may be opened.
    pub plan: TenantPlan,
    /// How Exchange behaves.
    pub exchange: ExchangeSettings,
    /// How SharePoint behaves.
    pub sharepoint: Settings,
    /// More groups of tenants beside `population`.
    pub more_populations: Vec<PopulationSpec>,
    /// Groups of tenants whose mailboxes can be opened only by impersonation, whatever `plan` allows.
    pub impersonating: Vec<GroupId>,
    /// Each tenant reaches both servers at an address of its own (127.x.y.z), as companies with their own servers do.
    /// Works only without TLS.
    pub own_servers: bool,
    /// Frees the memory of the tasks' texts once they are in SharePoint; [`Population::tasks`] then returns 0.
    pub forget_tasks: bool,
    /// A proxy between the clients and both servers.
    pub wrong_answers: Option<Arc<WrongAnswers>>,
}

/// The running servers.
pub struct Farm {
    /// Simulated Exchange.
    pub exchange: Arc<Exchange>,
    /// Simulated SharePoint.
    pub sharepoint: Arc<SharePoint>,
    /// The tenants and people on the servers.
    pub population: Population,
    /// Ids on SharePoint, in the tenants' order.
    pub applied: Vec<AppliedTenant>,
    exchange_listener: Listener,
    sharepoint_listener: Listener,
    authority: Option<String>,
    plan: TenantPlan,
    impersonating: Vec<GroupId>,
    own_servers: bool,
}

impl Farm {
    /// Starts both servers on free loopback ports and fills them.
    ///
    /// # Errors
    /// Names what could not be started or filled.
    pub async fn start(spec: FarmSpec) -> Result<Self, String> {
        let tls = if spec.tls { Some(SimTls::generate()?) } else { None };
        let exchange = Exchange::new(spec.exchange);
        let sharepoint = SharePoint::new(spec.sharepoint);
        let mut specs = vec![spec.population];
        specs.extend(spec.more_populations);
        let mut population = Population::of_groups(&specs);
        for tenant in &population.tenants {
            for person in &tenant.people {
                exchange.add_mailbox(MailboxSpec {
                    time_zone: person.time_zone.to_owned(),
                    group: tenant.group,
                    ..MailboxSpec::new(&person.smtp, &person.name)
                });
            }
        }

        let full_access = match spec.plan {
            TenantPlan::Delegate => MailboxScope::All,
            TenantPlan::Impersonation => MailboxScope::None,
        };
        exchange.add_account(ServiceAccount {
            user: ACCOUNT.to_owned(),
            password: PASSWORD.to_owned(),
            rights: AccountRights {
                impersonate: MailboxScope::All,
                full_access,
            },
        });
        sharepoint.add_account(ACCOUNT, PASSWORD);
        let cannot_listen = |error: std::io::Error| format!("the simulated servers cannot listen: {error}");
        let own_servers = spec.own_servers && !spec.tls;
        let (exchange_listener, sharepoint_listener) = if let Some(wrong_answers) = &spec.wrong_answers {
            let (mailboxes, sites) = (Arc::clone(&exchange), Arc::clone(&sharepoint));
            let group = move |smtp: &str| mailboxes.mailbox(smtp).map_or(0, |mailbox| mailbox.group);
            let exchange_proxy = WrongAnswerProxy::new(
                Arc::clone(&exchange),
                TargetServer::Exchange,
                Arc::clone(wrong_answers),
                Arc::new(group),
            );
            let sharepoint_proxy = WrongAnswerProxy::new(
                Arc::clone(&sharepoint),
                TargetServer::Sharepoint,
                Arc::clone(wrong_answers),
                Arc::new(move |web: &str| sites.group_of(web)),
            );
            if own_servers {
                (
                    Listener::start_at(EVERYWHERE, exchange_proxy, None)
                        .await
                        .map_err(cannot_listen)?,
                    Listener::start_at(EVERYWHERE, sharepoint_proxy, None)
                        .await
                        .map_err(cannot_listen)?,
                )
            } else {
                let sharepoint_listener = Listener::start(sharepoint_proxy, tls.as_ref())
                    .await
                    .map_err(cannot_listen)?;
                sharepoint.set_base_url(&sharepoint_listener.base_url());
                let exchange_listener = Listener::start(exchange_proxy, tls.as_ref())
                    .await
                    .map_err(cannot_listen)?;
                (exchange_listener, sharepoint_listener)
            }
        } else if own_servers {
            (
                Listener::start_at(EVERYWHERE, Arc::clone(&exchange), None)
                    .await
                    .map_err(cannot_listen)?,
                Listener::start_at(EVERYWHERE, Arc::clone(&sharepoint), None)
                    .await
                    .map_err(cannot_listen)?,
            )
        } else {
            (
                Listener::start(Arc::clone(&exchange), tls.as_ref())
                    .await
                    .map_err(cannot_listen)?,
                sharepoint.serve(tls.as_ref()).await.map_err(cannot_listen)?,
            )
        };
        let applied = population.apply_to_sharepoint(&sharepoint)?;
        if spec.forget_tasks {
            population.forget_tasks();
        }
        Ok(Self {
            exchange,
            sharepoint,
            population,
            applied,
            exchange_listener,
            sharepoint_listener,
            authority: tls.map(|tls| tls.authority_pem),
            plan: spec.plan,
            impersonating: spec.impersonating,
            own_servers,
        })
    }

    /// Returns the address of Exchange's web services.
    #[must_use]
    pub fn ews_url(&self) -> String {
        format!("{}/EWS/Exchange.asmx", self.exchange_listener.base_url())
    }

    /// Returns the base address at which a tenant reaches a server.
    fn base_url(&self, tenant: &Tenant, listener: &Listener) -> String {
        if !self.own_servers {
            return listener.base_url();
        }
        let mut tenants = self.population.tenants.iter();
        let at = tenants.position(|other| other.slug == tenant.slug).unwrap_or(0);
        let number = u32::try_from(at).unwrap_or(u32::MAX) % 0x00fe_0000;
        let address = std::net::Ipv4Addr::from(0x7f01_0001 + number);
        format!("http://{address}:{}", listener.address().port())
    }

    /// Returns the address of a tenant's site.
    #[must_use]
    pub fn site_url(&self, tenant: &Tenant) -> String {
        format!(
            "{}{}",
            self.base_url(tenant, &self.sharepoint_listener),
            tenant.site
        )
    }

    /// Writes the authority's certificate and the account's password into `folder`. Returns the paths of both.
    /// Existing files are replaced by a rename, so that no process reads an incomplete file.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write_secrets(&self, folder: &Path) -> Result<(Option<PathBuf>, PathBuf), String> {
        let write = |name: &str, text: &str| {
            let (path, new) = (folder.join(name), folder.join(format!("{name}.new")));
            std::fs::write(&new, text)
                .and_then(|()| std::fs::rename(&new, &path))
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

    /// Returns a tenant's settings in the form that the API accepts.
    #[must_use]
    pub fn tenant_settings(&self, tenant: &Tenant, password: &Path) -> Value {
        let credentials =
            json!({ "kind": "basic", "user": ACCOUNT, "password": format!("file:{}", password.display()) });
        let access = match self.plan {
            TenantPlan::Delegate if !self.impersonating.contains(&tenant.group) => "auto",
            TenantPlan::Delegate | TenantPlan::Impersonation => "impersonation",
        };
        let ews = format!(
            "{}/EWS/Exchange.asmx",
            self.base_url(tenant, &self.exchange_listener)
        );
        json!({
            "id": tenant.slug,
            "display_name": tenant.slug,
            "time_zone": tenant.time_zone,
            "source": { "kind": "sharepoint", "sites": [self.site_url(tenant)], "credentials": credentials.clone() },
            "mailbox": { "kind": "ews", "url": ews, "credentials": credentials, "access": access },
        })
    }

    /// Returns every person with their tenant and its position.
    pub fn people(&self) -> impl Iterator<Item = (usize, &Tenant, &Person)> {
        self.population
            .tenants
            .iter()
            .enumerate()
            .flat_map(|(at, tenant)| tenant.people.iter().map(move |person| (at, tenant, person)))
    }

    /// Returns a person's user name in tasksync.
    #[must_use]
    pub fn user_name(person: &Person) -> String {
        person.smtp.to_lowercase()
    }

    /// Returns the key that tasksync writes on the copy of a task. This is a stored format; it is repeated here on
    /// purpose.
    #[must_use]
    pub fn key(list: Uuid, item: i32) -> String {
        format!("sp|{list}|{item}")
    }

    /// Returns how many requests Exchange and SharePoint answered so far.
    #[must_use]
    pub fn requests(&self) -> (u64, u64) {
        (
            self.exchange.stats.snapshot().total,
            self.sharepoint.stats.requests(),
        )
    }

    /// Returns how many connections Exchange and SharePoint accepted so far.
    #[must_use]
    pub fn connections(&self) -> (u64, u64) {
        (
            self.exchange_listener.connections(),
            self.sharepoint_listener.connections(),
        )
    }

    /// Returns how many writes both servers carried out so far for requests over HTTP.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.exchange.stats.snapshot().writes + self.sharepoint.stats.item_writes()
    }

    /// Stops both servers.
    pub async fn stop(&self) {
        self.exchange_listener.stop().await;
        self.sharepoint_listener.stop().await;
    }
}
