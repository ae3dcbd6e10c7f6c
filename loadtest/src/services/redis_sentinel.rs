//! A private Redis with a replica, watched by three Sentinels.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;

use super::process::{Launch, Signal};
use super::redis::{answers_as, command_at};
use super::server::{Home, Recipe, Server};
use super::{Persistence, Redis, ServiceError, ServiceFolder, ports};
use crate::machine_clock::monotonic;

/// The name under which the Sentinels monitor the primary.
const MASTER: &str = "tasksync";

/// Number of Sentinels that must agree that the primary is down.
const QUORUM: usize = 2;

/// Silence after which a Sentinel considers a server down, in milliseconds.
const DOWN_AFTER: u32 = 1_000;

/// Time limit of one failover, in milliseconds. A failed one is retried after twice this time.
const FAILOVER_TIMEOUT: u32 = 2_000;

/// Time limit for the Sentinels to find each other and the replica, and for a failover.
const AGREE_LIMIT: Duration = Duration::from_mins(1);

/// One primary, one replica and three Sentinels. They promote the replica about two seconds after the primary falls
/// silent.
#[derive(Debug)]
pub struct RedisSentinel {
    // Dropped first, so that no Sentinel reacts to the end of the nodes.
    sentinels: Vec<Server<SentinelRecipe>>,
    nodes: [Redis; 2],
}

/// How a Sentinel is started.
#[derive(Debug)]
pub struct SentinelRecipe {
    port: u16,
    /// Port of the first primary.
    primary: u16,
}

impl RedisSentinel {
    /// Starts all servers in `folder`. Waits until the Sentinels know each other and the replica, and the replica is
    /// in sync.
    ///
    /// # Errors
    /// Reports why a server does not start, or why the Sentinels do not agree.
    pub async fn start(folder: &Arc<ServiceFolder>, persistence: Persistence) -> Result<Self, ServiceError> {
        let first = Redis::start_named(folder, "redis-primary", persistence).await?;
        let primary = first.port();
        let (second, sentinels) = futures::try_join!(
            Redis::start_replica(folder, "redis-replica", persistence, primary),
            try_join_all(
                ["redis-sentinel-1", "redis-sentinel-2", "redis-sentinel-3"]
                    .map(|name| start_sentinel(folder, name, primary)),
            ),
        )?;
        let set = Self {
            sentinels,
            nodes: [first, second],
        };
        set.wait_until_whole().await?;
        Ok(set)
    }

