//! The contract of queues, at the cluster.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use tasksync_common::contract::QueueBench;
use tasksync_common::queue::{JobQueue, QueueName};
use tasksync_common::settings::QueueSettings;
use tokio::sync::RwLockReadGuard;

use super::fixture::{Vhost, shared_vhost};

struct Bench {
    vhost: Vhost<RwLockReadGuard<'static, ()>>,
    queue: Arc<dyn JobQueue>,
}

#[async_trait]
impl QueueBench for Bench {
    fn queue(&self) -> Arc<dyn JobQueue> {
        Arc::clone(&self.queue)
    }

    async fn publish_bytes(&self, queue: QueueName, bytes: &[u8]) {
        let node = self.vhost.cluster.nodes().last().unwrap();
        let url = format!("{}/{}", node.url(), self.vhost.name);
        let connection = Connection::connect(&url, ConnectionProperties::default())
            .await
            .unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel
            .confirm_select(ConfirmSelectOptions::default())
            .await
            .unwrap();
        let name = format!("tasksync.tasks.{}", queue.name());
        let publish = channel.basic_publish(
            "".into(),
            name.as_str().into(),
            BasicPublishOptions::default(),
            bytes,
            BasicProperties::default(),
        );
        publish.await.unwrap().await.unwrap();
    }

    async fn unacknowledged(&self, queue: QueueName) -> u64 {
        let queue = self.vhost.queue(queue.name()).await;
        queue["messages_unacknowledged"].as_u64().unwrap_or(u64::MAX)
    }
}

async fn bench(settings: QueueSettings) -> Option<Bench> {
    let vhost = shared_vhost().await?;
    let queue = vhost
        .open(QueueSettings {
            // Long, because no test depends on them and the machine is busy while it tests.
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(30),
            ..settings
        })
        .await;
    Some(Bench { vhost, queue })
}

tasksync_common::queue_contract!(bench(tasksync_common::contract::queue::settings()));
