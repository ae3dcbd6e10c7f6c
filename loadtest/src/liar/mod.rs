//! A proxy in front of a simulated server that now and then gives a wrong answer, until it becomes honest.
//!
//! Requests are drawn by a seeded generator in the order in which they arrive, so a run with one request at a time repeats
//! itself; with more the log is what a case is traced by.

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

/// Answers kept of each operation.
const KEPT: usize = 64;
/// The header by which a client tells its requests apart.
const REQUEST_ID: &str = "client-request-id";
/// Longest answer that is kept.
const KEPT_BYTES: usize = 512 * 1024;

macro_rules! lies {
    ($($(#[doc = $doc:literal])+ $variant:ident $name:literal,)*) => {
        /// A kind of wrong answer.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Lie { $($(#[doc = $doc])+ $variant,)* }

        impl Lie {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Name in scenarios and in the log.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What it is.
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
    /// Half an answer whose length fits.
    Half "half",
    /// A success for a write that is not carried out; every third wrong answer to a write.
    FalseSuccess "false-success",
    /// A refusal of what is carried out, or of a read.
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

/// How a liar lies.
#[derive(Debug, Clone, PartialEq)]
pub struct LiarSpec {
    /// Of a thousand answers this many are wrong.
    pub per_mille: u16,
    /// Honest after this many answers, wrong ones included; 0 for no limit.
    pub answers: u64,
    /// Kinds of wrong answers, all equally likely; all kinds when empty.
    pub kinds: Vec<Lie>,
    /// Groups of tenants that are lied to; all when empty.
    pub groups: Vec<GroupId>,
    /// How late a late answer is.
    pub late: Duration,
    /// Same seed, same dice.
    pub seed: u64,
    /// The only answer that is wrong; `per_mille` has no effect then.
    pub only: Option<Only>,
}

/// One answer among those that are given while a liar lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Only {
    /// The answer of this number, from 0.
    Number(u64),
    /// The first answer to this operation for which a wrong answer can be given.
    FirstOf(String),
}

/// One answer that is remembered.
struct Memory {
    asker: String,
    owner: String,
    answer: Answer,
}

/// Decides, remembers, counts and writes the log; shared by the proxies of both servers.
pub struct Liar {
    spec: LiarSpec,
    lying: AtomicBool,
    answers: AtomicU64,
    lies: Vec<AtomicU64>,
    asker: Mutex<String>,
    /// The only answer that is wrong, and whether it was given.
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
    /// An honest proxy until [`Liar::lie`]; the log is written to `log`, one JSON object a line.
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

    /// Begins to lie, or ends.
    pub fn lie(&self, lie: bool) {
        self.lying.store(lie, Ordering::SeqCst);
    }

    /// Names the person for whom requests are made from now on. An answer that was given while another person was named
    /// counts as another's, whatever it is about.
    pub fn set_asker(&self, asker: &str) {
        asker.clone_into(&mut self.asker());
    }

    /// From now on only this answer is wrong.
    pub fn aim(&self, only: Only) {
        *self.aim_now() = (Some(only), false);
    }

    /// Whether the answer that was aimed at was given wrong.
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

    /// Whether the limit of answers was reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.spec.answers > 0 && self.answers() >= self.spec.answers
    }

    /// Answers given while it lied.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.answers.load(Ordering::SeqCst)
    }

    /// The operations of both servers that were answered so far, in order.
    #[must_use]
    pub fn operations(&self) -> Vec<(Side, String)> {
        let mut operations: Vec<_> = self.memory().keys().cloned().collect();
        operations.sort();
        operations
    }

    /// Wrong answers by kind, without the zeros.
    #[must_use]
    pub fn lies(&self) -> Vec<(&'static str, u64)> {
        let counted = Lie::ALL.iter().zip(&self.lies);
        let counted = counted.map(|(lie, count)| (lie.name(), count.load(Ordering::Relaxed)));
        counted.filter(|(_, count)| *count > 0).collect()
    }

    /// The dice of the next answer, when it is to be a wrong one.
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

    /// The kinds in the order in which they are tried for one answer. Writes are rare among requests and a false success fits
    /// nothing else, so it comes first for every third of them.
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

    /// A remembered answer to the same operation that differs from the honest one, and whose it was: of the same owner, or of
    /// another. Those that were given to another asker come first. It bears the `client-request-id` of the request it is given
    /// to, so that only its content shows whose it is.
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

/// Whether two answers say different things: SharePoint tells the version a write left in a header alone.
fn differ(one: &Answer, other: &Answer) -> bool {
    one.body != other.body || one.header("etag") != other.header("etag")
}

/// The group of tenants that the owner of a mailbox or a site belongs to.
pub(crate) type GroupOf = Arc<dyn Fn(&str) -> GroupId + Send + Sync>;

/// A simulated server behind a liar.
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
            // What is not to be carried out has to be told before the server is asked.
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
            // A credential challenge is no answer to the operation.
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
