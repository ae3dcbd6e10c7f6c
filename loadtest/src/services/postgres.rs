//! A private PostgreSQL.

use std::ffi::OsString;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::process::{Launch, ServerProcess, Signal};
use super::run_as::RunAs;
use super::server::{Home, Recipe, Server};
use super::{ServiceError, ServiceFolder, ports, volume};
use crate::random::unique_id;

/// Name of the superuser.
const USER: &str = "postgres";

/// Accounts that the server may run as when this process is root, because PostgreSQL refuses to run as root.
const ACCOUNTS: &[&str] = &["postgres", "nobody"];

/// Time limit for creating an empty database cluster.
const INITIALISE_LIMIT: Duration = Duration::from_mins(2);

/// A private PostgreSQL server with `fsync` on, so that committed data survives a kill.
pub type Postgres = Server<PostgresRecipe>;

/// Where a PostgreSQL server keeps its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresVolume {
    /// In a plain folder.
    Folder,
    /// On a volume that can be made to look full.
    Limited,
}

/// How a PostgreSQL server is started.
#[derive(Debug)]
pub struct PostgresRecipe {
    port: u16,
    password: String,
    account: RunAs,
    volume: PostgresVolume,
}

impl Postgres {
    /// Creates an empty database cluster in `folder`, starts the server and waits until it accepts connections.
    ///
    /// # Errors
    /// Reports why it does not start, with the last lines of its log.
    pub async fn start(folder: &Arc<ServiceFolder>) -> Result<Self, ServiceError> {
        Self::start_on(folder, PostgresVolume::Folder).await
    }

    /// Does the same on either kind of volume. [`Self::fill_volume`] can make a limited one look full.
    ///
    /// # Errors
    /// As [`Self::start`], and on a limited volume if there is no C compiler.
    pub async fn start_on(folder: &Arc<ServiceFolder>, volume: PostgresVolume) -> Result<Self, ServiceError> {
        let account = RunAs::one_of(ACCOUNTS, folder)?;
        Self::start_new(folder, "postgres", || {
            Ok(PostgresRecipe {
                port: ports::free_port()?,
                password: unique_id().simple().to_string(),
                account,
                volume,
            })
        })
        .await
    }

    /// Returns `postgres://user:password@127.0.0.1:port/postgres`. The user is a superuser.
    #[must_use]
    pub fn url(&self) -> String {
        let recipe = self.recipe();
        format!(
            "postgres://{USER}:{}@127.0.0.1:{}/postgres",
            recipe.password, recipe.port
        )
    }

    /// With `full`, refuses from now on every write that would make a file of the server longer, as on a full volume.
    /// Without it, allows such writes again.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn fill_volume(&self, full: bool) -> Result<(), ServiceError> {
        volume::set_full(self.home(), full)
    }

    /// Returns the port of the server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.recipe().port
    }
}

impl PostgresRecipe {
    async fn initialise(&self, home: &Home, folder: &Arc<ServiceFolder>) -> Result<(), ServiceError> {
        let data = home.data();
        std::fs::create_dir_all(&data).map_err(ServiceError::system(data.display().to_string()))?;
        self.account.give(&home.path, 0o755)?;
        self.account.give(&data, 0o700)?;
        let password = home.path.join("password");
        std::fs::write(&password, &self.password)
            .map_err(ServiceError::system(password.display().to_string()))?;
        self.account.give(&password, 0o600)?;
        let mut command = self.account.command(&folder.binaries().postgres("initdb")?);
        command.extend(["-D".into(), data.into(), "-U".into(), USER.into()]);
        command.extend(["--pwfile".into(), password.clone().into()]);
        command.extend(
            [
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
                "--no-instructions",
            ]
            .map(OsString::from),
        );
        let mut process = ServerProcess::start(
            folder,
            &Launch::new(command, home.path.clone(), home.log(), Signal::Kill),
        )?;
        let status = process.wait(INITIALISE_LIMIT).await;
        std::fs::remove_file(&password).ok();
        if status.is_some_and(|status| status.success()) {
            return Ok(());
        }
        Err(ServiceError::Failed {
            service: Self::NAME.to_owned(),
            problem: status.map_or_else(
                || format!("initdb did not end within {} s", INITIALISE_LIMIT.as_secs()),
                |status| format!("initdb ended with {status}"),
            ),
            log: std::fs::read_to_string(home.log()).unwrap_or_default(),
        })
    }
}

