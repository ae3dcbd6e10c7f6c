//! A whole trial: both simulated servers, the `tasksync` executable between them, people who edit, and an oracle that
//! looks at both stores and uses none of tasksync's code.

mod bodies;
mod editor;
mod farm;
mod ledger;
mod oracle;
mod service;

pub use editor::{Editor, Habits};
pub use farm::{Farm, FarmSpec, TenantPlan};
pub use ledger::{Counts, Edit, Kind, Ledger, Where};
pub use oracle::{Oracle, Verdict};
pub use service::{Service, ServiceSpec};
