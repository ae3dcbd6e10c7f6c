//! Exchange Web Services: task folders and tasks of many mailboxes of one tenant.
//!
//! Each operation has a file that writes its request and reads its answer, and [`client`] sends it. This file
//! uses the operations. Facts about the protocol are Microsoft's (Exchange 2013 SP1 and later, Exchange
//! Online).

mod access;
#[cfg(feature = "bench")]
pub mod bench;
mod client;
mod create_folder;
mod create_item;
mod dates;
mod delete_item;
mod envelope;
mod find_folder;
mod find_item;
mod folder_listing;
mod folders;
mod get_folder;
mod get_item;
mod http_status;
mod items;
mod markers;
mod operation;
mod paging;
mod probe;
mod properties;
mod request;
mod resolve_names;
mod response_code;
mod response_messages;
mod roots;
mod sync_folder_items;
mod task_fields;
mod task_folders;
#[cfg(test)]
mod tests;
mod update_folder;
mod update_item;
mod whereabouts;
mod xml;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use tasksync_common::clock::SharedClock;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::facts::{MailboxFacts, MailboxKind};
use tasksync_common::model::{LocationKey, SourceKey, Task, TenantId};
use tasksync_common::registry::{Access, Credentials};
use url::Url;

use self::access::AccessMemory;
use self::client::EwsClient;
use self::request::{EwsRequest, unclear_success};
use self::response_messages::EwsError;
use self::roots::RootsMemory;
use super::{
    ChangePage, DeletedItem, Folder, FolderId, FolderPresence, ItemChanges, ItemRef, Mailbox,
    MailboxCapabilities, MailboxItem, MarkedItem, NewItem, Owner, ProbeRequest, Probed, Whereabouts,
};
use crate::auth::Authenticator;
use crate::http::Http;
use crate::http::service::Intent;
use crate::session::SessionServices;
use crate::throttle::{MailboxLocks, ServerLimits};

/// The connection settings of a tenant's Exchange.
#[derive(Debug, Clone)]
pub struct EwsConnection {
    /// The tenant, for messages.
    pub tenant: TenantId,
    /// Endpoint, usually `https://host/EWS/Exchange.asmx`.
    pub url: Url,
    /// How tasksync signs in.
    pub credentials: Credentials,
    /// The access mode for mailboxes.
    pub access: Access,
}

/// Limits of the requests.
#[derive(Debug, Clone)]
pub struct EwsLimits {
    /// Timeout of one request, and of waiting for its permits.
    pub request_timeout: Duration,
    /// Folders per probing request.
    pub folders_per_probe: usize,
    /// Items per `GetItem`; Microsoft advises about 10.
    pub items_per_request: usize,
    /// Changes per page, at most 512.
    pub changes_per_page: u32,
    /// Pages of one listing.
    pub pages: u32,
    /// Mailboxes whose working access mode is remembered.
    pub mailboxes_remembered: usize,
}

impl Default for EwsLimits {
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(30),
            folders_per_probe: 100,
            items_per_request: 10,
            changes_per_page: sync_folder_items::MAXIMUM_CHANGES,
            pages: 40,
            mailboxes_remembered: 50_000,
        }
    }
}

/// The mailboxes of one tenant on Exchange; one object serves all its users.
pub struct EwsMailbox {
    client: EwsClient,
    access: AccessMemory,
    roots: RootsMemory,
    limits: EwsLimits,
}

impl EwsMailbox {
    /// Returns a client for one tenant. `server` is shared by all tenants whose `connection.url` names the
    /// same server, and `mailboxes` by all tenants of the process.
    #[must_use]
    pub fn new(
        http: Http,
        auth: Authenticator,
        connection: EwsConnection,
        clock: SharedClock,
        limits: EwsLimits,
        server: Arc<ServerLimits>,
        mailboxes: MailboxLocks,
    ) -> Self {
        Self {
            access: AccessMemory::new(connection.access, limits.mailboxes_remembered.max(1)),
            roots: RootsMemory::new(limits.mailboxes_remembered.max(1)),
            client: EwsClient::new(
                SessionServices { http, auth, clock },
                connection,
                limits.request_timeout,
                server,
                mailboxes,
            ),
            limits,
        }
    }
}

