//! A proxy in front of a simulated server that gives a wrong answer now and then, until a limit makes it honest.
//!
//! A seeded generator decides about the requests in the order of their arrival. A run with one request at a time is
//! therefore repeatable; a run with more can be traced through the log.

mod ask;
mod change;
mod forge;
mod multipart;
mod tell;

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::Request;
use serde_json::json;

pub use ask::Side;
use ask::{Action, Ask};

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

macro_rules! lies {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal,)*) => {
        /// A kind of wrong answer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Lie { $($(#[doc = $doc])+ $variant,)* }

        impl Lie {
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

lies! {
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
pub struct LiarSpec {
    /// How many of a thousand answers are wrong.
    pub per_mille: u16,
    /// Number of answers, wrong ones included, after which the proxy is honest; 0 for no limit.
    pub answers: u64,
    /// Kinds of wrong answers, all equally likely; all kinds when empty.
    pub kinds: Vec<Lie>,
    /// Groups of tenants that get wrong answers; all when empty.
    pub groups: Vec<GroupId>,
    /// Delay of a late answer.
    pub late: Duration,
    /// The seed; the same seed makes the same decisions.
    pub seed: u64,
    /// The only answer that is wrong; `per_mille` then has no effect.
    pub only: Option<Only>,
}

/// Selects one answer among those given while the proxy may give wrong ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// The answer with this number, counting from 0.
    Number(u64),
    /// The first answer to this operation that can be replaced by a wrong one.
    FirstOf(String),
}

/// A remembered answer.
struct Memory {
    asker: String,
    owner: String,
    answer: Answer,
}

/// Decides which answers are wrong, remembers and counts answers, and writes the log. The proxies of both servers
/// share it.
pub struct Liar {
    spec: LiarSpec,
    lying: AtomicBool,
    answers: AtomicU64,
    lies: Vec<AtomicU64>,
    asker: Mutex<String>,
    /// The only answer that is wrong, if one was chosen, and whether it was given.
    aim: Mutex<(Option<Only>, bool)>,
    memory: Mutex<HashMap<(Side, String), VecDeque<Memory>>>,
    log: Mutex<Option<std::fs::File>>,
    began: Instant,
}

impl std::fmt::Debug for Liar {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Liar")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Liar {
    /// Returns a proxy that is honest until [`Liar::lie`] is called. It writes its log to `log`, one JSON object per
    /// line.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn new(spec: LiarSpec, log: Option<&Path>) -> Result<Arc<Self>, String> {
        let file = log
            .map(|path| std::fs::File::create(path).map_err(|error| format!("{}: {error}", path.display())))
            .transpose()?;
        Ok(Arc::new(Self {
            aim: Mutex::new((spec.only.clone(), false)),
            spec,
            lying: AtomicBool::new(false),
            answers: AtomicU64::new(0),
            lies: Lie::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            asker: Mutex::default(),
            memory: Mutex::default(),
            log: Mutex::new(file),
            began: Instant::now(),
        }))
    }

    /// Starts or stops giving wrong answers.
    pub fn lie(&self, lie: bool) {
        self.lying.store(lie, Ordering::SeqCst);
    }

    /// Names the person for whom requests are made from now on. An answer given while another person was named counts
    /// as another owner's, whatever its subject.
    pub fn set_asker(&self, asker: &str) {
        asker.clone_into(&mut self.asker());
    }

    /// Makes this answer the only wrong one from now on.
    pub fn aim(&self, only: Only) {
        *self.aim_now() = (Some(only), false);
    }

    /// Returns whether a wrong answer was given since the last [`Liar::aim`].
    #[must_use]
    pub fn has_hit(&self) -> bool {
        self.aim_now().1
    }

    fn aim_now(&self) -> MutexGuard<'_, (Option<Only>, bool)> {
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
    pub fn operations(&self) -> Vec<(Side, String)> {
        let mut operations: Vec<_> = self.memory().keys().cloned().collect();
        operations.sort();
        operations
    }

    /// Returns the number of wrong answers by kind, without the kinds that were never given.
    #[must_use]
    pub fn lies(&self) -> Vec<(&'static str, u64)> {
        let counted = Lie::ALL.iter().zip(&self.lies);
        let counted = counted.map(|(lie, count)| (lie.name(), count.load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// Returns the number of the next answer and its dice, if that answer is to be a wrong one.
    fn draw(&self, group: GroupId, operation: &str) -> Option<(u64, Dice)> {
        let meant = self.spec.groups.is_empty() || self.spec.groups.contains(&group);
        if !meant || !self.lying.load(Ordering::SeqCst) || self.is_done() {
            return None;
        }
        let number = self.answers.fetch_add(1, Ordering::SeqCst);
        let mut dice = Dice::new(mix(self.spec.seed ^ mix(number)));
        let drawn = dice.below(1000) < usize::from(self.spec.per_mille);
        let is_wrong = match &*self.aim_now() {
            (None, _) => drawn,
            (Some(Only::Number(only)), _) => *only == number,
            (Some(Only::FirstOf(only)), hit) => only == operation && !hit,
        };
        is_wrong.then_some((number, dice))
    }

    /// Returns the kinds in the order in which they are tried for one answer. Few requests are writes, and a false
    /// success fits nothing else, so for a third of the writes it comes first.
    fn order(&self, action: Action, dice: &mut Dice) -> Vec<Lie> {
        let mut kinds = if self.spec.kinds.is_empty() {
            Lie::ALL.to_vec()
        } else {
            self.spec.kinds.clone()
        };
        for at in (1..kinds.len()).rev() {
            kinds.swap(at, dice.below(at + 1));
        }
        if action == Action::Write
            && dice.chance(33)
            && let Some(at) = kinds.iter().position(|kind| *kind == Lie::FalseSuccess)
        {
            kinds.swap(0, at);
        }
        kinds
    }

    fn memory(&self) -> MutexGuard<'_, HashMap<(Side, String), VecDeque<Memory>>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, ask: &Ask, answer: &Answer) {
        if answer.status >= 300 || answer.body.len() > KEPT_BYTES {
            return;
        }
        let mut memory = self.memory();
        let kept = memory.entry((ask.side, ask.operation.clone())).or_default();
        if kept.len() >= KEPT {
            kept.pop_front();
        }
        kept.push_back(Memory {
            asker: self.asker().clone(),
            owner: ask.owner(),
            answer: answer.clone(),
        });
    }

    /// Returns a remembered answer to the same operation that differs from the honest one, and names its asker and
    /// owner. With `same_owner` it was given to the same asker for the same owner, otherwise to or for another.
    /// Answers given to another asker come first. The answer gets the `client-request-id` of the current request, so
    /// that only its content reveals the mix-up.
    fn remembered(
        &self,
        ask: &Ask,
        honest: &Answer,
        same_owner: bool,
        dice: &mut Dice,
    ) -> Option<(Answer, String)> {
        let (owner, asker) = (ask.owner(), self.asker().clone());
        let memory = self.memory();
        let kept = memory.get(&(ask.side, ask.operation.clone()))?;
        let is_same = |kept: &&Memory| kept.owner == owner && kept.asker == asker;
        let fitting: Vec<&Memory> = kept
            .iter()
            .filter(|kept| is_same(kept) == same_owner && differ(&kept.answer, honest))
            .collect();
        let of_others: Vec<&Memory> = fitting
            .iter()
            .copied()
            .filter(|kept| kept.asker != asker)
            .collect();
        let from = if of_others.is_empty() { fitting } else { of_others };
        let chosen = from.get(dice.below(from.len()))?;
        let mut answer = chosen.answer.clone().without_header(REQUEST_ID);
        if let Some(id) = honest.header(REQUEST_ID) {
            answer = answer.with_header(REQUEST_ID, id);
        }
        Some((
            answer,
            format!("{} {}", chosen.asker, chosen.owner)
                .trim_start()
                .to_owned(),
        ))
    }

    fn note(&self, number: u64, lie: Lie, ask: &Ask, told: &str) {
        self.aim_now().1 = true;
        if let Some(count) = self.lies.get(lie as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let line = json!({
            "answer": number,
            "seconds": (self.began.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            "kind": lie.name(),
            "server": ask.side.name(),
            "operation": ask.operation,
            "owner": ask.owner(),
            "what": told,
        });
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = log.as_mut() {
            // A log that cannot be written does not stop a trial.
            writeln!(file, "{line}").ok();
        }
    }
}

/// Returns whether two answers differ in content. SharePoint reports the version after a write in a header alone.
fn differ(one: &Answer, other: &Answer) -> bool {
    one.body != other.body || one.header("etag") != other.header("etag")
}

/// Returns the group of tenants that the owner of a mailbox or a site belongs to.
pub(crate) type GroupOf = Arc<dyn Fn(&str) -> GroupId + Send + Sync>;

/// A simulated server behind the proxy.
pub(crate) struct Proxy<H> {
    inner: Arc<H>,
    side: Side,
    liar: Arc<Liar>,
    group_of: GroupOf,
}

impl<H: Handler> Proxy<H> {
    pub(crate) fn new(inner: Arc<H>, side: Side, liar: Arc<Liar>, group_of: GroupOf) -> Arc<Self> {
        Arc::new(Self {
            inner,
            side,
            liar,
            group_of,
        })
    }

    async fn forward(&self, request: Request<Bytes>) -> Reply {
        Arc::clone(&self.inner).handle(request).await
    }
}

impl<H: Handler> Handler for Proxy<H> {
    fn handle(self: Arc<Self>, request: Request<Bytes>) -> ReplyFuture {
        Box::pin(async move {
            let Some(ask) = Ask::read(self.side, &request) else {
                return self.forward(request).await;
            };
            let drawn = self.liar.draw((self.group_of)(&ask.subject), &ask.operation);
            let Some((number, mut dice)) = drawn else {
                let reply = self.forward(request).await;
                if let Reply::Answer(response) = reply {
                    let answer = Answer::of(response);
                    self.liar.remember(&ask, &answer);
                    return Reply::Answer(answer.into_response());
                }
                return reply;
            };
            let order = self.liar.order(ask.action, &mut dice);
            // A write that is not to be carried out must be answered before the server receives it.
            if order.first() == Some(&Lie::FalseSuccess)
                && let Some(answer) = forge::success(&ask, &mut dice)
            {
                self.liar.note(
                    number,
                    Lie::FalseSuccess,
                    &ask,
                    &format!("HTTP {}", answer.status),
                );
                return Reply::Answer(answer.into_response());
            }
            let honest = match self.forward(request).await {
                Reply::Answer(response) => Answer::of(response),
                other => return other,
            };
            self.liar.remember(&ask, &honest);
            // A request for credentials is not an answer to the operation.
            if honest.status == 401 {
                return Reply::Answer(honest.into_response());
            }
            for lie in order {
                if lie == Lie::Late {
                    self.liar
                        .note(number, lie, &ask, &format!("{:?} late", self.liar.spec.late));
                    tokio::time::sleep(self.liar.spec.late).await;
                    return Reply::Answer(honest.into_response());
                }
                if let Some((reply, told)) = tell::tell(&self.liar, lie, &ask, &honest, &mut dice) {
                    self.liar.note(number, lie, &ask, &told);
                    return reply;
                }
            }
            Reply::Answer(honest.into_response())
        })
    }
}

#[cfg(test)]
mod tests;
