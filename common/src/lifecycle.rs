//! The orderly end of a process: first it takes nothing new, then it cuts what still runs.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Exit code of a process that ended in order.
pub const ENDED: u8 = 0;
/// Exit code of a process that had to cut running work, or of which a part failed.
pub const CUT: u8 = 1;

/// The two steps of ending, shared by everything in the process.
#[derive(Debug, Clone, Default)]
pub struct Lifecycle {
    soft: CancellationToken,
    hard: CancellationToken,
    failed: Arc<AtomicBool>,
}

impl Lifecycle {
    /// Returns a lifecycle that has not begun to end; see [`Self::watch_signals`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the token that is cancelled when nothing new may be taken.
    #[must_use]
    pub fn soft(&self) -> &CancellationToken {
        &self.soft
    }

    /// Returns the token that is cancelled when running work must stop at once; never before [`Self::soft`].
    #[must_use]
    pub fn hard(&self) -> &CancellationToken {
        &self.hard
    }

    /// Begins the orderly end.
    pub fn stop(&self) {
        self.soft.cancel();
    }

    /// Begins the orderly end because a part of the process failed; the exit code shows it.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.soft.cancel();
    }

    /// Cuts what still runs.
    pub fn cut(&self) {
        self.soft.cancel();
        self.hard.cancel();
    }

    /// Returns the exit code. Call it when everything has ended.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.hard.is_cancelled() || self.failed.load(Ordering::SeqCst) {
            CUT
        } else {
            ENDED
        }
    }

    /// Listens for SIGTERM and SIGINT. The first signal begins the end; a second one, or `drain` after the
    /// first, cuts running work. Returns a future that has to run beside the work and ends only after it cut.
    ///
    /// # Errors
    /// The operating system's error when signals cannot be listened for.
    pub fn watch_signals(
        &self,
        drain: Duration,
    ) -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
        let signals = Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        };
        Ok(self.clone().follow(signals, drain))
    }

    async fn follow(self, mut signals: Signals, drain: Duration) {
        tokio::select! {
            name = signals.next() => tracing::info!(signal = name, "stopping: nothing new is taken"),
            () = self.soft.cancelled() => {}
        }
        self.soft.cancel();
        tokio::select! {
            name = signals.next() => tracing::warn!(signal = name, "second signal: running work is cut"),
            () = tokio::time::sleep(drain) => {
                tracing::warn!(seconds = drain.as_secs(), "running work did not end in time and is cut");
            }
        }
        self.hard.cancel();
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::spawn;

    #[tokio::test(start_paused = true)]
    async fn work_that_does_not_end_is_cut_after_the_drain_time() {
        let lifecycle = Lifecycle::new();
        let watch = spawn(lifecycle.watch_signals(Duration::from_secs(50)).unwrap());
        assert!(!lifecycle.soft().is_cancelled());
        lifecycle.stop();
        assert!(lifecycle.soft().is_cancelled() && !lifecycle.hard().is_cancelled());
        assert_eq!(lifecycle.exit_code(), ENDED);
        watch.await.unwrap();
        assert!(lifecycle.hard().is_cancelled());
        assert_eq!(lifecycle.exit_code(), CUT);
    }

    #[test]
    fn a_failed_part_shows_in_the_exit_code() {
        let lifecycle = Lifecycle::new();
        lifecycle.fail();
        assert!(lifecycle.soft().is_cancelled() && !lifecycle.hard().is_cancelled());
        assert_eq!(lifecycle.exit_code(), CUT);
    }
}
