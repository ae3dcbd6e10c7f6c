//! Code that scheduler, worker and the executable share: the task model, the plan, the schedule, and the
//! traits of the stores.

mod catalogue;
#[cfg(test)]
mod certificates;
pub mod clock;
mod codes;
#[cfg(any(test, feature = "contract-tests"))]
pub mod contract;
pub mod error;
pub mod facts;
pub mod fleet;
pub mod health;
pub mod lifecycle;
pub mod metrics;
pub mod model;
mod names;
pub mod permissions;
pub mod plan;
pub mod queue;
pub mod random;
pub mod redis;
pub mod refusals;
pub mod registry;
pub mod schedule;
mod scope;
pub mod seam;
pub mod secrets;
pub mod settings;
pub mod shell;
pub mod state;
pub mod stores;
pub mod tasks;
pub mod telemetry;
mod tls;
pub mod trace;
pub mod versions;
pub mod x509;

pub use catalogue::markdown as error_catalogue_markdown;
pub use names::nearest_name;
