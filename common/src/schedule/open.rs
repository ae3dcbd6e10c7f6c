//! Opens the schedule named by the settings.

use std::sync::Arc;

use super::{MemorySchedule, RedisSchedule, Schedule};
use crate::clock::SharedClock;
use crate::error::Failure;
use crate::redis::{is_redis_url, redis_url_refusal};
use crate::settings::{ScheduleSettings, kind_refusal, unsupported_url};

/// The forms of `schedule.url`.
pub(crate) const SUPPORTED: &str =
    "memory:, redis://HOST:PORT, redis+sentinel://H1:P,H2:P/MASTER, redis+cluster://H1:P,H2:P";

/// Returns why `schedule.url` is refused, as the rest of a sentence without a password.
pub(crate) fn url_refusal(url: &str) -> Option<String> {
    match url {
        "memory:" => None,
        url if is_redis_url(url) => redis_url_refusal(url),
        url => Some(kind_refusal(url)),
    }
}

/// Opens the schedule named by the scheme of `schedule.url`. `clock` is the clock of a schedule in memory; a
/// shared store has its own.
///
/// # Errors
/// The scheme is not supported, the URL cannot be used, or the store does not answer.
pub async fn open_schedule(
    settings: &ScheduleSettings,
    clock: SharedClock,
) -> Result<Arc<dyn Schedule>, Failure> {
    match settings.url.as_str() {
        "memory:" => Ok(Arc::new(MemorySchedule::new(
            clock,
            settings.minimum_time_between_user_syncs,
        ))),
        url if is_redis_url(url) => Ok(Arc::new(RedisSchedule::open(settings).await?)),
        url => Err(unsupported_url("schedule.url", url, SUPPORTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::error::Code;

    #[tokio::test]
    async fn only_supported_schemes_open() {
        let mut settings = ScheduleSettings::default();
        assert!(open_schedule(&settings, Arc::new(SystemClock)).await.is_ok());
        settings.url = "etcd://host".to_owned();
        let Err(failure) = open_schedule(&settings, Arc::new(SystemClock)).await else {
            panic!("opened")
        };
        assert_eq!(failure.code, Code::SettingsWrong);
        assert!(
            failure.detail.contains("etcd:") && failure.detail.contains("memory:"),
            "{failure}"
        );
    }
}
