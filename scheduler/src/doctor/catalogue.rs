//! All checks of the doctor, and the page about them.

use std::fmt::Write as _;

/// What one check is about, and what to do when it fails.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) id: &'static str,
    pub(super) what: &'static str,
    pub(super) solution: &'static str,
    pub(super) applies_to: &'static str,
}

macro_rules! definitions {
    ($($name:ident $id:literal $applies:literal $what:literal $solution:literal;)*) => {
        pub(super) mod definitions {
            use super::Definition;
            $(pub(in crate::doctor) const $name: Definition = Definition {
                id: $id, what: $what, solution: $solution, applies_to: $applies,
            };)*
            // Does not use the constants above, so that the compiler reports one that no finding uses.
            pub(super) const ALL: &[Definition] = &[$(Definition {
                id: $id, what: $what, solution: $solution, applies_to: $applies,
            }),*];
        }
    };
}

definitions! {
    SETTINGS "settings" "every installation"
        "The settings agree with each other"
        "Correct the settings that the explanation names and start the service again. `tasksync config check FILE` checks them first.";
    TOP_UP "settings-top-up" "every installation"
        "Free workers get work at once"
        "Set `schedule.top_up_interval` back to 1s, unless you want a classic timer job.";
    PLAIN_HTTP "settings-plain-http" "every installation"
        "Passwords and tasks travel encrypted"
        "Set `outbound.allow_plain_http` back to false and give the tenants https:// addresses.";
    REGISTRY "registry-writable" "every installation"
        "The registry answers and accepts writes"
        "Free space on its disk, check the file's owner and mode, and read the service's log.";
    SCHEDULE "schedule-answers" "every installation"
        "The schedule's store answers"
        "Start the store named by `schedule.url`, and check the network path to it.";
    LEADER "schedule-leader" "every installation"
        "One process leads and hands out work"
        "Wait one `schedule.leader_lifetime`. If no process leads then, read the service's log and start it again.";
    QUEUE "queue-answers" "every installation"
        "The queue of jobs answers"
        "Start the store named by `queue.url`, and check the network path to it.";
    DEAD_LETTERS "dead-letters" "every installation"
        "There are no dead letters"
        "Read the reasons with `tasksync dead-letters list`, and the workers' log lines about those jobs. Then run `tasksync dead-letters replay` or `discard`.";
    WORKERS "workers-consume" "every installation"
        "At least one worker takes jobs"
        "Start a worker. If one is running, its log says why it takes no jobs.";
    CAPACITY "capacity" "every installation"
        "The settings allow all users to be synced in time"
        "Raise `schedule.tenants_per_run` or `schedule.users_per_batch`, shorten `schedule.run_interval`, or set `schedule.top_up_interval` above 0.";
    FRESHNESS "freshness" "every installation"
        "No user waits longer than the settings promise"
        "Add workers or raise `worker.batches_at_once`; `tasksync status --tenant TENANT` shows whether one tenant is slow.";
    CLOCK "clock" "every installation"
        "This machine's clock agrees with the others"
        "Set this machine's clock by NTP.";
    ALERTS "alerts" "every installation"
        "No alert is open"
        "Read `tasksync alerts`; each alert says what to do.";
    TENANTS_ASKED "tenants-asked" "installations with many tenants"
        "Every tenant was checked"
        "Check the others one by one with `tasksync doctor --tenant TENANT`.";
    TENANT_ENABLED "tenant-enabled" "every tenant"
        "The tenant is enabled"
        "Enable it with `tasksync tenant enable TENANT`.";
    TENANT_ANSWERS "tenant-answers" "every tenant"
        "The tenant's servers answer in time"
        "Check the tenant's addresses, and the network path to its servers.";
    SITES "source-sites" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "Every site answers and accepts the service account"
        "Correct the site addresses or the credentials of the tenant.";
    SITES_EDIT "source-edit" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "The service account may edit tasks on every site"
        "Give the service account Contribute on the named sites, so that changes made in Outlook reach SharePoint.";
    SITES_LISTS "source-lists" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "The sites have task lists"
        "Name sites with task lists (templates 107, 150, 171), or give the service account access to the lists.";
    PEOPLE "people-known" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "SharePoint knows the people of the sample"
        "If a person was opted in just now, the first sync makes the site know the person. Otherwise correct the sign-in names with `tasksync user opt-in`, or give these people access to the sites.";
    MAILBOX "mailbox-server" "Exchange Server 2013 SP1 to Subscription Edition, Exchange Online with EWS"
        "Exchange answers, accepts the service account, and opens the mailboxes of the sample"
        "Correct the EWS address or the credentials of the tenant, or the mailbox address of the user.";
    MAILBOX_ACCESS "mailbox-access" "Exchange Server 2013 SP1 to Subscription Edition, Exchange Online with EWS"
        "All mailboxes of the sample are opened in the same way, the cheap one"
        "Grant the service account FullAccess to the mailboxes, so that one request can cover many of them.";
    IDLE_CHECK "mailbox-idle-check" "Exchange Server 2013 SP1 to Subscription Edition, Exchange Online with EWS"
        "The cheap check for changes works in the mailboxes of the sample"
        "Nothing needs to be done; syncs of these mailboxes cost more requests.";
    TENANT_CLOCK "tenant-clock" "every tenant"
        "The clocks of the tenant's servers agree with this machine's"
        "Set the clocks of the named servers, or this machine's, by NTP. The latest edit wins a conflict, so clocks decide.";
    TENANT_PAUSES "tenant-pauses" "every tenant"
        "No server of the tenant is paused"
        "Nothing needs to be done: a pause ends by itself. If a server asked for it by mistake, `tasksync tenant end-pauses TENANT` ends it at once.";
    TENANT_USERS "tenant-users" "every tenant"
        "At least one user is opted in, and none is disabled"
        "`tasksync user list TENANT` and `tasksync user status TENANT USER` show the reasons. Opting in again enables a user.";
    TENANT_ALERTS "tenant-alerts" "every tenant"
        "No alert of the tenant is open"
        "Read `tasksync alerts --tenant TENANT`; each alert says what to do.";
}

/// Returns the checks as a Markdown page.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# What the doctor checks\n\nGenerated from the code (`tasksync docs doctor`); do not edit.\n\n\
         `tasksync doctor` only reads. Every check ends as `ok`, `warning`, `failed` or `not_applicable`. The last one means \
         that the check was not made; it is never a silent pass.\n",
    );
    for definition in definitions::ALL {
        let _ = writeln!(
            page,
            "\n## {}\n\n{}.\n\n- Applies to: {}\n- If not: {}",
            definition.id, definition.what, definition.applies_to, definition.solution
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_check_has_its_own_name_and_a_solution() {
        let names: BTreeSet<_> = definitions::ALL.iter().map(|definition| definition.id).collect();
        assert_eq!(names.len(), definitions::ALL.len());
        for definition in definitions::ALL {
            assert!(
                definition.solution.ends_with('.') && !definition.what.ends_with('.'),
                "{}",
                definition.id
            );
        }
    }
}
