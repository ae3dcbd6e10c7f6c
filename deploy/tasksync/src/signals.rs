//! How SIGINT and SIGTERM end a command: what must not be left behind is undone first.
//!
//! A command without anything to undo needs none of this: the signal ends it as usual.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::CommandError;

/// Undoes something, quickly.
type Undo = Box<dyn FnOnce() + Send>;

/// What a signal would undo in this process, and who acts on signals.
struct SignalState {
    undos: Vec<(u64, Undo)>,
    /// Number of the next entry.
    next: u64,
    /// True once a thread of this module waits for signals.
    is_watched: bool,
    /// True while the command itself acts on signals.
    is_handled: bool,
}

static STATE: Mutex<SignalState> = Mutex::new(SignalState {
    undos: Vec::new(),
    next: 0,
    is_watched: false,
    is_handled: false,
});

fn state() -> MutexGuard<'static, SignalState> {
    // Every change is one step, so a panic elsewhere leaves nothing half done.
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As long as this value lives, a signal undoes what it was made for before the process ends.
#[derive(Debug)]
pub(crate) struct UndoOnSignal(u64);

impl UndoOnSignal {
    /// Has `undo` called if a signal ends the process before the value is dropped. From the first such value on, SIGINT
    /// ends the process with exit code 130 and SIGTERM with 143, as a shell reports processes that these signals ended.
    ///
    /// # Errors
    /// Signals cannot be received.
    pub(crate) fn new(undo: impl FnOnce() + Send + 'static) -> Result<Self, CommandError> {
        let mut state = state();
        if !state.is_watched {
            watch()?;
            state.is_watched = true;
        }
        let number = state.next;
        state.next += 1;
        state.undos.push((number, Box::new(undo)));
        Ok(Self(number))
    }
}

impl Drop for UndoOnSignal {
    fn drop(&mut self) {
        state().undos.retain(|(number, _)| *number != self.0);
    }
}

/// Starts the thread that waits for signals. The command's own thread may be inside a call that blocks.
fn watch() -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| listen_error(&error))?;
    let mut signals = {
        let _entered = runtime.enter();
        EndingSignals::listen()?
    };
    let waiting = async move {
        loop {
            let code = signals.next().await;
            let mut state = state();
            if !state.is_handled {
                state.undos.drain(..).for_each(|(_, undo)| undo());
                // The lock is held: nothing more is begun that would have to be undone.
                std::process::exit(code);
            }
        }
    };
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || runtime.block_on(waiting))
        .map(drop)
        .map_err(|error| listen_error(&error))
}

/// The signals that end a command.
struct EndingSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndingSignals {
    fn listen() -> Result<Self, CommandError> {
        let listen = |kind| signal(kind).map_err(|error| listen_error(&error));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal. Returns the exit code of a process that it ends.
    async fn next(&mut self) -> i32 {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        };
        128 + kind.as_raw_value()
    }
}

fn listen_error(error: &std::io::Error) -> CommandError {
    CommandError::settings(format!("signals cannot be received: {error}"))
}

/// The signals, for a command that ends itself. As long as this value lives, they end the process in no other way.
pub(crate) struct Interrupts(EndingSignals);

impl Interrupts {
    /// Takes the signals over.
    ///
    /// # Errors
    /// Signals cannot be received.
    pub(crate) fn listen() -> Result<Self, CommandError> {
        let signals = EndingSignals::listen()?;
        state().is_handled = true;
        Ok(Self(signals))
    }

    /// Waits for the next signal.
    pub(crate) async fn wait(&mut self) {
        self.0.next().await;
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        state().is_handled = false;
    }
}
