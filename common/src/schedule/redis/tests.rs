//! The contract on one server and on a cluster; and what only a shared store can do wrong.

use std::sync::Arc;

use super::*;
use crate::contract::redis::{CLUSTER, PrivateRedis, SINGLE, own_prefix, remove_prefix, url_in};
use crate::contract::{ScheduleBench, key, tenant_id, user_id};
use crate::error::{Code, ErrorClass};
use crate::schedule::History;

const MINIMUM: Duration = Duration::from_secs(300);
const LONG: Duration = Duration::from_secs(3_600);

/// An order of work under a prefix of its own.
struct Bench {
    url: String,
    prefix: String,
    schedule: Arc<RedisSchedule>,
}

impl Bench {
    fn at(url: String) -> Self {
        let prefix = own_prefix();
        let schedule = Self::open(&url, &prefix);
        Self {
            url,
            prefix,
            schedule,
        }
    }

    fn open(url: &str, prefix: &str) -> Arc<RedisSchedule> {
        let store = RedisStore::new("schedule.url", url, RedisOptions::default()).unwrap();
        Arc::new(RedisSchedule::new(store, prefix, MINIMUM))
    }

    /// Another process at the same order.
    fn other(&self) -> Arc<RedisSchedule> {
        Self::open(&self.url, &self.prefix)
    }
}

#[async_trait]
impl ScheduleBench for Bench {
    fn schedule(&self) -> Arc<dyn Schedule> {
        self.schedule.clone()
    }
    fn minimum(&self) -> Duration {
        MINIMUM
    }
    fn unit(&self) -> Duration {
        Duration::from_millis(200)
    }
    async fn pass_time(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
    async fn end(&self) {
        remove_prefix(&self.url, &self.prefix).await;
    }
}

async fn bench_at(variable: &str) -> Option<Bench> {
    url_in(variable).map(Bench::at)
}

mod on_one_server {
    use super::*;
    crate::schedule_contract!(if available bench_at(SINGLE));
}

mod on_a_cluster {
    use super::*;
    crate::schedule_contract!(if available bench_at(CLUSTER));
}
