//! The change feed of one site, read once for all users of the tenant.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tasksync_common::error::{Code, ErrorClass, Failure};
use uuid::Uuid;

use super::client::SharePointClient;
use super::cursor::{self, FeedToken};
use super::errors::RequestSubject;
use super::log::{CHANGE_PROPERTIES, Delta, FeedChange, FeedLog};
use super::wire::RestRequest;
use super::{SharePointSettings, locked, odata};

/// The answer to a user's cursor.
#[derive(Debug, Clone)]
pub(super) struct FeedAnswer {
    /// What changed since the cursor.
    pub(super) delta: Delta,
    /// The token from which the user's next reading continues.
    pub(super) token: String,
    /// The time at which that token was current.
    pub(super) birth: Timestamp,
    /// Whether the changes were read without the shared log, which does not contain all of them. Cached items
    /// then cannot be trusted.
    pub(super) bypassed_log: bool,
}

/// The time and outcome of the last reading, shared by all callers within the window.
#[derive(Debug, Default)]
struct LastReading {
    last: Option<(Timestamp, Option<Failure>)>,
}

struct FeedState {
    log: Option<FeedLog>,
    /// The time at which the log's head was current, by the server's clock.
    birth: Timestamp,
    /// The first place of a new log. Places only grow.
    next_position: i64,
}

/// The change feed of one site and the log of what was read from it.
pub(super) struct Feed {
    /// The address of the site collection.
    site: String,
    limit: usize,
    window: SignedDuration,
    pages: usize,
    /// Held while the feed is read: one caller reads, the others wait and use the result.
    read_lock: tokio::sync::Mutex<LastReading>,
    state: Mutex<FeedState>,
    /// The site's id, for tokens of our own.
    site_id: Mutex<Option<Uuid>>,
    /// Whether the server refuses the full query; then only items and lists are asked for.
    plain: AtomicBool,
    /// Whether the server does not report its current token (SharePoint 2013).
    no_current_token: AtomicBool,
}

/// Characters of the longest change token that is accepted. Tokens have some 100.
const LONGEST_TOKEN: usize = 300;
/// The scope of a site collection's tokens.
const SITE_COLLECTION: u8 = 1;
/// Changes requested at once (`FetchLimit`).
const PAGE: usize = 1_000;
/// Changes accepted in one answer: a server without `FetchLimit` may send more than a page.
const LONGEST_PAGE: usize = 20_000;
/// Time by which a token of our own is dated back, for clocks that differ.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
/// Age after which the head is replaced by the current token even if nothing changed. So no token grows too
/// old for the server, and a token that the server silently answers with nothing (because it was restored, or
/// lost its log) does not hide changes for longer.
const HEAD_AGE: SignedDuration = SignedDuration::from_hours(1);
/// Age after which the feed is read again before a cursor is answered.
const STALE: SignedDuration = SignedDuration::from_secs(60);
/// Time for which a failure is repeated without asking again: callers that waited for the same reading fail
/// with it.
const FAILURE_WINDOW: SignedDuration = SignedDuration::from_secs(5);
/// Cursors that are tried as the beginning of a new log.
const BEGINNINGS: usize = 4;

impl Feed {
    pub(super) fn new(site: &str, settings: &SharePointSettings, sites: usize) -> Self {
        Self {
            site: site.to_owned(),
            limit: (settings.log_changes / sites.max(1)).max(PAGE),
            window: SignedDuration::try_from(settings.feed_window).unwrap_or_default(),
            pages: settings.feed_pages.max(1),
            read_lock: tokio::sync::Mutex::default(),
            state: Mutex::new(FeedState {
                log: None,
                birth: Timestamp::UNIX_EPOCH,
                next_position: 1,
            }),
            site_id: Mutex::default(),
            plain: AtomicBool::new(false),
            no_current_token: AtomicBool::new(false),
        }
    }

