//! Who may read the files that tasksync keeps or is given.
//!
//! Files that tasksync makes are for its own user alone. Wider permissions of a file that is already there are
//! reported and not refused: an operator may have given them on purpose, for example to a backup, and an upgrade must
//! not keep the service from starting.

use std::path::Path;

use crate::shell::shell_word;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Its owner alone: it holds people's tasks.
    Owner,
    /// Its owner and its group, the usual form of a mounted secret. Below `/run/secrets`, where platforms mount secrets
    /// for one container, all processes of the container may read it.
    TokenFile,
}

/// Returns a warning, with the command that mends it, if more people may read or change the file than `audience`
/// says. A file that is missing has no permissions.
#[must_use]
pub fn open_to_others(path: &Path, audience: Audience) -> Option<String> {
    let mode = mode_of(path)?;
    let (too_much, who, command) = match audience {
        Audience::Owner => (0o077, "other users of this machine", "600"),
        Audience::TokenFile if is_mounted_secret(path) => (0o022, "others", "go-w"),
        Audience::TokenFile => (0o027, "other users of this machine", "o-rwx,g-w"),
    };
    (mode & too_much != 0).then(|| {
        format!(
            "{who} may read or change {} (mode {:04o}); if that is not intended: chmod {command} {}",
            path.display(),
            mode & 0o7777,
            shell_word(path)
        )
    })
}

fn is_mounted_secret(path: &Path) -> bool {
    path.starts_with("/run/secrets") || path.starts_with("/var/run/secrets")
}

#[cfg(unix)]
fn mode_of(path: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::metadata(path)
        .ok()
        .map(|found| found.permissions().mode())
}

#[cfg(not(unix))]
fn mode_of(_path: &Path) -> Option<u32> {
    None
}

/// Makes an empty file that its owner alone may read and write, unless the file is there already.
///
/// # Errors
/// The operating system refuses.
pub fn make_private_file(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn wider_permissions_are_reported_with_the_command_that_mends_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert_eq!(open_to_others(&file, Audience::Owner), None);
        make_private_file(&file).unwrap();
        for (mode, owner, token) in [
            (0o600, false, false),
            (0o400, false, false),
            (0o640, true, false),
            (0o660, true, true),
            (0o644, true, true),
            (0o602, true, true),
        ] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let warned = |audience| open_to_others(&file, audience).is_some();
            assert_eq!(
                (warned(Audience::Owner), warned(Audience::TokenFile)),
                (owner, token),
                "{mode:o}"
            );
        }
        let warning = open_to_others(&file, Audience::Owner).unwrap();
        assert!(
            warning.contains("mode 0602") && warning.ends_with(&format!("chmod 600 {}", file.display())),
            "{warning}"
        );
    }

    #[test]
    fn the_command_has_the_file_as_one_word() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a #b");
        std::fs::write(&file, "").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let warning = open_to_others(&file, Audience::Owner).unwrap();
        let command = format!("chmod 600 '{}'", file.display());
        assert!(warning.ends_with(&command), "{warning}");
    }

    #[test]
    fn a_file_that_is_there_keeps_its_content_and_permissions() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "here").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        make_private_file(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "here");
        assert_eq!(mode_of(&file).unwrap() & 0o777, 0o640);
    }
}
