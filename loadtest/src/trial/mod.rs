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
mod violations;

pub(crate) use api::{TOKEN, is_leading};
pub use editor::{Editor, Habits};
pub use farm::{Farm, FarmIdentity, FarmSpec, TenantPlan, secrets_folder, write_file};
pub use installation::{Installation, InstallationSpec};
pub use ledger::{Edit, EditKind, EditSide, Ledger, LedgerCounts};
pub use oracle::{Oracle, OracleReport};
pub use process::TasksyncProcess;
pub(crate) use process::{EarlierBuild, ProcessSpec};
pub use service::{Service, ServiceSpec};
pub use violations::{InitialTasks, Violations};
