//! The leader's loop, with and without workers, over the stores in memory, on paused time.

#[cfg(test)]
#[path = "../../../worker/tests/support/mod.rs"]
mod support;

#[cfg(test)]
mod bench;
#[cfg(test)]
mod comparison;
#[cfg(test)]
mod dispatch;
#[cfg(test)]
mod election;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod fairness;
#[cfg(test)]
mod lost_redis;
#[cfg(test)]
mod redis_rig;
#[cfg(test)]
mod refusing_queue;
#[cfg(test)]
mod requests;
