//! The dead letters: listing, replaying and discarding them. The broker has no way to look without taking, so each is
//! lent out (`basic.get` without acknowledgement) and given back in the same order.

use std::sync::Arc;

use lapin::Acker;
use lapin::Channel;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use tokio::sync::Mutex;

use super::link::{Core, Lasting};
use super::message;
use super::publisher::Publisher;
use crate::error::{Code, ErrorClass, Failure};
use crate::queue::{DeadLetter, JobError, Letters, SyncJob};

/// What becomes of a letter that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Replay,
    Discard,
}

#[derive(Debug)]
pub(super) struct DeadLetters {
    core: Arc<Core>,
    /// One at a time: two listings at once would each see what the other left.
    lending: Mutex<()>,
}

/// A letter that is lent out.
struct Lent {
    job: Result<SyncJob, JobError>,
    id: String,
    message: BasicGetMessage,
}

impl Lent {
    fn new(message: BasicGetMessage) -> Self {
        let job = SyncJob::decode(&message.data);
        let id = message::letter_id(&job, &message.properties, &message.data);
        Self { job, id, message }
    }
}

impl DeadLetters {
    pub(super) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            lending: Mutex::default(),
        }
    }

    pub(super) async fn list(&self, link: &Lasting, limit: usize) -> Result<Vec<DeadLetter>, Failure> {
        let _alone = self.lending.lock().await;
        let (channel, count) = self.open(link).await?;
        let mut letters = Vec::new();
        let mut lent = Vec::new();
        for _ in 0..count.min(limit as u64) {
            let Some(letter) = self.borrow(&channel).await? else {
                break;
            };
            letters.push(DeadLetter {
                id: letter.id,
                reason: message::letter_reason(&letter.message.properties),
                queue: message::letter_queue(&letter.message.properties)
                    .and_then(|queue| self.core.topology.queue(&queue)),
                job: letter.job,
            });
            lent.push(letter.message.delivery.acker.clone());
        }
        self.give_back(&channel, lent).await?;
        Ok(letters)
    }

    pub(super) async fn replay(
        &self,
        link: &Lasting,
        publisher: &Publisher,
        which: &Letters,
    ) -> Result<u64, Failure> {
        self.settle(link, Some(publisher), which, Fate::Replay).await
    }

    pub(super) async fn discard(&self, link: &Lasting, which: &Letters) -> Result<u64, Failure> {
        self.settle(link, None, which, Fate::Discard).await
    }

    async fn settle(
        &self,
        link: &Lasting,
        publisher: Option<&Publisher>,
        which: &Letters,
        fate: Fate,
    ) -> Result<u64, Failure> {
        let _alone = self.lending.lock().await;
        let (channel, count) = self.open(link).await?;
        let mut settled = 0;
        let mut lent = Vec::new();
        let mut failed = None;
        // Letters that come in meanwhile are for the next time, so this ends.
        for _ in 0..count {
            if which.are_complete(settled) {
                break;
            }
            let Some(letter) = self.borrow(&channel).await? else {
                break;
            };
            let acker = letter.message.delivery.acker.clone();
            if !which.include(&letter.id, settled) {
                lent.push(acker);
                continue;
            }
            let carried_out = match (fate, publisher) {
                (Fate::Replay, Some(publisher)) => self.put_back(publisher, &letter).await,
                (Fate::Replay | Fate::Discard, _) => Ok(()),
            };
            if let Err(failure) = carried_out {
                lent.push(acker);
                failed = Some(failure);
                break;
            }
            self.core
                .answer("settling a dead letter", acker.ack(BasicAckOptions::default()))
                .await?;
            settled += 1;
        }
        self.give_back(&channel, lent).await?;
        match failed {
            None => Ok(settled),
            Some(failure) => Err(failure.within(format!("after {settled} dead letters were replayed"))),
        }
    }

    /// Confirmed by its queue before it leaves the dead letters.
    async fn put_back(&self, publisher: &Publisher, letter: &Lent) -> Result<(), Failure> {
        let properties = &letter.message.properties;
        let queue = message::letter_queue(properties)
            .and_then(|name| self.core.topology.queue(&name))
            .ok_or_else(|| {
                Failure::new(
                    ErrorClass::ItemPermanent,
                    Code::JobRefused,
                    format!(
                        "dead letter {} does not say which of our queues it came from; it can only be discarded",
                        letter.id
                    ),
                )
            })?;
        publisher
            .send(
                self.core.topology.name(queue),
                &letter.message.data,
                message::replayed(properties),
            )
            .await
    }

    /// A channel of its own: whatever goes wrong, its end gives back what was lent.
    async fn open(&self, link: &Lasting) -> Result<(Channel, u64), Failure> {
        let link = link.get().await?;
        let channel = link.another_channel(&self.core).await?;
        let count = count(&self.core, &channel).await?;
        Ok((channel, count))
    }

    async fn borrow(&self, channel: &Channel) -> Result<Option<Lent>, Failure> {
        let get = channel.basic_get(self.core.topology.dead().into(), BasicGetOptions::default());
        let message = self.core.answer("reading a dead letter", get).await?;
        Ok(message.map(Lent::new))
    }

    /// In the order they came, so that the oldest stays first.
    async fn give_back(&self, channel: &Channel, lent: Vec<Acker>) -> Result<(), Failure> {
        for acker in lent {
            let options = BasicNackOptions {
                multiple: false,
                requeue: true,
            };
            self.core
                .answer("giving a dead letter back", acker.nack(options))
                .await?;
        }
        self.core
            .answer("closing a channel", channel.close(200, "done".into()))
            .await
    }
}

/// How many dead letters there are.
pub(super) async fn count(core: &Core, channel: &Channel) -> Result<u64, Failure> {
    let dead = core.topology.dead();
    let look = channel.queue_declare(
        dead.into(),
        QueueDeclareOptions::durable().passive(),
        FieldTable::default(),
    );
    let queue = core.answer(&format!("looking at queue {dead}"), look).await?;
    Ok(u64::from(queue.message_count()))
}
