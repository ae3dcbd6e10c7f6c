//! Reading secrets. They are read when they are used, so that a rotation needs no restart. Their values are
//! held in types that are wiped when dropped and never printed.

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::registry::SecretRef;
use tasksync_common::secrets::{MAXIMUM_SECRET_BYTES, SecretPlace};
use tasksync_common::settings::SecretsSettings;

/// Time after which a file is read again even if it looks unchanged.
const MAXIMUM_AGE: SignedDuration = SignedDuration::from_secs(60);

/// Files kept in memory. Beyond this number all are forgotten and read again.
const MAXIMUM_FILES: usize = 10_000;

/// What distinguishes one version of a file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileVersion {
    modified: Option<SystemTime>,
    bytes: u64,
}

impl FileVersion {
    fn of(metadata: &Metadata) -> Self {
        Self {
            modified: metadata.modified().ok(),
            bytes: metadata.len(),
        }
    }
}

struct CachedSecret {
    version: FileVersion,
    read_at: Timestamp,
    secret: SecretString,
}

/// Reads secrets from where tenants' secrets may be. Keeps a file's content until the file changes, at most for a
/// minute.
pub(super) struct Secrets {
    settings: SecretsSettings,
    files: Mutex<HashMap<SecretRef, CachedSecret>>,
}

impl Secrets {
    pub(super) fn new(settings: SecretsSettings) -> Self {
        Self {
            settings,
            files: Mutex::default(),
        }
    }

    /// Returns the secret's present value.
    ///
    /// # Errors
    /// `SecretNotAllowed` or `SecretUnavailable`, with the name of the secret and never its value.
    pub(super) fn read(&self, reference: &SecretRef, now: Timestamp) -> Result<SecretString, Failure> {
        if let Some(kept) = self.unchanged(reference, now) {
            return Ok(kept);
        }
        let secret = match self.settings.locate(reference)? {
            SecretPlace::Variable(name) => environment(&name),
            SecretPlace::File(resolved) => self.file(reference, &resolved, now),
        }
        .and_then(|secret| {
            if secret.expose_secret().is_empty() {
                Err("it is empty".to_owned())
            } else {
                Ok(secret)
            }
        });
        secret.map_err(|reason| unavailable(reference, &reason))
    }

    /// Forgets a secret that a server refused. Returns `true` if its value is now another.
    pub(super) fn renew(&self, reference: &SecretRef, now: Timestamp) -> bool {
        let old = self.lock().remove(reference);
        match (old, self.read(reference, now)) {
            (Some(old), Ok(new)) => old.secret.expose_secret() != new.expose_secret(),
            _ => false,
        }
    }

    /// Returns the kept content of a file that has not changed since.
    fn unchanged(&self, reference: &SecretRef, now: Timestamp) -> Option<SecretString> {
        let SecretRef::File(path) = reference else {
            return None;
        };
        let metadata = std::fs::metadata(self.settings.path_of(path)).ok()?;
        let files = self.lock();
        let kept = files.get(reference)?;
        let age = kept.read_at.duration_until(now);
        let is_current =
            kept.version == FileVersion::of(&metadata) && !age.is_negative() && age < MAXIMUM_AGE;
        (is_current && !kept.secret.expose_secret().is_empty()).then(|| kept.secret.clone())
    }

