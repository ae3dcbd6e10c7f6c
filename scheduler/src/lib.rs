//! The scheduler: one leader among any number of processes chooses who is synced next and sends the jobs.
//!
//! [`Scheduler::new`] gives the scheduler and the [`Requests`] the API hands "sync now" to; [`Scheduler::run`] stands for
//! election, leads while elected, and returns when it is stopped and has given the leadership up.
//! [`api`] is the service operators talk to; [`doctor`] looks at everything that must be right, through [`checks`] also at
//! the tenants' servers.

pub mod api;
pub mod checks;
mod compare;
mod continuity;
mod dispatch;
pub mod doctor;
mod freshness;
mod leader;
mod limits;
mod load;
mod metrics;
mod parts;
mod pauses;
mod requests;
mod run;
mod search;

pub use limits::DispatchLimits;
pub use metrics::{DispatchMetrics, DispatchSnapshot};
pub use parts::{Leadership, Parts};
pub use requests::{REQUESTS_PER_MINUTE, Requested, Requests};
pub use run::Scheduler;
pub use tasksync_common::stores::Stores;
