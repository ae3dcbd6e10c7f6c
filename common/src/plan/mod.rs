//! The plan of one user's sync: pure, total, and a value that can be printed and compared.
//!
//! [`decide()`] looks at one task on both sides and says what is to be done about it; [`assemble()`] does so for all tasks and
//! puts the actions into the order of the original service; [`guard()`] holds deletions back when there are too many. No
//! function here does I/O or reads a clock.

mod action;
mod agreed;
mod assemble;
mod decide;
mod edits;
mod guard;
mod own_write;
mod sides;
mod twins;

pub use action::Action;
pub use agreed::{Agreed, Progress, changed, mailbox_form, progress_of};
pub use assemble::{Plan, Step, assemble};
pub use decide::{Rules, decide};
pub use guard::{Held, Limits, Side, guard};
pub use sides::{Absence, MailboxSide, MailboxValue, Pair, SourceSide, SourceValue};
