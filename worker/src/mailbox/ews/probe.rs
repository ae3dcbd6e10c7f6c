//! Probing folders for changes. With delegate access one request covers many mailboxes.

use futures::StreamExt as _;
use tasksync_common::error::{Code, ErrorClass, Failure};

use super::access::{self, AccessMode};
use super::client::throttled;
use super::envelope::Header;
use super::folders::ReadFolder;
use super::messages::{EwsError, ResponseMessage};
use super::response_code::{self, Meaning};
use super::{EwsMailbox, get_folder};
use crate::http::service::Intent;
use crate::mailbox::{ProbeRequest, Probed};

/// Mailboxes probed at the same time if each needs its own request.
const ALONE_AT_ONCE: usize = 8;

/// A folder among the requests: the index of its request, and its index there.
type FolderIndex = (usize, usize);

/// The results of each request so far.
struct FolderProbes<'a> {
    requests: &'a [ProbeRequest],
    probed: Vec<Vec<Option<Probed>>>,
    failed: Vec<Option<EwsError>>,
}

impl<'a> FolderProbes<'a> {
    fn new(requests: &'a [ProbeRequest]) -> Self {
        Self {
            requests,
            probed: requests
                .iter()
                .map(|request| vec![None; request.folders.len()])
                .collect(),
            failed: vec![None; requests.len()],
        }
    }

    /// Returns the places of these requests' folders.
    fn folders_of(&self, requests: &[usize]) -> Vec<FolderIndex> {
        requests
            .iter()
            .flat_map(|&request| (0..self.probed[request].len()).map(move |folder| (request, folder)))
            .collect()
    }

    /// Returns whether all folders of a request are missing, which is also the result of the wrong access
    /// mode.
    fn all_gone(&self, request: usize) -> bool {
        let probed = &self.probed[request];
        self.failed[request].is_none()
            && !probed.is_empty()
            && probed.iter().all(|found| *found == Some(Probed::Gone))
    }

    /// Returns whether at least one folder of a request was seen.
    fn any_seen(&self, request: usize) -> bool {
        self.probed[request]
            .iter()
            .any(|found| matches!(found, Some(Probed::Signs(_) | Probed::Unknown)))
    }

    fn take(&mut self, request: usize) -> Result<Vec<Probed>, EwsError> {
        match self.failed[request].take() {
            Some(error) => Err(error),
            None => Ok(std::mem::take(&mut self.probed[request])
                .into_iter()
                .map(|found| found.unwrap_or(Probed::Unknown))
                .collect()),
        }
    }
}

impl EwsMailbox {
    /// Implements [`crate::mailbox::Mailbox::probe`].
    pub(super) async fn probe_folders(&self, requests: &[ProbeRequest]) -> Vec<Result<Vec<Probed>, Failure>> {
        let mut probes = FolderProbes::new(requests);
        let (mut together, mut alone) = (Vec::new(), Vec::new());
        for (index, request) in requests.iter().enumerate() {
            match self.access.order(&request.mailbox) {
                _ if request.folders.is_empty() => {}
                (AccessMode::Delegate, _) => together.push(index),
                (AccessMode::Impersonation, _) => alone.push(index),
            }
        }
        let pending = probes.folders_of(&together);
        let to_probe_alone = self.probe_together(&mut probes, pending).await;
        // Mailboxes that delegate access did not reach are probed one by one.
        for &index in &together {
            let (_, second) = self.access.order(&requests[index].mailbox);
            let refused = probes.failed[index]
                .as_ref()
                .and_then(|error| error.code.as_deref())
                .is_some_and(|code| access::is_refusal(code, false));
            let is_delegate =
                self.access.recorded_mode(&requests[index].mailbox) == Some(AccessMode::Delegate);
            if probes.any_seen(index) {
                self.access
                    .record_success(&requests[index].mailbox, AccessMode::Delegate);
            } else if to_probe_alone.contains(&index)
                || second.is_some() && (refused || probes.all_gone(index) && !is_delegate)
            {
                alone.push(index);
            }
        }
        let tasks: Vec<_> = alone
            .into_iter()
            .map(|index| {
                let tried = (together.contains(&index) && !to_probe_alone.contains(&index))
                    .then(|| probes.take(index));
                self.probe_alone(index, &requests[index], tried)
            })
            .collect();
        let answers: Vec<_> = futures::stream::iter(tasks)
            .buffer_unordered(ALONE_AT_ONCE)
            .collect()
            .await;
        let mut results: Vec<Option<Result<Vec<Probed>, EwsError>>> = vec![None; requests.len()];
        for (index, answer) in answers {
            if let Some(result) = results.get_mut(index) {
                *result = Some(answer);
            }
        }
        results
            .into_iter()
            .enumerate()
            .map(|(index, result)| {
                result
                    .unwrap_or_else(|| probes.take(index))
                    .map_err(|error| error.failure.within(&requests[index].mailbox))
            })
            .collect()
    }

