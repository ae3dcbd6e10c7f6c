//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use jiff::Timestamp;
use tasksync_common::model::MailboxAddress;

use crate::backup::{BackupArguments, ExportArguments, ImportArguments, RestoreArguments};
use crate::init::InitArguments;
use crate::service::ServiceRole;
use crate::support::SupportBundleArguments;
use crate::watch;

/// Synchronises people's tasks between SharePoint and Exchange.
///
/// `tasksync standalone` runs the service on one machine. On many machines, `tasksync scheduler` (two or more) and
/// `tasksync worker` (any number) share PostgreSQL, Redis and RabbitMQ. All other commands call a running service,
/// which may be any scheduler or a standalone process. They read its operator token from `TASKSYNC_TOKEN`, or from the
/// file that `TASKSYNC_TOKEN_FILE` names.
///
/// Exit codes: 0 success, 1 the answer is bad (not found, a failed check, something for the operator to do), 2 wrong
/// usage or settings, 3 the service cannot be reached.
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
    /// Print JSON instead of text; a role logs as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sets up a service on this machine: settings, token, secrets' folder and the first tenant, tested at both ends.
    ///
    /// In a terminal it asks for the facts that no option gives. It can be run again: it shows each change of a file
    /// before it makes it, and keeps comments and further keys of the settings. It ends with the doctor.
    Init(Box<InitArguments>),
    /// Runs the whole service in one process on one machine.
    Standalone(Config),
    /// Runs one of several schedulers: each serves the API, and one of them leads and hands out work.
    ///
    /// Needs stores that processes share: PostgreSQL (registry.url), Redis (schedule.url) and RabbitMQ (queue.url).
    /// Waits for stores that do not answer yet.
    Scheduler(Config),
    /// Runs one of several workers: it takes jobs and syncs users, and has no API.
    ///
    /// Needs the same stores as the schedulers, and reaches the tenants' servers.
    Worker(Config),
    /// Checks whether the service on this machine is ready; exit code 0 or 1, for container health checks.
    ///
    /// The address is health.listen of the same settings.
    Health {
        #[command(flatten)]
        config: Config,
        /// Check only whether the process is alive.
        #[arg(long)]
        live: bool,
    },
    #[command(flatten)]
    Remote(ApiCommand),
    /// Writes everything in the registry into a file, and reads the file back.
    ///
    /// The service may run meanwhile: the file shows the registry as it was at one moment. It has the installation's
    /// id, tenants, people with their sync states, alerts and the journal. Secrets are not in it, only their names.
    Backup(BackupArguments),
    /// Fills the registry from a backup, after checking that the file is complete and unchanged.
    ///
    /// The service must be stopped. Everything is restored in one step: if the command is interrupted, nothing has
    /// changed.
    Restore(RestoreArguments),
    /// Writes everything in the registry into a file for another registry, of either kind of database.
    Export(ExportArguments),
    /// Fills an empty registry, of either kind of database, from the file of an export.
    Import(ImportArguments),
    /// Works with settings files.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Writes one archive for those who help: settings, status, doctor, metrics and errors, without secrets, tasks and
    /// people's names.
    ///
    /// The answers come from the running service, settings and metrics from this machine. If the service cannot be
    /// reached, the archive has only this machine's part, and says so. Exit code 1 if a part is missing.
    SupportBundle(SupportBundleArguments),
    /// Explains an error code: its cause, who acts and what to do. Without a code, lists all codes.
    ///
    /// The codes are those in the service's answers, alerts and log. Needs no running service.
    Explain {
        /// The code, such as `exchange-busy`.
        code: Option<String>,
    },
    /// Prints a script that completes commands and options in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints reference pages, generated from the program itself.
    Docs {
        /// Which page.
        page: DocsPage,
        /// For `man`: the folder that the man pages are written to, one for each command.
        #[arg(required_if_eq("page", "man"))]
        folder: Option<PathBuf>,
    },
}

/// Where the settings are.
#[derive(Debug, Args)]
pub(crate) struct Config {
    /// Settings file; without it, the defaults and the environment variables are used.
    #[arg(long, env = "TASKSYNC_CONFIG", hide_env_values = true)]
    pub(crate) config: Option<PathBuf>,
}

