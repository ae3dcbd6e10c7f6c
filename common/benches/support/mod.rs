//! Output and exit codes of the benchmarks of all crates.

use std::io::Write as _;
use std::process::ExitCode;

/// Prints a line and flushes it.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe is not a failure of the benchmark.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Returns the exit code of the benchmark `name`, and prints why it could not measure.
pub(crate) fn end(name: &str, measured: Result<(), String>) -> ExitCode {
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{name}: could not be measured: {error}"));
            ExitCode::FAILURE
        }
    }
}
