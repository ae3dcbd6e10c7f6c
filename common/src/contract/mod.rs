//! The contract suites: the required behaviour of every adapter, as one set of tests per seam.
//!
//! An adapter's tests instantiate its suite with an expression that creates a fresh, empty, isolated store,
//! for example `registry_contract!(bench())` where `bench` is an async function that returns a
//! [`RegistryBench`]. The macro emits one `#[tokio::test]` per function of the suite. A new behaviour begins
//! with a new function here.
//!
//! No test asserts how long something takes. Where time matters, the bench moves it.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "these functions are tests; they fail by panicking"
)]

pub mod earlier;
pub mod fleet;
pub mod queue;
pub mod redis;
pub mod registry;
pub mod schedule;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::fleet::Fleet;
use crate::model::{TenantId, UserId, UserKey};
use crate::queue::{JobQueue, QueueName};
use crate::registry::Registry;
use crate::schedule::Schedule;

/// A registry under test, together with everything that must live as long.
pub trait RegistryBench: Send + Sync {
    /// Returns the registry, empty at first.
    fn registry(&self) -> Arc<dyn Registry>;
}

/// A schedule under test.
#[async_trait]
pub trait ScheduleBench: Send + Sync {
    /// Returns the schedule, empty at first.
    fn schedule(&self) -> Arc<dyn Schedule>;
    /// Returns its minimum time between syncs.
    fn minimum(&self) -> Duration;
    /// Returns a time that is short for this schedule and long enough for some calls: a minute if its clock
    /// can be moved, about 100 ms if the test must really wait.
    fn unit(&self) -> Duration;
    /// Lets this time pass for the schedule, by moving its clock or by waiting.
    async fn pass_time(&self, by: Duration);
    /// Removes the test's data from a shared store.
    async fn end(&self) {}
}

/// A fleet under test.
#[async_trait]
pub trait FleetBench: Send + Sync {
    /// Returns the fleet, empty at first.
    fn fleet(&self) -> Arc<dyn Fleet>;
    /// Returns a short time, as [`ScheduleBench::unit`] does.
    fn unit(&self) -> Duration;
    /// Lets this time pass for the store, by moving its clock or by waiting.
    async fn pass_time(&self, by: Duration);
    /// Removes the test's data from a shared store.
    async fn clean(&self) {}
}

/// A queue under test, opened with [`queue::settings`].
#[async_trait]
pub trait QueueBench: Send + Sync {
    /// Returns the queue, empty at first.
    fn queue(&self) -> Arc<dyn JobQueue>;
    /// Publishes bytes that need not be a job.
    async fn publish_bytes(&self, queue: QueueName, bytes: &[u8]);
    /// Returns the number of unsettled deliveries, for queues that leave
    /// [`crate::queue::QueueDepth::unacknowledged`] empty.
    async fn unacknowledged(&self, queue: QueueName) -> u64;
}

