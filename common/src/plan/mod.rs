//! The plan of one user's sync. Planning is pure and total; the plan is a value that can be printed and
//! compared.
//!
//! [`decide()`] looks at one task on both sides and decides what to do about it. [`assemble()`] does so for
//! all tasks and puts the actions into the order of the service that tasksync replaces. [`Plan::apply_guard`]
//! holds deletions back if there are too many. [`Pass`] does the bookkeeping while a plan is carried out. No
//! function here does I/O or reads a clock.

mod action;
mod agreed;
mod assemble;
mod conflict;
mod decide;
mod deletion;
mod edits;
mod failed_writes;
mod guard;
mod interrupted_write;
mod pass;
mod policy;
mod sides;
mod twins;
mod visible_text;

pub use action::{Action, ActionKind, Memo, Removal, ReplacedValues, ValueOrigin};
pub use agreed::{Agreed, Progress, changed_fields, progress_of};
pub use assemble::{Plan, Step, assemble};
pub use decide::{Canonical, Decision, Rules, decide};
pub use guard::{GuardLimits, GuardedPlan, HeldDeletions, held_digest};
pub use pass::{ActionResult, Pass, ReadProgress};
pub use policy::{ConflictPolicy, DeletionPolicy, Policy};
pub use sides::{Absence, MailboxSide, MailboxValue, Pair, Side, SourceSide, SourceValue};
