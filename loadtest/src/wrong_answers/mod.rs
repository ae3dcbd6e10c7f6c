//! A proxy in front of a simulated server that gives a wrong answer now and then, until a limit makes it honest.
//!
//! A seeded generator decides about the requests in the order of their arrival. A run with one request at a time is
//! therefore repeatable; a run with more can be traced through the log.

mod apply;
mod change;
mod forge;
mod multipart;
mod request;

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Request;
use serde_json::json;

pub use request::TargetServer;
use request::{ParsedRequest, RequestKind};

use crate::machine_clock::monotonic;
use crate::sim::answers::Answer;
use crate::sim::conditions::GroupId;
use crate::sim::dice::{Dice, mix};
use crate::sim::http::{Handler, Reply, ReplyFuture};

/// Number of answers remembered per operation.
const KEPT: usize = 64;
/// The header that identifies a client's request.
const REQUEST_ID: &str = "client-request-id";
/// Largest answer body that is remembered, in bytes.
const KEPT_BYTES: usize = 512 * 1024;

macro_rules! wrong_answer_kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal,)*) => {
        /// A kind of wrong answer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum WrongAnswerKind { $($(#[doc = $doc])+ $variant,)* }

        impl WrongAnswerKind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the name used in scenarios and in the log.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// Returns the description.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc, " ",)+).trim_ascii(),)* }
            }
        }
    };
}

wrong_answer_kinds! {
    /// The answer to the same operation for another person, list or site.
    OthersAnswer "others-answer",
    /// An earlier answer to the same operation for the same person or list.
    EarlierAnswer "earlier-answer",
    /// An element, value or part of a batch is left out.
    Dropped "dropped",
    /// An element, entry or part of a batch is there twice.
    Doubled "doubled",
    /// A value has another letter or digit, or two parts of a batch are swapped.
    Altered "altered",
    /// The connection is closed in the middle of the answer.
    Cut "cut",
    /// Half of the answer, with a length that matches.
    Half "half",
    /// A success for a write that is not carried out. It is tried first for a third of the wrong answers to writes.
    FalseSuccess "false-success",
    /// A refusal of a write that is carried out, or of a read.
    FalseRefusal "false-refusal",
    /// "Not found" for what exists.
    NotFound "not-found",
    /// A listing or a feed of changes without an entry.
    Empty "empty",
    /// A page of HTML with status 200.
    Page "page",
    /// The answer comes after `lies.late`.
    Late "late",
}

/// How often and how the proxy gives wrong answers.
#[derive(Debug, Clone, PartialEq)]
pub struct WrongAnswerSpec {
    /// How many of a thousand answers are wrong.
    pub per_mille: u16,
    /// Number of answers, wrong ones included, after which the proxy is honest; 0 for no limit.
    pub answers: u64,
    /// Kinds of wrong answers, all equally likely; all kinds when empty.
    pub kinds: Vec<WrongAnswerKind>,
    /// Groups of tenants that get wrong answers; all when empty.
    pub groups: Vec<GroupId>,
    /// Delay of a late answer.
    pub late: Duration,
    /// The seed; the same seed makes the same decisions.
    pub seed: u64,
    /// The only answer that is wrong; `per_mille` then has no effect.
    pub only: Option<OnlyAnswer>,
}

/// Selects one answer among those given while the proxy may give wrong ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnlyAnswer {
    /// The answer with this number, counting from 0.
    Number(u64),
    /// The first answer to this operation that can be replaced by a wrong one.
    FirstOf(String),
}

/// A remembered answer.
struct RememberedAnswer {
    asker: String,
    owner: String,
    answer: Answer,
}

/// Decides which answers are wrong, remembers and counts answers, and writes the log. The proxies of both servers
/// share it.
pub struct WrongAnswers {
    spec: WrongAnswerSpec,
    active: AtomicBool,
    answers: AtomicU64,
    counts: Vec<AtomicU64>,
    asker: Mutex<String>,
    /// The only answer that is wrong, if one was chosen, and whether it was given.
    aim: Mutex<(Option<OnlyAnswer>, bool)>,
    remembered: Mutex<HashMap<(TargetServer, String), VecDeque<RememberedAnswer>>>,
    log: Mutex<Option<std::fs::File>>,
    began: Instant,
}

