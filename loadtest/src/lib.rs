//! Simulated Exchange and SharePoint, and the programs that run tasksync against them.
//!
//! This crate uses no type of the client code. The simulators are written from the protocols alone, so that a
//! simulator and its client cannot share a mistake. They speak real HTTP(S) on a free loopback port and keep their own
//! stores.

pub mod accounts;
pub mod exchange;
pub mod machine_clock;
pub mod population;
pub mod random;
pub mod scenario;
pub mod services;
pub mod sharepoint;
pub mod sim;
pub mod trial;
pub mod wrong_answers;
