//! The cheap questions: what do we remember of a batch's users, and did anything change for a group of them?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::{SourceKey, TenantId, UserId, UserKey};
use tasksync_common::registry::{Enrolment, StoredState};
use tasksync_common::state::{Fingerprint, Signs};

use super::{SyncEngine, TenantContext};
use crate::mailbox::{FolderId, ProbeRequest, Probed};
use crate::source::{Person, SourceChanges};
use crate::work::Survey;

/// A source position that nobody moved is stored anew after this time, so that it never grows too old.
const CURSOR_REST: SignedDuration = SignedDuration::from_hours(1);

/// What the registry knew of a user when the batch began: enough for the idle check, without the state itself.
pub struct Known {
    enrolment: Enrolment,
    stored: Option<StoredState>,
}

/// What the sync is to do.
pub struct Work {
    pub(super) context: Arc<TenantContext>,
    pub(super) user: UserKey,
    /// What the survey found; without it everything is looked at from the stored cursors.
    pub(super) found: Option<Found>,
    /// Everything is to be compared.
    pub(super) full: bool,
}

impl Work {
    /// A sync without a survey.
    pub(super) fn whole(context: &Arc<TenantContext>, user: &UserKey) -> Self {
        Self {
            context: Arc::clone(context),
            user: user.clone(),
            found: None,
            full: false,
        }
    }
}

/// What the survey found out for an enrolment.
pub(super) struct Found {
    pub(super) enrolment: Enrolment,
    /// What the source reported since the fingerprint's cursor, and that cursor.
    pub(super) source: Option<(String, SourceChanges)>,
    /// Present signs of the folders, read before anything else.
    pub(super) signs: BTreeMap<String, Option<Signs>>,
    /// A folder is gone.
    pub(super) folder_gone: bool,
}

impl Found {
    /// Whether it was asked about the same person and mailbox. The user may have opted in anew since.
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

/// One user on the way through the survey.
struct Candidate {
    enrolment: Enrolment,
    fingerprint: Option<Fingerprint>,
    outcome: Option<Result<Survey<Work>, Failure>>,
    source: Option<(String, SourceChanges)>,
    signs: BTreeMap<String, Option<Signs>>,
    folder_gone: bool,
    busy: bool,
}

impl Candidate {
    fn idle_so_far(&self) -> bool {
        self.outcome.is_none() && self.fingerprint.is_some()
    }
}

impl SyncEngine {
    /// One query for all users of a batch.
    pub(super) async fn look_up_users(
        &self,
        tenant: &TenantId,
        users: &[UserId],
    ) -> Vec<Result<Known, Failure>> {
        let mut known: BTreeMap<UserId, Known> =
            match self.registry.enrolments_with_fingerprints(tenant, users).await {
                Ok(found) => found
                    .into_iter()
                    .map(|(enrolment, stored)| (enrolment.key.user.clone(), Known { enrolment, stored }))
                    .collect(),
                Err(failure) => return users.iter().map(|_| Err(failure.clone())).collect(),
            };
        users
            .iter()
            .map(|user| {
                known
                    .remove(user)
                    .ok_or_else(|| unknown(&UserKey::new(tenant.clone(), user.clone())))
            })
            .collect()
    }

    pub(super) async fn survey_group(
        &self,
        tenant: &TenantId,
        users: Vec<(UserId, Known)>,
    ) -> Vec<Result<Survey<Work>, Failure>> {
        let context = match self.tenants.get(tenant).await {
            Ok(context) => context,
            Err(failure) => return users.iter().map(|_| Err(failure.clone())).collect(),
        };
        let order: Vec<UserId> = users.iter().map(|(user, _)| user.clone()).collect();
        let mut candidates = self.candidates(users);
        self.ask_source(&context, &mut candidates).await;
        self.ask_mailboxes(&context, &mut candidates).await;
        in_order(tenant, &order, candidates, &context)
    }

    fn candidates(&self, users: Vec<(UserId, Known)>) -> BTreeMap<UserId, Candidate> {
        let now = self.clock.now();
        users
            .into_iter()
            .map(|(user, Known { enrolment, stored })| {
                // What cannot be read means the same as nothing stored: the user is not idle and the load tells why.
                let fingerprint = stored.and_then(|stored| Fingerprint::decode(&stored.fingerprint).ok());
                let busy = fingerprint
                    .as_ref()
                    .is_none_or(|fingerprint| self.must_look(fingerprint, now));
                let candidate = Candidate {
                    enrolment,
                    fingerprint,
                    outcome: None,
                    source: None,
                    signs: BTreeMap::new(),
                    folder_gone: false,
                    busy,
                };
                (user, candidate)
            })
            .collect()
    }

    /// Reasons to look at a user closely whatever the servers say.
    fn must_look(&self, fingerprint: &Fingerprint, now: Timestamp) -> bool {
        let rested = fingerprint
            .source_cursor_at
            .is_none_or(|stored| now.duration_since(stored) > CURSOR_REST);
        fingerprint.unfinished || rested || self.settings.full_check_due(fingerprint.full_check_at, now)
    }

