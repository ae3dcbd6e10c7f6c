//! Asks the person at the terminal. Where no person can be asked, nothing is done without `--yes`.

use crate::exit::CommandError;
use crate::terminal;

/// Returns whether the person typed this text in answer to the question.
///
/// # Errors
/// Standard input is no terminal: wrong usage, with `--yes` as the way out.
pub(crate) fn person_types(question: &str, expected: &str) -> Result<bool, CommandError> {
    ask(question).map(|answer| answer == expected)
}

/// Returns whether the person agreed to the question.
///
/// # Errors
/// Standard input is no terminal: wrong usage, with `--yes` as the way out.
pub(crate) fn person_agrees(question: &str) -> Result<bool, CommandError> {
    ask(&format!("{question} [y/N] ")).map(|answer| matches!(answer.to_lowercase().as_str(), "y" | "yes"))
}

fn ask(question: &str) -> Result<String, CommandError> {
    if !terminal::has_person() {
        return Err(CommandError::settings(
            "no person can be asked, because standard input is no terminal; repeat the command with --yes",
        ));
    }
    // A person who ends the input agrees to nothing.
    terminal::ask(question).map(Option::unwrap_or_default)
}
