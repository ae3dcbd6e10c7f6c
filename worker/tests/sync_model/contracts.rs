//! Runs the back-end contracts for the servers of the model.

use std::sync::Arc;

use async_trait::async_trait;
use tasksync_common::model::SourceKey;
use tasksync_worker::mailbox::{Mailbox, MailboxCapabilities, Owner};
use tasksync_worker::source::{Person, Source};

use crate::contract::{MailboxBench, SourceBench, mailbox_contract, source_contract};
use crate::engine::SharedWorld;
use crate::mailbox::ModelMailbox;
use crate::source::ModelSource;
use crate::world::{id, location};

struct Bench(SharedWorld);

async fn bench() -> Bench {
    Bench(SharedWorld::new(0))
}

#[async_trait]
impl MailboxBench for Bench {
    fn mailbox(&self) -> Arc<dyn Mailbox> {
        Arc::new(ModelMailbox {
            world: self.0.clone(),
            capabilities: MailboxCapabilities::ALL,
        })
    }

    fn owner(&self) -> Owner {
        Owner {
            mailbox: "ana@contoso.example".parse().unwrap(),
            zone: jiff::tz::TimeZone::UTC,
            marker: "6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa/contoso/ana"
                .parse()
                .unwrap(),
        }
    }

    async fn retitle(&self, item: &str, title: &str) {
        let mut world = self.0.world();
        world.items.get_mut(&id(item)).unwrap().task.title = title.to_owned();
        world.touch_item(id(item));
    }

    async fn delete(&self, item: &str) {
        self.0.world().delete_item(id(item)).unwrap();
    }
}

#[async_trait]
impl SourceBench for Bench {
    fn source(&self) -> Arc<dyn Source> {
        Arc::new(ModelSource {
            world: self.0.clone(),
        })
    }

    fn person(&self) -> Person {
        Person::new("ana")
    }

    async fn create(&self, title: &str) -> SourceKey {
        let mut world = self.0.world();
        let key = location(0).task(i64::from(world.next()));
        world.new_task(&key, title);
        key
    }

    async fn retitle(&self, key: &SourceKey, title: &str) {
        let mut world = self.0.world();
        world.source.get_mut(key).unwrap().task.title = title.to_owned();
        world.touch_task(key);
    }

    async fn delete(&self, key: &SourceKey) {
        let mut world = self.0.world();
        world.source.remove(key);
        world.source_log.push(key.clone());
    }
}

mod mailbox_side {
    super::mailbox_contract!(super::bench);
}

mod source_side {
    super::source_contract!(super::bench);
}