    /// Probes folders of many mailboxes as a delegate. Returns the requests that must be probed alone,
    /// because the server refused a whole request without naming the mailbox that caused it.
    async fn probe_together(
        &self,
        probes: &mut FolderProbes<'_>,
        mut pending: Vec<FolderIndex>,
    ) -> Vec<usize> {
        let mut to_probe_alone = Vec::new();
        // Every round settles a folder or gives up a mailbox; the limit allows for servers that settle one at
        // a time.
        let mut rounds = 10 + probes.requests.len() + pending.len() / self.limits.folders_per_probe.max(1);
        while !pending.is_empty() {
            let count = pending.len().min(self.limits.folders_per_probe.max(1));
            let rest = pending.split_off(count);
            let asked = std::mem::replace(&mut pending, rest);
            if rounds == 0 {
                fail_folders(probes, &asked);
                continue;
            }
            rounds -= 1;
            let (mut mailboxes, mut ids) = (Vec::new(), Vec::with_capacity(asked.len()));
            let mut last = None;
            for &(request, folder) in &asked {
                if last != Some(request) {
                    mailboxes.push(&probes.requests[request].mailbox);
                    last = Some(request);
                }
                ids.push(probes.requests[request].folders[folder].0.as_str());
            }
            let header = Header {
                mailbox: None,
                impersonate: false,
                zone: None,
            };
            let answer = self.get_folders(&header, &mailboxes, &ids).await;
            let mailboxes = mailboxes.len();
            match answer {
                Ok(messages) => {
                    let stopped = record_answer(probes, &asked, messages);
                    if stopped.len() == asked.len() {
                        fail_folders(probes, &stopped);
                    } else {
                        pending.splice(..0, stopped);
                    }
                }
                Err(error) => {
                    let someones = error.code.is_some()
                        && !matches!(error.failure.class, ErrorClass::Throttled { .. })
                        && mailboxes > 1;
                    for &(request, _) in &asked {
                        if someones && !to_probe_alone.contains(&request) {
                            to_probe_alone.push(request);
                        }
                        probes.failed[request] = Some(error.clone());
                    }
                }
            }
            pending.retain(|&(request, _)| probes.failed[request].is_none());
        }
        to_probe_alone
    }

    /// Probes one mailbox by each access mode that may be used; `tried` is the result of delegate access, if
    /// that was tried.
    async fn probe_alone(
        &self,
        index: usize,
        request: &ProbeRequest,
        tried: Option<Result<Vec<Probed>, EwsError>>,
    ) -> (usize, Result<Vec<Probed>, EwsError>) {
        let (first, second) = self.access.order(&request.mailbox);
        let first_answer = match tried {
            Some(tried) => tried,
            None => self.probe_one(request, first).await,
        };
        let may_be_refused = match &first_answer {
            Err(error) => error
                .code
                .as_deref()
                .is_some_and(|code| access::is_refusal(code, false)),
            Ok(probed) => {
                probed.iter().all(|found| *found == Probed::Gone)
                    && self.access.recorded_mode(&request.mailbox) != Some(first)
            }
        };
        let Some(second) = second.filter(|_| may_be_refused) else {
            if first_answer.is_ok() {
                self.access.record_success(&request.mailbox, first);
            }
            return (index, first_answer);
        };
        let second_answer = self.probe_one(request, second).await;
        let result = match (first_answer, second_answer) {
            (_, Ok(probed)) => {
                self.access.record_success(&request.mailbox, second);
                Ok(probed)
            }
            (first_answer, Err(error)) => {
                let refused = error
                    .code
                    .as_deref()
                    .is_some_and(|code| access::is_refusal(code, false));
                match first_answer {
                    Ok(probed) if refused => Ok(probed),
                    Err(first_error) if refused => Err(access::both_refused(first, &first_error, &error)),
                    Ok(_) | Err(_) => Err(error),
                }
            }
        };
        (index, result)
    }

