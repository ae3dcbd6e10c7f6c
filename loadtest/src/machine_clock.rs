//! The clocks of the machine that the harness runs on. Simulated servers have clocks of their own ([`crate::sim`]).

use std::time::Instant;

use jiff::Timestamp;

/// Returns the time of this machine.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness measures with the machine's clock"
)]
#[must_use]
pub fn machine_time() -> Timestamp {
    Timestamp::now()
}

/// Returns the monotonic time, for durations and deadlines.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness measures with the machine's monotonic clock"
)]
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}
