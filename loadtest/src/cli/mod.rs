//! The commands of `tasksync-loadtest`.

pub(crate) mod demo;
pub(crate) mod run;
pub(crate) mod services;
pub(crate) mod signals;
pub(crate) mod simulate;
