//! Real stores, named by the environment, that several processes share. Each test has its own database, prefix and
//! vhost.

use std::path::Path;
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};
use tasksync_loadtest::scenario::{self, RunOptions, Scenario, ScenarioResult, Silent};
use tasksync_loadtest::trial::InstallationSpec;
use tempfile::TempDir;
use url::Url;

use crate::rig::{PATIENCE, spec};
use tasksync_common::clock::monotonic;
use tasksync_common::random::ordered_id;

/// The environment variables that name real servers.
const POSTGRES: &str = "TASKSYNC_TEST_POSTGRES_URL";
const REDIS: &str = "TASKSYNC_TEST_REDIS_URL";
const AMQP: &str = "TASKSYNC_TEST_AMQP_URL";
const RABBITMQ_API: &str = "TASKSYNC_TEST_RABBITMQ_API_URL";

/// The database, prefix and vhost of one test.
pub(crate) struct SharedStores {
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

/// Runs a scenario that loadtest ships. Returns its outcome and the folder with its files.
pub(crate) async fn run_scenario(name: &str) -> (ScenarioResult, TempDir) {
    let scenario = Scenario::parse(scenario::find(name).unwrap()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = RunOptions {
        earlier: None,
        executable: Some(env!("CARGO_BIN_EXE_tasksync").into()),
        folder: Some(folder.path().to_owned()),
    };
    let outcome = Box::pin(scenario::run(&scenario, &options, &Silent))
        .await
        .unwrap();
    (outcome, folder)
}

impl SharedStores {
    /// Creates the test's stores. If there are no servers here, prints so and returns `None`.
    pub(crate) async fn from_environment() -> Option<Self> {
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
        let name = format!("tasksync_roles_{}", ordered_id().simple());
        let mut admin = PgConnection::connect(postgres.as_str()).await.unwrap();
        admin
            .execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .await
            .unwrap();
        let mut registry = postgres.clone();
        registry.set_path(&name);
        amqp.set_path(&name);
        let stores = Self {
            registry: registry.to_string(),
            schedule: redis.to_string(),
            queue: amqp.to_string(),
            name,
            postgres,
            rabbitmq_api,
            http: reqwest::Client::builder().no_proxy().build().unwrap(),
        };
        stores.vhost(reqwest::Method::PUT).await;
        Some(stores)
    }

    #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
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

    /// Returns the database's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns an installation of schedulers and workers over these stores.
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

    /// Returns the messages of all queues once there are any.
    #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
    pub(crate) async fn messages(&self) -> Vec<u8> {
        let connection = lapin::Connection::connect(&self.queue, lapin::ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        let base = self
            .rabbitmq_api
            .as_str()
            .trim_end_matches('/')
            .trim_end_matches("/api");
        let started = monotonic();
        let mut content = Vec::new();
        while content.is_empty() {
            assert!(started.elapsed() < PATIENCE, "no message comes");
            let url = format!("{base}/api/queues/{}", self.name);
            let queues: serde_json::Value = self.http.get(url).send().await.unwrap().json().await.unwrap();
            for queue in queues.as_array().unwrap() {
                let name = queue["name"].as_str().unwrap();
                // Not acknowledged, so that they return to the queue when the connection ends.
                while let Some(message) = channel
                    .basic_get(name.into(), lapin::options::BasicGetOptions::default())
                    .await
                    .unwrap()
                {
                    content.extend_from_slice(format!("{:?}\n", message.delivery.properties).as_bytes());
                    content.extend_from_slice(&message.delivery.data);
                }
            }
        }
        connection.close(200, "".into()).await.unwrap();
        content
    }

    /// Returns every key of this test with its value.
    pub(crate) async fn redis_content(&self) -> Vec<u8> {
        let client = redis::Client::open(self.schedule.as_str()).unwrap();
        let mut redis = client.get_multiplexed_async_connection().await.unwrap();
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS")
            .arg(format!("{}:*", self.name))
            .query_async(&mut redis)
            .await
            .unwrap();
        assert!(!keys.is_empty());
        let mut content = Vec::new();
        for key in keys {
            let kind: String = redis::cmd("TYPE")
                .arg(&key)
                .query_async(&mut redis)
                .await
                .unwrap();
            let mut read = redis::cmd(match kind.as_str() {
                "hash" => "HGETALL",
                "zset" => "ZRANGE",
                "set" => "SMEMBERS",
                "list" => "LRANGE",
                "string" => "GET",
                "none" => continue,
                other => panic!("a key of the kind {other}"),
            });
            read.arg(&key);
            if matches!(kind.as_str(), "zset" | "list") {
                read.arg(0).arg(-1);
            }
            let value: redis::Value = read.query_async(&mut redis).await.unwrap();
            content.extend_from_slice(&key);
            bytes_of(&value, &mut content);
        }
        content
    }

    /// Returns every row of every table of the registry.
    pub(crate) async fn tables(&self) -> Vec<u8> {
        let mut registry = PgConnection::connect(&self.registry).await.unwrap();
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'",
        )
        .fetch_all(&mut registry)
        .await
        .unwrap();
        let mut content = Vec::new();
        for table in tables {
            let all = format!("SELECT row::text FROM \"{table}\" row");
            let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(all))
                .fetch_all(&mut registry)
                .await
                .unwrap();
            content.extend_from_slice(format!("{table}\n{}\n", rows.join("\n")).as_bytes());
        }
        registry.close().await.unwrap();
        assert!(String::from_utf8_lossy(&content).contains("canary"));
        content
    }

    /// Removes database and vhost. Redis keys stay: they have the test's own prefix, and the server is discarded
    /// after the run.
    pub(crate) async fn close(self) {
        self.vhost(reqwest::Method::DELETE).await;
        let mut admin = PgConnection::connect(self.postgres.as_str()).await.unwrap();
        let drop = format!("DROP DATABASE {} WITH (FORCE)", self.name);
        admin.execute(sqlx::AssertSqlSafe(drop)).await.unwrap();
    }
}

/// Appends every text in an answer of Redis to `content`.
fn bytes_of(value: &redis::Value, content: &mut Vec<u8>) {
    if let redis::Value::BulkString(bytes) = value {
        content.push(b'\n');
        content.extend_from_slice(bytes);
    } else if let redis::Value::Array(values) | redis::Value::Set(values) = value {
        for value in values {
            bytes_of(value, content);
        }
    } else if let redis::Value::Map(pairs) = value {
        for (key, value) in pairs {
            bytes_of(key, content);
            bytes_of(value, content);
        }
    } else {
        content.extend_from_slice(format!("\n{value:?}").as_bytes());
    }
}
