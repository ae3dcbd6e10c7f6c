//! The state of one request: its session, the mailboxes it opens, and the errors that fault rules impose on it.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Exchange;
use super::auth::Session;
use super::error::EwsError;
use super::ids::{ObjectId, ObjectKind};
use super::mailbox::Mailbox;
use super::shape::Style;
use super::store::Store;
use super::tasks::DateZone;
use super::xml::{Element, escape_into};

/// The errors that active fault rules put into the answer.
#[derive(Debug, Default)]
pub(crate) struct ForcedErrors {
    /// The error for the first entry.
    pub(crate) first: Option<EwsError>,
    /// The error for every entry.
    pub(crate) every: Option<EwsError>,
    /// Errors for the entries of these mailboxes, by mailbox number.
    pub(crate) mailboxes: Vec<(u64, EwsError)>,
    /// Whether the sync state that the client sends is refused.
    pub(crate) expire_cursor: bool,
    /// Fields whose changes are ignored; empty for all fields.
    pub(crate) ignored_fields: Option<Vec<String>>,
}

/// The state of one request.
pub(crate) struct Context<'a> {
    pub(crate) exchange: &'a Exchange,
    pub(crate) session: &'a Session,
    forced: RefCell<ForcedErrors>,
    first_server: RefCell<Option<Arc<str>>>,
    touched: RefCell<Vec<u64>>,
    /// Number of objects changed so far.
    pub(crate) writes: Cell<u64>,
}

/// A reference to a folder of a mailbox. Whether the folder exists can be checked only under the store's lock.
pub(crate) struct FolderRef {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) number: u64,
}

impl<'a> Context<'a> {
    pub(crate) fn new(exchange: &'a Exchange, session: &'a Session, forced: ForcedErrors) -> Self {
        Self {
            exchange,
            session,
            forced: RefCell::new(forced),
            first_server: RefCell::new(None),
            touched: RefCell::new(Vec::new()),
            writes: Cell::new(0),
        }
    }

    /// Returns the server's time, which is later than every time returned before.
    pub(crate) fn now(&self) -> Timestamp {
        self.exchange.clock.unique()
    }

    /// Counts a changed object.
    pub(crate) fn count_write(&self) {
        self.writes.set(self.writes.get() + 1);
    }

    /// Returns whether the sync state of this request is to be refused.
    pub(crate) fn expires_cursor(&self) -> bool {
        self.forced.borrow().expire_cursor
    }

    /// Returns whether a change of this field is silently ignored.
    pub(crate) fn ignores(&self, field: &str) -> bool {
        let forced = self.forced.borrow();
        let ignored = forced.ignored_fields.as_ref();
        ignored.is_some_and(|fields| fields.is_empty() || fields.iter().any(|name| name == field))
    }

    /// Returns whether updates are ignored entirely.
    pub(crate) fn ignores_updates(&self) -> bool {
        let forced = self.forced.borrow();
        forced.ignored_fields.as_ref().is_some_and(Vec::is_empty)
    }

    /// Returns the formatting rules for values of a mailbox in this answer.
    pub(crate) fn style<'s>(&'s self, mailbox: &'s Mailbox) -> Style<'s> {
        Style {
            mailbox,
            request_zone: self.session.zone.as_ref(),
            date_zone: self.date_zone(mailbox),
            precise: self.session.precise,
            rewrite_html: self.exchange.settings.rewrite_html,
            omit_probe_tags: self.exchange.settings.omit_probe_tags,
        }
    }

    /// Returns the time zone in which a mailbox's task dates are kept.
    pub(crate) fn date_zone(&self, mailbox: &Mailbox) -> TimeZone {
        match self.exchange.settings.date_zone {
            DateZone::Mailbox => mailbox.zone.clone(),
            DateZone::Request => self.session.zone.clone().unwrap_or(TimeZone::UTC),
        }
    }

    /// Opens a mailbox if the caller has the right to.
    fn open(&self, mailbox: Arc<Mailbox>) -> Result<Arc<Mailbox>, EwsError> {
        if let Some((_, error)) = self
            .forced
            .borrow()
            .mailboxes
            .iter()
            .find(|(number, _)| *number == mailbox.number)
        {
            return Err(error.clone());
        }
        if !self.session.may_open(&mailbox) {
            return Err(EwsError::access_denied());
        }
        if self.exchange.settings.refuse_cross_server && self.session.impersonated.is_none() {
            let mut first = self.first_server.borrow_mut();
            if *first.get_or_insert_with(|| Arc::clone(&mailbox.server)) != mailbox.server {
                return Err(EwsError::access_denied());
            }
        }
        let mut touched = self.touched.borrow_mut();
        if !touched.contains(&mailbox.number) {
            touched.push(mailbox.number);
            mailbox.count_request();
            if let Some(observe_mailbox) = self.exchange.observer.get() {
                observe_mailbox(mailbox.number);
            }
        }
        Ok(mailbox)
    }

