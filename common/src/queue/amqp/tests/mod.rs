mod failures;
mod node;
mod recovery;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::BasicPublishOptions;

use super::*;
use crate::contract::QueueBench;
use crate::contract::queue::{job, next, number};
use node::Node;

const CLAIM: Duration = Duration::from_mins(2);

/// Every wait fails after this time.
const PATIENCE: Duration = Duration::from_secs(30);

struct Bench {
    node: Node,
    queue: Arc<AmqpQueue>,
}

#[async_trait]
impl QueueBench for Bench {
    fn queue(&self) -> Arc<dyn JobQueue> {
        self.queue.clone()
    }
    async fn publish_bytes(&self, queue: QueueName, bytes: &[u8]) {
        let connection = self.queue.core.connect(ConnectionPurpose::Publish).await.unwrap();
        let name = self.queue.core.topology.name(queue);
        let publish = connection.channel.basic_publish(
            "".into(),
            name.into(),
            BasicPublishOptions::default(),
            bytes,
            lapin::BasicProperties::default(),
        );
        publish.await.unwrap().await.unwrap();
    }
    async fn unacknowledged(&self, queue: QueueName) -> u64 {
        self.node.queue(queue.name())["messages_unacknowledged"]
            .as_u64()
            .unwrap_or(u64::MAX)
    }
}

async fn bench(settings: QueueSettings) -> Option<Bench> {
    let node = Node::new()?;
    let queue = AmqpQueue::open(&node.settings(settings), CLAIM).await.unwrap();
    Some(Bench {
        node,
        queue: Arc::new(queue),
    })
}

mod contract {
    crate::queue_contract!(super::bench(crate::contract::queue::settings()));
}

async fn publish(queue: &AmqpQueue, number: u128) -> Result<(), Failure> {
    queue
        .publish(QueueName::Background, &job(number), &TraceContext::default())
        .await
}
