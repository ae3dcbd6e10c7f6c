//! Deciding whether a list that no walk found is gone, or only cannot be seen.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{Code, ErrorClass, Failure, Scope as Whose};
use uuid::Uuid;

use super::errors::{RequestSubject, SharePointCode};
use super::lists::TaskList;
use super::wire::{RestAnswer, RestRequest, SharePointRefusal};
use super::{SharePointSource, Site, odata};

/// The decision about a missing list.
#[derive(Debug)]
pub(super) enum ListVerdict {
    /// The list is gone: SharePoint said so twice.
    Gone,
    /// The list may exist. Its tasks stay as they are.
    Unread(Failure),
}

/// SharePoint's answer to a request for a list by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ListAbsence {
    /// The list does not exist.
    List,
    /// The list exists and is no longer a task list.
    NoTaskList,
    /// The web of the list does not exist.
    Web,
}

impl ListAbsence {
    /// Returns how long the answer must stay the same before it counts: 5 minutes; for a web the interval of
    /// full checks, if that is longer.
    fn believed_after(self, full_check_interval: Duration) -> SignedDuration {
        const SHORTEST: SignedDuration = SignedDuration::from_mins(5);
        match self {
            Self::List | Self::NoTaskList => SHORTEST,
            Self::Web => SignedDuration::try_from(full_check_interval)
                .unwrap_or(SignedDuration::MAX)
                .max(SHORTEST),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::List => "the list does not exist",
            Self::NoTaskList => "the list is no task list any more",
            Self::Web => "the site of the list does not exist",
        }
    }
}

/// The sightings of missing lists. They are kept in memory; a restart only delays the decision.
#[derive(Debug, Default)]
pub(super) struct MissingLists {
    /// Since when each list has been missing, and in which way.
    since: HashMap<Uuid, (ListAbsence, Timestamp)>,
    /// Lists that the change feed reported as deleted.
    deleted: HashSet<Uuid>,
}

/// Lists remembered as missing, and as deleted. Beyond this number all are forgotten.
const MISSING_LISTS: usize = 10_000;

impl MissingLists {
    /// Records that `list` is missing at `now`. Returns since when it has been missing in this way.
    fn note(&mut self, list: Uuid, absent: ListAbsence, now: Timestamp) -> Timestamp {
        if self.since.len() >= MISSING_LISTS {
            self.since.clear();
        }
        let entry = self.since.entry(list).or_insert((absent, now));
        if entry.0 != absent || entry.1 > now {
            *entry = (absent, now);
        }
        entry.1
    }

    /// Records that the change feed reported `list` as deleted.
    pub(super) fn record_deleted(&mut self, list: Uuid) {
        if self.deleted.len() >= MISSING_LISTS {
            self.deleted.clear();
        }
        self.deleted.insert(list);
    }

    /// Forgets that `list` was missing.
    pub(super) fn forget(&mut self, list: Uuid) {
        self.since.remove(&list);
    }

    /// Forgets everything about `list`, which was found.
    pub(super) fn forget_found(&mut self, list: Uuid) {
        self.since.remove(&list);
        self.deleted.remove(&list);
    }
}

impl SharePointSource {
    /// Decides about a list that no walk found, or that one answer denied.
    ///
    /// The list is gone if SharePoint answers two requests by its id with its own error for a missing list,
    /// at least 5 minutes apart, while the site answers. After a lost web the two answers must be at least
    /// one full check apart. Before each of them a new walk of the site must not show the list. A refused,
    /// redirected or failed request, or a 404 from something in front of SharePoint, proves nothing.
    ///
    /// # Errors
    /// The whole server or the account is the cause.
    pub(super) async fn judge_missing_list(&self, list: Uuid) -> Result<ListVerdict, Failure> {
        let mut not_walked = HashMap::new();
        for site in &self.sites {
            if site
                .catalogue
                .with_missing_lists(|seen| seen.since.contains_key(&list))
            {
                // Each sighting requires a new walk.
                site.catalogue.expire_unless_fresh(self.client.now());
            }
            // Use a walk made after the answer that missed the list: if one answer denies a list and another
            // shows it, it exists.
            match self.lists(site).await {
                Ok(found) => {
                    if let Some(list) = found.lists.get(&list) {
                        return Ok(ListVerdict::Unread(contradiction(list)));
                    }
                }
                Err(failure) => {
                    not_walked.insert(site.name.as_str(), failure);
                }
            }
        }
        let mut candidate_webs: Vec<(&Site, String)> = self
            .sites
            .iter()
            .filter_map(|site| Some((site, site.catalogue.web_of(list)?)))
            .collect();
        if candidate_webs.is_empty() {
            // Its web is not known. That no visible web has the list proves nothing, because its own web may
            // be hidden. The change feed covers all webs.
            candidate_webs = self
                .sites
                .iter()
                .filter(|site| {
                    site.catalogue
                        .with_missing_lists(|seen| seen.deleted.contains(&list))
                })
                .map(|site| (site, site.address.clone()))
                .collect();
        }
        if candidate_webs.is_empty() {
            return Ok(ListVerdict::Unread(self.why_unseen(list).await));
        }
        for (site, web) in candidate_webs {
            match not_walked.remove(site.name.as_str()) {
                Some(failure) if matches!(failure.class, ErrorClass::Throttled { .. }) => {
                    return Err(failure);
                }
                Some(failure) => return Ok(ListVerdict::Unread(failure)),
                None => {}
            }
            match self.ask_for(site, &web, list).await? {
                Ok(absent) => {
                    let now = self.client.now();
                    let since = site
                        .catalogue
                        .with_missing_lists(|seen| seen.note(list, absent, now));
                    let after = absent.believed_after(self.settings.full_check_interval);
                    if since.duration_until(now) < after {
                        return Ok(ListVerdict::Unread(not_believed_yet(
                            &web, list, absent, since, after,
                        )));
                    }
                }
                Err(failure) => {
                    site.catalogue.with_missing_lists(|seen| seen.forget(list));
                    return Ok(ListVerdict::Unread(failure));
                }
            }
        }
        Ok(ListVerdict::Gone)
    }