    /// Reads the feed forward, unless it was read within the window. `tokens` are the users' tokens; the
    /// first reading begins at the oldest of them.
    pub(super) async fn refresh(&self, client: &SharePointClient, tokens: &[&str]) -> Result<(), Failure> {
        self.read(client, tokens, self.window).await?;
        let unknown = {
            let state = locked(&self.state);
            let Some(log) = &state.log else { return Ok(()) };
            tokens
                .iter()
                .filter(|token| log.locate(token).is_none())
                .min_by_key(|token| FeedToken::parse(token).map_or(i64::MAX, |token| token.ticks))
                .copied()
        };
        match unknown {
            None => Ok(()),
            // A user whose token is refused gets the failure in `since`.
            Some(token) => match self.reach_back(client, token).await {
                Err(failure) if failure.class != ErrorClass::CursorInvalid => Err(failure),
                _ => Ok(()),
            },
        }
    }

    async fn read(
        &self,
        client: &SharePointClient,
        tokens: &[&str],
        window: SignedDuration,
    ) -> Result<(), Failure> {
        let mut turn = self.read_lock.lock().await;
        let now = client.now();
        if let Some((at, outcome)) = &turn.last {
            let age = at.duration_until(now);
            if age < window && !age.is_negative() {
                match outcome {
                    Some(failure) if age < FAILURE_WINDOW => return Err(failure.clone()),
                    None if locked(&self.state).log.is_some() => return Ok(()),
                    Some(_) | None => {}
                }
            }
        }
        let outcome = self.read_forward(client, tokens).await;
        turn.last = Some((client.now(), outcome.as_ref().err().cloned()));
        outcome
    }

    async fn read_forward(&self, client: &SharePointClient, tokens: &[&str]) -> Result<(), Failure> {
        if locked(&self.state).log.is_some() {
            return match self.advance(client).await {
                // The site was restored or the log is broken: start again at the site's current token.
                Err(failure) if failure.class == ErrorClass::CursorInvalid => {
                    locked(&self.state).log = None;
                    self.begin(client, &[]).await
                }
                other => other,
            };
        }
        self.begin(client, tokens).await
    }

    async fn begin(&self, client: &SharePointClient, tokens: &[&str]) -> Result<(), Failure> {
        let mut candidates: Vec<&str> = tokens
            .iter()
            .copied()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        // The oldest first, as far as that is known; the order of tokens that cannot be compared does not
        // matter.
        candidates.sort_by_key(|token| FeedToken::parse(token).map_or(i64::MAX, |token| token.ticks));
        for token in candidates.into_iter().take(BEGINNINGS) {
            let birth = token_time(token).unwrap_or_else(|| client.server_now());
            self.start(token, birth);
            match self.advance(client).await {
                Err(failure) if failure.class == ErrorClass::CursorInvalid => {
                    // The token's user gets the failure in `since`; the others do not wait for it.
                    locked(&self.state).log = None;
                }
                other => return other,
            }
        }
        let birth = client.server_now();
        let token = self.current_token(client).await?;
        self.start(&token, birth);
        Ok(())
    }

    fn start(&self, token: &str, birth: Timestamp) {
        let mut state = locked(&self.state);
        let log = FeedLog::new(token, state.next_position, self.limit);
        state.birth = birth;
        state.log = Some(log);
    }

