//! Counts of what happened between this process and its queue.

/// Counts since the start of the process, and the present state. Each field has a metric of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueMetrics {
    /// Whether the broker takes no jobs at present because memory or disk are short.
    pub blocked: bool,
    /// Number of jobs whose confirmation is awaited now.
    pub unconfirmed: u64,
    /// Number of connections opened.
    pub connections_opened: u64,
    /// Number of failed attempts to open a connection.
    pub connections_failed: u64,
    /// Number of jobs that the broker confirmed.
    pub published: u64,
    /// Number of jobs refused because the queue was full.
    pub refused: u64,
    /// Number of jobs that came back because their queue does not exist.
    pub returned: u64,
    /// Number of jobs whose confirmation did not arrive in time, or before the connection ended.
    pub unconfirmed_lost: u64,
    /// Number of settlements that were dropped because the delivery's connection had ended. These jobs are
    /// delivered again.
    pub late_settlements: u64,
}
