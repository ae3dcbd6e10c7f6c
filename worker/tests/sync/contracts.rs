//! Runs the back-end contracts for EWS over the simulated Exchange and for SharePoint over the simulated SharePoint.

use std::sync::Arc;

use async_trait::async_trait;
use tasksync_common::model::SourceKey;
use tasksync_common::registry::{MailboxConnection, SourceConnection};
use tasksync_loadtest::exchange::MailboxItemEdit as CopyEdit;
use tasksync_loadtest::sharepoint::people::{ItemId, ListId};
use tasksync_loadtest::trial::Farm;
use tasksync_worker::mailbox::{Mailbox, Owner};
use tasksync_worker::source::{Person, Source};
use tasksync_worker::sync::TenantContext;

use crate::contract::{MailboxBench, SourceBench, mailbox_contract, source_contract};
use crate::rig::Rig;

/// A farm, a list, and the tenant's connections.
struct Bench {
    rig: Rig,
    list: ListId,
    context: Arc<TenantContext>,
    owner: Owner,
    login: String,
}

async fn bench() -> Bench {
    let mut rig = Rig::plain().await;
    let list = rig.tasks_list("Plan");
    let context = rig.tenants.get(&rig.tenant_id()).await.unwrap();
    let enrolment = rig.registry.enrolment(&rig.user(0)).await.unwrap().unwrap();
    Bench {
        owner: context.owner(&enrolment).unwrap(),
        login: enrolment.source_login,
        rig,
        list,
        context,
    }
}

impl Bench {
    fn item(&self, key: &SourceKey) -> ItemId {
        let items = self
            .rig
            .farm
            .sharepoint
            .items(self.rig.site(), self.list)
            .unwrap();
        let found = items
            .into_iter()
            .find(|item| Farm::key(self.list, item.id) == key.as_str());
        found.unwrap().id
    }
}

#[async_trait]
impl MailboxBench for Bench {
    fn mailbox(&self) -> Arc<dyn Mailbox> {
        Arc::clone(&self.context.connections.mailbox)
    }

    fn owner(&self) -> Owner {
        self.owner.clone()
    }

    async fn retitle(&self, item: &str, title: &str) {
        let edit = CopyEdit {
            subject: Some(title.to_owned()),
            ..CopyEdit::default()
        };
        let exchange = &self.rig.farm.exchange;
        exchange.person_edits(self.rig.smtp(0), item, edit).unwrap();
    }

    async fn delete(&self, item: &str) {
        let exchange = &self.rig.farm.exchange;
        exchange.person_deletes(self.rig.smtp(0), item, true).unwrap();
    }
}

#[async_trait]
impl SourceBench for Bench {
    fn source(&self) -> Arc<dyn Source> {
        Arc::clone(&self.context.connections.source)
    }

    fn person(&self) -> Person {
        Person::new(self.login.clone())
    }

    async fn create(&self, title: &str) -> SourceKey {
        let item = self.rig.add_task(self.list, 0, title);
        SourceKey::from_stored(&Farm::key(self.list, item))
    }

    async fn retitle(&self, key: &SourceKey, title: &str) {
        self.rig.retitle_original(self.list, self.item(key), title);
    }

    async fn delete(&self, key: &SourceKey) {
        self.rig.delete_original(self.list, self.item(key));
    }
}

/// Every kind of connection has its contract tests below. A new kind needs an arm here and a module.
#[tokio::test]
async fn each_kind_of_connection_has_its_suite() {
    let rig = Rig::plain().await;
    let tenant = rig.registry.tenant(&rig.tenant_id()).await.unwrap().unwrap();
    let mailbox = match tenant.mailbox {
        MailboxConnection::Ews { .. } => ews::MODULE,
    };
    let source = match tenant.source {
        SourceConnection::SharePoint(_) => sharepoint::MODULE,
    };
    assert!(mailbox.ends_with("::ews") && source.ends_with("::sharepoint"));
}

mod ews {
    pub(super) const MODULE: &str = module_path!();
    super::mailbox_contract!(super::bench);
}

mod sharepoint {
    pub(super) const MODULE: &str = module_path!();
    super::source_contract!(super::bench);
}
