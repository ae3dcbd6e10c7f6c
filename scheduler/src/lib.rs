//! The scheduler: one leader among any number of processes chooses who is synced next and sends the jobs.
//!
//! [`Scheduler::new`] gives the scheduler and the [`Requests`] the API hands "sync now" to; [`Scheduler::run`] stands for
//! election, leads while elected, and returns when it is stopped and has given the leadership up.

mod dispatch;
mod leader;
mod limits;
mod metrics;
mod requests;
mod run;
mod search;

pub use limits::DispatchLimits;
pub use metrics::{Counter, DispatchMetrics, DispatchSnapshot};
pub use requests::{REQUESTS_PER_MINUTE, Requested, Requests};
pub use run::{Scheduler, Stores};
