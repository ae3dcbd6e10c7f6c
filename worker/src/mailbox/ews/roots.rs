//! The folders that every mailbox has. Their ids are stable and differ between mailboxes, so they show
//! whether a listing is about the requested mailbox.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tasksync_common::model::MailboxAddress;

use super::client::throttled;
use super::request::{EwsRequest, operation_refused};
use super::response_messages::EwsError;
use super::{EwsMailbox, get_folder};

/// The ids of a mailbox's own folders, as far as the server reported them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Roots {
    /// The task folder.
    pub(super) tasks: Option<String>,
    /// The deleted items.
    pub(super) deleted_items: Option<String>,
}

/// The known folders of mailboxes. A forgotten mailbox is asked about again.
#[derive(Debug)]
pub(super) struct RootsMemory {
    cache: Mutex<HashMap<MailboxAddress, Roots>>,
    limit: usize,
}

impl RootsMemory {
    /// Remembers at most `limit` mailboxes.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            cache: Mutex::default(),
            limit,
        }
    }

    /// Returns what is known about the mailbox, without a request.
    pub(super) fn cached(&self, mailbox: &MailboxAddress) -> Roots {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.get(mailbox).cloned().unwrap_or_default()
    }

    /// Forgets a mailbox whose answers disagree.
    pub(super) fn forget(&self, mailbox: &MailboxAddress) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.remove(mailbox);
    }

    fn store(&self, mailbox: &MailboxAddress, roots: &Roots) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= self.limit && !cache.contains_key(mailbox) {
            let evicted = cache.keys().next().cloned();
            if let Some(evicted) = evicted {
                cache.remove(&evicted);
            }
        }
        cache.insert(mailbox.clone(), roots.clone());
    }
}

impl EwsMailbox {
    /// Returns the ids of the mailbox's own folders. They are requested once per mailbox and process.
    pub(super) async fn roots(&self, mailbox: &MailboxAddress) -> Result<Roots, EwsError> {
        let cached = self.roots.cached(mailbox);
        if cached.tasks.is_some() && cached.deleted_items.is_some() && self.access.is_settled(mailbox) {
            return Ok(cached);
        }
        let operation = &get_folder::OPERATION;
        let answered = self
            .run(
                EwsRequest::new(operation, mailbox, |xml| get_folder::read(xml, get_folder::ROOTS))
                    .naming_own_folder(true),
                get_folder::request_roots,
            )
            .await?;
        if let Some(error) = throttled(&answered.messages) {
            return Err(error);
        }
        let mut ids = answered.messages.into_iter().map(|message| match message {
            Ok(folder) => Ok(folder.and_then(|folder| folder.id)),
            Err(error) => Err(operation_refused(operation, error)),
        });
        let tasks = ids.next().transpose()?.flatten();
        // A delegate with access to the task folder only may not see the deleted items.
        let deleted_items = ids.next().and_then(Result::ok).flatten();
        if tasks.is_some() && tasks == deleted_items {
            return Err(self.foreign_answer(operation, "two folders with one id"));
        }
        let roots = Roots { tasks, deleted_items };
        self.roots.store(mailbox, &roots);
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_roots_are_bounded_and_can_be_forgotten() {
        let memory = RootsMemory::new(2);
        let mailbox =
            |number: u32| -> MailboxAddress { format!("u{number}@contoso.example").parse().unwrap() };
        let roots = |number: u32| Roots {
            tasks: Some(number.to_string()),
            deleted_items: None,
        };
        for number in 1..=3 {
            memory.store(&mailbox(number), &roots(number));
        }
        assert_eq!(memory.cached(&mailbox(3)), roots(3));
        assert_eq!(memory.cache.lock().unwrap().len(), 2);
        memory.forget(&mailbox(3));
        assert_eq!(memory.cached(&mailbox(3)), Roots::default());
    }
}
