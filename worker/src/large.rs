//! Reading and sanitising large answers off the async threads, at most two at once.

use tasksync_common::error::{Code, ErrorClass, Failure};
use tokio::sync::Semaphore;

/// Bytes of an answer above which it is read off the async threads.
const LARGE: usize = 64 * 1024;
/// Permits for large answers read at the same time in the process.
static AT_ONCE: Semaphore = Semaphore::const_new(2);

/// Runs `read` on an answer of `bytes` bytes: on the current thread if it is small, otherwise on a thread of
/// its own.
///
/// # Errors
/// `read` panicked.
pub(crate) async fn parse_off_thread<T: Send + 'static>(
    bytes: usize,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    if bytes <= LARGE {
        return Ok(read());
    }
    // The semaphore is never closed; even without a permit the answer would be read.
    let _permit = AT_ONCE.acquire().await;
    tokio::task::spawn_blocking(read).await.map_err(|error| {
        Failure::new(
            ErrorClass::Transient,
            Code::Panic,
            format!("an answer of {bytes} bytes could not be read: the reader panicked ({error})"),
        )
    })
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn only_large_answers_leave_the_async_thread() {
        let here = std::thread::current().id();
        let thread = || std::thread::current().id();
        assert_eq!(parse_off_thread(LARGE, thread).await.unwrap(), here);
        assert_ne!(parse_off_thread(LARGE + 1, thread).await.unwrap(), here);
    }

    #[tokio::test]
    async fn a_third_large_answer_waits_for_one_of_two_places() {
        let free_permits = || AT_ONCE.available_permits();
        let both = AT_ONCE.acquire_many(2).await.unwrap();
        assert_eq!(free_permits(), 0);
        let mut third = std::pin::pin!(parse_off_thread(LARGE + 1, free_permits));
        assert!(third.as_mut().now_or_never().is_none());
        assert_eq!(
            parse_off_thread(LARGE, free_permits).await.unwrap(),
            0,
            "a small answer needs no place"
        );
        drop(both);
        assert!(third.await.unwrap() < 2, "it has its own place while it is read");
    }
}
