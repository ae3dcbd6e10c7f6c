//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::service::Role;

/// Keeps people's tasks in sync between SharePoint and Exchange.
///
/// `tasksync standalone` runs the service on one machine; on many machines `tasksync scheduler` (two or more) and
/// `tasksync worker` (as many as are needed) share PostgreSQL, Redis and RabbitMQ. All other commands ask a running
/// service, any scheduler or standalone; they take its operator token from TASKSYNC_TOKEN or from the file named by
/// TASKSYNC_TOKEN_FILE.
///
/// Exit codes: 0 well, 1 the answer is bad (not found, a failed check), 2 wrong usage or settings, 3 the service cannot be
/// reached.
#[derive(Debug, Parser)]
#[command(name = "tasksync", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// Address of the service.
    #[arg(
        long,
        global = true,
        env = "TASKSYNC_URL",
        default_value = "http://127.0.0.1:8480",
        hide_env_values = true
    )]
    pub(crate) url: String,
    /// Print the service's JSON instead of text.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs the whole service in one process on one machine.
    Standalone(Config),
    /// Runs one of several schedulers: each serves the API, and one of them leads and hands out work.
    ///
    /// Needs stores that processes share: PostgreSQL (registry.url), Redis (schedule.url) and RabbitMQ (queue.url).
    /// Stores that do not answer yet are waited for.
    Scheduler(Config),
    /// Runs one of several workers: it takes jobs and syncs users, and has no API.
    ///
    /// Needs the same stores as the schedulers, and reaches the tenants' servers.
    Worker(Config),
    /// Asks the service on this machine whether it is ready; exit code 0 or 1, for container health checks.
    ///
    /// The address is health.listen of the same settings.
    Health {
        #[command(flatten)]
        config: Config,
        /// Ask only whether the process lives.
        #[arg(long)]
        live: bool,
    },
    #[command(flatten)]
    Remote(Remote),
    /// Looks at settings files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Prints reference pages, made from the program itself.
    Docs {
        /// Which page.
        page: Page,
    },
}

/// Where the settings are.
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// Settings file; without one the defaults and the environment variables are used.
    #[arg(long, env = "TASKSYNC_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
}