    /// Reads from the head to the end, at most the number of pages in the settings; the rest follows with the
    /// next reading.
    async fn advance(&self, client: &SharePointClient) -> Result<(), Failure> {
        let (mut head, birth) = {
            let state = locked(&self.state);
            match &state.log {
                Some(log) => (log.head().to_owned(), state.birth),
                None => return Ok(()),
            }
        };
        // Taken before reading, so that no change can lie between it and the last page.
        let asked = client.server_now();
        let renewed = if birth.duration_until(asked) > HEAD_AGE {
            Some(self.current_token(client).await?)
        } else {
            None
        };
        let mut read_any = false;
        for _ in 0..self.pages {
            let (last, changes) = self.page(client, &head).await?;
            let Some(last) = last.filter(|last| *last != head) else {
                let mut state = locked(&self.state);
                if let (Some(token), false) = (renewed, read_any) {
                    if let Some(log) = &mut state.log {
                        log.move_head(&token);
                    }
                    state.birth = asked;
                }
                return Ok(());
            };
            read_any = true;
            let mut state = locked(&self.state);
            state.birth = token_time(&last).unwrap_or(asked).min(asked).max(state.birth);
            if let Some(log) = &mut state.log {
                for change in changes {
                    log.push(change);
                }
                log.move_head(&last);
                state.next_position = log.end() + 1;
            }
            head = last;
        }
        tracing::warn!(
            site = self.site,
            pages = self.pages,
            "the change feed has more pages than one reading takes; the rest follows"
        );
        Ok(())
    }

    /// Reads one page after `token`. Returns its last token and the changes that matter.
    async fn page(
        &self,
        client: &SharePointClient,
        token: &str,
    ) -> Result<(Option<String>, Vec<FeedChange>), Failure> {
        let plain = self.plain.load(Ordering::Relaxed);
        let reply = match client.send(&self.query(token, plain)).await {
            Ok(reply) => reply,
            Err(refusal)
                if !plain
                    && refusal.status == Some(400)
                    && refusal.failure.class != ErrorClass::CursorInvalid =>
            {
                let reply = client.send(&self.query(token, true)).await?;
                self.plain.store(true, Ordering::Relaxed);
                reply
            }
            Err(refusal) => return Err(refusal.failure),
        };
        let answer = reply.read_entries(&CHANGE_PROPERTIES, LONGEST_PAGE)?;
        let Some(entries) = odata::entries(odata::result_of(&answer, "GetChanges")) else {
            return Err(self.bad_answer("the change feed is not a list"));
        };
        let asked = site_of(token);
        let mut changes = Vec::with_capacity(entries.len());
        let mut last = None;
        for entry in entries {
            let (token, change) = FeedChange::read(entry)
                .map_err(|()| self.bad_answer("an entry of the change feed has no token"))?;
            if asked.is_some() && site_of(&token).is_some_and(|site| Some(site) != asked) {
                return Err(self.foreign_answer(client, "the change feed is of another site"));
            }
            changes.extend(change);
            last = Some(String::from(token));
        }
        Ok((last, changes))
    }

    fn bad_answer(&self, reason: &str) -> Failure {
        self.unusable(Code::SharePointBadAnswer, reason)
    }

    /// Returns the failure of an answer about something other than what was asked.
    fn foreign_answer(&self, client: &SharePointClient, reason: &str) -> Failure {
        let failure = self.unusable(Code::SharePointForeignAnswer, reason);
        client.note_foreign(&failure);
        failure
    }

    fn unusable(&self, code: Code, reason: &str) -> Failure {
        Failure::new(ErrorClass::Transient, code, format!("{}: {reason}", self.site))
    }

    fn query(&self, token: &str, plain: bool) -> RestRequest {
        let mut query = json!({
            "__metadata": {"type": "SP.ChangeQuery"},
            "Item": true, "List": true,
            "Add": true, "Update": true, "SystemUpdate": true, "DeleteObject": true, "Restore": true, "Move": true,
            "Rename": true,
            "ChangeTokenStart": {"__metadata": {"type": "SP.ChangeToken"}, "StringValue": token},
        });
        if !plain && let Value::Object(query) = &mut query {
            query.insert("FetchLimit".to_owned(), json!(PAGE));
            for flag in [
                "Web",
                "Group",
                "RoleAssignmentAdd",
                "RoleAssignmentDelete",
                "RoleDefinitionUpdate",
                "GroupMembershipAdd",
                "GroupMembershipDelete",
            ] {
                query.insert(flag.to_owned(), json!(true));
            }
        }
        RestRequest::query(
            &self.site,
            "site/getchanges",
            json!({"query": query}),
            RequestSubject::Feed,
        )
    }

