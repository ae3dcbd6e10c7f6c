//! Seeded misconfigurations of a tenant between simulated servers: the doctor names each of them by the right check,
//! and finds nothing in the tenant as it is.

mod seeds;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tasksync_common::clock::{Clock as _, SystemClock, monotonic};
use tasksync_loadtest::accounts::{AccountRights, MailboxScope, ServiceAccount};
use tasksync_loadtest::population::PopulationSpec;
use tasksync_loadtest::services::PrivateAuthority;
use tasksync_loadtest::sharepoint::AccountLevel;
use tasksync_loadtest::sim::http::Listener;
use tasksync_loadtest::sim::tls::{SimTls, TlsIdentity};
use tasksync_loadtest::trial::{Farm, FarmSpec, Ledger, Service, ServiceSpec, secrets_folder};

use crate::rig::{PATIENCE, spec, wait_until_settled};
use seeds::{LASTING, SEEDS, Seed};

/// The version of SharePoint that the simulated server names by itself.
const SHAREPOINT_VERSION: &str = "16.0.0.18526";

/// The farm, the service, and further listeners in front of Exchange.
pub(super) struct Ward {
    pub(super) farm: Arc<Farm>,
    pub(super) service: Service,
    pub(super) secrets: PathBuf,
    /// Bases of addresses of Exchange: with an expired certificate, one that expires in ten days, one for another name,
    /// one of another authority of the same name, without TLS, and one of an unknown authority.
    pub(super) exchange: [String; 6],
    settings: Value,
    listeners: Vec<Listener>,
}

impl Ward {
    async fn open(folder: &Path) -> Self {
        let farm = Farm::start(FarmSpec {
            population: PopulationSpec {
                tenants: 1,
                users_per_tenant: 1,
                tasks_per_user: 2.0,
                seed: 31,
                ..PopulationSpec::default()
            },
            tls: true,
            ..FarmSpec::default()
        });
        let farm = Arc::new(farm.await.unwrap());
        let (_, password) = farm.write_secrets(folder).unwrap();
        let settings = farm.tenant_settings(&farm.population.tenants[0], &password);
        let in_ten_days = SystemClock.now() + jiff::SignedDuration::from_hours(10 * 24);
        let day = in_ten_days.to_zoned(jiff::tz::TimeZone::UTC).date();
        let soon = (
            i32::from(day.year()),
            day.month().unsigned_abs(),
            day.day().unsigned_abs(),
        );
        let identities = [
            Some(farm.certified(&["localhost"], (2020, 1, 1)).unwrap()),
            Some(farm.certified(&["localhost"], soon).unwrap()),
            Some(farm.certified(&["mail.contoso.example"], (2090, 1, 1)).unwrap()),
            Some(SimTls::generate().unwrap()),
            None,
            Some(of_an_unknown_authority()),
        ];
        let mut listeners = Vec::new();
        for tls in &identities {
            let listener = Listener::start(Arc::clone(&farm.exchange), tls.as_ref());
            listeners.push(listener.await.unwrap());
        }
        let secrets = secrets_folder(folder);
        std::fs::write(secrets.join("wrong.password"), "no such password").unwrap();
        let expired = farm.certified(&["tasksync"], (2020, 1, 1)).unwrap();
        std::fs::write(
            secrets.join("expired.certificate"),
            expired.identity.certificate(),
        )
        .unwrap();
        let spec = ServiceSpec {
            environment: vec![(
                "TASKSYNC_OUTBOUND__ALLOW_PLAIN_HTTP".to_owned(),
                "true".to_owned(),
            )],
            ..spec(
                env!("CARGO_BIN_EXE_tasksync").into(),
                folder,
                Duration::from_hours(1),
                "",
            )
        };
        let service = Service::start(spec, &farm).await.unwrap();
        service.enrol(&farm).await.unwrap();
        wait_until_settled(&farm, &service, &mut Ledger::default()).await;
        Self {
            exchange: std::array::from_fn(|at| listeners[at].base_url()),
            farm,
            service,
            secrets,
            settings,
            listeners,
        }
    }

    pub(super) fn slug(&self) -> &str {
        &self.farm.population.tenants[0].slug
    }

    pub(super) fn site(&self) -> &str {
        &self.farm.population.tenants[0].site
    }

    /// Sets the rights of the service account in Exchange.
    pub(super) fn set_rights(&self, impersonate: MailboxScope, full_access: MailboxScope) {
        let password = std::fs::read_to_string(self.secrets.join("service-account.password")).unwrap();
        self.farm.exchange.add_account(ServiceAccount {
            user: self.settings["mailbox"]["credentials"]["user"]
                .as_str()
                .unwrap()
                .to_owned(),
            password,
            rights: AccountRights {
                impersonate,
                full_access,
            },
        });
    }

    async fn put(&self, settings: &Value) {
        let path = format!("/api/v1/tenants/{}", settings["id"].as_str().unwrap());
        let stored = self
            .service
            .call(Method::PUT, &path, Some(settings.clone()))
            .await;
        stored.unwrap();
    }

    async fn plant(&self, seed: &Seed) {
        let mut settings = self.settings.clone();
        (seed.plant)(self, &mut settings);
        if settings != self.settings {
            self.put(&settings).await;
        }
    }