/// Returns the tenant with this name.
#[must_use]
pub fn tenant_id(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// Returns the user with this name.
#[must_use]
pub fn user_id(name: &str) -> UserId {
    name.parse().unwrap()
}

/// Returns the user with this name in that tenant.
#[must_use]
pub fn key(tenant: &str, user: &str) -> UserKey {
    UserKey::new(tenant_id(tenant), user_id(user))
}

/// Emits one test per function of the registry's suite. The argument is a future of a [`RegistryBench`]. With
/// `loops` in front, it emits only the tests of what the loops of scheduler and worker need, for a fake that
/// supports nothing else.
#[macro_export]
macro_rules! registry_contract {
    (loops $make:expr) => {
        $crate::registry_contract! { @tests $make;
            tenants::a_tenant_is_added_replaced_read_and_removed
            tenants::tenants_come_in_pages_in_order_of_name
            tenants::only_enabled_tenants_with_users_are_active
            tenants::it_can_be_written
            enrolments::a_user_enrols_is_updated_and_withdraws
            enrolments::many_are_enrolled_together_and_each_is_answered
            enrolments::a_sign_in_name_belongs_to_one_user_of_the_tenant
            enrolments::enrolments_of_names_only_those_asked_for
            stamps::failures_in_a_row_are_kept_until_a_success
            stamps::late_users_are_counted_by_tenant
            stamps::stamps_are_kept_and_start_with_the_opt_in
            stamps::withdrawn_and_foreign_users_have_no_stamp_and_disabled_ones_say_so
            installation::the_installation_s_id_is_made_once
            installation::the_installation_s_id_can_be_replaced
            marks::a_mark_is_remembered_and_replaced
            alerts::an_alert_is_raised_once_refreshed_and_ended
            alerts::alerts_are_found_by_tenant_user_code_and_time_in_pages
            alerts::alerts_of_users_and_of_the_tenant_are_apart
            alerts::a_list_that_cannot_be_read_has_one_alert
        }
    };
    ($make:expr) => {
        $crate::registry_contract! { loops $make }
        $crate::registry_contract! { @tests $make;
            tenants::a_removed_tenant_takes_everything_but_the_journal
            enrolments::a_mailbox_belongs_to_one_user_of_the_installation
            enrolments::a_withdrawn_user_s_mailbox_is_free_again
            enrolments::an_unknown_tenant_s_user_cannot_enrol
            enrolments::the_same_name_in_two_tenants_is_two_users
            enrolments::disabling_keeps_the_reason_and_survives_another_opt_in
            enrolments::long_lists_of_users_are_answered_whole
            enrolments::a_deletion_permit_is_taken_once_and_for_its_plan
            states::a_state_is_saved_only_over_the_version_expected
            states::a_withdrawn_user_s_state_is_neither_kept_nor_saved
            states::a_forgotten_state_starts_anew_with_a_version_never_used
            states::another_mailbox_forgets_the_state
            states::a_first_state_of_another_mailbox_is_not_saved
            states::a_state_of_an_earlier_opt_in_is_not_saved
            states::a_first_state_never_survives_a_change_of_mailbox_at_the_same_time
            states::an_enrolment_comes_with_its_state
            states::fingerprints_come_without_blobs
            states::of_many_savers_one_wins
            journal::the_newest_entries_come_first_and_only_the_user_s
            journal::old_entries_are_dropped_a_few_at_a_time
            alerts::an_alert_needs_its_subject_and_ends_with_it
            backups::backups_and_moves_are_remembered
        }
    };
    (@tests $make:expr; $($topic:ident :: $name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let bench = $make.await;
                let registry = $crate::contract::RegistryBench::registry(&bench);
                $crate::contract::registry::$topic::$name(registry).await;
            }
        )*
    };
}

