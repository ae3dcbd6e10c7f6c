//! The contract that every `Mailbox` and every `Source` must satisfy. A back end runs it with one line,
//! `mailbox_contract!(bench)` or `source_contract!(bench)`, where `bench` creates a new server with one person.

mod mailbox;
mod source;

pub(crate) use mailbox::{MailboxBench, checks as mailbox_checks};
pub(crate) use source::{SourceBench, checks as source_checks};

/// Defines one test for each rule of the mailbox contract. `$bench` is an async function that returns a new
/// [`MailboxBench`].
macro_rules! mailbox_contract {
    ($bench:path) => {
        $crate::contract::mailbox_contract!($bench;
            a_new_folder_is_listed_with_its_marker,
            a_new_item_is_found_by_every_way_of_looking,
            only_written_fields_change_and_the_version_moves,
            values_are_read_back_in_their_canonical_form,
            a_write_to_another_version_is_a_conflict,
            the_actions_of_a_person_are_reported_once,
            a_deleted_item_is_found_by_no_way_of_looking,
            signs_move_with_every_change,
            a_disowned_item_bears_no_key);
    };
    ($bench:path; $($check:ident),*) => {
        $(#[tokio::test]
        async fn $check() {
            $crate::contract::mailbox_checks::$check(&$bench().await).await;
        })*
    };
}

/// Defines one test for each rule of the source contract. `$bench` is an async function that returns a new
/// [`SourceBench`].
macro_rules! source_contract {
    ($bench:path) => {
        $crate::contract::source_contract!($bench;
            a_listing_is_complete_and_agrees_with_reads_by_id,
            an_edit_is_reported_and_nothing_else,
            what_goes_is_reported_and_absent_by_its_id,
            a_write_answers_the_version_that_is_read_back,
            a_write_to_another_version_changes_nothing);
    };
    ($bench:path; $($check:ident),*) => {
        $(#[tokio::test]
        async fn $check() {
            $crate::contract::source_checks::$check(&$bench().await).await;
        })*
    };
}

pub(crate) use {mailbox_contract, source_contract};