impl std::fmt::Debug for WrongAnswers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("WrongAnswers")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl WrongAnswers {
    /// Returns a proxy that answers truthfully until [`WrongAnswers::set_active`] is called. It writes its log
    /// to `log`, one JSON object per line.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn new(spec: WrongAnswerSpec, log: Option<&Path>) -> Result<Arc<Self>, String> {
        let file = log
            .map(|path| std::fs::File::create(path).map_err(|error| format!("{}: {error}", path.display())))
            .transpose()?;
        Ok(Arc::new(Self {
            aim: Mutex::new((spec.only.clone(), false)),
            spec,
            active: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            counts: WrongAnswerKind::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            asker: Mutex::default(),
            remembered: Mutex::default(),
            log: Mutex::new(file),
            began: monotonic(),
        }))
    }

    /// Starts or stops giving wrong answers.
    pub fn set_active(&self, active: bool) {
        self.active.store(active, Ordering::SeqCst);
    }

    /// Names the person for whom requests are made from now on. An answer given while another person was named counts
    /// as another owner's, whatever its subject.
    pub fn set_asker(&self, asker: &str) {
        asker.clone_into(&mut self.asker());
    }

    /// Makes this answer the only wrong one from now on.
    pub fn aim(&self, only: OnlyAnswer) {
        *self.lock_aim() = (Some(only), false);
    }

    /// Returns whether a wrong answer was given since the last [`WrongAnswers::aim`].
    #[must_use]
    pub fn has_hit(&self) -> bool {
        self.lock_aim().1
    }

    fn lock_aim(&self) -> MutexGuard<'_, (Option<OnlyAnswer>, bool)> {
        self.aim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asker(&self) -> MutexGuard<'_, String> {
        self.asker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether the limit of answers is reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.spec.answers > 0 && self.answers() >= self.spec.answers
    }

    /// Returns how many answers were given while wrong ones were allowed.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }

    /// Returns the operations of both servers that were answered so far, in order.
    #[must_use]
    pub fn operations(&self) -> Vec<(TargetServer, String)> {
        let mut operations: Vec<_> = self.lock_remembered().keys().cloned().collect();
        operations.sort();
        operations
    }

    /// Returns the number of wrong answers by kind, without the kinds that were never given.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counted = WrongAnswerKind::ALL.iter().zip(&self.counts);
        let counted = counted.map(|(kind, count)| (kind.name(), count.load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// Returns the number of the next answer and its dice, if that answer is to be a wrong one.
    fn draw(&self, group: GroupId, operation: &str) -> Option<(u64, Dice)> {
        let group_selected = self.spec.groups.is_empty() || self.spec.groups.contains(&group);
        if !group_selected || !self.active.load(Ordering::SeqCst) || self.is_done() {
            return None;
        }
        let number = self.answers.fetch_add(1, Ordering::SeqCst);
        let mut dice = Dice::new(mix(self.spec.seed ^ mix(number)));
        let drawn = dice.below(1000) < usize::from(self.spec.per_mille);
        let is_wrong = match &*self.lock_aim() {
            (None, _) => drawn,
            (Some(OnlyAnswer::Number(only)), _) => *only == number,
            (Some(OnlyAnswer::FirstOf(only)), hit) => only == operation && !hit,
        };
        is_wrong.then_some((number, dice))
    }

    /// Returns the kinds in the order in which they are tried for one answer. Few requests are writes, and a false
    /// success fits nothing else, so for a third of the writes it comes first.
    fn ordered_kinds(&self, request_kind: RequestKind, dice: &mut Dice) -> Vec<WrongAnswerKind> {
        let mut kinds = if self.spec.kinds.is_empty() {
            WrongAnswerKind::ALL.to_vec()
        } else {
            self.spec.kinds.clone()
        };
        for at in (1..kinds.len()).rev() {
            kinds.swap(at, dice.below(at + 1));
        }
        if request_kind == RequestKind::Write
            && dice.chance(33)
            && let Some(at) = kinds
                .iter()
                .position(|kind| *kind == WrongAnswerKind::FalseSuccess)
        {
            kinds.swap(0, at);
        }
        kinds
    }

    fn lock_remembered(&self) -> MutexGuard<'_, HashMap<(TargetServer, String), VecDeque<RememberedAnswer>>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_answer(&self, request: &ParsedRequest, answer: &Answer) {
        if answer.status >= 300 || answer.body.len() > KEPT_BYTES {
            return;
        }
        let mut remembered = self.lock_remembered();
        let kept = remembered
            .entry((request.server, request.operation.clone()))
            .or_default();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(RememberedAnswer {
            asker: self.asker().clone(),
            owner: request.owner(),
            answer: answer.clone(),
        });
    }

    /// Returns a remembered answer to the same operation that differs from the honest one, and names its asker and
    /// owner. With `same_owner` it was given to the same asker for the same owner, otherwise to or for another.
    /// Answers given to another asker come first. The answer gets the `client-request-id` of the current request, so
    /// that only its content reveals the mix-up.
    fn choose_remembered(
        &self,
        request: &ParsedRequest,
        true_answer: &Answer,
        same_owner: bool,
        dice: &mut Dice,
    ) -> Option<(Answer, String)> {
        let (owner, asker) = (request.owner(), self.asker().clone());
        let remembered = self.lock_remembered();
        let kept = remembered.get(&(request.server, request.operation.clone()))?;
        let is_same = |kept: &&RememberedAnswer| kept.owner == owner && kept.asker == asker;
        let fitting: Vec<&RememberedAnswer> = kept
            .iter()
            .filter(|kept| is_same(kept) == same_owner && answers_differ(&kept.answer, true_answer))
            .collect();
        let of_others: Vec<&RememberedAnswer> = fitting
            .iter()
            .copied()
            .filter(|kept| kept.asker != asker)
            .collect();
        let from = if of_others.is_empty() { fitting } else { of_others };
        let chosen = from.get(dice.below(from.len()))?;
        let mut answer = chosen.answer.clone().without_header(REQUEST_ID);
        if let Some(id) = true_answer.header(REQUEST_ID) {
            answer = answer.with_header(REQUEST_ID, id);
        }
        Some((
            answer,
            format!("{} {}", chosen.asker, chosen.owner)
                .trim_start()
                .to_owned(),
        ))
    }

    fn record_wrong_answer(
        &self,
        number: u64,
        kind: WrongAnswerKind,
        request: &ParsedRequest,
        description: &str,
    ) {
        self.lock_aim().1 = true;
        if let Some(count) = self.counts.get(kind as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let line = json!({
            "answer": number,
            "seconds": (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            "kind": kind.name(),
            "server": request.server.name(),
            "operation": request.operation,
            "owner": request.owner(),
            "what": description,
        });
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = log.as_mut() {
            // A log that cannot be written does not stop a trial.
            writeln!(file, "{line}").ok();
        }
    }
}

/// Returns whether two answers differ in content. SharePoint reports the version after a write in a header alone.
fn answers_differ(one: &Answer, other: &Answer) -> bool {
    one.body != other.body || one.header("etag") != other.header("etag")
}

/// Returns the group of tenants that the owner of a mailbox or a site belongs to.
pub(crate) type GroupOf = Arc<dyn Fn(&str) -> GroupId + Send + Sync>;

/// A simulated server behind the proxy.
pub(crate) struct WrongAnswerProxy<H> {
    inner: Arc<H>,
    server: TargetServer,
    wrong_answers: Arc<WrongAnswers>,
    group_of: GroupOf,
}

impl<H: Handler> WrongAnswerProxy<H> {
    pub(crate) fn new(
        inner: Arc<H>,
        server: TargetServer,
        wrong_answers: Arc<WrongAnswers>,
        group_of: GroupOf,
    ) -> Arc<Self> {
        Arc::new(Self {
            inner,
            server,
            wrong_answers,
            group_of,
        })
    }

    async fn forward(&self, request: Request<Bytes>) -> Reply {
        Arc::clone(&self.inner).handle(request).await
    }
}

impl<H: Handler> Handler for WrongAnswerProxy<H> {
    fn handle(self: Arc<Self>, request: Request<Bytes>) -> ReplyFuture {
        Box::pin(async move {
            let Some(parsed) = ParsedRequest::read(self.server, &request) else {
                return self.forward(request).await;
            };
            let drawn = self
                .wrong_answers
                .draw((self.group_of)(&parsed.subject), &parsed.operation);
            let Some((number, mut dice)) = drawn else {
                let reply = self.forward(request).await;
                if let Reply::Answer(response) = reply {
                    let answer = Answer::of(response);
                    self.wrong_answers.remember_answer(&parsed, &answer);
                    return Reply::Answer(answer.into_response());
                }
                return reply;
            };
            let order = self.wrong_answers.ordered_kinds(parsed.kind, &mut dice);
            // A write that is not to be carried out must be answered before the server receives it.
            if order.first() == Some(&WrongAnswerKind::FalseSuccess)
                && let Some(answer) = forge::success(&parsed, &mut dice)
            {
                self.wrong_answers.record_wrong_answer(
                    number,
                    WrongAnswerKind::FalseSuccess,
                    &parsed,
                    &format!("HTTP {}", answer.status),
                );
                return Reply::Answer(answer.into_response());
            }
            let true_answer = match self.forward(request).await {
                Reply::Answer(response) => Answer::of(response),
                reply @ (Reply::Cut | Reply::Partial { .. } | Reply::Huge { .. }) => return reply,
            };
            self.wrong_answers.remember_answer(&parsed, &true_answer);
            // A request for credentials is not an answer to the operation.
            if true_answer.status == 401 {
                return Reply::Answer(true_answer.into_response());
            }
            for kind in order {
                if kind == WrongAnswerKind::Late {
                    self.wrong_answers.record_wrong_answer(
                        number,
                        kind,
                        &parsed,
                        &format!("{:?} late", self.wrong_answers.spec.late),
                    );
                    tokio::time::sleep(self.wrong_answers.spec.late).await;
                    return Reply::Answer(true_answer.into_response());
                }
                if let Some((reply, description)) =
                    apply::apply_kind(&self.wrong_answers, kind, &parsed, &true_answer, &mut dice)
                {
                    self.wrong_answers
                        .record_wrong_answer(number, kind, &parsed, &description);
                    return reply;
                }
            }
            Reply::Answer(true_answer.into_response())
        })
    }
}

#[cfg(test)]
mod tests;