    /// Returns `redis+sentinel://127.0.0.1:port,127.0.0.1:port,127.0.0.1:port/tasksync`.
    #[must_use]
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self
            .sentinels
            .iter()
            .map(|sentinel| format!("127.0.0.1:{}", sentinel.recipe().port))
            .collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }

    /// Returns the two nodes. The first is the primary until a failover.
    #[must_use]
    pub fn nodes(&self) -> &[Redis; 2] {
        &self.nodes
    }

    /// Returns the Sentinels in the order of the URL.
    #[must_use]
    pub fn sentinels(&self) -> &[Server<SentinelRecipe>] {
        &self.sentinels
    }

    /// Returns the process ids of all servers.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let sentinels = self.sentinels.iter().flat_map(Server::pids);
        sentinels.chain(self.nodes.iter().flat_map(Redis::pids)).collect()
    }

    /// Waits until all three Sentinels see a running primary, a replica and each other, and the replica is in sync.
    ///
    /// # Errors
    /// The condition that does not hold after a minute.
    pub async fn wait_until_whole(&self) -> Result<(), ServiceError> {
        let started = monotonic();
        while let Err(problem) = self.is_whole().await {
            if started.elapsed() > AGREE_LIMIT {
                return Err(ServiceError::Failed {
                    service: "Redis Sentinel".to_owned(),
                    problem,
                    log: self
                        .sentinels
                        .first()
                        .map_or_else(String::new, |sentinel| sentinel.log_tail(25)),
                });
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn is_whole(&self) -> Result<(), String> {
        for sentinel in &self.sentinels {
            let information = command_at(sentinel.recipe().port, "INFO sentinel").await?;
            if !sees_everything(&information, self.sentinels.len()) {
                return Err(format!("a Sentinel does not see all servers: {information}"));
            }
        }
        let mut replicas = 0;
        for node in &self.nodes {
            let information = node.command("INFO replication").await?;
            if has_line(&information, "role:slave") {
                replicas += 1;
                if !has_line(&information, "master_link_status:up") {
                    return Err(format!("the replica is not in sync: {information}"));
                }
            }
        }
        if replicas == 1 {
            Ok(())
        } else {
            Err(format!("{replicas} replicas, not 1"))
        }
    }
}

async fn start_sentinel(
    folder: &Arc<ServiceFolder>,
    name: &str,
    primary: u16,
) -> Result<Server<SentinelRecipe>, ServiceError> {
    Server::start_new(folder, name, || {
        Ok(SentinelRecipe {
            port: ports::free_port()?,
            primary,
        })
    })
    .await
}

impl Recipe for SentinelRecipe {
    const NAME: &'static str = "Redis Sentinel";
    const STOP: Signal = Signal::Terminate;
    const DISCARD: Signal = Signal::Kill;
    const START_LIMIT: Duration = Duration::from_mins(1);

    async fn prepare(&self, home: &Home, _folder: &Arc<ServiceFolder>) -> Result<(), ServiceError> {
        let data = home.data();
        std::fs::create_dir_all(&data).map_err(ServiceError::system(data.display().to_string()))?;
        let file = data.join("sentinel.conf");
        // A Sentinel saves its state in this file, above all the current primary.
        if file.exists() {
            return Ok(());
        }
        let mut text = format!("port {}\nbind 127.0.0.1\ndir {}\n", self.port, data.display());
        for line in [
            format!("monitor {MASTER} 127.0.0.1 {} {QUORUM}", self.primary),
            format!("down-after-milliseconds {MASTER} {DOWN_AFTER}"),
            format!("failover-timeout {MASTER} {FAILOVER_TIMEOUT}"),
        ] {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "sentinel {line}");
        }
        std::fs::write(&file, text).map_err(ServiceError::system(file.display().to_string()))
    }

    #[expect(private_interfaces, reason = "recipes are used in this module only")]
    fn launches(&self, home: &Home, folder: &ServiceFolder) -> Result<Vec<Launch>, ServiceError> {
        let command: Vec<OsString> = vec![
            folder.binaries().redis_server()?.into(),
            home.data().join("sentinel.conf").into(),
            "--sentinel".into(),
        ];
        Ok(vec![Launch::new(command, home.data(), home.log(), Self::DISCARD)])
    }

    async fn ready(&self, _home: &Home, pid: u32) -> Result<(), String> {
        answers_as(self.port, pid).await
    }
}

/// Returns whether a Sentinel's `INFO sentinel` reports a running primary, one replica and all Sentinels.
fn sees_everything(information: &str, sentinels: usize) -> bool {
    information.lines().any(|line| {
        line.starts_with(&format!("master0:name={MASTER},status=ok,"))
            && line.ends_with(&format!(",slaves=1,sentinels={sentinels}"))
    })
}

fn has_line(information: &str, line: &str) -> bool {
    information.lines().any(|found| found == line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentinel_sees_everything_or_not_yet() {
        let complete =
            "# Sentinel\r\nmaster0:name=tasksync,status=ok,address=127.0.0.1:6379,slaves=1,sentinels=3\r\n";
        assert!(sees_everything(complete, 3));
        assert!(!sees_everything(
            &complete.replace("status=ok", "status=sdown"),
            3
        ));
        assert!(!sees_everything(&complete.replace("slaves=1", "slaves=0"), 3));
        assert!(!sees_everything(
            &complete.replace("sentinels=3", "sentinels=1"),
            3
        ));
    }
}
