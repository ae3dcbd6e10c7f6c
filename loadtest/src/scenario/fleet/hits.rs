//! Kills and replacements of the fleet's processes and stores, and their effects.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Fleet;
use crate::machine_clock::monotonic;
use crate::scenario::file::{Method, Victim};
use crate::services::Signal;
use crate::trial::{TasksyncProcess, is_leading};

/// Longest wait for a leader.
const LEADER_PATIENCE: Duration = Duration::from_secs(90);

/// A kill and its effects.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Hit {
    /// The kind of victim.
    pub(crate) what: Victim,
    /// The method.
    pub(crate) how: Method,
    /// Name of the process or store.
    pub(crate) name: String,
    /// Seconds since the run began.
    pub(crate) at: f64,
    /// Seconds until it was ready again.
    pub(crate) back_after: Option<f64>,
    /// Seconds without a leader, if the leader was hit.
    pub(crate) failover: Option<f64>,
    /// The problem, if there was one.
    pub(crate) problem: Option<String>,
}

impl Fleet {
    /// Hits a victim, waits `down`, starts it again and reports the effects. `began` is the start of the run.
    pub(crate) async fn hit(
        &self,
        what: Victim,
        how: Method,
        turn: usize,
        down: Duration,
        began: Instant,
    ) -> Hit {
        let mut hit = Hit {
            what,
            how,
            name: String::new(),
            at: began.elapsed().as_secs_f64(),
            back_after: None,
            failover: None,
            problem: None,
        };
        let result = match what {
            Victim::Leader | Victim::Scheduler | Victim::Worker => {
                self.hit_process(&mut hit, turn, down).await
            }
            Victim::Rabbitmq | Victim::Redis | Victim::Postgres => self.hit_store(&mut hit, down).await,
        };
        hit.problem = result.err().or(hit.problem);
        hit
    }

    async fn hit_process(&self, hit: &mut Hit, turn: usize, down: Duration) -> Result<(), String> {
        let found = match hit.what {
            Victim::Worker => self.workers.get(turn % self.workers.len().max(1)),
            Victim::Scheduler => self.schedulers.get(turn % self.schedulers.len().max(1)),
            // While an earlier hit is being repaired, there may be no leader for some time.
            Victim::Leader | Victim::Rabbitmq | Victim::Redis | Victim::Postgres => {
                self.wait_for_leader().await
            }
        };
        let process = Arc::clone(found.ok_or("there was no process to hit")?);
        hit.name.clone_from(&process.spec.name);
        let hit_at = monotonic();
        match hit.how {
            Method::Terminate => {
                process.terminate().await?;
            }
            Method::Replace => {
                let code = process.terminate().await?;
                process.select_other_build();
                if code != Some(0) {
                    hit.problem = Some(format!("it ended with {code:?} instead of 0"));
                }
            }
            Method::Pause => process.signal(Signal::Stop).await?,
            Method::Kill | Method::Wipe => process.kill().await,
        }
        let alone = self.schedulers.len() == 1;
        let recovery = async {
            tokio::time::sleep(down).await;
            if hit.how == Method::Pause {
                process.signal(Signal::Continue).await?;
            } else {
                process.launch()?;
            }
            process.ready(&self.http).await?;
            Ok::<_, String>(hit_at.elapsed().as_secs_f64())
        };
        if hit.what != Victim::Leader {
            hit.back_after = Some(recovery.await?);
            return Ok(());
        }
        // After a pause, the old leader still believes that it leads, so it is not queried. A killed leader may be
        // elected again as soon as it is back; that ends the time without a leader as well.
        let old_leader_still_claims = hit.how == Method::Pause && !alone;
        let new_leader = async {
            loop {
                let leader = self
                    .another_leader(old_leader_still_claims.then_some(&process))
                    .await;
                if leader || hit_at.elapsed() > LEADER_PATIENCE {
                    return leader.then(|| hit_at.elapsed().as_secs_f64());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        let (back, failover) = futures::join!(recovery, new_leader);
        hit.failover = failover;
        hit.back_after = Some(back?);
        if failover.is_none() {
            return Err(format!("no scheduler led within {} s", LEADER_PATIENCE.as_secs()));
        }
        Ok(())
    }

    async fn wait_for_leader(&self) -> Option<&Arc<TasksyncProcess>> {
        let deadline = monotonic() + LEADER_PATIENCE;
        loop {
            if let Some(leader) = self.leader().await {
                return Some(leader);
            }
            if monotonic() > deadline {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns whether a scheduler other than `fallen` reports itself as the leader.
    async fn another_leader(&self, fallen: Option<&Arc<TasksyncProcess>>) -> bool {
        for process in &self.schedulers {
            if fallen.is_some_and(|fallen| Arc::ptr_eq(fallen, process)) || process.id().is_none() {
                continue;
            }
            let Some(api) = &process.spec.api else { continue };
            let status = self
                .ask(api, reqwest::Method::GET, "/status", None, Duration::from_secs(2))
                .await;
            if status.is_ok_and(|status| is_leading(&status)) {
                return true;
            }
        }
        false
    }

    async fn hit_store(&self, hit: &mut Hit, down: Duration) -> Result<(), String> {
        let services = self.services.as_ref().ok_or("there are no stores")?;
        hit.name = format!("{:?}", hit.what).to_lowercase();
        let struck = monotonic();
        // The servers have three types with the same methods.
        macro_rules! strike {
            ($server:expr) => {{
                let server = $server.map_err(|error| error.to_string())?;
                if hit.how == Method::Pause {
                    server.pause();
                    tokio::time::sleep(down).await;
                    server.resume();
                } else {
                    server.kill();
                    tokio::time::sleep(down).await;
                    if hit.how == Method::Wipe {
                        server.wipe().await.map_err(|error| error.to_string())?;
                    } else {
                        server.restart().await.map_err(|error| error.to_string())?;
                    }
                }
            }};
        }
        match hit.what {
            Victim::Redis => strike!(services.redis()),
            Victim::Rabbitmq => strike!(services.rabbitmq()),
            Victim::Postgres | Victim::Leader | Victim::Scheduler | Victim::Worker => {
                strike!(services.postgres());
            }
        }
        hit.back_after = Some(struck.elapsed().as_secs_f64());
        Ok(())
    }
}
