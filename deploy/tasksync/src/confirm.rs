//! Asks the person at the terminal. Where no person can be asked, nothing is done without `--yes`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::exit::CommandError;

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
    let input = std::io::stdin();
    if !input.is_terminal() {
        return Err(CommandError::settings(
            "no person can be asked, because standard input is no terminal; repeat the command with --yes",
        ));
    }
    let failed = |error: std::io::Error| CommandError::settings(format!("the terminal: {error}"));
    let mut out = std::io::stderr().lock();
    out.write_all(question.as_bytes()).map_err(failed)?;
    out.flush().map_err(failed)?;
    let mut answer = String::new();
    input.lock().read_line(&mut answer).map_err(failed)?;
    Ok(answer.trim().to_owned())
}
