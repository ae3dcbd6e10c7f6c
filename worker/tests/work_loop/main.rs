//! The worker's loop over the stores in memory, on paused time.

#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod ending_queue;
#[cfg(test)]
mod endings;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod look_ups;
#[cfg(test)]
mod registry;