    /// One reading of the tenant's shared change feed, then each user's part of it.
    async fn ask_source(&self, context: &TenantContext, candidates: &mut BTreeMap<UserId, Candidate>) {
        let source = &context.connections.source;
        let cursors: BTreeSet<String> = candidates
            .values()
            .filter_map(|candidate| candidate.fingerprint.as_ref()?.source_cursor.clone())
            .collect();
        if cursors.is_empty() {
            return;
        }
        let cursors: Vec<&str> = cursors.iter().map(String::as_str).collect();
        if let Err(failure) = source.refresh(&cursors).await
            && failure.class != ErrorClass::CursorInvalid
        {
            for candidate in candidates
                .values_mut()
                .filter(|candidate| candidate.outcome.is_none())
            {
                candidate.outcome = Some(Err(failure.clone()));
            }
            return;
        }
        for candidate in candidates
            .values_mut()
            .filter(|candidate| candidate.idle_so_far())
        {
            let Some(fingerprint) = &candidate.fingerprint else {
                continue;
            };
            let Some(cursor) = fingerprint.source_cursor.clone() else {
                candidate.busy = true;
                continue;
            };
            let linked: BTreeSet<SourceKey> = fingerprint.linked_keys().collect();
            let person = Person {
                login: candidate.enrolment.source_login.clone(),
            };
            match source.changes(&person, &cursor, &linked).await {
                Ok(changes) => {
                    candidate.busy |= !changes.tasks.is_empty();
                    candidate.source = Some((cursor, changes));
                }
                Err(failure) if failure.class == ErrorClass::CursorInvalid => candidate.busy = true,
                Err(failure) => candidate.outcome = Some(Err(failure)),
            }
        }
    }

    /// One probe of the folders of everybody.
    async fn ask_mailboxes(&self, context: &TenantContext, candidates: &mut BTreeMap<UserId, Candidate>) {
        let mut asked: Vec<&mut Candidate> = candidates
            .values_mut()
            .filter(|candidate| candidate.idle_so_far())
            .collect();
        asked.retain(|candidate| {
            candidate
                .fingerprint
                .as_ref()
                .is_some_and(|known| !known.folders.is_empty())
        });
        let requests: Vec<ProbeRequest> = asked
            .iter()
            .map(|candidate| ProbeRequest {
                mailbox: candidate.enrolment.mailbox.clone(),
                folders: candidate
                    .fingerprint
                    .iter()
                    .flat_map(|known| known.folders.iter().map(|(folder, _)| FolderId(folder.clone())))
                    .collect(),
            })
            .collect();
        if requests.is_empty() {
            return;
        }
        let answers = context.connections.mailbox.probe(&requests).await;
        for (candidate, answer) in asked.into_iter().zip(answers) {
            match answer {
                Ok(probed) => candidate.compare(&probed),
                Err(failure) => candidate.outcome = Some(Err(failure)),
            }
        }
    }
}

impl Candidate {
    fn compare(&mut self, probed: &[Probed]) {
        let Some(fingerprint) = &self.fingerprint else {
            return;
        };
        for ((folder, stored), probed) in fingerprint.folders.iter().zip(probed) {
            let now = match probed {
                Probed::Signs(signs) => Some(*signs),
                Probed::Unknown => None,
                Probed::Gone => {
                    self.folder_gone = true;
                    None
                }
            };
            if now.is_none() || now != *stored {
                self.busy = true;
            }
            self.signs.insert(folder.clone(), now);
        }
    }

    fn finish(self, context: &Arc<TenantContext>) -> Result<Survey<Work>, Failure> {
        match self.outcome {
            Some(outcome) => outcome,
            None if !self.busy => Ok(Survey::Idle),
            None => Ok(Survey::Work(Work {
                context: Arc::clone(context),
                user: self.enrolment.key.clone(),
                full: self.fingerprint.is_none(),
                found: Some(Found {
                    enrolment: self.enrolment,
                    source: self.source,
                    signs: self.signs,
                    folder_gone: self.folder_gone,
                }),
            })),
        }
    }
}

fn in_order(
    tenant: &TenantId,
    users: &[UserId],
    mut candidates: BTreeMap<UserId, Candidate>,
    context: &Arc<TenantContext>,
) -> Vec<Result<Survey<Work>, Failure>> {
    users
        .iter()
        .map(|user| match candidates.remove(user) {
            Some(candidate) => candidate.finish(context),
            None => Err(unknown(&UserKey::new(tenant.clone(), user.clone()))),
        })
        .collect()
}

pub(super) fn unknown(user: &UserKey) -> Failure {
    Failure::new(
        ErrorClass::Gone,
        Code::UserUnknown,
        format!("{user} is not enrolled any more"),
    )
}
