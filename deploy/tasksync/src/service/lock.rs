//! Locks the registry file, so that only one standalone process uses it: two would each lead.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use tasksync_common::permissions::make_private_file;
use tasksync_common::registry::sqlite_file;

use crate::exit::CommandError;

/// The lock on the registry file. The operating system releases it when it is dropped, also when the process is
/// killed.
#[derive(Debug)]
pub(super) struct RegistryLock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Takes the lock beside the file of `sqlite:PATH`. A registry that is no file needs none.
pub(super) fn take(registry_url: &str) -> Result<Option<RegistryLock>, CommandError> {
    let Some(path) = lock_path(registry_url) else {
        return Ok(None);
    };
    let failed = |error: &dyn std::fmt::Display| {
        CommandError::settings(format!(
            "registry.url {registry_url}: the lock file {} cannot be used: {error}",
            path.display()
        ))
    };
    make_private_file(&path).map_err(|error| failed(&error))?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| failed(&error))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(lock_taken_error(&path, &mut file)),
        Err(TryLockError::Error(error)) => return Err(failed(&error)),
    }
    // For people who read the file; the lock itself is the operating system's.
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(|error| failed(&error))?;
    Ok(Some(RegistryLock(file)))
}

fn lock_taken_error(path: &Path, file: &mut File) -> CommandError {
    let mut holder = String::new();
    // The holder is only shown, so a failure to read it does not matter.
    file.take(32).read_to_string(&mut holder).ok();
    let holder = holder.trim();
    let who = if holder.is_empty() {
        "another process".to_owned()
    } else {
        format!("process {holder}")
    };
    CommandError::settings(format!(
        "{who} runs with this registry already (it holds {}); stop it first, or give this one a registry of its own",
        path.display()
    ))
}

fn lock_path(registry_url: &str) -> Option<PathBuf> {
    let mut name = sqlite_file(registry_url)?.into_os_string();
    name.push(".lock");
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_lies_beside_the_file() {
        let path = |url| lock_path(url).map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(path("sqlite:a.sqlite").as_deref(), Some("a.sqlite.lock"));
        assert_eq!(
            path("sqlite:///var/lib/t.sqlite?mode=rwc").as_deref(),
            Some("/var/lib/t.sqlite.lock")
        );
        assert_eq!(path("sqlite:/a%3Fb/t").as_deref(), Some("/a?b/t.lock"));
        assert_eq!(path("postgres://tasksync@db/sqlite:x"), None);
        assert_eq!(path("sqlite::memory:"), None);
        assert_eq!(path("sqlite://:memory:"), None);
    }

    #[test]
    fn the_second_one_is_refused_until_the_first_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}/t.sqlite", folder.path().display());
        let first = take(&url).unwrap();
        let Err(CommandError::Settings(text)) = take(&url) else {
            panic!("locked twice")
        };
        assert!(
            text.contains(&format!("process {}", std::process::id())),
            "{text}"
        );
        drop(first);
        assert!(take(&url).unwrap().is_some());
    }
}