    async fn probe_one(&self, request: &ProbeRequest, mode: AccessMode) -> Result<Vec<Probed>, EwsError> {
        let mut probes = FolderProbes::new(std::slice::from_ref(request));
        let mut pending = probes.folders_of(&[0]);
        let mut rounds = 10 + pending.len() / self.limits.folders_per_probe.max(1);
        while !pending.is_empty() && probes.failed[0].is_none() {
            let rest = pending.split_off(pending.len().min(self.limits.folders_per_probe.max(1)));
            let asked = std::mem::replace(&mut pending, rest);
            if rounds == 0 {
                fail_folders(&mut probes, &asked);
                break;
            }
            rounds -= 1;
            let ids: Vec<&str> = asked
                .iter()
                .map(|&(_, folder)| request.folders[folder].0.as_str())
                .collect();
            let header = Header {
                mailbox: Some(&request.mailbox),
                impersonate: mode == AccessMode::Impersonation,
                zone: None,
            };
            let messages = self.get_folders(&header, &[&request.mailbox], &ids).await?;
            let stopped = record_answer(&mut probes, &asked, messages);
            if stopped.len() == asked.len() {
                fail_folders(&mut probes, &stopped);
            } else {
                pending.splice(..0, stopped);
            }
        }
        probes.take(0)
    }

    async fn get_folders(
        &self,
        header: &Header<'_>,
        mailboxes: &[&tasksync_common::model::MailboxAddress],
        ids: &[&str],
    ) -> Result<Vec<ResponseMessage<Option<ReadFolder>>>, EwsError> {
        let body = get_folder::request(header, ids);
        let count = ids.len();
        let answered = self
            .client
            .send(&get_folder::OPERATION, mailboxes, body, move |xml| {
                get_folder::read(xml, count)
            })
            .await?;
        if get_folder::is_foreign(&answered.messages, ids) {
            return Err(self.foreign_answer(&get_folder::OPERATION, "another folder"));
        }
        match throttled(&answered.messages) {
            Some(error) => Err(error),
            None => Ok(answered.messages),
        }
    }
}

/// Records an answer. Returns the places that the server did not process.
fn record_answer(
    probes: &mut FolderProbes<'_>,
    asked: &[FolderIndex],
    messages: Vec<ResponseMessage<Option<ReadFolder>>>,
) -> Vec<FolderIndex> {
    let mut stopped = Vec::new();
    for (&(request, folder), message) in asked.iter().zip(messages) {
        let found = match message {
            Ok(found) => found
                .and_then(|folder| folder.signs())
                .map_or(Probed::Unknown, Probed::Signs),
            Err(error) if error.is_stop() => {
                stopped.push((request, folder));
                continue;
            }
            Err(error) if response_code::names_nothing(&error.code) => Probed::Gone,
            Err(error) => match error.meaning() {
                Meaning::FolderLost | Meaning::ItemGone => Probed::Gone,
                Meaning::Throttled
                | Meaning::Transient(_)
                | Meaning::Conflict
                | Meaning::ItemRefused
                | Meaning::RequestRefused
                | Meaning::FolderExists
                | Meaning::SyncStateInvalid
                | Meaning::SubscriptionLost
                | Meaning::MailboxRefused(_)
                | Meaning::ServerRefused(_)
                | Meaning::Unknown => {
                    let mut error = error.into_error(Intent::Read);
                    error.failure = error.failure.within(get_folder::OPERATION.name);
                    probes.failed[request] = Some(error);
                    continue;
                }
            },
        };
        probes.probed[request][folder] = Some(found);
    }
    stopped.retain(|&(request, _)| probes.failed[request].is_none());
    stopped
}

fn fail_folders(probes: &mut FolderProbes<'_>, folders: &[FolderIndex]) {
    for &(request, _) in folders {
        probes.failed[request] = Some(EwsError {
            code: None,
            failure: Failure::new(
                ErrorClass::Transient,
                Code::ExchangeError,
                "GetFolder: the server stopped repeatedly in the middle of the batch",
            ),
        });
    }
}
