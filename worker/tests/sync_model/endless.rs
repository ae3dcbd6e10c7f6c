//! A folder whose changes never end costs one pass, and memory only up to its limit.

use tasksync_common::error::Code;
use tasksync_common::plan::Policy;
use tasksync_worker::mailbox::MailboxCapabilities;

use crate::engine::{Stage, SyncCircumstances};
use crate::faults::Fault;
use crate::world::{Act, Edit};

/// Syncs a folder whose pages never end, each with one id of `bytes` bytes. Returns the failure, and how many pages
/// were read.
fn endless(bytes: usize) -> (Option<Code>, u32) {
    let stage = Stage::new(0, MailboxCapabilities::ALL, Policy::default());
    stage.shared_world.world().act(&Act::Create(0));
    assert!(stage.sync(&SyncCircumstances::PLAIN) && stage.sync(&SyncCircumstances::PLAIN));
    stage.shared_world.world().act(&Act::EditItem(0, Edit::Title));
    let way = SyncCircumstances {
        fault: Fault::Endless(bytes),
        ..SyncCircumstances::PLAIN
    };
    assert!(!stage.sync(&way), "{bytes}");
    let (failure, pages) = (stage.failure(), stage.shared_world.world().pages);
    // The edit arrives once the folder can be read to its end.
    assert!(stage.sync(&SyncCircumstances::PLAIN));
    (failure, pages)
}

#[test]
fn the_ids_of_one_folders_changes_take_16_mib_at_most() {
    assert_eq!(endless(1024 * 1024), (Some(Code::BudgetExhausted), 17));
}

#[test]
fn one_folders_changes_have_a_thousand_pages_at_most() {
    assert_eq!(endless(1), (Some(Code::AnswersDisagree), 1_000));
}
