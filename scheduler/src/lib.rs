//! The leader's side: the REST API, the doctor, and the seam to checks of the tenants' servers.

pub mod api;
pub mod checks;
pub mod doctor;
