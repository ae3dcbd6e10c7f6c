//! Upper bounds of histogram buckets.

/// From half a millisecond to a minute, in seconds: calls, requests and phases.
pub(super) const FAST: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// From ten milliseconds to an hour, in seconds: jobs, syncs and waits.
pub(super) const SLOW: &[f64] = &[
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 45.0, 120.0, 300.0, 720.0, 900.0, 1_800.0, 3_600.0,
];

/// Counts.
pub(super) const COUNTS: &[f64] = &[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0];
