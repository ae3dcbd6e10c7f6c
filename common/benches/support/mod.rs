//! How the benchmarks of all crates print and end.

use std::io::Write as _;
use std::process::ExitCode;

/// Prints a line at once.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A reader that has closed the pipe is no fault of the benchmark.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Exit code of the benchmark `name`; prints why it could not measure.
pub(crate) fn end(name: &str, measured: Result<(), String>) -> ExitCode {
    match measured {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{name}: could not be measured: {error}"));
            ExitCode::FAILURE
        }
    }
}