/// Treats a deletion of an item that no longer exists as done.
fn gone_is_done(result: Result<(), EwsError>) -> Result<(), EwsError> {
    match result {
        Err(error) if error.failure.class == ErrorClass::Gone => Ok(()),
        other => other,
    }
}

fn within_mailbox<T>(owner: &Owner, result: Result<T, EwsError>) -> Result<T, Failure> {
    result.map_err(|error| error.failure.within(&owner.mailbox))
}

#[async_trait]
impl Mailbox for EwsMailbox {
    fn capabilities(&self) -> MailboxCapabilities {
        MailboxCapabilities::ALL
    }

    fn canonical(&self, task: &Task, own_start: Option<Date>) -> Task {
        task_fields::canonical(task, own_start)
    }

    fn clock_offset(&self) -> Option<SignedDuration> {
        self.client.clock_offset()
    }

    fn learn_clock(&self, server: Timestamp, local_time: Timestamp) {
        self.client.learn_clock(server, local_time);
    }

    async fn probe(&self, requests: &[ProbeRequest]) -> Vec<Result<Vec<Probed>, Failure>> {
        self.probe_folders(requests).await
    }

    async fn folders(&self, owner: &Owner) -> Result<Vec<Folder>, Failure> {
        within_mailbox(owner, self.list_folders(&owner.mailbox).await)
    }

    async fn create_folder(
        &self,
        owner: &Owner,
        name: &str,
        location: &LocationKey,
    ) -> Result<FolderId, Failure> {
        within_mailbox(owner, self.make_folder(owner, name, location).await)
    }

    async fn rename_folder(&self, owner: &Owner, folder: &FolderId, name: &str) -> Result<(), Failure> {
        within_mailbox(owner, self.set_folder_name(&owner.mailbox, folder, name).await)
    }