    /// Returns the site's current token, or one of our own if the server does not report it.
    async fn current_token(&self, client: &SharePointClient) -> Result<String, Failure> {
        if !self.no_current_token.load(Ordering::Relaxed) {
            match client
                .send(&RestRequest::get(
                    &self.site,
                    "site?$select=Id,CurrentChangeToken",
                    RequestSubject::Site,
                ))
                .await
            {
                Ok(reply) => {
                    let site = reply.read(&["Id", "CurrentChangeToken", "StringValue"])?;
                    let id = odata::guid(&site, "Id").ok_or_else(|| self.bad_answer("the site has no id"))?;
                    self.confirm_site(client, id)?;
                    let token = site
                        .get("CurrentChangeToken")
                        .and_then(|token| odata::text(token, "StringValue"))
                        .filter(|token| token.len() <= LONGEST_TOKEN);
                    if let Some(token) = token {
                        if site_of(&token).is_some_and(|site| site != id) {
                            return Err(self.foreign_answer(client, "the change token is of another site"));
                        }
                        return Ok(token);
                    }
                }
                Err(refusal) if refusal.status == Some(400) => {}
                Err(refusal) => return Err(refusal.failure),
            }
            self.no_current_token.store(true, Ordering::Relaxed);
        }
        let cached_id = *locked(&self.site_id);
        let site_id = if let Some(id) = cached_id {
            id
        } else {
            let reply = client
                .send(&RestRequest::get(
                    &self.site,
                    "site?$select=Id",
                    RequestSubject::Site,
                ))
                .await?;
            let id = odata::guid(&reply.read(&["Id"])?, "Id")
                .ok_or_else(|| self.bad_answer("the site has no id"))?;
            self.confirm_site(client, id)?;
            id
        };
        let now = client.server_now();
        Ok(FeedToken::at(site_id, now.checked_sub(MARGIN).unwrap_or(now)))
    }

