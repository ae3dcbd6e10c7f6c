//! The sync pass over real HTTP against simulated servers. An independent oracle compares both sides after each
//! scenario.

#[cfg(test)]
mod auth;
#[cfg(test)]
#[path = "../contract/mod.rs"]
mod contract;
#[cfg(test)]
mod contracts;
#[cfg(test)]
#[path = "../../../loadtest/tests/foreign/python.rs"]
mod python;
#[cfg(test)]
mod registry;
#[cfg(test)]
mod rig;

#[cfg(test)]
mod batches;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod conflicts;
#[cfg(test)]
mod deletions;
#[cfg(test)]
mod edits;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod first;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod mailbox;
#[cfg(test)]
mod on_premises;
#[cfg(test)]
mod one_host;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod probes;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod scale;
#[cfg(test)]
mod source;
#[cfg(test)]
mod states;
#[cfg(test)]
mod swapped_answers;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod wrong_answers;
