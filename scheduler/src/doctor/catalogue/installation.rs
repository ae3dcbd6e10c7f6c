//! The checks of the installation.

use super::Definition;

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
    PROCESS_SETTINGS "processes-settings" "installations of many processes"
        "All processes have the same settings and the same operator token"
        "Give all processes the same settings and the same operator token, and start those named again.";
    PROCESS_CLOCKS "processes-clocks" "installations of many processes"
        "The clocks of all processes agree with that of the schedule's store"
        "Set the clocks of the named processes' machines by NTP. Conflicts are decided by times.";
    PROCESS_VERSIONS "processes-versions" "installations of many processes"
        "All processes run the same version"
        "Finish the upgrade, or wait until it has ended (docs/upgrade.md).";
    SPARE_PROCESSES "processes-spare" "installations of many processes"
        "One scheduler and one worker may fail"
        "Run at least two schedulers and two workers, on different machines.";
    WORKERS_ENOUGH "workers-enough" "every installation"
        "There are as many workers as the people need"
        "Add workers, or raise `worker.batches_at_once` (docs/size.md).";
    BACKUP "backup-age" "every installation"
        "The last backup is not older than two days"
        "Run `tasksync backup` every day (docs/backup.md). Backups by the database's own means are not seen here; if you make those, run `tasksync backup` beside them now and then.";
    MOVED "registry-moved" "every installation"
        "The installation did not move to another registry"
        "Stop this process: the installation works elsewhere. If the move was given up, run `tasksync export --cancel-move`.";
    PEOPLE_DISABLED "people-disabled" "every installation"
        "At most one person in ten is disabled"
        "`tasksync alerts` shows the causes; a cause that many people share is often one setting or one right.";
    STORES_ENCRYPTED "stores-encrypted" "stores on other machines"
        "Stores on other machines are reached over TLS"
        "Use rediss://, amqps:// and `sslmode=verify-full`; docs/install.md shows the addresses.";
    STORES_PASSWORDS "stores-passwords" "stores on other machines"
        "Stores on other machines ask for a password of your own"
        "Give the store an account for tasksync, and write its address with the password into a variable such as `TASKSYNC_QUEUE__URL`.";
    OUTBOUND_NETWORKS "outbound-networks" "every installation"
        "Tenants reach no more networks than they need"
        "Name the networks or addresses of the tenants' servers in `outbound.allowed_networks`, and nothing wider.";
    GUARD "guard" "every installation"
        "Unusually many deletions are held back"
        "Set `guard.deletions` and `guard.deletions_percent` back to their defaults.";
    JOURNAL_LIFE "journal-lifetime" "every installation"
        "Overwritten values are kept long enough to be missed"
        "Set `registry.journal_lifetime` to 7d or more.";
    LOG_FILTER "log-filter" "every installation"
        "The log shows events, and not every step"
        "Set `log.filter` to info; a module of tasksync may be at debug: info,tasksync_worker=debug.";
    SECRETS_FOLDER "secrets-folder" "every installation"
        "Others may not read the tenants' secrets"
        "Run the command that the explanation names.";
    AUTHORITIES "private-authorities" "certificates of your own authority"
        "The certificates of your own authorities can be read and are valid"
        "Correct the path, or replace the file by one with the authority's new certificate, and start the processes again.";
}
