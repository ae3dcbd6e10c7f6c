mod failures;
mod node;
mod recovery;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lapin::options::BasicPublishOptions;
use uuid::Uuid;

use super::*;
use crate::contract::QueueBench;
use crate::queue::{Delivery, Reason, VERSION, Workload};
use crate::schedule::Token;
use node::Node;

const CLAIM: Duration = Duration::from_secs(120);

/// Every wait ends after this, as a failure.
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
        let link = self.queue.core.connect(Purpose::Publish).await.unwrap();
        let name = self.queue.core.topology.name(queue);
        let publish = link.channel.basic_publish(
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
    crate::queue_contract!(super::bench);
}

fn job(number: u128) -> SyncJob {
    SyncJob {
        version: VERSION,
        id: Uuid::from_u128(number),
        tenant: "contoso".parse().unwrap(),
        workload: Workload::Tasks,
        reason: Reason::Scheduled,
        token: Token(1),
        users: vec!["ana".parse().unwrap()],
        issued_at: Timestamp::from_second(1_795_000_000).unwrap(),
    }
}

async fn publish(queue: &AmqpQueue, number: u128) -> Result<(), Failure> {
    queue
        .publish(QueueName::Background, &job(number), &TraceContext::default())
        .await
}

async fn next(consumer: &mut Box<dyn Consumer>) -> Box<dyn Delivery> {
    tokio::time::timeout(PATIENCE, consumer.next())
        .await
        .expect("a delivery in time")
        .expect("an open consumer")
}

fn number(delivery: &dyn Delivery) -> u128 {
    delivery.job().as_ref().unwrap().id.as_u128()
}