    /// Refuses an answer about another site than the previous answer was about. A site that was recreated at
    /// the same address has another id, so the same answer is accepted the second time.
    fn confirm_site(&self, client: &SharePointClient, id: Uuid) -> Result<(), Failure> {
        match locked(&self.site_id).replace(id) {
            Some(known_id) if known_id != id => {
                Err(self.foreign_answer(client, "the answer is about another site"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Returns the token from which a user who lists everything now continues. A listing that begins later
    /// contains everything up to this token.
    pub(super) async fn position(&self, client: &SharePointClient) -> Result<(String, Timestamp), Failure> {
        self.refresh(client, &[]).await?;
        let state = locked(&self.state);
        match &state.log {
            Some(log) => Ok((log.head().to_owned(), state.birth)),
            None => Err(self.bad_answer("the change feed has no position")),
        }
    }

    /// Answers a user's cursor.
    ///
    /// # Errors
    /// `CursorInvalid` if the server refuses the token, or there were too many changes since.
    pub(super) async fn since(&self, client: &SharePointClient, token: &str) -> Result<FeedAnswer, Failure> {
        self.read(client, &[token], STALE).await?;
        if let Some(answered) = self.answer(token) {
            return Ok(answered);
        }
        // The token is further ahead than our log, or was read by another process: our log's end may be older
        // than the window allows.
        self.read(client, &[token], self.window).await?;
        if let Some(answered) = self.answer(token) {
            return Ok(answered);
        }
        self.reach_back(client, token).await
    }

    /// Returns the token from which a user with this token continues, and the time at which it was current, if the log
    /// contains no change since. Returns `None` also if the log does not know the token.
    pub(super) async fn unchanged_since(
        &self,
        client: &SharePointClient,
        token: &str,
    ) -> Option<(String, Timestamp)> {
        self.read(client, &[token], STALE).await.ok()?;
        let state = locked(&self.state);
        let log = state.log.as_ref()?;
        (log.locate(token)? == log.end()).then(|| (log.head().to_owned(), state.birth))
    }

    fn answer(&self, token: &str) -> Option<FeedAnswer> {
        let state = locked(&self.state);
        let log = state.log.as_ref()?;
        let position = log.locate(token)?;
        Some(FeedAnswer {
            delta: log.since(position),
            token: log.head().to_owned(),
            birth: state.birth,
            bypassed_log: false,
        })
    }

    /// Reads from the server what came after a token that the log does not contain, and puts it in front of
    /// the log.
    async fn reach_back(&self, client: &SharePointClient, token: &str) -> Result<FeedAnswer, Failure> {
        let _turn = self.read_lock.lock().await;
        if let Some(answered) = self.answer(token) {
            return Ok(answered);
        }
        let (base, first) = {
            let state = locked(&self.state);
            let Some(log) = &state.log else {
                return Err(self.bad_answer("the change feed has no position"));
            };
            (log.base().to_owned(), log.first_token().map(str::to_owned))
        };
        let mut older: Vec<FeedChange> = Vec::new();
        let mut from = token.to_owned();
        for _ in 0..self.pages {
            let (last, changes) = self.page(client, &from).await?;
            let Some(last) = last.filter(|last| *last != from) else {
                return Ok(self.answer_bypassing_log(token, older));
            };
            for change in changes {
                let met = *change.token == *base || first.as_deref() == Some(&*change.token);
                let is_first = first.as_deref() == Some(&*change.token);
                if !is_first {
                    older.push(change);
                }
                if met {
                    let mut state = locked(&self.state);
                    let joined = state.log.as_mut().is_some_and(|log| log.prepend(token, older));
                    drop(state);
                    return self
                        .answer(token)
                        .filter(|_| joined)
                        .ok_or_else(|| self.too_much());
                }
            }
            if older.len() > self.limit {
                return Err(self.too_much());
            }
            from = last;
        }
        Err(self.too_much())
    }

    /// Answers a token whose feed ended before it reached the log. The answer is what was read. If it
    /// certainly began before the log does, it becomes the log, so that the next user of that age need not
    /// ask again.
    fn answer_bypassing_log(&self, token: &str, changes: Vec<FeedChange>) -> FeedAnswer {
        let mut state = locked(&self.state);
        let older = state
            .log
            .as_ref()
            .is_some_and(|log| cursor::compare(token, log.base()) == Some(std::cmp::Ordering::Less));
        let mut log = FeedLog::new(token, state.next_position, self.limit.max(changes.len()));
        for change in changes {
            log.push(change);
        }
        let delta = log.since(log.first());
        let head = log.head().to_owned();
        let birth = token_time(&head).unwrap_or(state.birth);
        if older {
            state.next_position = log.end() + 1;
            state.birth = birth;
            state.log = Some(log);
        }
        FeedAnswer {
            delta,
            token: head,
            birth,
            bypassed_log: !older,
        }
    }

    fn too_much(&self) -> Failure {
        cursor::invalid(format!(
            "{}: more than {} changes since the stored cursor",
            self.site, self.limit
        ))
    }

    /// Runs `look` on the log; returns `None` before it was first read.
    pub(super) fn with_log<T>(&self, read: impl FnOnce(&FeedLog) -> T) -> Option<T> {
        locked(&self.state).log.as_ref().map(read)
    }

    /// Returns the place of the log's end: what is read from now on includes every change before it.
    pub(super) fn end(&self) -> i64 {
        self.with_log(FeedLog::end).unwrap_or(0)
    }
}

/// Returns the site of a token; `None` if the token does not say.
fn site_of(token: &str) -> Option<Uuid> {
    FeedToken::parse(token)
        .filter(|token| token.scope == SITE_COLLECTION)
        .map(|token| token.guid)
}

fn token_time(token: &str) -> Option<Timestamp> {
    FeedToken::parse(token)?.instant()
}
