//! The account that a server runs as.

use std::ffi::OsString;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use super::{ServiceError, ServiceFolder};

/// The account that a server runs as, if it is not that of this process.
#[derive(Debug, Clone, Copy)]
pub(super) struct RunAs(Option<(u32, u32)>);

impl RunAs {
    /// Returns the first of these accounts that exists, if this process is root; else its own account.
    ///
    /// # Errors
    /// Other accounts cannot enter the folder.
    pub(super) fn one_of(names: &[&str], folder: &ServiceFolder) -> Result<Self, ServiceError> {
        if !folder.is_root() {
            return Ok(Self(None));
        }
        folder.open_to_others()?;
        let accounts = std::fs::read_to_string("/etc/passwd").map_err(ServiceError::system("/etc/passwd"))?;
        Ok(Self(names.iter().find_map(|name| account(&accounts, name))))
    }

    /// Returns the command that runs `program` as the account.
    pub(super) fn command(self, program: &Path) -> Vec<OsString> {
        let mut command: Vec<OsString> = Vec::new();
        if let Some((user, group)) = self.0 {
            command.extend([
                "setpriv".into(),
                format!("--reuid={user}").into(),
                format!("--regid={group}").into(),
                "--clear-groups".into(),
            ]);
        }
        command.push(program.into());
        command
    }

    /// Gives a file or folder to the account, with this mode.
    ///
    /// # Errors
    /// The operating system's error.
    pub(super) fn give(self, path: &Path, mode: u32) -> Result<(), ServiceError> {
        let what = || path.display().to_string();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(ServiceError::system(what()))?;
        if let Some((user, group)) = self.0 {
            chown(path, Some(user), Some(group)).map_err(ServiceError::system(what()))?;
        }
        Ok(())
    }
}

/// Returns the user id and group id of an account, read from the text of `/etc/passwd`.
fn account(accounts: &str, name: &str) -> Option<(u32, u32)> {
    let line = accounts
        .lines()
        .find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_found_by_their_whole_name() {
        let text = "root:x:0:0::/:/bin/sh\npostgres2:x:9:9::/:\npostgres:x:101:104::/:/bin/bash\n";
        assert_eq!(account(text, "postgres"), Some((101, 104)));
        assert_eq!(account(text, "nobody"), None);
    }
}
