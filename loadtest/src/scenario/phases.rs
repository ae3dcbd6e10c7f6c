//! Reports the progress of a run.

/// Receives the progress of a run.
pub trait PhaseProgress: Send + Sync {
    /// Begins a part. `length` is the position at which it is complete.
    fn begin(&self, part: &str, length: u64);
    /// Reports the current position with a short note.
    fn at(&self, position: u64, word: &str);
    /// Ends the part.
    fn end(&self);
    /// Shows a message that is worth a line of its own.
    fn say(&self, line: &str);
}

/// Ignores all progress.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl PhaseProgress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn at(&self, _: u64, _: &str) {}
    fn end(&self) {}
    fn say(&self, _: &str) {}
}
