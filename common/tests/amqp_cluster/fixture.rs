//! One cluster for all tests of this program, with a virtual host for each test. The watchdog of its folder
//! ends it with the program.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tasksync_common::clock::monotonic;
use tasksync_common::queue::{JobQueue, open_queue};
use tasksync_common::random::unique_id;
use tasksync_common::settings::QueueSettings;
use tasksync_loadtest::services::{Binaries, RabbitMq, RabbitMqCluster, ServiceFolder, started_or_skipped};
use tokio::sync::{OnceCell, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Every wait fails after this time.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) const CLAIM: Duration = Duration::from_hours(1);

static CLUSTER: OnceCell<Option<RabbitMqCluster>> = OnceCell::const_new();

/// Tests that only use the cluster hold it for reading; tests that break it hold it for writing.
static USE: RwLock<()> = RwLock::const_new(());

async fn cluster() -> Option<&'static RabbitMqCluster> {
    let start = async {
        let folder = Arc::new(ServiceFolder::new(None, Binaries::default()).unwrap());
        started_or_skipped(RabbitMqCluster::start(&folder).await)
    };
    CLUSTER.get_or_init(|| start).await.as_ref()
}

/// A virtual host of the cluster.
pub(crate) struct Vhost<G> {
    pub(crate) cluster: &'static RabbitMqCluster,
    pub(crate) name: String,
    _use: G,
}

/// Returns a virtual host beside those of other tests; `None` if RabbitMQ is not installed.
pub(crate) async fn shared_vhost() -> Option<Vhost<RwLockReadGuard<'static, ()>>> {
    let cluster = cluster().await?;
    Some(Vhost::new(cluster, USE.read().await).await)
}

/// Returns a virtual host while no other test uses the cluster. The test may break the cluster.
pub(crate) async fn exclusive_vhost() -> Option<Vhost<RwLockWriteGuard<'static, ()>>> {
    let cluster = cluster().await?;
    let guard = USE.write().await;
    if cluster.nodes().iter().any(|node| node.pid().is_none()) {
        cluster.restart().await.unwrap();
    } else if !cluster.is_whole().await {
        // A failed test left the cluster like this.
        cluster.kill();
        cluster.restart().await.unwrap();
    }
    Some(Vhost::new(cluster, guard).await)
}

impl<G> Vhost<G> {
    async fn new(cluster: &'static RabbitMqCluster, guard: G) -> Self {
        let vhost = Self {
            cluster,
            name: format!("test-{}", unique_id()),
            _use: guard,
        };
        vhost
            .ask("PUT", &format!("/api/vhosts/{}", vhost.name), None)
            .await;
        let everything = json!({ "configure": ".*", "write": ".*", "read": ".*" });
        let path = format!("/api/permissions/{}/tasksync", vhost.name);
        vhost.ask("PUT", &path, Some(&everything)).await;
        vhost
    }

    /// Returns the URL for the product: every node, and the virtual host.
    pub(crate) fn url(&self) -> String {
        format!("{}/{}", self.cluster.url(), self.name)
    }

    /// Opens the queue as soon as the cluster allows it.
    pub(crate) async fn open(&self, settings: QueueSettings) -> Arc<dyn JobQueue> {
        let settings = QueueSettings {
            url: self.url(),
            ..settings
        };
        in_time("the queue to open", async || {
            open_queue(&settings, CLAIM)
                .await
                .map_err(|failure| failure.to_string())
        })
        .await
    }

    /// Returns what the management API of a running node reports about a queue.
    pub(crate) async fn queue(&self, name: &str) -> Value {
        let path = format!("/api/queues/{}/tasksync.tasks.{name}", self.name);
        self.ask("GET", &path, None).await
    }

    /// Calls the management API of any node that answers.
    pub(crate) async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let started = monotonic();
        loop {
            let mut problem = "no node runs".to_owned();
            for node in self.cluster.nodes().iter().filter(|node| node.pid().is_some()) {
                match node.api(method, path, body).await {
                    Ok(answer) => return answer,
                    Err(error) => problem = error,
                }
            }
            assert!(started.elapsed() < PATIENCE, "{problem}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Returns the node with this name.
    pub(crate) fn node(&self, name: &str) -> &'static RabbitMq {
        let mut nodes = self.cluster.nodes().iter();
        nodes.find(|node| node.node() == name).unwrap()
    }
}

/// Repeats the attempt until it succeeds, or panics when the time is over.
pub(crate) async fn in_time<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = monotonic();
    let mut problems: Vec<String> = Vec::new();
    loop {
        match attempt().await {
            Ok(result) => return result,
            Err(problem) if problems.last() != Some(&problem) => problems.push(problem),
            Err(_) => {}
        }
        assert!(
            started.elapsed() < PATIENCE,
            "waited for {what}, and at last: {}",
            problems.split_off(problems.len().saturating_sub(5)).join("\n")
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
