//! Both simulated servers, filled with a population.

use std::fs::File;
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::accounts::{AccountRights, MailboxScope, ServiceAccount};
use crate::exchange::{Exchange, ExchangeSettings, MailboxSpec};
use crate::population::{AppliedTenant, Person, Population, PopulationSpec, Tenant};
use crate::sharepoint::{Settings, SharePoint};
use crate::sim::conditions::GroupId;
use crate::sim::http::{Handler, Listener};
use crate::sim::tls::{SimTls, TlsIdentity};
use crate::wrong_answers::{TargetServer, WrongAnswerProxy, WrongAnswers};

/// Name of the service account on both servers.
pub(super) const ACCOUNT: &str = "svc-tasksync";
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
    /// Ports and certificates of an earlier start; without them, the ports are free ones and the certificates new.
    pub identity: Option<FarmIdentity>,
}

/// Where a farm listens and how it proves who it is. A farm that is started with it again can be reached as before.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FarmIdentity {
    /// Port of Exchange.
    pub exchange_port: u16,
    /// Port of SharePoint.
    pub sharepoint_port: u16,
    /// Certificates and key; `None` for plain HTTP.
    pub tls: Option<TlsIdentity>,
}

impl std::fmt::Debug for FarmIdentity {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FarmIdentity")
            .field("exchange_port", &self.exchange_port)
            .field("sharepoint_port", &self.sharepoint_port)
            .finish_non_exhaustive()
    }
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
    tls: Option<TlsIdentity>,
    plan: TenantPlan,
    impersonating: Vec<GroupId>,
    own_servers: bool,
}

impl Farm {
    /// Starts both servers on loopback ports and fills them. Own servers of tenants listen on every address of this
    /// machine, because tenants use many addresses of the loopback network; callers from other machines are rejected.
    ///
    /// # Errors
    /// Names what could not be started or filled.
    pub async fn start(spec: FarmSpec) -> Result<Self, String> {
        let kept = spec.identity.as_ref();
        let tls = if spec.tls {
            Some(match kept.and_then(|kept| kept.tls.clone()) {
                Some(identity) => SimTls::with_identity(identity)?,
                None => SimTls::generate()?,
            })
        } else {
            None
        };
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
        let own_servers = spec.own_servers && !spec.tls;
        let ip = if own_servers {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let exchange_address = SocketAddr::from((ip, kept.map_or(0, |kept| kept.exchange_port)));
        let sharepoint_address = SocketAddr::from((ip, kept.map_or(0, |kept| kept.sharepoint_port)));
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
            (
                listen(exchange_address, exchange_proxy, tls.as_ref()).await?,
                listen(sharepoint_address, sharepoint_proxy, tls.as_ref()).await?,
            )
        } else {
            (
                listen(exchange_address, Arc::clone(&exchange), tls.as_ref()).await?,
                listen(sharepoint_address, Arc::clone(&sharepoint), tls.as_ref()).await?,
            )
        };
        if !own_servers {
            sharepoint.set_base_url(&sharepoint_listener.base_url());
        }
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
            tls: tls.map(|tls| tls.identity),
            plan: spec.plan,
            impersonating: spec.impersonating,
            own_servers,
        })
    }

    /// Returns the ports and certificates, for a later start at the same place.
    #[must_use]
    pub fn identity(&self) -> FarmIdentity {
        FarmIdentity {
            exchange_port: self.exchange_listener.address().port(),
            sharepoint_port: self.sharepoint_listener.address().port(),
            tls: self.tls.clone(),
        }
    }

    /// Returns the TLS settings of another listener. The farm's authority issued its certificate for these names and
    /// until this day.
    ///
    /// # Errors
    /// The farm speaks plain HTTP, or the certificate cannot be made.
    pub fn certified(&self, names: &[&str], until: (i32, u8, u8)) -> Result<SimTls, String> {
        let identity = self.tls.as_ref().ok_or("the farm speaks plain HTTP")?;
        SimTls::with_identity(identity.certified(names, until)?)
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
        let address = Ipv4Addr::from(0x7f01_0001 + number);
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

    /// Writes the authority's certificate into `folder`, and the account's password below [`secrets_folder`]. Returns
    /// the paths of both.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write_secrets(&self, folder: &Path) -> Result<(Option<PathBuf>, PathBuf), String> {
        let secrets = secrets_folder(folder);
        std::fs::create_dir_all(&secrets).map_err(|error| format!("{}: {error}", secrets.display()))?;
        let write = |path: PathBuf, text: &str| write_file(&path, text, 0o644).map(|()| path);
        let password = write(secrets.join("service-account.password"), PASSWORD)?;
        let authority = self
            .tls
            .as_ref()
            .map(|tls| write(folder.join("authority.pem"), &tls.authority))
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

/// Writes a file with these permissions, less the umask. An existing file is replaced by a rename, so that no process
/// reads an incomplete file.
///
/// # Errors
/// Names the file that cannot be written.
pub fn write_file(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let new = path.with_added_extension("new");
    // A file that an interrupted write left keeps its permissions, so it goes first.
    std::fs::remove_file(&new).ok();
    File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| format!("{}: {error}", path.display()))
}

/// Returns the absolute path of the tenants' secrets, tasksync's `secrets.folder`. The operator's files in `folder`
/// are not below it.
#[must_use]
pub fn secrets_folder(folder: &Path) -> PathBuf {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    folder.join("secrets")
}

async fn listen<H: Handler>(
    address: SocketAddr,
    handler: Arc<H>,
    tls: Option<&SimTls>,
) -> Result<Listener, String> {
    Listener::start_at(address, handler, tls)
        .await
        .map_err(|error| format!("a simulated server cannot listen at {address}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_farm_that_is_started_again_is_at_the_same_place_with_the_same_authority() {
        let spec = || FarmSpec {
            population: PopulationSpec {
                tenants: 1,
                users_per_tenant: 1,
                ..PopulationSpec::default()
            },
            tls: true,
            ..FarmSpec::default()
        };
        let first = Farm::start(spec()).await.unwrap();
        let kept = serde_json::to_string(&first.identity()).unwrap();
        let (url, site) = (first.ews_url(), first.site_url(&first.population.tenants[0]));
        let folder = tempfile::tempdir().unwrap();
        let (authority, _) = first.write_secrets(folder.path()).unwrap();
        let pem = std::fs::read_to_string(authority.unwrap()).unwrap();
        first.stop().await;
        drop(first);

        let again = Farm::start(FarmSpec {
            identity: serde_json::from_str(&kept).unwrap(),
            ..spec()
        })
        .await
        .unwrap();

        assert_eq!(again.ews_url(), url);
        assert_eq!(again.site_url(&again.population.tenants[0]), site);
        assert_eq!(again.identity().tls.unwrap().authority, pem);
        again.stop().await;
    }
}
