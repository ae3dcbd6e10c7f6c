//! Questions to the person at the terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;

use crate::exit::CommandError;
use crate::signals::UndoOnSignal;

/// Returns whether standard input is a terminal, so that a person can be asked.
pub(crate) fn has_person() -> bool {
    std::io::stdin().is_terminal()
}

/// Returns the person's answer to a question, without blanks at its ends; `None` if the person ended the input.
///
/// # Errors
/// The terminal cannot be used.
pub(crate) fn ask(question: &str) -> Result<Option<String>, CommandError> {
    let line = read_line(question)?;
    Ok(line.map(|line| line.trim().to_owned()))
}

/// Does the same with an answer that is not shown while it is typed, and keeps its blanks.
///
/// # Errors
/// The terminal cannot be used.
pub(crate) fn ask_secretly(question: &str) -> Result<Option<SecretString>, CommandError> {
    let _hidden = HiddenInput::begin()?;
    let line = read_line(question)?;
    Ok(line.map(|mut line| {
        line.truncate(line.trim_end_matches(['\r', '\n']).len());
        line.into()
    }))
}

fn read_line(question: &str) -> Result<Option<String>, CommandError> {
    let failed = |error: std::io::Error| terminal_error(&error);
    {
        let mut out = std::io::stderr().lock();
        out.write_all(question.as_bytes()).map_err(failed)?;
        out.flush().map_err(failed)?;
    }
    let mut line = String::new();
    let length = std::io::stdin().lock().read_line(&mut line).map_err(failed)?;
    Ok((length > 0).then_some(line))
}

/// A terminal that does not show what is typed. It gets its settings back at the end, also if a signal ends the
/// command.
struct HiddenInput {
    before: Termios,
    _undo: UndoOnSignal,
}

impl HiddenInput {
    fn begin() -> Result<Self, CommandError> {
        let failed = |error: rustix::io::Errno| terminal_error(&error.into());
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // The line break is shown, so that the next output begins on a line of its own.
        hidden.local_modes.insert(LocalModes::ECHONL);
        let restored = before.clone();
        let undo = UndoOnSignal::new(move || {
            restore(&restored);
            // The shell's prompt follows. Standard error may be locked by another thread.
            rustix::io::write(std::io::stderr(), b"\n").ok();
        })?;
        tcsetattr(std::io::stdin(), OptionalActions::Now, &hidden).map_err(failed)?;
        Ok(Self { before, _undo: undo })
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        restore(&self.before);
    }
}

fn restore(settings: &Termios) {
    // If even this fails, nothing is left to do.
    tcsetattr(std::io::stdin(), OptionalActions::Now, settings).ok();
}

fn terminal_error(error: &std::io::Error) -> CommandError {
    CommandError::settings(format!("the terminal: {error}"))
}