    /// Opens the mailbox that is meant when a request names none.
    pub(crate) fn default_mailbox(&self) -> Result<Arc<Mailbox>, EwsError> {
        let mailbox = self.session.impersonated.as_ref().or(self.session.own_mailbox.as_ref()).ok_or_else(|| {
            EwsError::new(
                "ErrorMissingEmailAddress",
                "When making a request as an account that does not have a mailbox, you must specify the mailbox primary SMTP address for any distinguished folder Ids.",
            )
        })?;
        self.open(Arc::clone(mailbox))
    }

    /// Opens the mailbox that an identifier belongs to.
    pub(crate) fn mailbox_of(&self, id: ObjectId) -> Result<Arc<Mailbox>, EwsError> {
        let mailbox = self
            .exchange
            .mailbox_by_number(id.mailbox)
            .ok_or_else(EwsError::item_not_found)?;
        self.open(mailbox)
    }

    /// Returns the folder that a `FolderId` or `DistinguishedFolderId` names.
    pub(crate) fn folder(&self, element: &Element) -> Result<FolderRef, EwsError> {
        let id = element.attribute("Id").unwrap_or_default();
        if element.name == "FolderId" {
            let id = ObjectId::decode(id)?;
            if id.kind != ObjectKind::Folder {
                return Err(EwsError::new(
                    "ErrorCannotUseItemIdForFolderId",
                    "A folder Id is expected.",
                ));
            }
            return Ok(FolderRef {
                mailbox: self.mailbox_of(id)?,
                number: id.number,
            });
        }
        let address = element
            .child("Mailbox")
            .and_then(|mailbox| mailbox.child_text("EmailAddress"));
        let mailbox = match address {
            Some(address) => self.open(self.exchange.primary_mailbox(address)?)?,
            None => self.default_mailbox()?,
        };
        let number = Store::distinguished(id).ok_or_else(super::store::folder_not_found)?;
        Ok(FolderRef { mailbox, number })
    }

    /// Returns the folder inside the element with this name (`SyncFolderId`, `ParentFolderId`, …).
    pub(crate) fn folder_in(&self, request: &Element, name: &str) -> Option<Result<FolderRef, EwsError>> {
        request
            .child(name)
            .and_then(|target| target.children.first())
            .map(|folder| self.folder(folder))
    }

    /// Returns the item that an `ItemId` names.
    pub(crate) fn item(&self, element: &Element) -> Result<(Arc<Mailbox>, u64), EwsError> {
        let id = ObjectId::decode(element.attribute("Id").unwrap_or_default())?;
        if id.kind != ObjectKind::Item {
            return Err(EwsError::new(
                "ErrorCannotUseFolderIdForItemId",
                "An item Id is expected.",
            ));
        }
        Ok((self.mailbox_of(id)?, id.number))
    }
}

/// The answer to one operation. It contains one response message per entry, in the order of the request.
pub(crate) struct OperationResponse<'c, 'a> {
    context: &'c Context<'a>,
    operation: &'static str,
    /// XML that the message of a failed entry contains in place of a result.
    empty: &'static str,
    out: String,
    stopped: bool,
}

impl<'c, 'a> OperationResponse<'c, 'a> {
    pub(crate) fn new(context: &'c Context<'a>, operation: &'static str, empty: &'static str) -> Self {
        let out = format!(
            "<m:{operation}Response xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\" xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"><m:ResponseMessages>"
        );
        Self {
            context,
            operation,
            empty,
            out,
            stopped: false,
        }
    }

    /// Adds the message of one entry: the output of `work`, its error, or a warning that the batch stopped earlier.
    pub(crate) fn entry(&mut self, work: impl FnOnce(&mut String) -> Result<(), EwsError>) {
        if self.stopped {
            let text = "The operation was stopped because an earlier entry of the batch failed.";
            return self.failure("Warning", &EwsError::new("ErrorBatchProcessingStopped", text));
        }
        let forced = {
            let mut forced = self.context.forced.borrow_mut();
            forced.every.clone().or_else(|| forced.first.take())
        };
        let start = self.out.len();
        let done = if let Some(error) = forced {
            Err(error)
        } else {
            let _ = write!(
                self.out,
                "<m:{}ResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>",
                self.operation
            );
            work(&mut self.out)
        };
        match done {
            Ok(()) => {
                let _ = write!(self.out, "</m:{}ResponseMessage>", self.operation);
            }
            Err(error) => {
                self.out.truncate(start);
                self.stopped = error.stops_the_batch();
                self.failure("Error", &error);
            }
        }
    }

    fn failure(&mut self, class: &str, error: &EwsError) {
        let out = &mut self.out;
        let _ = write!(
            out,
            "<m:{}ResponseMessage ResponseClass=\"{class}\"><m:MessageText>",
            self.operation
        );
        escape_into(out, &error.text);
        out.push_str("</m:MessageText><m:ResponseCode>");
        escape_into(out, &error.code);
        out.push_str("</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>");
        if !error.detail.is_empty() {
            let _ = write!(out, "<m:MessageXml>{}</m:MessageXml>", error.detail);
        }
        let _ = write!(out, "{}</m:{}ResponseMessage>", self.empty, self.operation);
    }

    /// Returns the body of the answer.
    pub(crate) fn finish(mut self) -> String {
        let _ = write!(self.out, "</m:ResponseMessages></m:{}Response>", self.operation);
        self.out
    }
}
