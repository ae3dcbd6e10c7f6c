//! The files of `tasksync init`: what becomes of each is decided first, shown, and then carried out.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tasksync_common::permissions::{Audience, open_to_others};

use crate::exit::CommandError;
use crate::new_file::NewFile;

/// What becomes of one file or folder.
pub(super) struct PlannedFile {
    pub(super) path: PathBuf,
    pub(super) change: FileChange,
    is_secret: bool,
}

/// What becomes of a file.
pub(super) enum FileChange {
    /// It is made.
    Create(FileContent),
    /// It gets another content. The lines say what differs; of a secret they say only that it differs.
    Replace(FileContent, Vec<String>),
    /// It is what it should be.
    Keep,
}

/// What a file will hold. New files are for their owner alone.
pub(super) enum FileContent {
    Text(String),
    Secret(SecretString),
    Folder,
}

impl FileChange {
    fn word(&self) -> &'static str {
        match self {
            Self::Create(_) => "created",
            Self::Replace(..) => "changed",
            Self::Keep => "unchanged",
        }
    }
}

impl PlannedFile {
    /// Returns the plan for a folder.
    pub(super) fn folder(path: PathBuf) -> Self {
        let change = if path.is_dir() {
            FileChange::Keep
        } else {
            FileChange::Create(FileContent::Folder)
        };
        Self {
            path,
            change,
            is_secret: false,
        }
    }

    /// Returns the plan for a file with a secret that is kept if it exists.
    pub(super) fn kept_secret(path: PathBuf, new: impl FnOnce() -> SecretString) -> Self {
        let change = if path.exists() {
            FileChange::Keep
        } else {
            FileChange::Create(FileContent::Secret(new()))
        };
        Self {
            path,
            change,
            is_secret: true,
        }
    }

    /// Returns the plan for a file with a secret that is there and stays.
    pub(super) fn present_secret(path: PathBuf) -> Self {
        Self {
            path,
            change: FileChange::Keep,
            is_secret: true,
        }
    }

    /// Returns the plan for a file with a secret that was given.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub(super) fn secret(path: PathBuf, secret: SecretString) -> Result<Self, CommandError> {
        let change = match read(&path)? {
            None => FileChange::Create(FileContent::Secret(secret)),
            Some(present) if present.trim_end_matches(['\r', '\n']) == secret.expose_secret() => {
                FileChange::Keep
            }
            Some(_) => FileChange::Replace(
                FileContent::Secret(secret),
                vec!["~ another password (it is not shown)".to_owned()],
            ),
        };
        Ok(Self {
            path,
            change,
            is_secret: true,
        })
    }

    /// Returns the plan for a file with this text. `changes` says what differs from the present text.
    pub(super) fn text(path: PathBuf, present: Option<&str>, text: String, changes: Vec<String>) -> Self {
        let change = match present {
            None => FileChange::Create(FileContent::Text(text)),
            Some(_) if changes.is_empty() => FileChange::Keep,
            Some(_) => FileChange::Replace(FileContent::Text(text), changes),
        };
        Self {
            path,
            change,
            is_secret: false,
        }
    }

    /// Returns whether something that is there would change.
    pub(super) fn replaces(&self) -> bool {
        matches!(self.change, FileChange::Replace(..))
    }

    /// Returns a remark if other people may read a file with a secret that is there, with the command that mends it.
    pub(super) fn remark(&self) -> Option<String> {
        self.is_secret
            .then(|| open_to_others(&self.path, Audience::Owner))
            .flatten()
    }

    /// Returns one line, and one more for each difference.
    pub(super) fn lines(&self) -> String {
        let mut text = format!("  {:<10} {}\n", self.change.word(), self.path.display());
        if let FileChange::Replace(_, changes) = &self.change {
            for change in changes {
                text.push_str("               ");
                text.push_str(change);
                text.push('\n');
            }
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        json!({ "path": self.path, "change": self.change.word() })
    }

    /// Carries the plan out. A file appears complete or not at all. One that changes keeps its permissions, and the
    /// symbolic link that leads to it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn carry_out(&self) -> Result<(), CommandError> {
        let (content, is_new) = match &self.change {
            FileChange::Keep => return Ok(()),
            FileChange::Create(content) => (content, true),
            FileChange::Replace(content, _) => (content, false),
        };
        let text = match content {
            FileContent::Folder => return make_folder(&self.path),
            FileContent::Text(text) => text,
            FileContent::Secret(secret) => secret.expose_secret(),
        };
        let file = if is_new {
            NewFile::beside(&self.path, false)?
        } else {
            NewFile::in_place_of(&self.path)?
        };
        file.file().write_all(text.as_bytes()).map_err(|error| {
            CommandError::settings(format!("{} cannot be written: {error}", self.path.display()))
        })?;
        file.keep()
    }
}

/// Returns the text of a file; `None` if there is none.
///
/// # Errors
/// The file is there and cannot be read.
pub(super) fn read(path: &Path) -> Result<Option<String>, CommandError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(CommandError::settings(format!(
            "{} cannot be read: {error}",
            path.display()
        ))),
    }
}

/// Makes a folder that its owner alone may enter, with those above it.
fn make_folder(path: &Path) -> Result<(), CommandError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt as _;
        builder.mode(0o700);
    }
    builder.create(path).map_err(|error| {
        CommandError::settings(format!("the folder {} cannot be made: {error}", path.display()))
    })
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};

    use super::*;

    #[test]
    fn a_replaced_file_keeps_its_link_its_permissions_and_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let (link, file) = (
            folder.path().join("settings.toml"),
            folder.path().join("kept.toml"),
        );
        std::fs::write(&file, "old").unwrap();
        // Only root may give a file to any group.
        chown(&file, None, Some(54_321)).ok();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        symlink("kept.toml", &link).unwrap();
        let access = || {
            let found = std::fs::metadata(&file).unwrap();
            (found.mode(), found.uid(), found.gid())
        };
        let before = access();
        let changes = vec!["~ a".to_owned()];
        let planned = PlannedFile::text(link.clone(), Some("old"), "new".to_owned(), changes);
        planned.carry_out().unwrap();
        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(access(), before);
    }
}
