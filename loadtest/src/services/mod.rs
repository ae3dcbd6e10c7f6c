//! Private Redis, RabbitMQ and PostgreSQL for tests and trials. They are real servers on free loopback ports, keep
//! everything in one temporary folder, and leave nothing behind.
//!
//! Every server can be killed, stopped, restarted on the same ports with the same data, wiped and paused. These
//! methods take shared references, so that a load can run at the same time. A watchdog process ends the servers and
//! removes the folder however the owner ends, SIGKILL included. Linux only (`/proc`).
//!
//! ```no_run
//! # use tasksync_loadtest::services::{ServiceError, Services, ServicesPlan};
//! # async fn example() -> Result<(), ServiceError> {
//! let services = Services::start(&ServicesPlan::all()).await?;
//! services.redis()?.kill();
//! services.redis()?.restart().await?;
//! # Ok(())
//! # }
//! ```

mod authority;
mod binaries;
mod error;
mod folder;
mod net;
pub mod on_premises;
mod port_mapper;
mod ports;
mod postgres;
mod process;
mod rabbitmq;
mod rabbitmq_cluster;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod run_as;
mod server;
mod set;
mod volume;
mod watchdog;

pub use authority::{PrivateAuthority, ServerCertificate};
pub use binaries::Binaries;
pub use error::{ServiceError, started_or_skipped};
pub use folder::ServiceFolder;
pub use postgres::{Postgres, PostgresVolume};
pub(crate) use process::Signal;
pub use rabbitmq::RabbitMq;
pub use rabbitmq_cluster::RabbitMqCluster;
pub use redis::{Persistence, Redis};
pub use redis_cluster::RedisCluster;
pub use redis_sentinel::{RedisSentinel, SentinelRecipe};
pub use server::Server;
pub use set::{Services, ServicesPlan};
pub(crate) use watchdog::Watchdog;
