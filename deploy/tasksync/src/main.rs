//! The tasksync executable.
fn main() {}
