//! Scenarios: a population, a load, faults and kills, and the expectations that tasksync must meet under them.
//!
//! A scenario is a TOML file (`docs/scenarios.md` explains every key). Parsing it, expanding its kill plan and
//! evaluating its expectations are pure. [`run()`] does everything else and passes the results to [`report`].

mod check;
mod duration;
pub mod expect;
mod figures;
pub mod file;
mod final_checks;
mod fleet;
mod kills;
mod measure;
mod phases;
pub mod report;
mod requests;
pub mod result;
mod run;
mod sample;
mod shipped;
mod trial;
mod visits;

pub use check::ScenarioError;
pub use file::Scenario;
pub use phases::{PhaseProgress, Silent};
pub use result::ScenarioResult;
pub use run::{RunOptions, run};
pub use shipped::{SHIPPED, find};