    /// Takes every seed out again.
    async fn heal(&self, seed: &Seed) {
        let (exchange, sharepoint) = (&self.farm.exchange, &self.farm.sharepoint);
        exchange.faults.clear();
        sharepoint.faults.clear();
        exchange.offer_only(None);
        sharepoint.offer_only(None);
        sharepoint.set_account_level(AccountLevel::default());
        sharepoint.set_version(SHAREPOINT_VERSION);
        exchange.clock.set_skew(jiff::SignedDuration::ZERO);
        sharepoint.close_web(self.site(), None).unwrap();
        self.set_rights(MailboxScope::All, MailboxScope::All);
        self.put(&self.settings).await;
        if seed.check == "tenant-shared-account" {
            let path = "/api/v1/tenants/fabrikam";
            self.service.call(Method::DELETE, path, None).await.unwrap();
        }
    }

    /// Returns the findings about the tenant that are worse than `ok`.
    async fn problems(&self) -> Vec<Value> {
        let path = format!("/api/v1/doctor?tenant={}", self.slug());
        let report = self.service.call(Method::GET, &path, None).await.unwrap();
        let subject = format!("tenant {}", self.slug());
        let checks = report["checks"].as_array().unwrap().iter();
        let problems = checks.filter(|check| {
            check["subject"] == subject.as_str()
                && (check["result"] == "warning" || check["result"] == "failed")
        });
        problems.cloned().collect()
    }

    /// Requests a sync of the person, which fails while a seed is planted. The second failure disables the person.
    async fn request_sync(&self) {
        let person = Farm::user_name(&self.farm.population.tenants[0].people[0]);
        let path = format!("/api/v1/tenants/{}/users/{person}/sync", self.slug());
        self.service.call(Method::POST, &path, None).await.unwrap();
    }

    /// Asks until the check names the seed, at most for `patience`. Most seeds are named by the first answer; what
    /// processes report to each other takes a second. Returns the last findings if it does not.
    async fn names(&self, seed: &Seed, patience: Duration) -> Result<Value, Vec<Value>> {
        let began = monotonic();
        loop {
            let problems = self.problems().await;
            let named = problems.iter().find(|finding| {
                finding["id"] == seed.check && finding.to_string().to_lowercase().contains(seed.text)
            });
            match named {
                Some(finding) => return Ok(finding.clone()),
                None if began.elapsed() > patience => return Err(problems),
                None => {}
            }
            if seed.check == "mailboxes-found" {
                self.request_sync().await;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Returns the TLS settings of a server whose authority nobody trusts.
fn of_an_unknown_authority() -> SimTls {
    let authority = PrivateAuthority::named("unknown authority").unwrap();
    let server = authority.certify(&["localhost"]).unwrap();
    let identity = TlsIdentity::of(authority.pem(), server.certificate, server.key);
    SimTls::with_identity(identity).unwrap()
}

/// Returns the checks and explanations of findings, for messages.
fn shown(problems: &[Value]) -> String {
    let lines = problems.iter().map(|finding| {
        format!(
            "{} {}: {} {}",
            finding["id"], finding["result"], finding["explanation"], finding["additional_information"]
        )
    });
    lines.collect::<Vec<_>>().join("\n  ")
}

fn assert_complete(seed: &Seed, finding: &Value) {
    for field in ["what", "explanation", "solution", "applies_to", "reference"] {
        let text = finding[field].as_str().unwrap();
        assert!(!text.is_empty(), "{}: {field} of {finding}", seed.name);
    }
    let link = finding["reference"].as_str().unwrap();
    let (page, anchor) = link.split_once('#').unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join(page)).unwrap();
    assert!(page.contains(&format!("## {anchor}\n")), "{}: {link}", seed.name);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_seeded_misconfiguration_of_a_tenant_is_named_by_its_check() {
    let folder = tempfile::tempdir().unwrap();
    let ward = Ward::open(folder.path()).await;
    let untouched = ward.problems().await;
    assert!(untouched.is_empty(), "untouched:\n  {}", shown(&untouched));

    let mut unnamed = Vec::new();
    for seed in SEEDS {
        ward.plant(seed).await;
        // The time of a miss; only the failing test waits for it.
        match ward.names(seed, Duration::from_secs(2)).await {
            Ok(finding) => assert_complete(seed, &finding),
            Err(problems) => unnamed.push(format!("{}: named are\n  {}", seed.name, shown(&problems))),
        }
        ward.heal(seed).await;
    }
    assert!(unnamed.is_empty(), "{}", unnamed.join("\n"));
    let healed = ward.problems().await;
    assert!(healed.is_empty(), "healed:\n  {}", shown(&healed));

    // What happened within the last day, or to a person, stays visible.
    for seed in LASTING {
        ward.plant(seed).await;
        let finding = ward.names(seed, PATIENCE).await;
        let finding = finding.unwrap_or_else(|problems| panic!("{}:\n  {}", seed.name, shown(&problems)));
        assert_complete(seed, &finding);
    }
    assert!(SEEDS.len() + LASTING.len() >= 40);
    ward.service.terminate().await.unwrap();
    for listener in &ward.listeners {
        listener.stop().await;
    }
    ward.farm.stop().await;
}