/// Emits one test per function of the schedule's suite. The argument is a future of a [`ScheduleBench`]. With
/// `if available` in front it is a future of an optional one, and tests without a bench are skipped.
#[macro_export]
macro_rules! schedule_contract {
    (if available $make:expr) => {
        $crate::schedule_contract! { @tests $make;
            order::users_and_tenants_come_oldest_first
            order::enrolling_again_changes_nothing
            order::many_are_enrolled_as_each_alone_would_be
            order::the_same_name_in_two_tenants_is_two_users
            order::withdrawn_users_and_tenants_are_gone
            order::a_user_made_due_goes_ahead_but_not_behind
            order::a_walk_names_every_user_claimed_or_not
            claims::claimed_users_leave_the_order_and_come_back_with_their_stamp
            claims::a_user_is_claimed_once_at_a_time
            claims::unknown_and_foreign_users_are_left_out_of_a_claim
            claims::an_old_token_changes_nothing
            claims::a_lost_claim_cannot_be_renewed_finished_or_released
            claims::expired_claims_are_reclaimed_with_their_stamps_a_few_at_a_time
            claims::a_renewed_claim_does_not_expire
            claims::a_withdrawn_user_s_claim_is_void_even_when_enrolled_again
            claims::the_others_of_a_batch_stay_claimed_when_one_of_it_is_withdrawn
            claims::a_finished_user_is_due_again_after_the_wait
            claims::a_failure_keeps_the_last_success
            claims::a_user_made_due_while_claimed_is_due_when_the_attempt_ends
            leadership::one_leads_until_the_lease_ends
            leadership::after_a_resignation_the_next_leader_has_a_newer_epoch
            leadership::a_stale_epoch_claims_nothing
            freshness::a_summary_counts_all_users_or_those_of_one_tenant
            freshness::intervals_and_ages_follow_the_attempts
            freshness::a_request_makes_no_wait_older
        }
    };
    ($make:expr) => {
        $crate::schedule_contract! { if available async { Some($make.await) } }
    };
    (@tests $make:expr; $($topic:ident :: $name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                let Some(bench) = $make.await else { return };
                $crate::contract::schedule::$topic::$name(&bench).await;
                $crate::contract::ScheduleBench::end(&bench).await;
            }
        )*
    };
}

/// Emits one test per function of the fleet's suite. The argument is a future of a [`FleetBench`], or of
/// `None` if its store is not available and the tests are skipped.
#[macro_export]
macro_rules! fleet_contract {
    ($make:expr) => {
        $crate::fleet_contract! { @tests $make;
            a_process_is_a_member_until_it_is_silent
            shares_are_never_more_than_the_limit
            what_is_let_go_is_free_once_it_is_reported
            what_a_dead_process_held_is_free
            all_demands_are_returned_in_order_of_names
            a_pause_reported_by_one_is_learned_by_all
            a_pause_is_shown_with_its_reason
            an_ended_pause_is_over_for_all
            a_pause_outlives_its_reporter_and_ends
            a_circuit_opened_by_one_is_learned_by_all
            a_circuit_changed_meanwhile_is_not_overwritten
            a_report_that_comes_late_changes_nothing
            one_probes_at_a_time
            a_process_that_leaves_is_no_longer_a_member
            many_servers_are_asked_about_at_once
        }
    };
    (@tests $make:expr; $($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                // `None`: the store is not available, and the test is skipped.
                let Some(bench) = $make.await else { return };
                $crate::contract::fleet::$name(&bench).await;
                $crate::contract::FleetBench::clean(&bench).await;
            }
        )*
    };
}

/// Emits one test per function of the queue's suite. The argument is a future of a [`QueueBench`] that was
/// opened with [`crate::contract::queue::settings`], or of `None` if no queue is available.
#[macro_export]
macro_rules! queue_contract {
    ($make:expr) => {
        $crate::queue_contract! { @tests $make;
            a_job_is_delivered_once_and_gone_when_acknowledged
            jobs_come_in_order_and_the_two_queues_are_apart
            a_consumer_waits_for_a_job
            a_consumer_holds_no_more_than_its_permits
            two_consumers_share_the_jobs
            what_is_dropped_or_requeued_is_delivered_again
            a_job_never_finished_ends_in_the_dead_letters
            a_rejected_job_is_a_dead_letter_with_its_reason
            bytes_that_are_no_job_are_delivered_as_such
            a_full_queue_refuses_and_takes_again_when_there_is_room
            a_job_that_breaks_the_rules_is_refused
            a_job_carries_its_trace
            deliveries_are_settled_after_their_consumer_is_gone
            dead_letters_are_replayed_to_where_they_came_from
            a_replay_into_a_full_queue_loses_nothing
            dead_letters_are_discarded
        }
    };
    (@tests $make:expr; $($name:ident)*) => {
        $(
            #[tokio::test]
            async fn $name() {
                if let Some(bench) = $make.await {
                    $crate::contract::queue::$name(&bench).await;
                }
            }
        )*
    };
}
