//! A private RabbitMQ cluster of three nodes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use serde_json::Value;

use super::port_mapper::PortMapper;
use super::rabbitmq::{Identity, secret};
use super::{RabbitMq, ServiceError, ServiceFolder};

/// Time for the nodes to find each other.
const FORM_LIMIT: Duration = Duration::from_secs(120);

/// Three nodes that find each other by their configuration (`classic_config`) and stop when they are fewer than two
/// (`pause_minority`), as deploy/rabbitmq has it. About 150 MB each; 20 seconds until they serve.
#[derive(Debug)]
pub struct RabbitMqCluster {
    nodes: Vec<RabbitMq>,
    // After the nodes: it goes when they have ended.
    port_mapper: PortMapper,
}

impl RabbitMqCluster {
    /// Starts three nodes in `folder` and waits until each sees all.
    ///
    /// # Errors
    /// Why a node or the cluster does not come up.
    pub async fn start(folder: &Arc<ServiceFolder>) -> Result<Self, ServiceError> {
        // Here, so that what is missing is told before anything runs.
        folder.binaries().rabbitmq_server()?;
        let port_mapper = PortMapper::start(folder).await?;
        let names = [1, 2, 3].map(|number| format!("tasksync-{number}@localhost"));
        let (password, cookie) = (secret(), secret());
        let start = |name: &String| {
            let identity = Identity {
                node: name.clone(),
                cluster: names.to_vec(),
                port_mapper: Some(port_mapper.port()),
                password: password.clone(),
                cookie: cookie.clone(),
            };
            let home = name.replace("tasksync", "rabbitmq").replace("@localhost", "");
            async move { RabbitMq::start_as(folder, &home, &identity, None).await }
        };
        let nodes = try_join_all(names.iter().map(start)).await?;
        let cluster = Self { nodes, port_mapper };
        cluster.wait_until_whole().await?;
        Ok(cluster)
    }

    /// The nodes, each of which can be killed, paused and restarted alone. Wiping one alone does not work: the others
    /// still know it.
    #[must_use]
    pub fn nodes(&self) -> &[RabbitMq] {
        &self.nodes
    }

    /// One URL with all three hosts: `amqp://user:password@127.0.0.1:port,127.0.0.1:port,127.0.0.1:port`, the default
    /// virtual host.
    #[must_use]
    pub fn url(&self) -> String {
        let mut url = self.nodes.first().map(RabbitMq::url).unwrap_or_default();
        for node in self.nodes.iter().skip(1) {
            url.push_str(&format!(",127.0.0.1:{}", node.port()));
        }
        url
    }

    /// Kills all nodes at once.
    pub fn kill(&self) {
        self.nodes.iter().for_each(RabbitMq::kill);
    }

    /// Starts the nodes that do not run with their data and waits until each sees all.
    ///
    /// # Errors
    /// Why a node or the cluster does not come up.
    pub async fn restart(&self) -> Result<(), ServiceError> {
        let down = self.nodes.iter().filter(|node| node.pid().is_none());
        try_join_all(down.map(RabbitMq::restart)).await?;
        self.wait_until_whole().await
    }

    /// Cuts one node off from the others, which stay in touch, and makes it go on alone instead of stopping: it takes
    /// connections and can confirm nothing. Ends with a kill of the node and [`RabbitMqCluster::restart`].
    ///
    /// # Errors
    /// When the broker's tool fails.
    pub async fn cut_off(&self, node: &RabbitMq) -> Result<(), ServiceError> {
        // Another cookie for the others is what a broken cable is: neither side gets through.
        node.evaluate(
            "application:set_env(rabbit, cluster_partition_handling, ignore), Others = nodes(), \
             [erlang:set_cookie(Other, cut_off) || Other <- Others], \
             [erlang:disconnect_node(Other) || Other <- Others].",
        )
        .await
    }

    /// Whether all nodes run and each sees all.
    pub async fn is_whole(&self) -> bool {
        for node in &self.nodes {
            let seen = node.api("GET", "/api/nodes", None).await;
            if seen.as_ref().map_or(0, running) < self.nodes.len() {
                return false;
            }
        }
        true
    }

    /// Process ids of everything that runs.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let nodes = self.nodes.iter().flat_map(RabbitMq::pids);
        nodes.chain(self.port_mapper.pids()).collect()
    }

    async fn wait_until_whole(&self) -> Result<(), ServiceError> {
        let started = Instant::now();
        for node in &self.nodes {
            loop {
                let answer = node.api("GET", "/api/nodes", None).await;
                let seen = answer.as_ref().map_or(0, running);
                if seen == self.nodes.len() {
                    break;
                }
                if started.elapsed() > FORM_LIMIT {
                    return Err(ServiceError::Failed {
                        service: "RabbitMQ cluster".to_owned(),
                        problem: match answer {
                            Ok(_) => format!(
                                "{} sees {seen} of {} nodes after {} s",
                                node.node(),
                                self.nodes.len(),
                                FORM_LIMIT.as_secs()
                            ),
                            Err(problem) => format!("{}: {problem}", node.node()),
                        },
                        log: node.log_tail(25),
                    });
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }
}

/// Running nodes in an answer of the management API.
fn running(nodes: &Value) -> usize {
    nodes.as_array().map_or(0, |nodes| {
        nodes
            .iter()
            .filter(|node| node.get("running") == Some(&Value::Bool(true)))
            .count()
    })
}
