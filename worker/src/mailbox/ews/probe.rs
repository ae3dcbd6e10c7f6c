//! Probing folders for changes. With delegate access one request covers many mailboxes.

use futures::StreamExt as _;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::MailboxAddress;

use super::access::{self, AccessMode};
use super::client::throttled;
use super::envelope::Header;
use super::folders::ReadFolder;
use super::response_code::{self, Meaning};
use super::response_messages::{EwsError, ResponseMessage};
use super::{EwsMailbox, get_folder};
use crate::http::service::Intent;
use crate::mailbox::{FolderId, ProbeRequest, Probed};

/// Mailboxes probed at the same time if each needs its own request.
const ALONE_AT_ONCE: usize = 8;

/// A folder among the requests.
#[derive(Clone, Copy)]
struct AskedFolder<'a> {
    /// The index of its request.
    request: usize,
    /// Its index in the request.
    folder: usize,
    mailbox: &'a MailboxAddress,
    id: &'a FolderId,
}

/// Returns the folders of these requests, which are named by their index.
fn folders_of<'a>(requests: &[(usize, &'a ProbeRequest)]) -> Vec<AskedFolder<'a>> {
    let mut folders = Vec::new();
    for &(request, asked) in requests {
        let asked_folders = asked.folders.iter().enumerate();
        folders.extend(asked_folders.map(|(folder, id)| AskedFolder {
            request,
            folder,
            mailbox: &asked.mailbox,
            id,
        }));
    }
    folders
}

/// The results of one request so far.
#[derive(Default)]
struct RequestResults {
    probed: Vec<Option<Probed>>,
    failed: Option<EwsError>,
}

impl RequestResults {
    /// Returns whether all folders are missing, which is also the result of the wrong access mode.
    fn all_gone(&self) -> bool {
        self.failed.is_none()
            && !self.probed.is_empty()
            && self.probed.iter().all(|found| *found == Some(Probed::Gone))
    }

    /// Returns whether at least one folder was seen.
    fn any_seen(&self) -> bool {
        self.probed
            .iter()
            .any(|found| matches!(found, Some(Probed::Signs(_) | Probed::Unknown)))
    }
}

/// The results of each request so far.
struct FolderProbes {
    requests: Vec<RequestResults>,
}

impl FolderProbes {
    fn new(requests: &[ProbeRequest]) -> Self {
        Self {
            requests: requests
                .iter()
                .map(|request| RequestResults {
                    probed: vec![None; request.folders.len()],
                    failed: None,
                })
                .collect(),
        }
    }

    fn failure(&self, request: usize) -> Option<&EwsError> {
        self.requests.get(request)?.failed.as_ref()
    }

    fn fail(&mut self, request: usize, error: EwsError) {
        if let Some(results) = self.requests.get_mut(request) {
            results.failed = Some(error);
        }
    }

    fn record(&mut self, asked: &AskedFolder<'_>, found: Probed) {
        let results = self.requests.get_mut(asked.request);
        if let Some(result) = results.and_then(|results| results.probed.get_mut(asked.folder)) {
            *result = Some(found);
        }
    }

    fn take(&mut self, request: usize) -> Result<Vec<Probed>, EwsError> {
        let RequestResults { probed, failed } = self
            .requests
            .get_mut(request)
            .map(std::mem::take)
            .unwrap_or_default();
        match failed {
            Some(error) => Err(error),
            None => Ok(probed
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
                (AccessMode::Delegate, _) => together.push((index, request)),
                (AccessMode::Impersonation, _) => alone.push((index, request)),
            }
        }
        let pending = folders_of(&together);
        let to_probe_alone = self.probe_together(&mut probes, pending).await;
        // Mailboxes that delegate access did not reach are probed one by one.
        for &(index, request) in &together {
            let Some(results) = probes.requests.get(index) else {
                continue;
            };
            let (_, second) = self.access.order(&request.mailbox);
            let refused = results
                .failed
                .as_ref()
                .and_then(|error| error.code.as_deref())
                .is_some_and(|code| access::is_refusal(code, false));
            let is_delegate = self.access.recorded_mode(&request.mailbox) == Some(AccessMode::Delegate);
            if results.any_seen() {
                self.access.record_success(&request.mailbox, AccessMode::Delegate);
            } else if to_probe_alone.contains(&index)
                || second.is_some() && (refused || results.all_gone() && !is_delegate)
            {
                alone.push((index, request));
            }
        }
        let tasks: Vec<_> = alone
            .into_iter()
            .map(|(index, request)| {
                let is_tried = together.iter().any(|&(asked, _)| asked == index);
                let tried = (is_tried && !to_probe_alone.contains(&index)).then(|| probes.take(index));
                self.probe_alone(index, request, tried)
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
            .zip(requests)
            .enumerate()
            .map(|(index, (result, request))| {
                result
                    .unwrap_or_else(|| probes.take(index))
                    .map_err(|error| error.failure.within(&request.mailbox))
            })
            .collect()
    }

    /// Probes folders of many mailboxes as a delegate. Returns the requests that must be probed alone,
    /// because the server refused a whole request without naming the mailbox that caused it.
    async fn probe_together(
        &self,
        probes: &mut FolderProbes,
        mut pending: Vec<AskedFolder<'_>>,
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
            for folder in &asked {
                if last != Some(folder.request) {
                    mailboxes.push(folder.mailbox);
                    last = Some(folder.request);
                }
                ids.push(folder.id.0.as_str());
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
                    for &AskedFolder { request, .. } in &asked {
                        if someones && !to_probe_alone.contains(&request) {
                            to_probe_alone.push(request);
                        }
                        probes.fail(request, error.clone());
                    }
                }
            }
            pending.retain(|folder| probes.failure(folder.request).is_none());
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
        let mut pending = folders_of(&[(0, request)]);
        let mut rounds = 10 + pending.len() / self.limits.folders_per_probe.max(1);
        while !pending.is_empty() && probes.failure(0).is_none() {
            let rest = pending.split_off(pending.len().min(self.limits.folders_per_probe.max(1)));
            let asked = std::mem::replace(&mut pending, rest);
            if rounds == 0 {
                fail_folders(&mut probes, &asked);
                break;
            }
            rounds -= 1;
            let ids: Vec<&str> = asked.iter().map(|folder| folder.id.0.as_str()).collect();
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
        mailboxes: &[&MailboxAddress],
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

/// Records an answer. Returns the folders that the server did not process.
fn record_answer<'a>(
    probes: &mut FolderProbes,
    asked: &[AskedFolder<'a>],
    messages: Vec<ResponseMessage<Option<ReadFolder>>>,
) -> Vec<AskedFolder<'a>> {
    let mut stopped = Vec::new();
    for (asked_folder, message) in asked.iter().zip(messages) {
        let found = match message {
            Ok(found) => found
                .and_then(|folder| folder.signs())
                .map_or(Probed::Unknown, Probed::Signs),
            Err(error) if error.is_stop() => {
                stopped.push(*asked_folder);
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
                    probes.fail(asked_folder.request, error);
                    continue;
                }
            },
        };
        probes.record(asked_folder, found);
    }
    stopped.retain(|folder: &AskedFolder<'_>| probes.failure(folder.request).is_none());
    stopped
}

fn fail_folders(probes: &mut FolderProbes, folders: &[AskedFolder<'_>]) {
    for folder in folders {
        let error = EwsError {
            code: None,
            failure: Failure::new(
                ErrorClass::Transient,
                Code::ExchangeError,
                "GetFolder: the server stopped repeatedly in the middle of the batch",
            ),
        };
        probes.fail(folder.request, error);
    }
}
