//! Opens the fleet that belongs to the schedule.

use std::sync::Arc;

use super::{Fleet, MemoryFleet, RedisFleet};
use crate::clock::SharedClock;
use crate::error::Failure;
use crate::redis::{RedisOptions, RedisStore, is_redis_url};
use crate::schedule::SUPPORTED;
use crate::settings::{ScheduleSettings, unsupported_url};

/// Opens the fleet where the schedule is, as `schedule.url` says. A schedule in memory has one process;
/// `clock` is its clock.
///
/// # Errors
/// The URL is not supported.
pub fn open_fleet(settings: &ScheduleSettings, clock: SharedClock) -> Result<Arc<dyn Fleet>, Failure> {
    match settings.url.as_str() {
        "memory:" => Ok(Arc::new(MemoryFleet::new(clock))),
        // It connects at the first use; opening the schedule has checked that Redis answers.
        url if is_redis_url(url) => {
            let store = RedisStore::new("schedule.url", url, RedisOptions::of(settings))?;
            Ok(Arc::new(RedisFleet::new(
                store,
                &format!("{}:", settings.key_prefix),
            )))
        }
        url => Err(unsupported_url("schedule.url", url, SUPPORTED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::error::Code;

    #[tokio::test]
    async fn it_is_where_the_order_of_work_is() {
        let open = |url: &str| {
            let settings = ScheduleSettings {
                url: url.to_owned(),
                ..ScheduleSettings::default()
            };
            open_fleet(&settings, Arc::new(SystemClock)).map(|fleet| fleet.is_shared())
        };
        assert!(!open("memory:").unwrap());
        assert!(open("redis://127.0.0.1:1").unwrap());
        assert_eq!(open("etcd://host").unwrap_err().code, Code::SettingsWrong);
    }
}
