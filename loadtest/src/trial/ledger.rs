//! The edits of a trial, and when the other side showed them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::civil::Date;
use uuid::Uuid;

use crate::exchange::TaskStatus;
use crate::machine_clock::monotonic;

/// Where an edit was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EditSide {
    /// In SharePoint.
    Source,
    /// In the mailbox.
    Mailbox,
    /// First in one, then in the other, before any sync; the later one must win.
    Both,
}

/// What an edit did to a task.
#[derive(Debug, Clone, PartialEq)]
pub enum EditKind {
    /// A new title.
    Title(String),
    /// A new due date.
    Due(Date),
    /// A new description; the value is the word to look for.
    Body(String),
    /// A new importance: `Low`, `Normal`, `High`.
    Importance(&'static str),
    /// New status and percent.
    Progress(TaskStatus, f64),
    /// Created.
    Created(String),
    /// Deleted.
    Deleted,
    /// Reassigned to another person: person numbers before and after.
    Reassigned(usize, usize),
}

impl EditKind {
    /// Returns the name used in the summary.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Title(_) => "title",
            Self::Due(_) => "due date",
            Self::Body(_) => "description",
            Self::Importance(_) => "importance",
            Self::Progress(..) => "progress",
            Self::Created(_) => "created",
            Self::Deleted => "deleted",
            Self::Reassigned(..) => "reassigned",
        }
    }
}

/// One edit.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Position of the tenant.
    pub tenant: usize,
    /// Number of the person whose mailbox is watched.
    pub person: usize,
    /// The list.
    pub list: Uuid,
    /// The item in it.
    pub item: i32,
    /// Where it was made.
    pub side: EditSide,
    /// The kind of edit.
    pub kind: EditKind,
    /// When it was made.
    pub at: Instant,
    /// When the other side first showed it.
    pub seen: Option<Instant>,
}

/// Every edit of a trial.
#[derive(Debug, Default)]
pub struct Ledger {
    edits: Vec<Edit>,
    /// Position of the latest edit of each task.
    latest: HashMap<(Uuid, i32), usize>,
    /// Positions of edits that may be unseen, the one checked longest ago first.
    waiting: VecDeque<usize>,
}

/// The figures of a ledger so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LedgerCounts {
    /// Number of edits by kind and side.
    pub made: BTreeMap<(&'static str, EditSide), usize>,
    /// Number of edits.
    pub edits: usize,
    /// Number of edits that the other side has shown.
    pub mirrored: usize,
    /// Median time until the other side showed an edit.
    pub p50: Option<Duration>,
    /// 99th percentile of that time.
    pub p99: Option<Duration>,
}

impl Ledger {
    /// Records an edit.
    pub fn push(&mut self, edit: Edit) {
        self.latest.insert((edit.list, edit.item), self.edits.len());
        self.waiting.push_back(self.edits.len());
        self.edits.push(edit);
    }

    /// Checks the `limit` unseen edits that were checked longest ago, and records those that `shows` now accepts.
    /// Returns how many are still unseen.
    pub fn check_unseen(&mut self, limit: usize, shows: impl Fn(&Edit) -> bool) -> usize {
        for _ in 0..limit.min(self.waiting.len()) {
            let Some(at) = self.waiting.pop_front() else { break };
            let Some(edit) = self.edits.get_mut(at) else {
                continue;
            };
            if edit.seen.is_none() && shows(edit) {
                edit.seen = Some(monotonic());
            }
            if edit.seen.is_none() {
                self.waiting.push_back(at);
            }
        }
        self.waiting.len()
    }

    /// Returns how many edits were unseen when they were last checked.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    fn latest(&self, list: Uuid, item: i32) -> Option<&Edit> {
        self.latest.get(&(list, item)).and_then(|at| self.edits.get(*at))
    }

    /// Returns every edit in the order in which they were made.
    pub fn edits(&self) -> impl Iterator<Item = &Edit> {
        self.edits.iter()
    }

    /// Returns the edits that the other side has not shown yet.
    pub fn open(&mut self) -> impl Iterator<Item = &mut Edit> {
        self.edits.iter_mut().filter(|edit| edit.seen.is_none())
    }

    /// Returns whether the latest edit of this task is still unseen.
    #[must_use]
    pub fn is_open(&self, list: Uuid, item: i32) -> bool {
        self.latest(list, item).is_some_and(|edit| edit.seen.is_none())
    }

    /// Returns whether this task was edited less than `rest` ago.
    #[must_use]
    pub fn is_recent(&self, list: Uuid, item: i32, rest: Duration) -> bool {
        self.latest(list, item)
            .is_some_and(|edit| edit.at.elapsed() < rest)
    }

    /// Returns how many edits were made so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.edits.len()
    }

    /// Returns whether no edit was made so far.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Describes the first `limit` unseen edits.
    #[must_use]
    pub fn unseen(&self, limit: usize) -> Vec<String> {
        self.edits
            .iter()
            .filter(|edit| edit.seen.is_none())
            .take(limit)
            .map(|edit| {
                format!(
                    "{:?} of task {} in {} made in {:?}: {:?}",
                    edit.kind.name(),
                    edit.item,
                    edit.list,
                    edit.side,
                    edit.kind
                )
            })
            .collect()
    }

    /// Returns the figures so far.
    #[must_use]
    pub fn counts(&self) -> LedgerCounts {
        let mut made = BTreeMap::new();
        for edit in &self.edits {
            *made.entry((edit.kind.name(), edit.side)).or_default() += 1;
        }
        let mut times: Vec<Duration> = self
            .edits
            .iter()
            .filter_map(|edit| Some(edit.seen?.duration_since(edit.at)))
            .collect();
        times.sort_unstable();
        let at = |share: usize| {
            times
                .get((times.len() * share / 100).min(times.len().saturating_sub(1)))
                .copied()
        };
        LedgerCounts {
            made,
            edits: self.edits.len(),
            mirrored: times.len(),
            p50: at(50),
            p99: at(99),
        }
    }
}
