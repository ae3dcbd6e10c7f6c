//! The contract suites: what every adapter of a seam must do, as one set of tests per seam.
//!
//! An adapter's own tests instantiate its suite with an expression that makes a fresh, empty, isolated store:
//! `registry_contract!(async { … })`, `schedule_contract!(…)`, `queue_contract!(…)`. The macro emits one `#[tokio::test]`
//! per function of the suite. A new behaviour is first a function here.

#![expect(
    clippy::missing_panics_doc,
    reason = "these functions are tests; they fail by panicking"
)]
