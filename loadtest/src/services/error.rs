//! The errors of private servers.

use std::path::PathBuf;

/// A private server could not be found, started, used or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The program was found in none of the folders.
    #[error(
        "{service} is not installed: there is no {program} in {looked}. Run deploy/dev/setup.sh, install the package \
         {package}, or name the folder with --binary-dir"
    )]
    NotInstalled {
        /// Name of the server.
        service: &'static str,
        /// The program that was searched for.
        program: &'static str,
        /// Debian package that contains it.
        package: &'static str,
        /// Folders that were searched.
        looked: String,
    },
    /// A file or process could not be created.
    #[error("{what}: {source}")]
    System {
        /// The operation that failed.
        what: String,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The server ended, did not answer in time, or refused a request.
    #[error("{service}: {problem}\nLast lines of its log:\n{log}")]
    Failed {
        /// Name of the server.
        service: String,
        /// What happened.
        problem: String,
        /// Last lines of its log.
        log: String,
    },
    /// Another process listens on a port that was free a moment ago.
    #[error("{service}: a port is already in use\nLast lines of its log:\n{log}")]
    PortTaken {
        /// Name of the server.
        service: String,
        /// Last lines of its log.
        log: String,
    },
    /// The account that a server has to run as may not enter the folder.
    #[error(
        "{}: other accounts may not enter, and PostgreSQL cannot run as root. Choose another parent folder or `chmod o+x` it",
        folder.display()
    )]
    FolderClosed {
        /// The folder that cannot be entered.
        folder: PathBuf,
    },
    /// The plan does not include the requested server.
    #[error("{0} was not started: the plan does not include it")]
    NotPlanned(&'static str),
}

/// Returns the started server. Returns `None` if the server is not installed and the environment does not require it.
/// The calling test then ends, and the reason is printed.
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
    /// Returns a function that adds the failed operation to an error of the operating system.
    pub(super) fn system(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::System { what, source }
    }
}
