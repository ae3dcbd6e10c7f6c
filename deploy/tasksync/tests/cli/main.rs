//! The built executable: commands against a running standalone service, start and end of the service, pages, examples.

mod commands;
mod harness;
mod pages;
mod standalone;