    /// Reads a file and keeps its content under its name.
    fn file(&self, reference: &SecretRef, resolved: &Path, now: Timestamp) -> Result<SecretString, String> {
        let text = |error: std::io::Error| error.to_string();
        let file = std::fs::File::open(resolved).map_err(text)?;
        let version = FileVersion::of(&file.metadata().map_err(text)?);
        let mut content = String::new();
        file.take(MAXIMUM_SECRET_BYTES + 1)
            .read_to_string(&mut content)
            .map_err(text)?;
        if content.len() as u64 > MAXIMUM_SECRET_BYTES {
            return Err(format!("it is larger than {MAXIMUM_SECRET_BYTES} bytes"));
        }
        if content.ends_with('\n') {
            content.pop();
            if content.ends_with('\r') {
                content.pop();
            }
        }
        let secret = SecretString::from(content);
        let mut files = self.lock();
        if files.len() >= MAXIMUM_FILES && !files.contains_key(reference) {
            files.clear();
        }
        files.insert(
            reference.clone(),
            CachedSecret {
                version,
                read_at: now,
                secret: secret.clone(),
            },
        );
        Ok(secret)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<SecretRef, CachedSecret>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the failure for a secret that cannot be used.
pub(super) fn unavailable(reference: &SecretRef, reason: &str) -> Failure {
    Failure::new(
        ErrorClass::Refused,
        Code::SecretUnavailable,
        format!("{reference}: {reason}"),
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place where secrets are read from the environment"
)]
fn environment(name: &str) -> Result<SecretString, String> {
    match std::env::var(name) {
        Ok(value) => Ok(SecretString::from(value)),
        Err(std::env::VarError::NotPresent) => Err("the environment variable is not set".to_owned()),
        // The library's own text would print the value.
        Err(std::env::VarError::NotUnicode(_)) => Err("the environment variable is not UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn secrets_in(folder: &Path) -> Secrets {
        Secrets::new(SecretsSettings {
            folder: folder.to_owned(),
            ..SecretsSettings::default()
        })
    }

    fn value(secrets: &Secrets, reference: &SecretRef, second: i64) -> String {
        secrets
            .read(reference, at(second))
            .unwrap()
            .expose_secret()
            .to_owned()
    }

    #[test]
    fn a_changed_file_is_noticed_and_one_line_break_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let reference = SecretRef::File(path.clone());
        let secrets = secrets_in(folder.path());
        std::fs::write(&path, "first\r\n").unwrap();
        assert_eq!(value(&secrets, &reference, 0), "first");
        // The file has another length.
        std::fs::write(&path, " second \n\n").unwrap();
        assert_eq!(value(&secrets, &reference, 1), " second \n");
        // The file has the same length and time: the change is found after a minute.
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        std::fs::write(&path, " SECOND \n\n").unwrap();
        std::fs::File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(modified)
            .unwrap();
        assert_eq!(value(&secrets, &reference, 59), " second \n");
        assert_eq!(value(&secrets, &reference, 61), " SECOND \n");
    }

    #[test]
    fn a_refused_secret_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let reference = SecretRef::File(path.clone());
        let secrets = secrets_in(folder.path());
        std::fs::write(&path, "first").unwrap();
        assert_eq!(value(&secrets, &reference, 0), "first");
        assert!(!secrets.renew(&reference, at(1)), "the same value again");
        std::fs::write(&path, "other").unwrap();
        assert!(secrets.renew(&reference, at(2)));
        assert_eq!(value(&secrets, &reference, 2), "other");
    }

    #[test]
    fn a_file_that_cannot_be_a_secret_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            SecretRef::File(path)
        };
        let table = [
            (
                SecretRef::Environment("TASKSYNC_SECRET_NO_SUCH_VARIABLE".to_owned()),
                "not set",
            ),
            (SecretRef::File(folder.path().join("missing")), "No such file"),
            (file("empty", b"\n"), "empty"),
            (file("binary", b"\xff\xfe"), "UTF-8"),
        ];
        let secrets = secrets_in(folder.path());
        for (reference, reason) in table {
            let failure = secrets.read(&reference, at(0)).unwrap_err();
            assert_eq!(failure.code, Code::SecretUnavailable);
            assert_eq!(failure.class, ErrorClass::Refused);
            assert!(
                failure.detail.starts_with(&reference.to_string()),
                "{}",
                failure.detail
            );
            assert!(failure.detail.contains(reason), "{}", failure.detail);
        }
    }

    #[test]
    fn a_file_that_is_replaced_by_a_link_out_of_the_folder_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("tenants");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("password"), "tenant").unwrap();
        std::fs::write(root.path().join("token"), "operator's").unwrap();
        let reference: SecretRef = "file:password".parse().unwrap();
        let secrets = secrets_in(&folder);
        assert_eq!(value(&secrets, &reference, 0), "tenant");
        std::fs::remove_file(folder.join("password")).unwrap();
        std::os::unix::fs::symlink(root.path().join("token"), folder.join("password")).unwrap();
        let failure = secrets.read(&reference, at(1)).unwrap_err();
        assert_eq!(failure.code, Code::SecretNotAllowed);
        assert!(!failure.detail.contains("operator"), "{failure}");
        assert!(!secrets.renew(&reference, at(2)));
    }

    #[test]
    fn files_in_memory_are_limited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "secret").unwrap();
        let secrets = secrets_in(folder.path());
        for number in 0..MAXIMUM_FILES {
            secrets.lock().insert(
                SecretRef::File(format!("/nowhere/{number}").into()),
                CachedSecret {
                    version: FileVersion {
                        modified: None,
                        bytes: 0,
                    },
                    read_at: at(0),
                    secret: SecretString::from("x"),
                },
            );
        }
        assert_eq!(value(&secrets, &SecretRef::File(path), 0), "secret");
        assert_eq!(secrets.lock().len(), 1);
    }
}
