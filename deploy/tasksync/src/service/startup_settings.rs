//! Reads the settings of a process and refuses what it cannot start with. `tasksync config check` and every role use
//! the same function, so that what the check accepts is not refused at start.

use std::path::Path;

use tasksync_common::settings::{self, LoadedSettings};

use super::combination::{ServiceRole, check, check_addresses};
use crate::exit::CommandError;
use crate::token;

/// Where the files and folders are that the settings name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamedFiles {
    /// On this machine; they are checked.
    Here,
    /// On another machine.
    Elsewhere,
}

/// Returns the settings of a file and the environment, if a process of this role can start with them. Without a role,
/// the stores are not compared with what a role may use.
///
/// # Errors
/// Names everything that is wrong.
pub(crate) fn load_settings(
    role: Option<ServiceRole>,
    config: Option<&Path>,
    files: NamedFiles,
) -> Result<LoadedSettings, CommandError> {
    let loaded = settings::load(config, token::environment())
        .map_err(|error| CommandError::settings(error.to_string()))?;
    if let Some(role) = role {
        check(role, &loaded.settings)?;
        check_addresses(role, &loaded.settings)?;
    }
    if files == NamedFiles::Here {
        loaded
            .check_files()
            .map_err(|error| CommandError::settings(error.to_string()))?;
    }
    if role.is_none_or(ServiceRole::schedules) {
        token::read()?;
    }
    Ok(loaded)
}
