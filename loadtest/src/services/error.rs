//! What can go wrong with a private server.

use std::path::PathBuf;

/// A private server could not be found, started, used or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The program is nowhere.
    #[error(
        "{service} is not installed: no {program} in {looked}. Run deploy/dev/setup.sh, install the package \
         {package}, or name the folder with --binary-dir"
    )]
    NotInstalled {
        /// Name of the server.
        service: &'static str,
        /// The program that was looked for.
        program: &'static str,
        /// Debian package that brings it.
        package: &'static str,
        /// Folders that were searched.
        looked: String,
    },
    /// A file or process could not be made.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The server ended, did not answer in time or refused.
    #[error("{service}: {problem}\nLast lines of its log:\n{log}")]
    Failed {
        /// Name of the server.
        service: String,
        /// What happened.
        problem: String,
        /// Last lines of its log.
        log: String,
    },
    /// Somebody else listens on a port that was free a moment ago.
    #[error("{service}: a port is already in use\nLast lines of its log:\n{log}")]
    PortTaken {
        /// Name of the server.
        service: String,
        /// Last lines of its log.
        log: String,
    },
    /// The account a server has to run as may not enter the folder.
    #[error(
        "{}: others may not enter, and PostgreSQL cannot run as root. Choose another parent folder or `chmod o+x` it",
        folder.display()
    )]
    FolderClosed {
        /// The folder that is closed.
        folder: PathBuf,
    },
    /// The plan does not name the server that was asked for.
    #[error("{0} was not started: the plan does not name it")]
    NotPlanned(&'static str),
}

/// The server that was started. `None` when it is not installed here and nothing requires it: then the test that asked
/// prints why it is skipped, and ends.
///
/// # Panics
/// The server is not installed although `TASKSYNC_TEST_SERVICES=required`, or it did not start.
#[must_use]
#[expect(
    clippy::print_stdout,
    clippy::panic,
    reason = "for tests: they fail by panicking, and the environment says whether a server may be missing"
)]
pub fn started_or_skipped<T>(result: Result<T, ServiceError>) -> Option<T> {
    match result {
        Ok(server) => Some(server),
        Err(error @ ServiceError::NotInstalled { .. }) => {
            let required =
                std::env::var_os("TASKSYNC_TEST_SERVICES").is_some_and(|value| value == "required");
            assert!(!required, "{error}");
            println!("skipped: {error}; run make test");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

impl ServiceError {
    /// An operating system's error with what was being done.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}
