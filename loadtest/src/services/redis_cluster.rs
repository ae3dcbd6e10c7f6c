//! A private Redis Cluster of three masters.

use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;

use super::{Persistence, Redis, ServiceError, ServiceFolder};
use crate::machine_clock::monotonic;

/// Number of hash slots of every Redis Cluster.
const SLOTS: u32 = 16_384;

/// Time limit for the nodes to find each other.
const FORM_LIMIT: Duration = Duration::from_mins(1);

/// Three masters without replicas, each with a third of the slots.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Starts three nodes in `folder` and waits until the cluster serves every slot.
    ///
    /// # Errors
    /// Reports why a node or the cluster does not start.
    pub async fn start(folder: &Arc<ServiceFolder>, persistence: Persistence) -> Result<Self, ServiceError> {
        let nodes = try_join_all(
            ["redis-cluster-1", "redis-cluster-2", "redis-cluster-3"]
                .map(|name| Redis::start_cluster_node(folder, name, persistence)),
        )
        .await?;
        let cluster = Self { nodes };
        cluster.form_cluster().await?;
        Ok(cluster)
    }

    /// Returns the nodes. Each can be killed, paused and restarted alone.
    #[must_use]
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// Returns `redis://127.0.0.1:port` for every node.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }

    /// Returns one address with all three nodes: `redis+cluster://127.0.0.1:port,127.0.0.1:port,127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        let nodes: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()))
            .collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// Kills all nodes at once.
    pub fn kill(&self) {
        self.nodes.iter().for_each(Redis::kill);
    }

    /// Stops all nodes gracefully.
    ///
    /// # Errors
    /// If a node has to be killed.
    pub async fn stop(&self) -> Result<(), ServiceError> {
        try_join_all(self.nodes.iter().map(Redis::stop)).await.map(drop)
    }

    /// Restarts all nodes with their data and waits until the cluster serves every slot.
    ///
    /// # Errors
    /// Reports why a node or the cluster does not start.
    pub async fn restart(&self) -> Result<(), ServiceError> {
        try_join_all(self.nodes.iter().map(Redis::restart)).await?;
        self.wait_until_it_serves().await
    }

    /// Kills all nodes, deletes their data and forms an empty cluster.
    ///
    /// # Errors
    /// Reports why a node or the cluster does not start.
    pub async fn wipe(&self) -> Result<(), ServiceError> {
        self.kill();
        try_join_all(self.nodes.iter().map(Redis::wipe)).await?;
        self.form_cluster().await
    }

    /// Freezes all nodes.
    pub fn pause(&self) {
        self.nodes.iter().for_each(Redis::pause);
    }

    /// Resumes all nodes after [`RedisCluster::pause`].
    pub fn resume(&self) {
        self.nodes.iter().for_each(Redis::resume);
    }

    /// Returns the process ids of all nodes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().flat_map(Redis::pids).collect()
    }

    async fn form_cluster(&self) -> Result<(), ServiceError> {
        let count = u32::try_from(self.nodes.len()).unwrap_or(1);
        for (index, node) in (0..).zip(&self.nodes) {
            let first = SLOTS * index / count;
            let last = SLOTS * (index + 1) / count - 1;
            // Give each node a different epoch at once: with equal ones the nodes would have to resolve the conflict
            // first.
            self.send_command(node, &format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1))
                .await?;
            let slots: Vec<String> = (first..=last).map(|slot| slot.to_string()).collect();
            self.send_command(node, &format!("CLUSTER ADDSLOTS {}", slots.join(" ")))
                .await?;
        }
        if let Some((first, others)) = self.nodes.split_first() {
            for other in others {
                let bus = other.bus().unwrap_or_default();
                self.send_command(first, &format!("CLUSTER MEET 127.0.0.1 {} {bus}", other.port()))
                    .await?;
            }
        }
        self.wait_until_it_serves().await
    }

    async fn wait_until_it_serves(&self) -> Result<(), ServiceError> {
        let started = monotonic();
        for node in &self.nodes {
            loop {
                let information = node.command("CLUSTER INFO").await.unwrap_or_else(|error| error);
                if serves(&information, self.nodes.len()) {
                    break;
                }
                if started.elapsed() > FORM_LIMIT {
                    return Err(self.failed(node, format!("the nodes do not find each other: {information}")));
                }
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
        Ok(())
    }

    async fn send_command(&self, node: &Redis, command: &str) -> Result<(), ServiceError> {
        match node.command(command).await {
            Ok(_) => Ok(()),
            Err(error) => {
                let words: Vec<&str> = command.split_whitespace().take(2).collect();
                Err(self.failed(node, format!("{}: {error}", words.join(" "))))
            }
        }
    }

    #[expect(clippy::unused_self, reason = "the error is about the cluster")]
    fn failed(&self, node: &Redis, problem: String) -> ServiceError {
        ServiceError::Failed {
            service: "Redis Cluster".to_owned(),
            problem,
            log: node.log_tail(25),
        }
    }
}

/// Returns whether an answer to `CLUSTER INFO` reports a complete cluster.
fn serves(information: &str, nodes: usize) -> bool {
    let has = |line: &str| information.lines().any(|found| found == line);
    has("cluster_state:ok")
        && has(&format!("cluster_slots_ok:{SLOTS}"))
        && has(&format!("cluster_known_nodes:{nodes}"))
}
