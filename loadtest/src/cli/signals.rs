//! Signals that end a command.

use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for Ctrl-C, SIGTERM and SIGHUP. Signals that were ignored when the program started stay ignored (`nohup`
/// does this).
pub(crate) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hang_up: Option<Signal>,
}

const INTERRUPT: (&str, u8) = ("INT", 2);
const TERMINATE: (&str, u8) = ("TERM", 15);
const HANG_UP: (&str, u8) = ("HUP", 1);

impl Signals {
    /// Installs the handlers. From then on these signals do not end the program by themselves.
    ///
    /// # Errors
    /// If the operating system allows no handler.
    pub(crate) fn new() -> Result<Self, String> {
        let path = "/proc/self/status";
        let status = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
        let of = |(_, number): (_, u8)| {
            (!ignored(&status, number))
                .then(|| signal(SignalKind::from_raw(i32::from(number))))
                .transpose()
                .map_err(|error| format!("no signal handler: {error}"))
        };
        Ok(Self {
            interrupt: of(INTERRUPT)?,
            terminate: of(TERMINATE)?,
            hang_up: of(HANG_UP)?,
        })
    }

    /// Waits for the next signal. Returns its name for `kill`, and its number.
    pub(crate) async fn next(&mut self) -> (&'static str, u8) {
        tokio::select! {
            () = received(&mut self.interrupt) => INTERRUPT,
            () = received(&mut self.terminate) => TERMINATE,
            () = received(&mut self.hang_up) => HANG_UP,
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Returns whether a process with this `/proc/PID/status` ignores the signal.
fn ignored(status: &str, number: u8) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> number.saturating_sub(1) & 1 == 1)
}

/// Returns the exit code of a command that a signal ended, as shells compute it.
pub(crate) fn ended_by(number: u8) -> ExitCode {
    ExitCode::from(128 + number)
}

/// Runs `work` until it is done or a signal arrives. On a signal `work` is dropped, with the processes and folders it
/// holds.
///
/// # Errors
/// The errors of `work`.
pub(crate) async fn until_signal(
    work: impl Future<Output = Result<ExitCode, String>>,
) -> Result<ExitCode, String> {
    let mut signals = Signals::new()?;
    tokio::select! {
        done = work => done,
        (name, number) = signals.next() => {
            eprintln!("tasksync-loadtest: ended by SIG{name}; everything it started ends as well");
            Ok(ended_by(number))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_a_process_ignores_are_in_its_mask() {
        let status = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\nSigCgt:\tffffffffffffffff\n";
        let found: Vec<u8> = (1..=64).filter(|number| ignored(status, *number)).collect();
        assert_eq!(found, [1, 2, 13]);
        assert!(!ignored("Name:\tx\n", 1));
    }
}
