//! The queue named by the settings.

use std::sync::Arc;

use super::{JobQueue, MemoryQueue};
use crate::error::Failure;
use crate::metrics::Metered;
use crate::settings::{QueueSettings, unsupported_url};

/// Opens the queue whose kind the URL's scheme names. A queue in memory is one process's own: scheduler and worker share
/// what this returns.
///
/// # Errors
/// The scheme is not supported.
pub async fn open_queue(settings: &QueueSettings) -> Result<Arc<dyn JobQueue>, Failure> {
    match settings.url.as_str() {
        "memory:" => Ok(metered(MemoryQueue::new(settings))),
        url => Err(unsupported_url("queue.url", url, "memory:")),
    }
}

fn metered(queue: impl JobQueue) -> Arc<dyn JobQueue> {
    let queue: Arc<dyn JobQueue> = Arc::new(queue);
    Arc::new(Metered(queue))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[tokio::test]
    async fn only_supported_schemes_open() {
        let mut settings = QueueSettings::default();
        assert!(open_queue(&settings).await.is_ok());
        settings.url = "kafka://user:geheim@host".to_owned();
        let Err(failure) = open_queue(&settings).await else {
            panic!("opened")
        };
        assert_eq!(failure.code, Code::SettingsWrong);
        assert!(
            failure.detail.contains("kafka:") && !failure.detail.contains("geheim"),
            "{failure}"
        );
    }
}
