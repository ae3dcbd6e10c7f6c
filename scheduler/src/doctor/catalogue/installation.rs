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
}
