//! Starting tasks. A task has an owner; a task without one is detached explicitly.

pub use tokio_util::task::AbortOnDropHandle;

/// Starts a task and returns its handle. The task is aborted when the handle is dropped, so that it does not outlive
/// its owner. [`AbortOnDropHandle::detach`] lets it run on.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the one place that starts a task of its own"
)]
#[must_use = "the task is aborted when its handle is dropped"]
pub fn spawn<F>(task: F) -> AbortOnDropHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    AbortOnDropHandle::new(tokio::spawn(task))
}
