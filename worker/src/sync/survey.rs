//! The idle check: reads what is saved about a batch's users, and asks both servers whether anything changed
//! for a group of them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{SourceKey, TenantId, UserId, UserKey};
use tasksync_common::registry::{Enrolment, StoredState};
use tasksync_common::state::{Fingerprint, IdleCheck, Signs};

use super::{SyncEngine, TenantContext};
use crate::mailbox::{FolderId, ProbeRequest, Probed};
use crate::source::{Person, SourceChanges};
use crate::work::Survey;

/// Age after which an unchanged source cursor is stored anew, so that the source still accepts it.
const CURSOR_REST: SignedDuration = SignedDuration::from_hours(1);

/// What the registry held about a user when the batch began: enough for the idle check, without the state
/// itself.
pub struct StoredUser {
    enrolment: Enrolment,
    stored: Option<StoredState>,
}

/// What one sync has to do.
pub struct SyncWork {
    pub(super) context: Arc<TenantContext>,
    pub(super) user: UserKey,
    /// What the survey found; without it both sides are read from the stored cursors.
    pub(super) findings: Option<SurveyFindings>,
    /// Whether everything is compared.
    pub(super) full: bool,
}

impl SyncWork {
    /// Returns the work of a sync without a survey.
    pub(super) fn without_survey(context: &Arc<TenantContext>, user: &UserKey) -> Self {
        Self {
            context: Arc::clone(context),
            user: user.clone(),
            findings: None,
            full: false,
        }
    }
}

/// What the survey found for an enrolment.
pub(super) struct SurveyFindings {
    pub(super) enrolment: Enrolment,
    /// The cursor of the fingerprint, and what the source reported since.
    pub(super) source: Option<(String, SourceChanges)>,
    /// The folders' present signs, read before the folders themselves.
    pub(super) signs: BTreeMap<String, Option<Signs>>,
    /// Whether a folder is gone.
    pub(super) folder_gone: bool,
}

impl SurveyFindings {
    /// Returns whether this is about the same person and mailbox. The user may have opted in anew since.
    pub(super) fn is_about(&self, now: &Enrolment) -> bool {
        let Enrolment {
            key: _,
            source_login,
            mailbox,
            time_zone: _,
            opted_in_at,
            state: _,
        } = &self.enrolment;
        *source_login == now.source_login && *mailbox == now.mailbox && *opted_in_at == now.opted_in_at
    }
}

/// One user during the survey.
struct SurveyedUser<'a> {
    stored_user: &'a StoredUser,
    /// The user's saved fingerprint; `None` if nothing is stored or it cannot be read.
    check: Option<IdleCheck<'a>>,
    failure: Option<Failure>,
    source: Option<SourceChanges>,
    /// What the probe answered for each remembered folder, in their order.
    probed: Vec<Probed>,
    busy: bool,
}

impl<'a> SurveyedUser<'a> {
    /// Returns the saved fingerprint, if nothing has failed for this user.
    fn usable_fingerprint(&self) -> Option<&IdleCheck<'a>> {
        self.check.as_ref().filter(|_| self.failure.is_none())
    }

    /// Returns the source cursor, if nothing has failed for this user.
    fn cursor(&self) -> Option<&'a str> {
        self.usable_fingerprint()?.source_cursor
    }

    /// Returns the person as the source identifies them.
    fn person(&self) -> Person {
        let identity = self.check.as_ref().and_then(|check| check.identity);
        Person {
            login: self.stored_user.enrolment.source_login.clone(),
            identity: identity.map(str::to_owned),
        }
    }

    /// Returns the keys of the tasks that have a link.
    fn linked(&self) -> BTreeSet<SourceKey> {
        let stored = self.stored_user.stored.as_ref();
        stored
            .and_then(|stored| Fingerprint::decode(&stored.fingerprint).ok())
            .map(|fingerprint| fingerprint.linked_keys().collect())
            .unwrap_or_default()
    }
}

