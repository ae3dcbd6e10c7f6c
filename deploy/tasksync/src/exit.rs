//! Exit codes: 0 success, 1 a bad answer, 2 wrong usage or settings, 3 the service cannot be reached.

use std::io::Write as _;

/// How a command ended that did its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CommandEnd {
    /// All is well.
    Success,
    /// The service answered, and the answer is bad.
    BadAnswer,
    /// A role ended with this code.
    Role(u8),
}

impl CommandEnd {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::BadAnswer => 1,
            Self::Role(code) => code,
        }
    }
}

/// Why a command could not do its work. The text says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CommandError {
    /// The service answered with an error.
    #[error("{0}")]
    Answer(String),
    /// Wrong usage, file or settings.
    #[error("{0}")]
    Settings(String),
    /// Nothing answers, or something other than tasksync.
    #[error("{0}")]
    Unreachable(String),
}

impl CommandError {
    pub(crate) fn settings(text: impl Into<String>) -> Self {
        Self::Settings(text.into())
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Answer(_) => 1,
            Self::Settings(_) => 2,
            Self::Unreachable(_) => 3,
        }
    }
}

/// Writes to standard output. A closed pipe (`| head`) is no error.
pub(crate) fn print(text: &str) -> Result<CommandEnd, CommandError> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(CommandEnd::Success),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(CommandEnd::Success),
        Err(error) => Err(CommandError::settings(format!(
            "standard output cannot be written: {error}"
        ))),
    }
}

/// Writes to standard error why a command could not do its work.
pub(crate) fn print_error(stop: &CommandError) {
    // If even this fails, nothing is left to do.
    writeln!(std::io::stderr().lock(), "tasksync: {stop}").ok();
}

/// Writes a remark to standard error, beside the answer.
pub(crate) fn note(text: &str) {
    writeln!(std::io::stderr().lock(), "tasksync: {text}").ok();
}
