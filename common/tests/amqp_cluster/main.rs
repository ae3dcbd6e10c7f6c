//! The queue at a RabbitMQ cluster of three nodes that belongs to these tests: the contract, and nodes that
//! are killed, frozen and cut off while jobs go through them.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test, and only test functions themselves are exempt"
)]

mod contract;
mod failover;
mod fixture;
mod traffic;
