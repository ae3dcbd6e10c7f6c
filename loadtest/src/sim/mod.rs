//! What both simulated servers share: the clock, faults on demand, and an HTTP(S) listener.

pub mod answers;
pub mod clock;
pub mod conditions;
pub(crate) mod dice;
pub mod faults;
pub mod http;
pub(crate) mod schemes;
pub mod tls;
pub mod token;
pub(crate) mod vec_map;
mod x509;