impl SyncEngine {
    /// Reads all users of a batch with one query.
    pub(super) async fn look_up_users(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Vec<Result<StoredUser, Failure>> {
        let found = match self.registry.enrolments_with_fingerprints(tenant, users).await {
            Ok(found) => found,
            Err(failure) => return users.iter().map(|_| Err(failure.clone())).collect(),
        };
        let position_of_user: HashMap<&UserId, usize> = users
            .iter()
            .enumerate()
            .map(|(position, user)| (user, position))
            .collect();
        let mut stored_users: Vec<Option<StoredUser>> = users.iter().map(|_| None).collect();
        for (enrolment, stored) in found {
            let position = position_of_user.get(&enrolment.key.user);
            if let Some(slot) = position.and_then(|&position| stored_users.get_mut(position)) {
                *slot = Some(StoredUser { enrolment, stored });
            }
        }
        stored_users
            .into_iter()
            .zip(users)
            .map(|(stored_user, user)| {
                stored_user.ok_or_else(|| unknown_user(&UserKey::new(tenant.clone(), user.clone())))
            })
            .collect()
    }

    pub(super) async fn survey_group(
        &self,
        tenant: &TenantId,
        users: Vec<(UserId, StoredUser)>,
    ) -> Vec<Result<Survey<SyncWork>, Failure>> {
        let context = match self.tenants.get(tenant).await {
            Ok(context) => context,
            Err(failure) => return users.iter().map(|_| Err(failure.clone())).collect(),
        };
        let now = self.clock.now();
        let mut candidates: Vec<SurveyedUser<'_>> = users
            .iter()
            .map(|(_, stored_user)| self.candidate(stored_user, now))
            .collect();
        self.ask_source(&context, &mut candidates).await;
        self.ask_mailboxes(&context, &mut candidates).await;
        candidates
            .into_iter()
            .map(|candidate| candidate.finish(&context))
            .collect()
    }

    fn candidate<'a>(&self, stored_user: &'a StoredUser, now: Timestamp) -> SurveyedUser<'a> {
        // A fingerprint that cannot be read counts as nothing stored: the user is not idle, and the load logs
        // why.
        let stored = stored_user.stored.as_ref();
        let check = stored.and_then(|stored| IdleCheck::decode(&stored.fingerprint).ok());
        let busy = check.as_ref().is_none_or(|check| self.must_check(check, now));
        SurveyedUser {
            stored_user,
            check,
            failure: None,
            source: None,
            probed: Vec::new(),
            busy,
        }
    }

    /// Returns whether the user must be synced whatever the servers report.
    fn must_check(&self, check: &IdleCheck<'_>, now: Timestamp) -> bool {
        let rested = check
            .source_cursor_at
            .is_none_or(|stored| now.duration_since(stored) > CURSOR_REST);
        check.unfinished || rested || self.settings.full_check_due(check.full_check_at, now)
    }

    /// Reads the tenant's shared change feed once, then each user's part of it.
    async fn ask_source(&self, context: &TenantContext, candidates: &mut [SurveyedUser<'_>]) {
        let source = &context.connections.source;
        let mut cursors: Vec<&str> = candidates.iter().filter_map(SurveyedUser::cursor).collect();
        cursors.sort_unstable();
        cursors.dedup();
        if cursors.is_empty() {
            return;
        }
        if let Err(failure) = source.refresh(&cursors).await
            && failure.class != ErrorClass::CursorInvalid
        {
            for candidate in candidates {
                candidate.failure = Some(failure.clone());
            }
            return;
        }
        // Users who were synced together share a cursor. If the feed reported nothing since, one answer
        // serves them all.
        let mut unchanged_answers: Vec<(&str, Option<SourceChanges>)> = Vec::with_capacity(cursors.len());
        for cursor in cursors {
            unchanged_answers.push((cursor, source.unchanged_since(cursor).await));
        }
        for candidate in candidates {
            let Some(cursor) = candidate.cursor() else {
                candidate.busy |= candidate.usable_fingerprint().is_some();
                continue;
            };
            let index = unchanged_answers.binary_search_by_key(&cursor, |&(cursor, _)| cursor);
            let unchanged = index
                .ok()
                .and_then(|index| unchanged_answers.get(index)?.1.clone());
            let answer = if let Some(unchanged) = unchanged {
                Ok(unchanged)
            } else {
                let person = candidate.person();
                source.changes(&person, cursor, &candidate.linked()).await
            };
            match answer {
                Ok(changes) => {
                    candidate.busy |= !changes.tasks.is_empty();
                    candidate.source = Some(changes);
                }
                Err(failure) if failure.class == ErrorClass::CursorInvalid => candidate.busy = true,
                Err(failure) => candidate.failure = Some(failure),
            }
        }
    }

    /// Probes the folders of all users with one call.
    async fn ask_mailboxes(&self, context: &TenantContext, candidates: &mut [SurveyedUser<'_>]) {
        let mut asked = Vec::with_capacity(candidates.len());
        let mut requests = Vec::with_capacity(candidates.len());
        for (index, candidate) in candidates.iter().enumerate() {
            let Some(check) = candidate
                .usable_fingerprint()
                .filter(|check| !check.folders.is_empty())
            else {
                continue;
            };
            let folders = check.folders.iter();
            asked.push(index);
            requests.push(ProbeRequest {
                mailbox: candidate.stored_user.enrolment.mailbox.clone(),
                folders: folders.map(|&(id, _)| FolderId(id.to_owned())).collect(),
            });
        }
        if requests.is_empty() {
            return;
        }
        let answers = context.connections.mailbox.probe(&requests).await;
        for (index, answer) in asked.into_iter().zip(answers) {
            let Some(candidate) = candidates.get_mut(index) else {
                continue;
            };
            match answer {
                Ok(probed) => candidate.compare(probed),
                Err(failure) => candidate.failure = Some(failure),
            }
        }
    }
}

impl SurveyedUser<'_> {
    /// Compares the probed signs with the remembered ones.
    fn compare(&mut self, probed: Vec<Probed>) {
        let remembered = self.check.iter().flat_map(|check| &check.folders);
        self.busy |= remembered
            .zip(&probed)
            .any(|((_, before), now)| now.signs().is_none() || now.signs() != *before);
        self.probed = probed;
    }

    fn finish(self, context: &Arc<TenantContext>) -> Result<Survey<SyncWork>, Failure> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if !self.busy {
            return Ok(Survey::Idle);
        }
        let cursor = self.check.as_ref().and_then(|check| check.source_cursor);
        let folders = self.check.iter().flat_map(|check| &check.folders);
        let signs = folders.zip(&self.probed);
        let enrolment = &self.stored_user.enrolment;
        Ok(Survey::Work(SyncWork {
            context: Arc::clone(context),
            user: enrolment.key.clone(),
            full: self.check.is_none(),
            findings: Some(SurveyFindings {
                enrolment: enrolment.clone(),
                source: cursor.map(str::to_owned).zip(self.source),
                signs: signs
                    .map(|(&(folder, _), probed)| (folder.to_owned(), probed.signs()))
                    .collect(),
                folder_gone: self.probed.contains(&Probed::Gone),
            }),
        }))
    }
}

pub(super) fn unknown_user(user: &UserKey) -> Failure {
    Failure::new(
        ErrorClass::Gone,
        Code::UserUnknown,
        format!("{user} is not enrolled any more"),
    )
}
