//! Nodes that are killed, frozen and cut off under load: no confirmed job is lost, and work goes on with two
//! of three nodes.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tasksync_common::error::{Code, ErrorClass};
use tasksync_common::settings::QueueSettings;
use tasksync_loadtest::services::RabbitMq;
use tokio::sync::RwLockWriteGuard;

use super::fixture::{Vhost, exclusive_vhost, in_time};
use super::traffic::Traffic;

type ExclusiveVhost = Vhost<RwLockWriteGuard<'static, ()>>;

/// Returns settings with short timeouts, so that a silent node is given up soon.
fn settings() -> QueueSettings {
    QueueSettings {
        connect_timeout: Duration::from_secs(3),
        request_timeout: Duration::from_secs(3),
        heartbeat: Duration::from_secs(2),
        ..QueueSettings::default()
    }
}

fn names(queue: &Value, which: &str) -> BTreeSet<String> {
    let names = queue[which].as_array().into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_owned).collect()
}

impl ExclusiveVhost {
    /// Returns the node that leads the queue of background jobs.
    async fn leader(&self) -> &'static RabbitMq {
        let name = in_time("a leader", async || {
            let queue = self.queue("background").await;
            let leader = queue["leader"].as_str().map(str::to_owned);
            leader.ok_or_else(|| queue.to_string())
        })
        .await;
        self.node(&name)
    }

    /// Returns the node of the connection named `tasksync PURPOSE`.
    async fn node_of(&self, purpose: &str) -> &'static RabbitMq {
        let path = format!("/api/vhosts/{}/connections", self.name);
        let node = in_time("the connection to be listed", async || {
            let connections = self.ask("GET", &path, None).await;
            let name = format!("tasksync {purpose}");
            // Connections that just ended, and those of killed nodes, are listed for a while.
            let found: Vec<&Value> = connections
                .as_array()
                .into_iter()
                .flatten()
                .filter(|connection| {
                    connection["client_properties"]["connection_name"] == name.as_str()
                        && connection["state"] == "running"
                        && self.runs(&connection["node"])
                })
                .collect();
            match found[..] {
                [one] => Ok(one["node"].as_str().unwrap().to_owned()),
                _ => Err(connections.to_string()),
            }
        })
        .await;
        self.node(&node)
    }

    fn runs(&self, node: &Value) -> bool {
        let mut nodes = self.cluster.nodes().iter();
        nodes.any(|one| node == one.node() && one.pid().is_some())
    }

    fn others(&self, node: &RabbitMq) -> Vec<&'static RabbitMq> {
        let nodes = self.cluster.nodes().iter();
        nodes.filter(|other| other.node() != node.node()).collect()
    }

    /// Restarts the killed nodes, and waits until every queue has all its members again.
    async fn restore_cluster(&self) {
        self.cluster.restart().await.unwrap();
        for name in ["background", "interactive", "dead"] {
            in_time("three members", async || {
                let queue = self.queue(name).await;
                let (members, online) = (names(&queue, "members"), names(&queue, "online"));
                if members.len() == 3 && online == members {
                    Ok(())
                } else {
                    Err(queue.to_string())
                }
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_survives_the_loss_of_any_node() {
    let Some(vhost) = exclusive_vhost().await else {
        return;
    };
    let queue = vhost.open(settings()).await;
    vhost.restore_cluster().await;
    let traffic = Traffic::start(&queue);
    traffic.wait_for_delivery("the start").await;

    // The node from which jobs are consumed. Publishing uses the same one, because both began with it.
    let node = vhost.node_of("consume").await;
    assert_eq!(vhost.node_of("publish").await.node(), node.node());
    let epochs = traffic.epochs();
    node.kill();
    traffic.wait_for_delivery("the end of the clients' node").await;
    assert!(
        traffic.epochs() > epochs,
        "the consumer opens again, as a new epoch"
    );
    vhost.restore_cluster().await;
    traffic.wait_for_delivery("its return").await;

    // The node that leads the queue.
    vhost.leader().await.kill();
    traffic.wait_for_delivery("the end of the queue's leader").await;

    assert!(traffic.end().await > 100);
    assert_eq!(queue.dead_letter_count().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_confirms_nothing_and_says_so_and_all_goes_on_when_they_are_back() {
    let Some(vhost) = exclusive_vhost().await else {
        return;
    };
    let queue = vhost.open(settings()).await;
    vhost.restore_cluster().await;
    let traffic = Traffic::start(&queue);
    traffic.wait_for_delivery("the start").await;

    // Frozen: the remaining node does not know it yet. It takes jobs and gets no majority for them.
    let connected = vhost.node_of("publish").await;
    let others = vhost.others(connected);
    for node in &others {
        node.pause();
    }
    let failure = traffic.failure("two nodes are frozen").await;
    assert_eq!(failure.code, Code::QueueUnavailable, "{failure}");
    assert!(failure.detail.contains("no answer within 3000 ms"), "{failure}");
    for node in &others {
        node.resume();
    }
    traffic.wait_for_delivery("the thaw").await;

    // Killed: the remaining node stops by itself.
    let others = vhost.others(vhost.node_of("publish").await);
    for node in &others {
        node.kill();
    }
    in_time("every node to be refused by name", async || {
        let failure = traffic.failure("two nodes were killed").await;
        assert_eq!(failure.code, Code::QueueUnavailable, "{failure}");
        let all = vhost.cluster.nodes().iter();
        let all = all.map(|node| format!("127.0.0.1:{}", node.port()));
        if failure.class == ErrorClass::Transient
            && all.into_iter().all(|host| failure.detail.contains(&host))
        {
            Ok(())
        } else {
            Err(failure.to_string())
        }
    })
    .await;
    vhost.restore_cluster().await;
    traffic.wait_for_delivery("the return of both").await;
    assert!(traffic.end().await > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publisher_leaves_a_node_that_is_cut_off() {
    let Some(vhost) = exclusive_vhost().await else {
        return;
    };
    let queue = vhost.open(settings()).await;
    vhost.restore_cluster().await;
    let traffic = Traffic::start(&queue);
    traffic.wait_for_delivery("the start").await;
    let node = vhost.node_of("publish").await;
    vhost.cluster.cut_off(node).await.unwrap();
    traffic.wait_for_confirmation("its node was cut off").await;
    // The kill ends its consumers, as a node does that stops itself.
    node.kill();
    traffic
        .wait_for_delivery("the end of the node that was cut off")
        .await;
    assert!(traffic.end().await > 10);
}
