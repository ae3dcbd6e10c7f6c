//! Telling whoever watches how far a run is.

/// Watches a run.
pub trait Progress: Send + Sync {
    /// A part begins; `length` is what its positions are counted against.
    fn begin(&self, part: &str, length: u64);
    /// So far, with a word about how it goes.
    fn at(&self, position: u64, word: &str);
    /// The part has ended.
    fn end(&self);
    /// Something worth a line.
    fn say(&self, line: &str);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: u64) {}
    fn at(&self, _: u64, _: &str) {}
    fn end(&self) {}
    fn say(&self, _: &str) {}
}
