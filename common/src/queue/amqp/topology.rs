//! The queues: their names, their arguments, and how they are declared or verified.
//!
//! All are quorum queues. A job that waits longer than its claim lives, or is delivered too often, goes to
//! the dead letters *at least once* (RabbitMQ, "Quorum queues", dead lettering). That requires
//! `reject-publish`, so a full queue refuses jobs instead of dropping them. The queue of dead letters has its
//! own limits and drops the oldest letter.

use std::time::Duration;

use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

use super::errors;
use crate::error::{Code, Failure};
use crate::queue::QueueName;
use crate::settings::{DeclareQueues, QueueSettings};

/// Delivery limit of the dead letters. Each listing delivers every letter once, and brokers from version 4.0
/// count that towards a limit of 20 if none is set. This limit is never reached within a letter's life.
const DEAD_LETTER_DELIVERIES: u64 = 1_000_000;

/// An argument of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Argument {
    Text(String),
    Number(u64),
}

/// A queue with its required name and arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Queue {
    name: String,
    arguments: Vec<(&'static str, Argument)>,
}

/// The three queues.
#[derive(Debug, Clone)]
pub(super) struct Topology {
    queues: Vec<Queue>,
    background: String,
    interactive: String,
    dead: String,
    maximum_length: u64,
    declare: DeclareQueues,
}

impl Topology {
    pub(super) fn new(settings: &QueueSettings, claim_lifetime: Duration) -> Self {
        let name = |rest: &str| format!("{}.tasks.{rest}", settings.name_prefix);
        let (background, interactive, dead) = (
            name(QueueName::Background.name()),
            name(QueueName::Interactive.name()),
            name("dead"),
        );
        let work = |name: &String| Queue {
            name: name.clone(),
            arguments: vec![
                ("x-queue-type", Argument::Text("quorum".to_owned())),
                // The broker counts returns, so the first delivery does not count.
                (
                    "x-delivery-limit",
                    Argument::Number(u64::from(settings.delivery_limit.max(1)) - 1),
                ),
                ("x-max-length", Argument::Number(settings.maximum_length as u64)),
                ("x-overflow", Argument::Text("reject-publish".to_owned())),
                ("x-message-ttl", Argument::Number(milliseconds(claim_lifetime))),
                ("x-dead-letter-exchange", Argument::Text(String::new())),
                ("x-dead-letter-routing-key", Argument::Text(dead.clone())),
                (
                    "x-dead-letter-strategy",
                    Argument::Text("at-least-once".to_owned()),
                ),
            ],
        };
        let letters = Queue {
            name: dead.clone(),
            arguments: vec![
                ("x-queue-type", Argument::Text("quorum".to_owned())),
                ("x-delivery-limit", Argument::Number(DEAD_LETTER_DELIVERIES)),
                (
                    "x-max-length",
                    Argument::Number(settings.maximum_dead_letters as u64),
                ),
                ("x-overflow", Argument::Text("drop-head".to_owned())),
                (
                    "x-message-ttl",
                    Argument::Number(milliseconds(settings.dead_letter_lifetime)),
                ),
            ],
        };
        Self {
            // The dead letters come first, because the other queues refer to them.
            queues: vec![letters, work(&background), work(&interactive)],
            background,
            interactive,
            dead,
            maximum_length: settings.maximum_length as u64,
            declare: settings.declare,
        }
    }

    /// Returns the broker's name of a queue.
    pub(super) fn name(&self, queue: QueueName) -> &str {
        match queue {
            QueueName::Background => &self.background,
            QueueName::Interactive => &self.interactive,
        }
    }

    /// Returns the largest number of jobs that wait in one queue.
    pub(super) fn maximum_length(&self) -> u64 {
        self.maximum_length
    }

    /// Returns the broker's name of the queue of dead letters.
    pub(super) fn dead(&self) -> &str {
        &self.dead
    }

    /// Returns the queue with this name at the broker.
    pub(super) fn queue(&self, name: &str) -> Option<QueueName> {
        QueueName::ALL.into_iter().find(|queue| self.name(*queue) == name)
    }

    /// Declares the queues, or verifies that they exist.
    pub(super) async fn ensure(&self, channel: &Channel) -> Result<(), Failure> {
        for queue in &self.queues {
            let (options, doing) = match self.declare {
                DeclareQueues::Create => (QueueDeclareOptions::durable(), "declaring"),
                DeclareQueues::Check => (QueueDeclareOptions::durable().passive(), "looking for"),
            };
            let declared = channel.queue_declare(queue.name.as_str().into(), options, queue.table());
            if let Err(error) = declared.await {
                let failure = errors::failure(&error, &format!("{doing} queue {}", queue.name));
                return Err(if failure.code == Code::QueueMismatch {
                    Failure {
                        detail: format!("{}; needed are {}", failure.detail, queue.describe_arguments()),
                        ..failure
                    }
                } else {
                    failure
                });
            }
        }
        Ok(())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Queue {
    fn table(&self) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, argument) in &self.arguments {
            let value = match argument {
                Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
                Argument::Number(number) => {
                    AMQPValue::LongLongInt(i64::try_from(*number).unwrap_or(i64::MAX))
                }
            };
            table.insert((*name).into(), value);
        }
        table
    }

    fn json(&self, vhost: &str) -> Value {
        let arguments: serde_json::Map<String, Value> = self
            .arguments
            .iter()
            .map(|(name, argument)| {
                let value = match argument {
                    Argument::Text(text) => json!(text),
                    Argument::Number(number) => json!(number),
                };
                ((*name).to_owned(), value)
            })
            .collect();
        json!({
            "name": self.name,
            "vhost": vhost,
            "durable": true,
            "auto_delete": false,
            "arguments": arguments,
        })
    }

    fn describe_arguments(&self) -> String {
        let words: Vec<String> = self
            .arguments
            .iter()
            .map(|(name, argument)| match argument {
                Argument::Text(text) => format!("{name}=\"{text}\""),
                Argument::Number(number) => format!("{name}={number}"),
            })
            .collect();
        words.join(", ")
    }
}

/// Returns the queues in the form of RabbitMQ's definitions file, for an operator who creates them
/// (`queue.declare = "check"`).
#[must_use]
pub fn definitions(settings: &QueueSettings, claim_lifetime: Duration, vhost: &str) -> Value {
    let topology = Topology::new(settings, claim_lifetime);
    json!({
        "vhosts": [{ "name": vhost }],
        "queues": topology.queues.iter().map(|queue| queue.json(vhost)).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    const FILE: &str = include_str!("../../../../deploy/rabbitmq/definitions.json");

    #[test]
    fn the_definitions_file_is_what_the_defaults_declare() {
        let Settings { queue, schedule, .. } = Settings::default();
        let declared = definitions(&queue, schedule.claim_lifetime, "tasksync");
        let file: Value = serde_json::from_str(FILE).unwrap();
        assert_eq!(
            file,
            declared,
            "deploy/rabbitmq/definitions.json should be:\n{}",
            serde_json::to_string_pretty(&declared).unwrap()
        );
    }

    #[test]
    fn names_carry_the_prefix_and_are_known_again() {
        let settings = QueueSettings {
            name_prefix: "blue".to_owned(),
            ..QueueSettings::default()
        };
        let topology = Topology::new(&settings, Duration::from_mins(2));
        assert_eq!(topology.name(QueueName::Background), "blue.tasks.background");
        assert_eq!(topology.dead(), "blue.tasks.dead");
        for queue in QueueName::ALL {
            assert_eq!(topology.queue(topology.name(queue)), Some(queue));
        }
        assert_eq!(topology.queue("blue.tasks.dead"), None);
    }
}
