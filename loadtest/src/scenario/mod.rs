//! Scenarios: a population, a load, faults and kills, and what is expected of tasksync under them.
//!
//! A scenario is a TOML file (`docs/scenarios.md` explains every key). Reading it, unfolding its kill plan and judging
//! its expectations are pure; [`run()`] does the rest and hands what it saw to [`report`].

mod check;
mod duration;
pub mod expect;
mod figures;
pub mod file;
mod fleet;
mod honest;
mod kills;
mod measure;
mod phases;
pub mod report;
pub mod result;
mod run;
mod sample;
mod shipped;
mod trial;
mod visits;

pub use check::ScenarioError;
pub use file::Scenario;
pub use phases::{Progress, Silent};
pub use result::Outcome;
pub use run::{RunOptions, run};
pub use shipped::{SHIPPED, find};
