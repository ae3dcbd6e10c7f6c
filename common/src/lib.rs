//! tasksync.
