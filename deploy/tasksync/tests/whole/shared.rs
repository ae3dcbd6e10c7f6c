//! Real stores shared by several processes, from the environment; each test has its own database, prefix and vhost.

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use tasksync_loadtest::trial::InstallationSpec;
use url::Url;
use uuid::Uuid;

use crate::rig::spec;

/// The variables that name real servers.
const POSTGRES: &str = "TASKSYNC_TEST_POSTGRES_URL";
const REDIS: &str = "TASKSYNC_TEST_REDIS_URL";
const AMQP: &str = "TASKSYNC_TEST_AMQP_URL";
const RABBITMQ_API: &str = "TASKSYNC_TEST_RABBITMQ_API_URL";

/// A database, a prefix and a vhost of one test.
pub(crate) struct Shared {
    pub(crate) registry: String,
    pub(crate) schedule: String,
    pub(crate) queue: String,
    name: String,
    postgres: Url,
    rabbitmq_api: Url,
    http: reqwest::Client,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the servers of the tests are named by the environment, and read here only"
)]
fn variable(name: &str) -> Option<Url> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap())
}

#[expect(clippy::disallowed_methods, reason = "as above")]
pub(crate) fn required() -> bool {
    std::env::var("TASKSYNC_TEST_SERVICES").is_ok_and(|value| value == "required")
}

impl Shared {
    /// `None`, said on standard output, when there are no servers here.
    pub(crate) async fn open() -> Option<Self> {
        let all = [POSTGRES, REDIS, AMQP, RABBITMQ_API].map(|name| (name, variable(name)));
        if let Some((missing, _)) = all.iter().find(|(_, value)| value.is_none()) {
            assert!(
                !required(),
                "{missing} is not set although TASKSYNC_TEST_SERVICES=required"
            );
            println!("skipped: {missing} is not set; run make test");
            return None;
        }
        let [postgres, redis, mut amqp, rabbitmq_api] = all.map(|(_, value)| value.unwrap());
        rustls::crypto::ring::default_provider().install_default().ok();
        let name = format!("tasksync_roles_{}", Uuid::now_v7().simple());
        let mut admin = PgConnection::connect(postgres.as_str()).await.unwrap();
        admin
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .unwrap();
        let mut registry = postgres.clone();
        registry.set_path(&name);
        amqp.set_path(&name);
        let shared = Self {
            registry: registry.to_string(),
            schedule: redis.to_string(),
            queue: amqp.to_string(),
            name,
            postgres,
            rabbitmq_api,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        shared.vhost(reqwest::Method::PUT).await;
        Some(shared)
    }

    async fn vhost(&self, method: reqwest::Method) {
        let base = self
            .rabbitmq_api
            .as_str()
            .trim_end_matches('/')
            .trim_end_matches("/api");
        let answer = self
            .http
            .request(method, format!("{base}/api/vhosts/{}", self.name))
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    /// Name of the database.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Schedulers and workers over these stores.
    pub(crate) fn installation(
        &self,
        folder: &Path,
        schedulers: usize,
        workers: usize,
        more: &str,
    ) -> InstallationSpec {
        let executable = env!("CARGO_BIN_EXE_tasksync").into();
        InstallationSpec {
            service: spec(executable, folder, Duration::from_secs(1), more),
            registry: self.registry.clone(),
            schedule: self.schedule.clone(),
            queue: self.queue.clone(),
            environment: vec![
                ("TASKSYNC_SCHEDULE__KEY_PREFIX".to_owned(), self.name.clone()),
                ("TASKSYNC_SCHEDULE__LEADER_LIFETIME".to_owned(), "3s".to_owned()),
                // Below the short budgets of these trials.
                ("TASKSYNC_REGISTRY__ACQUIRE_TIMEOUT".to_owned(), "2s".to_owned()),
                ("TASKSYNC_REGISTRY__STATEMENT_TIMEOUT".to_owned(), "2s".to_owned()),
            ],
            schedulers,
            workers,
        }
    }

    /// Removes what was made. Redis keys carry the test's own prefix; the server is thrown away with the run.
    pub(crate) async fn close(self) {
        self.vhost(reqwest::Method::DELETE).await;
        let mut admin = PgConnection::connect(self.postgres.as_str()).await.unwrap();
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        admin.execute(sqlx::AssertSqlSafe(drop)).await.unwrap();
    }
}
