use std::sync::Arc;

use super::*;
use crate::contract::FleetBench;
use crate::contract::redis::{CLUSTER, SENTINEL, SINGLE, own_prefix, remove_prefix, url_in};
use crate::fleet::Role;
use crate::redis::RedisOptions;

struct Bench {
    url: String,
    prefix: String,
    fleet: RedisFleet,
}

fn bench(url: String) -> Bench {
    let store = RedisStore::new("test", &url, RedisOptions::default()).unwrap();
    let prefix = own_prefix();
    Bench {
        fleet: RedisFleet::new(store, &prefix),
        url,
        prefix,
    }
}

#[async_trait]
impl FleetBench for Bench {
    fn fleet(&self) -> Arc<dyn Fleet> {
        Arc::new(self.fleet.clone())
    }
    fn unit(&self) -> Duration {
        Duration::from_millis(300)
    }
    async fn pass_time(&self, by: Duration) {
        tokio::time::sleep(by).await;
    }
    async fn clean(&self) {
        remove_prefix(&self.url, &self.prefix).await;
    }
}

mod single {
    use super::*;
    crate::fleet_contract!(async { url_in(SINGLE).map(bench) });
}

mod sentinel {
    use super::*;
    crate::fleet_contract!(async { url_in(SENTINEL).map(bench) });
}

mod cluster {
    use super::*;
    crate::fleet_contract!(async { url_in(CLUSTER).map(bench) });
}

#[tokio::test]
async fn members_of_another_version_are_left_out_and_a_number_stays_exact() {
    let Some(url) = url_in(SINGLE) else { return };
    let bench = bench(url);
    let report = FleetReport {
        number: 9_007_199_254_740_000,
        lifetime: Duration::from_mins(1),
        member: Member::new("a", Role::Worker, jiff::Timestamp::UNIX_EPOCH),
        servers: Vec::new(),
        circuits: Vec::new(),
        circuits_version: 0,
    };
    bench.fleet.exchange(&report).await.unwrap();
    assert!(bench.fleet.exchange(&report).await.is_err());
    let next = FleetReport {
        number: report.number + 1,
        ..report
    };
    bench.fleet.exchange(&next).await.unwrap();
    let mut command = redis::cmd("HSET");
    command.arg(bench.fleet.key("members")).arg("a").arg("\u{7f}");
    bench
        .fleet
        .store
        .command::<i64>("test", command, Repeat::Yes)
        .await
        .unwrap();
    assert!(bench.fleet.members().await.unwrap().is_empty());
    bench.clean().await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_that_may_pass() {
    let store = RedisStore::new("test", "redis://127.0.0.1:1", RedisOptions::default()).unwrap();
    let fleet = RedisFleet::new(store, "x");
    let failure = fleet.members().await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::RedisUnavailable)
    );
}
