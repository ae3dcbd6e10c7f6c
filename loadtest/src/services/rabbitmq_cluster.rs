//! A private RabbitMQ cluster of three nodes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use serde_json::Value;

use super::port_mapper::PortMapper;
use super::rabbitmq::{NodeIdentity, secret};
use super::{RabbitMq, ServiceError, ServiceFolder};
use crate::machine_clock::monotonic;

/// Time limit for the nodes to find each other.
const FORM_LIMIT: Duration = Duration::from_mins(2);

/// Three nodes. They find each other through their configuration (`classic_config`), and a node stops when it sees
/// fewer than two (`pause_minority`), as in deploy/rabbitmq. Each takes about 150 MB; they serve after 20 seconds.
#[derive(Debug)]
pub struct RabbitMqCluster {
    nodes: Vec<RabbitMq>,
    // Dropped after the nodes, when they have ended.
    port_mapper: PortMapper,
}

impl RabbitMqCluster {
    /// Starts three nodes in `folder` and waits until each of them sees all three.
    ///
    /// # Errors
    /// Reports why a node or the cluster does not start.
    pub async fn start(folder: &Arc<ServiceFolder>) -> Result<Self, ServiceError> {
        // Check this first, so that a missing program is reported before anything runs.
        folder.binaries().rabbitmq_server()?;
        let port_mapper = PortMapper::start(folder).await?;
        let names = [1, 2, 3].map(|number| format!("tasksync-{number}@localhost"));
        let (password, cookie) = (secret(), secret());
        let start = |name: &String| {
            let identity = NodeIdentity {
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

    /// Returns the nodes. Each can be killed, paused and restarted alone. Wiping a single one does not work, because
    /// the others still know it.
    #[must_use]
    pub fn nodes(&self) -> &[RabbitMq] {
        &self.nodes
    }

    /// Returns one URL with all three hosts, `amqp://user:password@127.0.0.1:port,127.0.0.1:port,127.0.0.1:port`, for
    /// the default virtual host.
    #[must_use]
    pub fn url(&self) -> String {
        let first = self.nodes.first().map(RabbitMq::url);
        let others = self.nodes.iter().skip(1);
        let others = others.map(|node| format!("127.0.0.1:{}", node.port()));
        first.into_iter().chain(others).collect::<Vec<_>>().join(",")
    }

    /// Kills all nodes at once.
    pub fn kill(&self) {
        self.nodes.iter().for_each(RabbitMq::kill);
    }

    /// Starts the nodes that do not run, with their data, and waits until each node sees all of them.
    ///
    /// # Errors
    /// Reports why a node or the cluster does not start.
    pub async fn restart(&self) -> Result<(), ServiceError> {
        let down = self.nodes.iter().filter(|node| node.pid().is_none());
        try_join_all(down.map(RabbitMq::restart)).await?;
        self.wait_until_whole().await
    }

    /// Cuts one node off from the others, which stay connected to each other, and makes it continue alone instead of
    /// stopping: it accepts connections but cannot confirm anything. To undo this, kill the node and call
    /// [`RabbitMqCluster::restart`].
    ///
    /// # Errors
    /// If the broker's tool fails.
    pub async fn cut_off(&self, node: &RabbitMq) -> Result<(), ServiceError> {
        // Setting another cookie for the other nodes has the effect of a broken cable: no side can connect.
        node.evaluate(
            "application:set_env(rabbit, cluster_partition_handling, ignore), Others = nodes(), \
             [erlang:set_cookie(Other, cut_off) || Other <- Others], \
             [erlang:disconnect_node(Other) || Other <- Others].",
        )
        .await
    }

    /// Returns whether all nodes run and each of them sees all.
    pub async fn is_whole(&self) -> bool {
        for node in &self.nodes {
            let seen = node.api("GET", "/api/nodes", None).await;
            if seen.as_ref().map_or(0, running) < self.nodes.len() {
                return false;
            }
        }
        true
    }

    /// Returns the ids of all running processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let nodes = self.nodes.iter().flat_map(RabbitMq::pids);
        nodes.chain(self.port_mapper.pids()).collect()
    }

    async fn wait_until_whole(&self) -> Result<(), ServiceError> {
        let started = monotonic();
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

/// Returns the number of running nodes in an answer of the management API.
fn running(nodes: &Value) -> usize {
    nodes.as_array().map_or(0, |nodes| {
        nodes
            .iter()
            .filter(|node| node.get("running") == Some(&Value::Bool(true)))
            .count()
    })
}
