//! Lists, replays and discards dead letters. The broker cannot show messages without delivering them. So they
//! are delivered to a consumer that lives for one look, and given back in the same order. A look always takes
//! all of them: a letter that is given back goes behind those given back before, so a partial look would
//! change the order.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use lapin::Acker;
use lapin::Channel;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::amqp_connection::{BrokerContext, ReconnectingConnection};
use super::message;
use super::publisher::Publisher;
use crate::clock::monotonic;
use crate::error::{Code, ErrorClass, Failure};
use crate::queue::{DeadLetter, DeadLetterSelection, JobError, SyncJob};

/// Time within which letters that were given back are in the queue again, unless another process took them.
const BACK: Duration = Duration::from_secs(2);
const BACK_STEP: Duration = Duration::from_millis(10);

/// What is done with a selected letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LetterAction {
    Replay,
    Discard,
}

#[derive(Debug)]
pub(super) struct AmqpDeadLetters {
    core: Arc<BrokerContext>,
    /// Held by a look. Of two looks at once, each would see only what the other left.
    lending: Mutex<()>,
}

/// A letter that is delivered to a look.
struct DeliveredLetter {
    job: Result<SyncJob, JobError>,
    id: String,
    message: Delivery,
}

impl DeliveredLetter {
    fn new(message: Delivery) -> Self {
        let job = SyncJob::decode(&message.data);
        let id = message::letter_id(&job, &message.properties, &message.data);
        Self { job, id, message }
    }
}

impl AmqpDeadLetters {
    pub(super) fn new(core: Arc<BrokerContext>) -> Self {
        Self {
            core,
            lending: Mutex::default(),
        }
    }

    pub(super) async fn list(
        &self,
        connection: &ReconnectingConnection,
        limit: usize,
    ) -> Result<Vec<DeadLetter>, Failure> {
        let _alone = self.lending.lock().await;
        let mut reader = DeadLetterReader::open(&self.core, connection).await?;
        let mut letters = Vec::new();
        let mut returned = Vec::new();
        while let Some(letter) = reader.next().await {
            if letters.len() < limit {
                letters.push(DeadLetter {
                    id: letter.id,
                    reason: message::letter_reason(&letter.message.properties),
                    queue: message::letter_queue(&letter.message.properties)
                        .and_then(|queue| self.core.topology.queue(&queue)),
                    job: letter.job,
                });
            }
            returned.push(letter.message.acker);
        }
        reader.end(returned, Vec::new()).await?;
        Ok(letters)
    }

    pub(super) async fn replay(
        &self,
        connection: &ReconnectingConnection,
        publisher: &Publisher,
        which: &DeadLetterSelection,
    ) -> Result<u64, Failure> {
        self.settle(connection, Some(publisher), which, LetterAction::Replay)
            .await
    }

    pub(super) async fn discard(
        &self,
        connection: &ReconnectingConnection,
        which: &DeadLetterSelection,
    ) -> Result<u64, Failure> {
        self.settle(connection, None, which, LetterAction::Discard).await
    }

    async fn settle(
        &self,
        connection: &ReconnectingConnection,
        publisher: Option<&Publisher>,
        which: &DeadLetterSelection,
        fate: LetterAction,
    ) -> Result<u64, Failure> {
        let _alone = self.lending.lock().await;
        let mut reader = DeadLetterReader::open(&self.core, connection).await?;
        let mut settled = 0;
        let mut returned = Vec::new();
        let mut done = Vec::new();
        let mut failed = None;
        while let Some(letter) = reader.next().await {
            let acker = letter.message.acker.clone();
            if failed.is_some() || !which.include(&letter.id, settled) {
                returned.push(acker);
                continue;
            }
            let carried_out = match (fate, publisher) {
                (LetterAction::Replay, Some(publisher)) => self.republish(publisher, &letter).await,
                (LetterAction::Replay | LetterAction::Discard, _) => Ok(()),
            };
            if let Err(failure) = carried_out {
                returned.push(acker);
                failed = Some(failure);
                continue;
            }
            done.push(acker);
            settled += 1;
        }
        reader.end(returned, done).await?;
        match failed {
            None => Ok(settled),
            Some(failure) => Err(failure.within(format!("after {settled} dead letters were replayed"))),
        }
    }

