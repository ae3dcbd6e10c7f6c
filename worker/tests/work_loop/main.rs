//! The worker's loop over stores in memory, on paused time.

#[cfg(test)]
#[path = "../support/mod.rs"]
#[expect(dead_code, reason = "names without a digest are for the scheduler's tests")]
mod support;

#[cfg(test)]
#[path = "../outbound/server.rs"]
#[expect(dead_code, reason = "TLS and names are for the tests of the HTTP client")]
mod server;

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
mod outages;
#[cfg(test)]
mod registry;
