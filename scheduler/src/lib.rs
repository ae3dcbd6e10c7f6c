//! The scheduler. Any number of processes run it; the one that leads chooses the users to sync next and sends the
//! jobs.
//!
//! [`Scheduler::run`] takes part in the election, leads while elected, and returns when it is stopped and has given
//! the leadership up. [`Scheduler::requests`] returns the [`Requests`] that the API hands "sync now" to. [`api`] is
//! the HTTP API for operators. [`doctor`] checks everything an installation needs, including the tenants' servers
//! (through [`checks`]).

mod alert_causes;
pub mod api;
pub mod checks;
mod compare;
mod continuity;
mod dispatch;
pub mod doctor;
mod door;
mod housekeeping;
mod leader;
mod limits;
mod load;
mod metrics;
mod observer;
mod parts;
mod pauses;
mod requests;
mod run;
mod sizing;
mod status;
mod tenant_ranking;

pub use door::Door;
pub use limits::DispatchLimits;
pub use metrics::{DispatchMetrics, DispatchSnapshot};
pub use parts::{LeadershipStatus, ServiceParts};
pub use requests::{REQUESTS_PER_MINUTE, Requests, SyncNowResult};
pub use run::Scheduler;
pub use tasksync_common::stores::Stores;