/// Commands that call the service.
#[derive(Debug, Subcommand)]
pub(crate) enum ApiCommand {
    /// Tenants, whose SharePoint and Exchange are connected.
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Users, whose tasks are synced.
    #[command(subcommand)]
    User(UserCommand),
    /// Syncs a user as soon as a worker is free.
    SyncNow {
        /// Name of the tenant.
        tenant: String,
        /// Name of the user.
        user: String,
        /// Wait until that sync has ended, at most this long (for example `90s`; 2 minutes without a value), and show
        /// what it did; exit code 1 if it failed or did not end in time.
        #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2min", value_parser = watch::parse_time)]
        wait: Option<Duration>,
    },
    /// Shows what is wrong, freshness, queues, leader, processes, disabled users and open alerts.
    ///
    /// The first lines say what is wrong; `!` marks what the operator has to do. Exit code 0 if there is nothing of
    /// that, 1 if there is. If a store does not answer, what only it knows is named, and the rest is shown.
    Status {
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<String>,
        /// Show it again at this interval (2 seconds without a value) until Ctrl-C.
        #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_parser = watch::parse_time)]
        watch: Option<Duration>,
        /// Show only the tenants that took most of the workers' time lately, that failed most, and that have late
        /// users: this many of each (10 without a value).
        #[arg(long, value_name = "COUNT", num_args = 0..=1, require_equals = true, default_missing_value = "10", conflicts_with_all = ["watch", "tenant"])]
        top: Option<u32>,
    },
    /// Checks the installation and the tenants' servers; changes nothing.
    Doctor {
        /// Checks this tenant's servers.
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Shows the open alerts by cause, or each alone with `--list`.
    Alerts {
        /// Only of this tenant.
        #[arg(long)]
        tenant: Option<String>,
        /// Only with this code, for example `exchange-mailbox-full`.
        #[arg(long)]
        code: Option<String>,
        /// Only those raised since: a time such as `2026-11-30T08:00:00Z`, or how long ago, such as `2h`.
        #[arg(long, value_name = "TIME", value_parser = watch::parse_since)]
        since: Option<Timestamp>,
        /// List each alert, oldest first.
        #[arg(long)]
        list: bool,
        /// How many are listed (1 to 1000).
        #[arg(long, requires = "list", default_value_t = 50)]
        limit: u32,
        /// Continue a list where the page before ended.
        #[arg(long, requires = "list", value_name = "PLACE")]
        after: Option<String>,
    },
    /// Dead letters: jobs that were delivered too often, refused by a worker, or never taken in time.
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
    /// Mailboxes whose folders have another id are left alone. With the id of the lost registry, their copies are
    /// found again, and nothing is created twice.
    Set {
        /// The id of the lost registry, a UUID.
        id: String,
        /// Replace the id even while people are opted in.
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
    /// Puts dead letters back into their queues.
    ///
    /// A worker first renews the claim on the users of a job. If the claim is gone, as it is after a few minutes, the
    /// job does nothing: newer jobs sync those users. So replaying is always safe, but only useful for a short time.
    Replay(WhichLetters),
    /// Removes dead letters for good; tasks are not changed, and newer jobs sync the users.
    Discard(WhichLetters),
}

/// Which dead letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct WhichLetters {
    /// The dead letter with this id.
    pub(crate) id: Option<String>,
    /// The oldest ones, at most this many (1 to 500).
    #[arg(long)]
    pub(crate) oldest: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TenantCommand {
    /// Adds a tenant from a TOML file, or updates it, after both ends were tested.
    ///
    /// SharePoint is tested site by site. Exchange is tested by the mailbox of --test-mailbox; without one, only that
    /// it accepts the service account. Tests only read. If a test fails, nothing is stored (exit code 1).
    Add {
        /// The tenant's file, or - for standard input; see deploy/tasksync/examples/tenant.toml.
        file: PathBuf,
        #[command(flatten)]
        testing: Testing,
        /// Test both ends and show the difference, and store nothing.
        #[arg(long, conflicts_with = "no_test")]
        check_only: bool,
    },
    /// Opens a tenant's file in the editor ($VISUAL or $EDITOR), shows the difference, tests both ends and stores it.
    ///
    /// A text that cannot be stored is kept, and the message says where.
    Edit {
        /// Name of the tenant.
        tenant: String,
        #[command(flatten)]
        testing: Testing,
        /// Store without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Lists the tenants.
    List,
    /// Shows one tenant.
    Show {
        /// Name of the tenant.
        tenant: String,
    },
    /// Removes a tenant with its users and their sync states; tasks stay where they are.
    ///
    /// Says how many people lose their sync, and asks for the tenant's name again.
    Remove {
        /// Name of the tenant.
        tenant: String,
        /// Remove without asking; needed where no person can be asked.
        #[arg(long)]
        yes: bool,
    },
    /// Shows which of the tenant's servers are paused, since when, until when and why.
    ///
    /// A server that is too busy asks for a pause (`Retry-After`, `BackOffMilliseconds`). No request is sent to it
    /// before the pause is over, for at most 24 hours.
    Pauses {
        /// Name of the tenant.
        tenant: String,
    },
    /// Ends the pauses of the tenant's servers at once, for all workers; a server that is still busy asks for another
    /// pause.
    EndPauses {
        /// Name of the tenant.
        tenant: String,
        /// Only of this server, as host and port, as `tasksync tenant pauses` shows it.
        #[arg(long)]
        server: Option<String>,
    },
    /// Resumes the syncs of the tenant's users.
    Enable {
        /// Name of the tenant.
        tenant: String,
    },
    /// Stops all syncs of the tenant; removes nothing.
    Disable {
        /// Name of the tenant.
        tenant: String,
    },
}

/// How a tenant is tested before it is stored.
#[derive(Debug, Args)]
pub(crate) struct Testing {
    /// A mailbox by which Exchange is tested while no person is opted in; stored with the tenant.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) test_mailbox: Option<MailboxAddress>,
    /// A sign-in name by which SharePoint is tested while no person is opted in; stored with the tenant.
    #[arg(long, value_name = "LOGIN")]
    pub(crate) test_login: Option<String>,
    /// Store without testing, for servers that cannot be reached yet.
    #[arg(long)]
    pub(crate) no_test: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserCommand {
    /// Opts a user in, or updates and enables an existing user; opts in many with `--file`.
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
        /// The time zone of the mailbox's owner, as an IANA or Windows name; default: the tenant's.
        #[arg(long)]
        time_zone: Option<String>,
        /// Do not check that SharePoint knows the person and that Exchange opens the mailbox.
        #[arg(long)]
        unchecked: bool,
        /// Opts in all users of this CSV file, unchecked. Its first line names the columns `user`, `source_login`,
        /// `mailbox` and optionally `time_zone`.
        #[arg(long, conflicts_with_all = ["user", "source_login", "mailbox", "time_zone", "unchecked"])]
        file: Option<PathBuf>,
    },
    /// Opts a user out: nothing more is synced, and tasks stay where they are.
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
    /// Shows one user: last and next sync, alerts, overwritten values.
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
        /// The plan as `tasksync user plan` named it; refused if another plan is held now.
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
    /// Reads a settings file together with the environment and names everything that a start would refuse.
    ///
    /// Checks the operator token and the files and folders that the settings name, too.
    Check {
        /// The file.
        file: PathBuf,
        /// Also check whether this role may use the stores of the file.
        #[arg(long)]
        role: Option<ServiceRole>,
        /// Do not look at files and folders that the settings name: the file is for another machine.
        #[arg(long)]
        skip_files: bool,
    },
    /// Shows each setting with its value and where that comes from: default, line of the file, or variable.
    ///
    /// Passwords are replaced by `***`. No service is asked: it shows what a process would start with here and now.
    Show {
        #[command(flatten)]
        config: Config,
        /// Only the settings that differ from their defaults.
        #[arg(long)]
        changed: bool,
    },
}

/// A reference page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DocsPage {
    /// All errors, their causes and what to do.
    Errors,
    /// All settings.
    Settings,
    /// Every key of a tenant's file.
    Tenant,
    /// The REST API.
    Api,
    /// What the doctor checks.
    Doctor,
    /// The commands.
    Commands,
    /// The metrics.
    Metrics,
    /// Man pages, written to a folder.
    Man,
}