    /// Returns why a list whose web is not known cannot be seen.
    async fn why_unseen(&self, list: Uuid) -> Failure {
        for site in &self.sites {
            match self.lists(site).await {
                Err(failure) => return failure,
                Ok(found) => {
                    if let Some(failure) = found.unread_list(list).or_else(|| found.incomplete()) {
                        return failure;
                    }
                }
            }
        }
        let detail = format!(
            "list {list}: no site of the tenant shows it, and the change feed does not report it as deleted; it may be closed \
             to the service account"
        );
        Failure::new(ErrorClass::Transient, Code::SharePointDenied, detail).about(Whose::Container)
    }

    /// Requests the site, and the list by its id.
    async fn ask_for(
        &self,
        site: &Site,
        web: &str,
        list: Uuid,
    ) -> Result<Result<ListAbsence, Failure>, Failure> {
        let requests = vec![
            RestRequest::get(&site.address, "web?$select=Id", RequestSubject::Site),
            RestRequest::get(
                web,
                format!("web/lists(guid'{list}')?$select=Id"),
                RequestSubject::List,
            ),
        ];
        let mut replies = match self.client.send_all(requests).await {
            Ok(replies) => replies.into_iter(),
            Err(failure) if matches!(failure.class, ErrorClass::Throttled { .. }) => return Err(failure),
            Err(failure) => return Ok(Err(failure)),
        };
        let (Some(of_site), Some(of_list)) = (replies.next(), replies.next()) else {
            return Ok(Err(bad_answer(web, "a question about a list has no answer")));
        };
        let site_answers = of_site.and_then(|reply| reply.read(&["Id"]).map_err(SharePointRefusal::from));
        match site_answers {
            Ok(answer) if odata::guid(&answer, "Id").is_some() => {}
            Ok(_) => return Ok(Err(bad_answer(&site.address, "the web has no id"))),
            Err(refusal) => return Ok(Err(refusal.failure)),
        }
        Ok(match of_list {
            Ok(reply) => {
                read_list_answer(web, list, &reply).inspect_err(|failure| self.client.note_foreign(failure))
            }
            Err(refusal) if refusal.sharepoint_code == SharePointCode::ListMissing => Ok(ListAbsence::List),
            Err(refusal)
                if refusal.status == Some(404)
                    && refusal.sharepoint_code != SharePointCode::Absent
                    && !web.eq_ignore_ascii_case(&site.address) =>
            {
                Ok(ListAbsence::Web)
            }
            Err(refusal) => Err(refusal.failure),
        })
    }
}

fn read_list_answer(web: &str, list: Uuid, reply: &RestAnswer) -> Result<ListAbsence, Failure> {
    let answer = reply.read(&["Id"])?;
    match odata::guid(&answer, "Id") {
        Some(id) if id == list => Ok(ListAbsence::NoTaskList),
        Some(_) => Err(unusable(
            web,
            Code::SharePointForeignAnswer,
            "the answer to a question about a list is about another list",
        )),
        None => Err(bad_answer(web, "the answer to a question about a list has no id")),
    }
}

fn contradiction(list: &TaskList) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::AnswersDisagree,
        format!(
            "{} list {}: one answer says that it does not exist, and the web shows it",
            list.web, list.id
        ),
    )
    .about(Whose::Container)
}

fn not_believed_yet(
    web: &str,
    list: Uuid,
    absent: ListAbsence,
    since: Timestamp,
    after: SignedDuration,
) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::SharePointListGone,
        format!(
            "{web} list {list}: {} (first seen {since:.0}); its tasks stay until this is confirmed after {after:#}",
            absent.name()
        ),
    )
    .about(Whose::Container)
}

fn bad_answer(subject: &str, reason: &str) -> Failure {
    unusable(subject, Code::SharePointBadAnswer, reason)
}

fn unusable(subject: &str, code: Code, reason: &str) -> Failure {
    Failure::new(ErrorClass::Transient, code, format!("{subject}: {reason}")).about(Whose::Container)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sighting_begins_anew_when_the_reason_or_the_clock_changes() {
        let list = Uuid::from_u128(7);
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut sightings = MissingLists::default();
        assert_eq!(sightings.note(list, ListAbsence::List, at(100)), at(100));
        assert_eq!(sightings.note(list, ListAbsence::List, at(500)), at(100));
        assert_eq!(sightings.note(list, ListAbsence::Web, at(600)), at(600));
        assert_eq!(sightings.note(list, ListAbsence::Web, at(50)), at(50));
        sightings.forget(list);
        assert_eq!(sightings.note(list, ListAbsence::Web, at(900)), at(900));
    }
}
