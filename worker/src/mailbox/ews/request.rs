//! Requests about one mailbox: their access mode, and what their answers prove.

use bytes::Bytes;
use tasksync_common::error::{Code, Failure};
use tasksync_common::metrics::record::Server;
use tasksync_common::model::MailboxAddress;

use super::access::{self, AccessMode};
use super::client::EwsAnswer;
use super::envelope::Header;
use super::operation::{self, Operation};
use super::paging::incomplete;
use super::response_messages::{EwsError, ResponseMessage, ServerError};
use super::xml::{Parsed, Xml};
use super::{EwsMailbox, update_item};
use crate::http::service::interrupted;
use crate::mailbox::{ItemRef, Owner};

impl EwsMailbox {
    /// Sends a request about one mailbox by the access mode that worked last, and by the other one if that is
    /// refused. `build` writes its body.
    pub(super) async fn run<T, R>(
        &self,
        ask: EwsRequest<'_, R>,
        build: impl Fn(&Header<'_>) -> Bytes + Send + Sync,
    ) -> Result<EwsAnswer<T>, EwsError>
    where
        T: Send + 'static,
        R: Fn(&mut Xml<'_>) -> Parsed<Vec<ResponseMessage<T>>> + Clone + Send + Sync + 'static,
    {
        let (operation, mailbox) = (ask.operation, ask.mailbox);
        let (first, second) = self.access.order(mailbox);
        let mut refused: Option<EwsError> = None;
        for mode in [Some(first), second].into_iter().flatten() {
            let header = Header {
                mailbox: Some(mailbox),
                impersonate: mode == AccessMode::Impersonation,
                zone: ask.zone,
            };
            let answer = self
                .client
                .send(operation, &[mailbox], build(&header), ask.read.clone())
                .await;
            let refusal = match answer {
                Ok(answered) if !access::all_refused(&answered.messages, ask.own_folder) => {
                    self.access.record_success(mailbox, mode);
                    return Ok(answered);
                }
                Ok(answered) => match answered.messages.into_iter().next() {
                    Some(Err(error)) => error.into_error(operation.intent),
                    _ => return Err(incomplete(operation.name)),
                },
                Err(error)
                    if error
                        .code
                        .as_deref()
                        .is_some_and(|code| access::is_refusal(code, ask.own_folder)) =>
                {
                    error
                }
                Err(error) => return Err(error),
            };
            refused = Some(match refused {
                Some(earlier) => access::both_refused(first, &earlier, &refusal),
                None => refusal,
            });
        }
        let mut error = refused.unwrap_or_else(|| incomplete(operation.name));
        error.failure = error.failure.within(operation.name);
        Err(error)
    }

    /// Does the same as [`Self::run`] for a request with one response message.
    pub(super) async fn run_one<T, R>(
        &self,
        ask: EwsRequest<'_, R>,
        build: impl Fn(&Header<'_>) -> Bytes + Send + Sync,
    ) -> Result<T, EwsError>
    where
        T: Send + 'static,
        R: Fn(&mut Xml<'_>) -> Parsed<Vec<ResponseMessage<T>>> + Clone + Send + Sync + 'static,
    {
        let operation = ask.operation;
        let answered = self.run(ask, build).await?;
        let message =
            operation::only(answered.messages).map_err(|reason| unclear_success(operation, &reason.0))?;
        message.map_err(|error| operation_refused(operation, error))
    }

    /// Returns the failure of an answer about something other than what was asked, because it is another
    /// request's or another person's. Nothing in the answer is used, and its connection is given up.
    pub(super) fn foreign_answer(&self, operation: &Operation, what: &str) -> EwsError {
        self.client
            .foreign_answer(operation, &format!("the answer is about {what}"))
            .into()
    }

    /// Sends an `UpdateItem`. A success must show the item's own id and a new version.
    pub(super) async fn write_item(
        &self,
        owner: &Owner,
        item: &ItemRef,
        build: impl Fn(&Header<'_>) -> Bytes + Send + Sync,
    ) -> Result<ItemRef, EwsError> {
        let zone = crate::zones::owner_zone(&owner.zone);
        let written = self
            .run_one(
                EwsRequest::new(&update_item::OPERATION, &owner.mailbox, |xml| {
                    update_item::read(xml, 1)
                })
                .in_zone(zone.windows),
                build,
            )
            .await?;
        match written {
            Some(written) if written.id != item.id => {
                Err(self.foreign_answer(&update_item::OPERATION, "another item"))
            }
            Some(written) if written.change_key == item.change_key => Err(unclear_success(
                &update_item::OPERATION,
                "a success without a new version",
            )),
            Some(written) => Ok(written),
            None => Err(unclear_success(&update_item::OPERATION, "a success without item")),
        }
    }
}

/// A request about one mailbox.
pub(super) struct EwsRequest<'a, R> {
    operation: &'static Operation,
    mailbox: &'a MailboxAddress,
    /// The time zone of the dates.
    zone: Option<&'a str>,
    /// Whether the request names the mailbox's own task folder, which always exists.
    own_folder: bool,
    read: R,
}

impl<'a, R> EwsRequest<'a, R> {
    pub(super) fn new<T>(operation: &'static Operation, mailbox: &'a MailboxAddress, read: R) -> Self
    where
        R: Fn(&mut Xml<'_>) -> Parsed<Vec<ResponseMessage<T>>>,
    {
        Self {
            operation,
            mailbox,
            zone: None,
            own_folder: false,
            read,
        }
    }

    pub(super) fn in_zone(mut self, zone: &'a str) -> Self {
        self.zone = Some(zone);
        self
    }

    pub(super) fn naming_own_folder(mut self, named: bool) -> Self {
        self.own_folder = named;
        self
    }
}

/// Returns the error of a response message as a failure of the operation.
pub(super) fn operation_refused(operation: &Operation, error: ServerError) -> EwsError {
    let mut error = error.into_error(operation.intent);
    error.failure = error.failure.within(operation.name);
    error
}

/// Returns the failure of a success that does not clearly show what was asked for.
pub(super) fn unclear_success(operation: &Operation, reason: &str) -> EwsError {
    let (class, _) = interrupted(Server::Ews, operation.intent, Code::ExchangeBadAnswer);
    Failure::new(
        class,
        Code::ExchangeBadAnswer,
        format!("{}: {reason}", operation.name),
    )
    .into()
}
