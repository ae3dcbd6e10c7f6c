//! The registry in memory does what every registry does, as far as the loops need it.

use std::sync::Arc;

use tasksync_common::contract::RegistryBench;
use tasksync_common::registry::Registry;

use crate::support::MemoryRegistry;

struct Bench(Arc<MemoryRegistry>);

impl RegistryBench for Bench {
    fn registry(&self) -> Arc<dyn Registry> {
        Arc::clone(&self.0) as Arc<dyn Registry>
    }
}

tasksync_common::registry_contract! {
    only std::future::ready(Bench(Arc::default()));
    tenants::a_tenant_is_added_replaced_read_and_removed
    tenants::tenants_come_in_pages_in_order_of_name
    tenants::only_enabled_tenants_with_users_are_active
    tenants::a_removed_tenant_takes_everything_but_the_journal
    tenants::it_can_be_written
    enrolments::a_user_enrols_is_updated_and_withdraws
    enrolments::many_are_enrolled_together_and_each_is_answered
    enrolments::a_mailbox_belongs_to_one_user_of_the_installation
    enrolments::a_withdrawn_user_s_mailbox_is_free_again
    enrolments::an_unknown_tenant_s_user_cannot_enrol
    enrolments::disabling_keeps_the_reason_and_survives_another_opt_in
    enrolments::enrolments_of_names_only_those_asked_for
    enrolments::long_lists_of_users_are_answered_whole
    enrolments::the_same_name_in_two_tenants_is_two_users
    stamps::failures_in_a_row_are_kept_until_a_success
    stamps::who_was_not_synced_for_long_is_counted_by_tenant
    stamps::stamps_are_kept_and_start_with_the_opt_in
    stamps::disabled_withdrawn_and_foreign_users_have_no_stamp
    installation::the_installation_s_id_is_made_once
    installation::the_installation_s_id_can_be_replaced
    marks::a_mark_is_remembered_and_replaced
    alerts::an_alert_is_raised_once_refreshed_and_ended
    alerts::alerts_of_users_and_of_the_tenant_are_apart
    alerts::a_list_that_cannot_be_read_has_one_alert
    alerts::an_alert_needs_its_subject_and_ends_with_it
}
