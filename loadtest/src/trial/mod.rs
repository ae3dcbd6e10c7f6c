//! A whole trial: both simulated servers, the `tasksync` executable between them, simulated people who edit, and an
//! oracle that reads both stores and uses none of tasksync's code.

mod api;
mod bodies;
mod editor;
mod farm;
mod installation;
mod ledger;
mod oracle;
mod process;
mod service;
mod truth;

pub(crate) use api::TOKEN;
pub use editor::{Editor, Habits};
pub use farm::{Farm, FarmSpec, TenantPlan};
pub use installation::{Installation, InstallationSpec};
pub use ledger::{Counts, Edit, Kind, Ledger, Where};
pub use oracle::{Oracle, Verdict};
pub use process::Process;
pub(crate) use process::ProcessSpec;
pub use service::{Service, ServiceSpec};
pub use truth::{Truth, Untruths};
