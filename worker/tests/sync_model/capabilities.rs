//! The engine asks no server for an ability that it lacks. Without conditional writes it reads just before it writes.

use tasksync_common::model::{Field, FieldSet, Importance};
use tasksync_common::plan::Policy;
use tasksync_worker::mailbox::MailboxCapabilities;

use crate::engine::{Stage, SyncCircumstances};
use crate::world::Act::{Create, DeleteItem, EditItem, EditSource};
use crate::world::{Act, Edit};

/// Returns a stage with this many synced tasks.
fn synced_stage(capabilities: MailboxCapabilities, tasks: usize) -> Stage {
    let stage = Stage::new(0, capabilities, Policy::default());
    for _ in 0..tasks {
        stage.shared_world.world().act(&Create(0));
    }
    assert!(stage.sync(&SyncCircumstances::PLAIN) && stage.sync(&SyncCircumstances::PLAIN));
    stage
}

/// Runs a sync in which `act` happens after both sides were read and before the second write; then another sync.
fn sync_and_between_two_writes(stage: &Stage, act: Act) {
    // `act` is later than the edits that are written.
    stage.shared_world.world().now += 5_000;
    stage.sync(&SyncCircumstances {
        before_writing: Some(act),
        ..SyncCircumstances::PLAIN
    });
    assert!(stage.sync(&SyncCircumstances::PLAIN));
}

fn titles(stage: &Stage) -> Vec<String> {
    let world = stage.shared_world.world();
    world
        .source
        .values()
        .map(|task| task.task.title.clone())
        .collect()
}

fn titles_of_copies(stage: &Stage) -> Vec<String> {
    let world = stage.shared_world.world();
    world
        .copies()
        .map(|(_, _, item)| item.task.title.clone())
        .collect()
}

#[test]
fn a_source_that_compares_no_versions_is_read_before_it_is_written() {
    let stage = synced_stage(MailboxCapabilities::ALL, 2);
    stage.shared_world.world().source_compares = false;
    for number in 0..2 {
        stage.shared_world.world().act(&EditItem(number, Edit::Title));
    }
    let edited = titles_of_copies(&stage);
    sync_and_between_two_writes(&stage, EditSource(1, Edit::Title));
    // The later edit stands on both sides: the colleague's.
    assert_eq!(titles(&stage)[0], edited[0]);
    assert_ne!(titles(&stage)[1], edited[1]);
    assert_eq!(titles(&stage), titles_of_copies(&stage));
}

#[test]
fn a_mailbox_that_compares_no_versions_is_read_before_it_is_written() {
    let capabilities = MailboxCapabilities {
        conditional_writes: false,
        ..MailboxCapabilities::ALL
    };
    let stage = synced_stage(capabilities, 2);
    for number in 0..2 {
        stage.shared_world.world().act(&EditSource(number, Edit::Title));
    }
    let edited = titles(&stage);
    sync_and_between_two_writes(&stage, EditItem(1, Edit::Title));
    // The later edit stands on both sides: the person's.
    assert_eq!(titles(&stage)[0], edited[0]);
    assert_ne!(titles(&stage)[1], edited[1]);
    assert_eq!(titles(&stage), titles_of_copies(&stage));
}

#[test]
fn a_field_that_a_mailbox_does_not_hold_is_not_written_into_it() {
    let capabilities = MailboxCapabilities {
        fields: FieldSet::ALL.without(Field::Importance),
        ..MailboxCapabilities::ALL
    };
    let stage = synced_stage(capabilities, 1);
    let high = Edit::Importance(Importance::High);
    stage.shared_world.world().act(&EditSource(0, high));
    let writes = stage.shared_world.world().all_writes;
    assert!(stage.sync(&SyncCircumstances::PLAIN));
    assert_eq!(stage.shared_world.world().all_writes, writes);
}

/// The model's server panics if it is asked for an archive that it does not have.
#[test]
fn a_deletion_travels_from_a_mailbox_without_an_archive() {
    let capabilities = MailboxCapabilities {
        archive: false,
        ..MailboxCapabilities::ALL
    };
    let stage = synced_stage(capabilities, 1);
    stage.shared_world.world().act(&DeleteItem(0));
    assert!(stage.sync(&SyncCircumstances::PLAIN));
    assert!(stage.shared_world.world().source.is_empty());
}
