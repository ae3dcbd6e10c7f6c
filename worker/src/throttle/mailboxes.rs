//! One request in flight per mailbox.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tasksync_common::clock::SharedClock;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::TenantId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::until;

/// Mailboxes that may be in use or waited for at the same time.
const MAXIMUM_MAILBOXES: usize = 100_000;

/// The mailboxes that are in use. Cheap to clone. A mailbox that is neither in use nor waited for takes no
/// memory.
#[derive(Clone)]
pub struct MailboxLocks {
    clock: SharedClock,
    maximum: usize,
    entries: Arc<MailboxEntries>,
}

#[derive(Default)]
struct MailboxEntries(Mutex<HashMap<Arc<str>, MailboxEntry>>);

struct MailboxEntry {
    lock: Arc<Semaphore>,
    /// The requests that use it or wait for it.
    users: usize,
}

impl MailboxEntries {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, MailboxEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts a request among the users of a mailbox until it is dropped, also if waiting is given up.
struct MailboxUse {
    entries: Arc<MailboxEntries>,
    name: Arc<str>,
}

impl Drop for MailboxUse {
    fn drop(&mut self) {
        let mut entries = self.entries.lock();
        if let Some(entry) = entries.get_mut(&self.name) {
            entry.users -= 1;
            if entry.users == 0 {
                entries.remove(&self.name);
            }
        }
    }
}

/// The permit for one request in flight for a mailbox.
pub struct MailboxGuard {
    // Dropped in this order: the permit is released before the entry may be removed.
    _permit: OwnedSemaphorePermit,
    _interest: MailboxUse,
}

impl MailboxLocks {
    /// Returns locks with no mailbox in use.
    #[must_use]
    pub fn new(clock: SharedClock) -> Self {
        Self {
            clock,
            maximum: MAXIMUM_MAILBOXES,
            entries: Arc::default(),
        }
    }

    /// Waits until no other request uses the mailbox, at most until `deadline`. Addresses are compared
    /// without case.
    ///
    /// # Errors
    /// Transient `BudgetExhausted`, if the mailbox did not become free in time or too many mailboxes are in
    /// use.
    pub async fn lock(
        &self,
        tenant: &TenantId,
        mailbox: &str,
        deadline: Timestamp,
    ) -> Result<MailboxGuard, Failure> {
        let exhausted =
            |reason| Failure::new(ErrorClass::Transient, Code::BudgetExhausted, String::from(reason));
        // The NUL separates unambiguously: tenants' names contain none.
        let name: Arc<str> = format!("{tenant}\0{}", mailbox.to_lowercase()).into();
        let (lock, interest) = {
            let mut entries = self.entries.lock();
            if entries.len() >= self.maximum && !entries.contains_key(&name) {
                return Err(exhausted("too many mailboxes are in use at once"));
            }
            let entry = entries.entry(Arc::clone(&name)).or_insert_with(|| MailboxEntry {
                lock: Arc::new(Semaphore::new(1)),
                users: 0,
            });
            entry.users += 1;
            let interest = MailboxUse {
                entries: Arc::clone(&self.entries),
                name,
            };
            (Arc::clone(&entry.lock), interest)
        };
        let permit = until(deadline, &self.clock, lock.acquire_owned())
            .await
            .and_then(Result::ok)
            .ok_or_else(|| exhausted("another request for the same mailbox did not end in time"))?;
        Ok(MailboxGuard {
            _permit: permit,
            _interest: interest,
        })
    }

    /// Returns the number of mailboxes that are in use or waited for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.lock().len()
    }

    /// Returns whether no mailbox is in use or waited for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use tasksync_common::clock::{Clock as _, ManualClock};
    use tasksync_common::tasks::spawn;

    use super::*;

    #[tokio::test]
    async fn a_mailbox_is_used_by_one_at_a_time_and_forgotten_afterwards() {
        let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        let locks = MailboxLocks::new(clock.clone());
        let contoso: TenantId = "contoso".parse().unwrap();
        let fabrikam: TenantId = "fabrikam".parse().unwrap();
        let now = clock.now();
        let guard = locks.lock(&contoso, "Anna@contoso.example", now).await.unwrap();
        let other = locks.lock(&fabrikam, "anna@contoso.example", now).await.unwrap();
        assert_eq!(locks.len(), 2);
        let failure = locks
            .lock(&contoso, "anna@Contoso.example", now)
            .await
            .map(|_| ())
            .unwrap_err();
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::Transient, Code::BudgetExhausted)
        );
        let waiting = spawn({
            let (locks, contoso) = (locks.clone(), contoso.clone());
            let deadline = now + SignedDuration::from_secs(60);
            async move {
                locks
                    .lock(&contoso, "anna@contoso.example", deadline)
                    .await
                    .map(|_| ())
            }
        });
        // A caller that gives up waiting leaves no entry behind.
        let mut given_up = Box::pin(locks.lock(
            &contoso,
            "anna@contoso.example",
            now + SignedDuration::from_secs(60),
        ));
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(given_up);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(guard);
        waiting.await.unwrap().unwrap();
        assert_eq!(locks.len(), 1);
        drop(other);
        assert!(locks.is_empty());
    }

    #[tokio::test]
    async fn the_number_of_mailboxes_is_limited() {
        let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        let locks = MailboxLocks {
            maximum: 2,
            ..MailboxLocks::new(clock.clone())
        };
        let tenant: TenantId = "contoso".parse().unwrap();
        let now = clock.now();
        let _a = locks.lock(&tenant, "a", now).await.unwrap();
        let b = locks.lock(&tenant, "b", now).await.unwrap();
        assert!(locks.lock(&tenant, "c", now).await.is_err());
        drop(b);
        assert!(locks.lock(&tenant, "c", now).await.is_ok());
    }
}
