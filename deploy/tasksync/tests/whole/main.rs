//! Tests of whole processes between simulated servers: kills, bad input, broken servers, full disks, stopping under
//! load.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test, and only test functions themselves are exempt"
)]

mod bad_input;
mod broken_servers;
mod calamity;
mod canary;
mod doctor;
mod ending;
mod faulty_proxy;
mod first_sync;
mod idle_tenants;
mod init;
mod kill;
mod moves;
mod plan;
mod readiness;
mod registry;
mod rig;
mod roles;
mod shared_stores;
mod support;
mod telemetry;
mod tenant_tests;
mod upgrade;
mod wrong_answers;
