//! Simulated Exchange and SharePoint, and what drives tasksync against them.
//!
//! Nothing here knows a type of the client code: the simulators are written from the protocols alone, so that both
//! cannot be wrong together. They speak real HTTP(S) on a free loopback port and keep their own stores.

pub mod accounts;
pub mod exchange;
pub mod liar;
pub mod population;
pub mod scenario;
pub mod services;
pub mod sharepoint;
pub mod sim;
pub mod trial;
