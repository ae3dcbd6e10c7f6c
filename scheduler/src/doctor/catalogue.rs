//! All checks of the doctor, and the page about them.

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
            pub(super) const ALL: &[&Definition] = &[$(&$name),*];
        }
    };
}

definitions! {
    SETTINGS "settings" "every installation"
        "The settings agree with each other"
        "Correct the settings the explanation names and start the service again; `tasksync config check FILE` tries them first.";
    TOP_UP "settings-top-up" "every installation"
        "Free workers get work at once"
        "Set `schedule.top_up_interval` back to 1s, unless a classic timer job is what you want.";
    PLAIN_HTTP "settings-plain-http" "every installation"
        "Passwords and tasks travel encrypted"
        "Set `outbound.allow_plain_http` back to false and give the tenants https:// addresses.";
    REGISTRY "registry-writable" "every installation"
        "The registry answers and can be written"
        "Make room on its disk, check the file's owner and mode, and look at the service's log.";
    SCHEDULE "schedule-answers" "every installation"
        "The order of work answers"
        "Start the store named by `schedule.url` and check the way to it.";
    LEADER "schedule-leader" "every installation"
        "One process leads and hands out work"
        "Wait one `schedule.leader_lifetime`; if nobody leads then, look at the service's log and start it again.";
    QUEUE "queue-answers" "every installation"
        "The queue of jobs answers"
        "Start the store named by `queue.url` and check the way to it.";
    DEAD_LETTERS "dead-letters" "every installation"
        "No job was given up on"
        "Look at the reasons with `tasksync dead-letters list`, and at the workers' log lines of those jobs; then `tasksync dead-letters replay` or `discard`.";
    WORKERS "workers-consume" "every installation"
        "At least one worker takes jobs"
        "Start a worker, or look at the log of the one that runs for why it takes nothing.";
    CAPACITY "capacity" "every installation"
        "The settings allow for everybody to be synced in time"
        "Raise `schedule.tenants_per_run` or `schedule.users_per_batch`, shorten `schedule.run_interval`, or set `schedule.top_up_interval` above 0.";
    FRESHNESS "freshness" "every installation"
        "Nobody waits longer than the settings promise"
        "Add workers or raise `worker.batches_at_once`; `tasksync status --tenant TENANT` shows whether one tenant is slow.";
    CLOCK "clock" "every installation"
        "This machine's clock agrees with the others"
        "Set this machine's clock by NTP.";
    ALERTS "alerts" "every installation"
        "No alert is open"
        "Look at `tasksync alerts`; each says what to do.";
    TENANTS_ASKED "tenants-asked" "installations with many tenants"
        "Every tenant was asked"
        "Ask the others one by one with `tasksync doctor --tenant TENANT`.";
    TENANT_ENABLED "tenant-enabled" "every tenant"
        "The tenant is enabled"
        "Enable it with `tasksync tenant enable TENANT`.";
    TENANT_ANSWERS "tenant-answers" "every tenant"
        "The tenant's servers answer in time"
        "Check the addresses of the tenant and the way to its servers.";
    SITES "source-sites" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "Every site answers and lets the service account in"
        "Correct the site addresses or the credentials of the tenant.";
    SITES_EDIT "source-edit" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "The service account may edit tasks on every site"
        "Give the service account Contribute on the sites named, so that changes made in Outlook reach SharePoint.";
    SITES_LISTS "source-lists" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "There are task lists"
        "Name sites that hold task lists (templates 107, 150, 171), or give the service account access to the lists.";
    PEOPLE "people-known" "SharePoint Server 2013 to Subscription Edition, SharePoint Online"
        "SharePoint knows the sampled people"
        "Correct the sign-in names with `tasksync user opt-in`, or give the people access to the sites.";
    MAILBOX "mailbox-server" "Exchange Server 2013 to Subscription Edition, Exchange Online with EWS"
        "Exchange answers, lets the service account in, and opens the sampled mailboxes"
        "Correct the EWS address or the credentials of the tenant, or the mailbox address of the user.";
    MAILBOX_ACCESS "mailbox-access" "Exchange Server 2013 to Subscription Edition, Exchange Online with EWS"
        "All sampled mailboxes are opened in one way, and in the cheap one"
        "Grant the service account FullAccess to the mailboxes, so that one request can ask about many of them.";
    IDLE_CHECK "mailbox-idle-check" "Exchange Server 2013 to Subscription Edition, Exchange Online with EWS"
        "The cheap check for changes works in the sampled mailboxes"
        "Nothing must be done; syncs of these mailboxes cost more requests.";
    TENANT_CLOCK "tenant-clock" "every tenant"
        "The clocks of the tenant's servers agree with this machine's"
        "Set the clocks of the servers named, or this machine's, by NTP: the latest edit wins, so clocks decide.";
    TENANT_PAUSES "tenant-pauses" "every tenant"
        "No server of the tenant is paused"
        "Nothing must be done: a pause is kept and ends by itself. If a server named it by mistake, `tasksync tenant end-pauses TENANT` ends it at once.";
    TENANT_USERS "tenant-users" "every tenant"
        "Somebody is opted in, and nobody is disabled"
        "Look at `tasksync user list TENANT` and `tasksync user status TENANT USER` for the reasons; opting in again enables a user.";
    TENANT_ALERTS "tenant-alerts" "every tenant"
        "No alert of the tenant is open"
        "Look at `tasksync alerts --tenant TENANT`; each says what to do.";
}

/// Returns the checks as a Markdown page.
#[must_use]
pub fn markdown() -> String {
    let mut page = String::from(
        "# What the doctor checks\n\nGenerated from the code (`tasksync docs doctor`); do not edit.\n\n\
         `tasksync doctor` only reads. Every check ends as `ok`, `warning`, `failed` or `not_applicable`; the last is never \
         a silent pass.\n",
    );
    for definition in definitions::ALL {
        page.push_str(&format!(
            "\n## {}\n\n{}.\n\n- Applies to: {}\n- If not: {}\n",
            definition.id, definition.what, definition.applies_to, definition.solution
        ));
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