impl Recipe for PostgresRecipe {
    const NAME: &'static str = "PostgreSQL";
    /// Signal of a "fast" shutdown, which ends the sessions. SIGTERM would wait for the last client to disconnect.
    const STOP: Signal = Signal::Interrupt;
    const DISCARD: Signal = Signal::Quit;
    const START_LIMIT: Duration = Duration::from_mins(2);

    async fn prepare(&self, home: &Home, folder: &Arc<ServiceFolder>) -> Result<(), ServiceError> {
        if self.volume == PostgresVolume::Limited {
            volume::make_library(&home.path)?;
        }
        if home.data().join("PG_VERSION").exists() {
            return Ok(());
        }
        self.initialise(home, folder).await
    }

    #[expect(private_interfaces, reason = "recipes are used in this module only")]
    fn launches(&self, home: &Home, folder: &ServiceFolder) -> Result<Vec<Launch>, ServiceError> {
        let mut command = self.account.command(&folder.binaries().postgres("postgres")?);
        command.extend(["-D".into(), home.data().into()]);
        let port = format!("port={}", self.port);
        for setting in [
            port.as_str(),
            "listen_addresses=127.0.0.1",
            // No socket in the file system and no shared memory outside the folder, so that nothing can be left
            // behind.
            "unix_socket_directories=",
            "dynamic_shared_memory_type=mmap",
            "max_connections=200",
            "fsync=on",
        ] {
            command.extend(["-c".into(), setting.into()]);
        }
        let mut launch = Launch::new(command, home.path.clone(), home.log(), Self::DISCARD);
        if self.volume == PostgresVolume::Limited {
            let library = volume::library(&home.path);
            launch.environment.push(("LD_PRELOAD", library.into()));
        }
        Ok(vec![launch])
    }

    async fn ready(&self, home: &Home, pid: u32) -> Result<(), String> {
        let file = std::fs::read_to_string(home.data().join("postmaster.pid")).unwrap_or_default();
        if is_ready(&file, pid) {
            Ok(())
        } else {
            Err("it does not report that it is ready".to_owned())
        }
    }

    fn killed(&self, home: &Home) {
        // A killed server leaves its small System V segment. The system has room for a few thousand of them only.
        let file = std::fs::read_to_string(home.data().join("postmaster.pid")).unwrap_or_default();
        if let Some(segment) = segment(&file) {
            Command::new("ipcrm")
                .args(["-m", &segment.to_string()])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .ok();
        }
    }
}

/// Returns whether the lock file belongs to process `pid` and states that connections are accepted. These are lines 1
/// and 8 of `postmaster.pid` (PostgreSQL's `miscadmin.h`, `LOCK_FILE_LINE_*`).
fn is_ready(lock_file: &str, pid: u32) -> bool {
    let mut lines = lock_file.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
}

/// Returns the id of the System V segment, the second number of line 7 of `postmaster.pid`.
fn segment(lock_file: &str) -> Option<u64> {
    lock_file.lines().nth(6)?.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: &str = "4711\n/tmp/data\n1700000000\n5432\n\n127.0.0.1\n  8716311         3\nready   \n";

    #[test]
    fn the_lock_file_shows_readiness_and_the_shared_memory() {
        assert!(is_ready(LOCK, 4711));
        assert!(!is_ready(LOCK, 4712));
        assert!(!is_ready(&LOCK.replace("ready", "starting"), 4711));
        assert!(!is_ready("", 4711));
        assert_eq!(segment(LOCK), Some(3));
        assert_eq!(segment("4711\n"), None);
    }
}