    /// Puts a letter back into its queue. It leaves the dead letters only after the queue has confirmed it.
    async fn republish(&self, publisher: &Publisher, letter: &DeliveredLetter) -> Result<(), Failure> {
        let properties = &letter.message.properties;
        let queue = message::letter_queue(properties)
            .and_then(|name| self.core.topology.queue(&name))
            .ok_or_else(|| {
                Failure::new(
                    ErrorClass::Refused,
                    Code::JobRefused,
                    format!(
                        "dead letter {} names no queue of tasksync that it came from; it can only be discarded",
                        letter.id
                    ),
                )
            })?;
        publisher
            .send(
                self.core.topology.name(queue),
                &letter.message.data,
                message::replayed_properties(properties),
            )
            .await
    }
}

/// One look at the dead letters over its own channel. However it ends, the end of the channel gives the
/// letters back.
struct DeadLetterReader<'a> {
    core: &'a BrokerContext,
    channel: Channel,
    consumer: Option<lapin::Consumer>,
    /// Number of letters at the start.
    count: u64,
    /// Number of letters still to come. Letters that arrive meanwhile are left for the next look, so a look
    /// always ends.
    left: u64,
}

impl<'a> DeadLetterReader<'a> {
    async fn open(core: &'a BrokerContext, connection: &ReconnectingConnection) -> Result<Self, Failure> {
        let connection = connection.get().await?;
        let channel = connection.open_channel(core).await?;
        let count = count_dead_letters(core, &channel).await?;
        let left = count.min(u64::from(u16::MAX));
        let mut reader = Self {
            core,
            channel,
            consumer: None,
            count,
            left,
        };
        if left > 0 {
            let doing = "reading the dead letters";
            let prefetch = u16::try_from(left).unwrap_or(u16::MAX);
            let qos = reader.channel.basic_qos(prefetch, BasicQosOptions::default());
            core.answer(doing, qos).await?;
            let consume = reader.channel.basic_consume(
                core.topology.dead().into(),
                "".into(),
                BasicConsumeOptions::default(),
                FieldTable::default(),
            );
            reader.consumer = Some(core.answer(doing, consume).await?);
        }
        Ok(reader)
    }

    /// Returns the next letter; `None` if all came, or if another process holds the rest.
    async fn next(&mut self) -> Option<DeliveredLetter> {
        if self.left == 0 {
            return None;
        }
        self.left -= 1;
        let next = timeout(self.core.request_timeout, self.consumer.as_mut()?.next()).await;
        if let Ok(Some(Ok(message))) = next {
            Some(DeliveredLetter::new(message))
        } else {
            self.left = 0;
            None
        }
    }

    /// Settles the finished letters, then gives the others back in the order in which they came, so that the
    /// oldest stays first. Returns when they are in the queue again. No letter is settled earlier: that would
    /// make room for a further delivery, which would then go back behind the others.
    async fn end(mut self, mut returned: Vec<Acker>, done: Vec<Acker>) -> Result<(), Failure> {
        if let Some(mut consumer) = self.consumer.take() {
            let cancel = self
                .channel
                .basic_cancel(consumer.tag(), BasicCancelOptions::default());
            self.core
                .answer("ending the reading of the dead letters", cancel)
                .await?;
            while let Ok(Some(Ok(message))) = timeout(BACK, consumer.next()).await {
                returned.push(message.acker);
            }
        }
        let has_returned = !returned.is_empty();
        let settled = done.len() as u64;
        for acker in done {
            self.core
                .answer("settling a dead letter", acker.ack(BasicAckOptions::default()))
                .await?;
        }
        for acker in returned {
            let options = BasicNackOptions {
                multiple: false,
                requeue: true,
            };
            self.core
                .answer("returning a dead letter", acker.nack(options))
                .await?;
        }
        let until = monotonic() + BACK;
        while has_returned
            && count_dead_letters(self.core, &self.channel).await? < self.count.saturating_sub(settled)
            && monotonic() < until
        {
            sleep(BACK_STEP).await;
        }
        self.core
            .answer(
                "ending the reading of the dead letters",
                self.channel.close(200, "done".into()),
            )
            .await
    }
}

/// Returns the number of dead letters.
pub(super) async fn count_dead_letters(core: &BrokerContext, channel: &Channel) -> Result<u64, Failure> {
    let dead = core.topology.dead();
    let inspection = channel.queue_declare(
        dead.into(),
        QueueDeclareOptions::durable().passive(),
        FieldTable::default(),
    );
    let queue = core
        .answer(&format!("inspecting queue {dead}"), inspection)
        .await?;
    Ok(u64::from(queue.message_count()))
}
