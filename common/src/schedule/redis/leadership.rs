//! The leadership.

use std::time::Duration;

use async_trait::async_trait;

use super::RedisSchedule;
use super::keys::{LEAD, LEADER, RESIGN};
use super::wire::{arg, count, micros};
use crate::error::Failure;
use crate::redis::Repeat;
use crate::schedule::{Epoch, Leadership};

#[async_trait]
impl Leadership for RedisSchedule {
    async fn lead(&self, holder: &str, lasts: Duration) -> Result<Option<Epoch>, Failure> {
        let epoch: Option<i64> = self
            .store
            .script(
                "asking for the leadership",
                &LEAD,
                &self.keys.index(&["lease"]),
                &[arg(holder), arg(micros(lasts))],
                Repeat::Yes,
            )
            .await?;
        Ok(epoch.map(|epoch| Epoch(count(epoch))))
    }

    async fn leader(&self) -> Result<Option<String>, Failure> {
        self.store
            .script(
                "asking who leads",
                &LEADER,
                &self.keys.index(&["lease"]),
                &[],
                Repeat::Yes,
            )
            .await
    }

    async fn resign(&self, holder: &str) -> Result<(), Failure> {
        let _: i64 = self
            .store
            .script(
                "ending the leadership",
                &RESIGN,
                &self.keys.index(&["lease"]),
                &[arg(holder)],
                Repeat::Yes,
            )
            .await?;
        Ok(())
    }
}