    async fn folders_exist(
        &self,
        owner: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<Result<FolderPresence, Failure>>, Failure> {
        within_mailbox(owner, self.folder_presence(owner, folders).await)
    }

    async fn complete_folder_markers(
        &self,
        owner: &Owner,
        folders: &[FolderId],
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        within_mailbox(owner, self.name_owner_of_folders(owner, folders).await)
    }

    async fn changes(
        &self,
        owner: &Owner,
        folder: &FolderId,
        cursor: Option<&str>,
    ) -> Result<ChangePage, Failure> {
        let mut most = self
            .limits
            .changes_per_page
            .clamp(1, sync_folder_items::MAXIMUM_CHANGES);
        let read = loop {
            let read = self
                .run_one(
                    EwsRequest::new(
                        &sync_folder_items::OPERATION,
                        &owner.mailbox,
                        sync_folder_items::read,
                    ),
                    |header| sync_folder_items::request(header, &folder.0, cursor, most),
                )
                .await;
            match read {
                Err(error) if paging::is_too_large(&error) && most > 1 => most /= 2,
                read => break read,
            }
        };
        let page = read.and_then(|page| {
            if page.is_about_another(&folder.0) {
                return Err(self.foreign_answer(&sync_folder_items::OPERATION, "changes of another folder"));
            }
            page.into_page()
                .map_err(|reason| unclear_success(&sync_folder_items::OPERATION, &reason.0))
        });
        // "Not found" while a folder is read means that the folder is gone.
        let page = page.map_err(|mut error| {
            if error.code.as_deref().is_some_and(response_code::names_nothing) {
                error.failure.class = ErrorClass::Gone;
            }
            if error.failure.class == ErrorClass::Gone {
                error.failure.code = Code::ExchangeFolderGone;
            }
            error
        });
        within_mailbox(owner, page)
    }

    async fn items(
        &self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<MailboxItem, Failure>>, Failure> {
        within_mailbox(owner, self.read_items(owner, ids).await)
    }

    async fn find(
        &self,
        owner: &Owner,
        folders: &[FolderId],
        key: &SourceKey,
    ) -> Result<Vec<ItemRef>, Failure> {
        within_mailbox(owner, self.find_items(owner, folders, key).await)
    }

    async fn list_marked(&self, owner: &Owner, folders: &[FolderId]) -> Result<Vec<MarkedItem>, Failure> {
        within_mailbox(owner, self.keyed_items(owner, folders).await)
    }

    async fn whereabouts(
        &self,
        owner: &Owner,
        ids: &[String],
    ) -> Result<Vec<Result<Whereabouts, Failure>>, Failure> {
        within_mailbox(owner, self.item_whereabouts(owner, ids).await)
    }

    async fn list_archived(&self, owner: &Owner) -> Result<Vec<MarkedItem>, Failure> {
        within_mailbox(owner, self.archived_items(owner).await)
    }

    async fn complete_item_markers(
        &self,
        owner: &Owner,
        items: &[ItemRef],
    ) -> Result<Vec<Result<ItemRef, Failure>>, Failure> {
        within_mailbox(owner, self.name_owner_of_items(owner, items).await)
    }

    async fn list_deleted(&self, owner: &Owner) -> Result<Vec<DeletedItem>, Failure> {
        within_mailbox(owner, self.deleted_items(owner).await)
    }

    async fn create(&self, owner: &Owner, folder: &FolderId, item: &NewItem<'_>) -> Result<ItemRef, Failure> {
        let zone = crate::zones::owner_zone(&owner.zone);
        let marker = owner.marker.to_string();
        let created = self
            .run_one(
                EwsRequest::new(&create_item::OPERATION, &owner.mailbox, create_item::read)
                    .in_zone(zone.windows),
                |header| create_item::request(header, &folder.0, item, &marker),
            )
            .await;
        let created = created.and_then(|created| {
            created.ok_or_else(|| unclear_success(&create_item::OPERATION, "a success without item"))
        });
        within_mailbox(
            owner,
            created.map_err(|mut error| {
                if error.failure.class == ErrorClass::Gone {
                    error.failure.code = Code::ExchangeFolderGone;
                }
                error
            }),
        )
    }

    async fn update(&self, owner: &Owner, item: &ItemRef, changes: &ItemChanges) -> Result<ItemRef, Failure> {
        if changes.fields.and(self.capabilities().fields).is_empty() {
            return Ok(item.clone());
        }
        let written = self
            .write_item(owner, item, |header| update_item::request(header, item, changes))
            .await;
        within_mailbox(owner, written)
    }

    async fn disown(&self, owner: &Owner, item: &ItemRef) -> Result<ItemRef, Failure> {
        let written = self
            .write_item(owner, item, |header| update_item::request_disown(header, item))
            .await;
        within_mailbox(owner, written)
    }

    async fn delete(&self, owner: &Owner, item: &ItemRef) -> Result<(), Failure> {
        let deleted = self
            .run_one(
                EwsRequest::new(&delete_item::OPERATION, &owner.mailbox, delete_item::read),
                |header| delete_item::request(header, item),
            )
            .await;
        within_mailbox(owner, gone_is_done(deleted))
    }

    async fn kind(&self, owner: &Owner) -> Result<MailboxKind, Failure> {
        self.kind_of_mailbox(owner).await
    }

    async fn check(&self, owner: &Owner) -> Result<MailboxFacts, Failure> {
        let answered = self
            .run(
                EwsRequest::new(&get_folder::OPERATION, &owner.mailbox, |xml| {
                    get_folder::read(xml, 1)
                })
                .naming_own_folder(true),
                get_folder::request_tasks_folder,
            )
            .await;
        let answered = within_mailbox(owner, answered)?;
        let exchange_build = answered.version;
        let version = exchange_build.map_or_else(|| "unknown".to_owned(), |build| build.to_string());
        let folder = operation::only(answered.messages)
            .map_err(|reason| unclear_success(&get_folder::OPERATION, &reason.0))
            .and_then(|message| message.map_err(|error| error.into_error(Intent::Read)));
        let folder = within_mailbox(owner, folder)?;
        let mode = self
            .access
            .recorded_mode(&owner.mailbox)
            .unwrap_or(self.access.order(&owner.mailbox).0);
        Ok(MailboxFacts {
            version,
            exchange_build,
            access: mode.name().to_owned(),
            shares_requests: mode.shares_requests(),
            clock_offset: self.client.clock_offset(),
            idle_check: folder.and_then(|folder| folder.signs()).is_some(),
        })
    }
}
