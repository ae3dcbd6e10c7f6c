//! What happened between this process and its queue.

/// Numbers since the process began, and one state. Each is for a metric of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueMetrics {
    /// Whether the broker takes no jobs at the moment because it runs out of memory or disk.
    pub blocked: bool,
    /// Jobs handed to the broker whose confirmation is awaited now.
    pub unconfirmed: u64,
    /// Connections opened.
    pub connections_opened: u64,
    /// Attempts at opening a connection that failed.
    pub connections_failed: u64,
    /// Jobs the broker confirmed.
    pub published: u64,
    /// Jobs refused because the queue was full.
    pub refused: u64,
    /// Jobs that came back because their queue does not exist.
    pub returned: u64,
    /// Jobs whose confirmation did not come in time, or not before the connection ended.
    pub unconfirmed_lost: u64,
    /// Settlements dropped because the connection the job came over had ended; those jobs are delivered again.
    pub late_settlements: u64,
}