/// Commands that ask the service.
#[derive(Debug, Subcommand)]
pub(crate) enum Remote {
    /// Tenants: whose SharePoint and Exchange are connected.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Users: who is synced, and how it goes.
    #[command(subcommand)]
    User(UserCommand),
    /// Syncs a user as soon as a worker is free.
    SyncNow {
        /// Name of the tenant.
        tenant: String,
        /// Name of the user.
        user: String,
    },
    /// Shows freshness, queues, leader, disabled users and open alerts.
    Status {
        /// Of this tenant only.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Checks the installation and the tenants' servers; changes nothing.
    Doctor {
        /// Asks this tenant's servers.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Shows the open alerts.
    Alerts {
        /// Of this tenant only.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Jobs that were given up on: delivered too often, refused by a worker, or never taken in time.
    #[command(subcommand)]
    DeadLetters(DeadLettersCommand),
    /// The id of the installation, which the markers in people's mailboxes carry.
    #[command(subcommand)]
    Installation(InstallationCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum InstallationCommand {
    /// Shows the id. Keep it with the backups of the registry.
    Show,
    /// Replaces the id, for a registry that was restored empty.
    ///
    /// Mailboxes whose folders carry another id are left alone. With the id of the lost registry their copies are found
    /// again, and nothing is made twice.
    Set {
        /// The id of the lost registry, a UUID.
        id: String,
        /// Also while people are opted in.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// Lists the dead letters, oldest first, with the reasons.
    List {
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Puts dead letters back into the queues they came from.
    ///
    /// A worker first renews the claim on the users of a job. If it is gone, as it is after a few minutes, the job does
    /// nothing: those users are synced by newer jobs. So replaying is always safe, and useful only shortly after.
    Replay(WhichLetters),
    /// Removes dead letters for good. Nobody's tasks are touched, and the users are synced by newer jobs.
    Discard(WhichLetters),
}

/// Which dead letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichLetters {
    /// The one with this id.
    pub(crate) id: Option<String>,
    /// The oldest, at most so many (1 to 500).
    #[arg(long)]
    pub(crate) oldest: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Adds a tenant from a TOML file, or brings it up to date.
    Add {
        /// The tenant's file; see deploy/tasksync/examples/tenant.toml.
        file: PathBuf,
    },
    /// Lists the tenants.
    List,
    /// Shows one tenant.
    Show {
        /// Name of the tenant.
        tenant: String,
    },
    /// Removes a tenant with its users and their sync states; tasks stay where they are.
    Remove {
        /// Name of the tenant.
        tenant: String,
    },
    /// Shows which of the tenant's servers are paused, since when, until when and why.
    ///
    /// A server that is too busy asks for a pause (`Retry-After`, `BackOffMilliseconds`). Nothing is sent to it before the pause is
    /// over, at most 24 hours.
    Pauses {
        /// Name of the tenant.
        tenant: String,
    },
    /// Ends the pauses of the tenant's servers at once, for all workers. A server that is still busy asks for another.
    EndPauses {
        /// Name of the tenant.
        tenant: String,
        /// Only of this server, as `tasksync tenant pauses` shows it: host and port.
        #[arg(long)]
        server: Option<String>,
    },
    /// Syncs the tenant's users again.
    Enable {
        /// Name of the tenant.
        tenant: String,
    },
    /// Stops every sync of the tenant; nothing is removed.
    Disable {
        /// Name of the tenant.
        tenant: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Opts a user in, or brings the user up to date and enables the user again; many with `--file`.
    OptIn {
        /// Name of the tenant.
        tenant: String,
        /// Name of the user, for example the e-mail address.
        #[arg(required_unless_present = "file")]
        user: Option<String>,
        /// The person's sign-in name at SharePoint, for example `i:0#.w|contoso\ana`.
        #[arg(long, required_unless_present = "file")]
        source_login: Option<String>,
        /// The person's primary mailbox address.
        #[arg(long, required_unless_present = "file")]
        mailbox: Option<String>,
        /// The mailbox owner's time zone, as an IANA or Windows name; without it the tenant's.
        #[arg(long)]
        time_zone: Option<String>,
        /// Do not ask SharePoint for the person and Exchange for the mailbox.
        #[arg(long)]
        unchecked: bool,
        /// Opts in everybody listed in this CSV file, unchecked; its first line names the columns `user`,
        /// `source_login`, `mailbox` and, if wanted, `time_zone`.
        #[arg(long, conflicts_with_all = ["user", "source_login", "mailbox", "time_zone", "unchecked"])]
        file: Option<PathBuf>,
    },
    /// Opts a user out: nothing is synced any more, tasks stay where they are.
    OptOut {
        /// Name of the tenant.
        tenant: String,
        /// Name of the user.
        user: String,
    },
    /// Lists a tenant's users.
    List {
        /// Name of the tenant.
        tenant: String,
    },
    /// Shows one user: last and next sync, alerts, what was overwritten.
    Status {
        /// Name of the tenant.
        tenant: String,
        /// Name of the user.
        user: String,
    },
    /// Shows what a sync of the user would do now, task by task and field by field; writes nothing.
    Plan {
        /// Name of the tenant.
        tenant: String,
        /// Name of the user.
        user: String,
    },
    /// Permits the deletions that are held back now, once, within a day.
    ///
    /// If other deletions are held by the next sync, none passes, and the alert says so.
    AllowDeletions {
        /// Name of the tenant.
        tenant: String,
        /// Name of the user.
        user: String,
        /// The plan as `tasksync user plan` named it; refused when another one is held now.
        #[arg(long)]
        plan: Option<String>,
    },
    /// Shows what was overwritten or deleted, newest first.
    Journal {
        /// Name of the tenant.
        tenant: String,
        /// Name of the user.
        user: String,
        /// How many entries.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Reads a settings file together with the environment and says what is wrong.
    Check {
        /// The file.
        file: PathBuf,
        /// Also check whether this role may use the stores named there.
        #[arg(long)]
        role: Option<Role>,
    },
}

/// A reference page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Page {
    /// Every error, its cause and what to do.
    Errors,
    /// Every setting.
    Settings,
    /// The REST API.
    Api,
    /// What the doctor checks.
    Doctor,
    /// The commands.
    Commands,
    /// The metrics.
    Metrics,
}
