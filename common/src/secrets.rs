//! Where the secrets of tenants may be. People who connect tenants name secrets; the operator decides where they are.
//!
//! Without this rule a tenant's settings could send any file or variable of the service to a server of the tenant's
//! choice. The rule is applied when a tenant is stored and again when a secret is read: a link may have changed since.

use std::io::ErrorKind;
use std::path::{Component, Path, PathBuf};

use crate::error::{Code, ErrorClass, Failure};
use crate::registry::{SecretRef, Tenant};
use crate::settings::{SYSTEM_FOLDERS, SecretsSettings};

/// Bytes of the largest secret file. A private key with its chain has about 8 KiB.
pub const MAXIMUM_SECRET_BYTES: u64 = 64 * 1024;

/// Where an allowed secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretPlace {
    /// An environment variable.
    Variable(String),
    /// A regular file below the folder, with all links followed.
    File(PathBuf),
}

/// Why a secret cannot be used.
enum SecretProblem {
    /// Tenants may not use it.
    NotAllowed(String),
    /// Tenants may use it, but it is not there or not readable.
    Unavailable(String),
}

impl SecretsSettings {
    /// Returns the path that a reference to a file stands for, without following links.
    #[must_use]
    pub fn path_of(&self, file: &Path) -> PathBuf {
        // An absolute path replaces the folder.
        self.folder.join(file)
    }

    /// Returns where a tenant's secret is. Links are followed, so the answer holds for this moment.
    ///
    /// # Errors
    /// `SecretNotAllowed` if tenants may not use it, `SecretUnavailable` if it is not there. The text has the name of
    /// the secret and where to put it.
    pub fn locate(&self, reference: &SecretRef) -> Result<SecretPlace, Failure> {
        let place = match reference {
            SecretRef::Environment(name) if name.starts_with(&self.variable_prefix) => {
                Ok(SecretPlace::Variable(name.clone()))
            }
            SecretRef::Environment(_) => Err(SecretProblem::NotAllowed(format!(
                "a tenant's variable must begin with {}; rename it (secrets.variable_prefix)",
                self.variable_prefix
            ))),
            SecretRef::File(file) => self.locate_file(&self.path_of(file)).map(SecretPlace::File),
        };
        place.map_err(|problem| {
            let (code, reason) = match problem {
                SecretProblem::NotAllowed(reason) => (Code::SecretNotAllowed, reason),
                SecretProblem::Unavailable(reason) => (Code::SecretUnavailable, reason),
            };
            Failure::new(ErrorClass::Refused, code, format!("{reference}: {reason}"))
        })
    }

    /// Checks that every secret of a tenant is where a tenant's secrets may be. A file that does not exist yet is
    /// allowed.
    ///
    /// # Errors
    /// `SecretNotAllowed`, with the key of the first secret that is refused and where to put it.
    pub fn check_tenant(&self, tenant: &Tenant) -> Result<(), Failure> {
        for (key, reference) in tenant.secrets() {
            match self.locate(reference) {
                Err(failure) if failure.code == Code::SecretNotAllowed => return Err(failure.within(key)),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    fn locate_file(&self, path: &Path) -> Result<PathBuf, SecretProblem> {
        let put_it = || format!("put the file below {} (secrets.folder)", self.folder.display());
        let outside = || {
            SecretProblem::NotAllowed(format!(
                "it is not below the folder of the tenants' secrets; {}",
                put_it()
            ))
        };
        if path.components().any(|part| matches!(part, Component::ParentDir)) {
            return Err(SecretProblem::NotAllowed(format!(
                "the path contains \"..\"; {}",
                put_it()
            )));
        }
        // The same answer for every path outside, whether or not it exists.
        let named_inside = path.starts_with(&self.folder);
        let folder = match self.folder.canonicalize() {
            Ok(folder) => folder,
            Err(_) if !named_inside => return Err(outside()),
            Err(error) => {
                return Err(SecretProblem::Unavailable(format!(
                    "the folder {} cannot be read: {error}; create it, or set secrets.folder",
                    self.folder.display()
                )));
            }
        };
        if folder == Path::new("/") || SYSTEM_FOLDERS.iter().any(|system| folder.starts_with(system)) {
            return Err(SecretProblem::NotAllowed(format!(
                "the folder {} leads to {}, which belongs to the operating system; set secrets.folder",
                self.folder.display(),
                folder.display()
            )));
        }
        let resolved = match path.canonicalize() {
            Ok(resolved) => resolved,
            Err(_) if !named_inside && !path.starts_with(&folder) => return Err(outside()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(SecretProblem::Unavailable(format!("{error}; {}", put_it())));
            }
            Err(error) => return Err(SecretProblem::Unavailable(error.to_string())),
        };
        if !resolved.starts_with(&folder) {
            return Err(outside());
        }
        let metadata = resolved
            .metadata()
            .map_err(|error| SecretProblem::Unavailable(error.to_string()))?;
        // Pipes and devices could block or never end.
        if !metadata.is_file() {
            return Err(SecretProblem::NotAllowed(format!(
                "it is not a file but a folder, pipe or device; {}",
                put_it()
            )));
        }
        if metadata.len() > MAXIMUM_SECRET_BYTES {
            return Err(SecretProblem::NotAllowed(format!(
                "the file is larger than {MAXIMUM_SECRET_BYTES} bytes, so it is no secret; name another file below {}",
                self.folder.display()
            )));
        }
        Ok(resolved)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    /// A folder of secrets, and a file and a folder beside it.
    struct Disk {
        root: tempfile::TempDir,
        settings: SecretsSettings,
    }

    impl Disk {
        fn new() -> Self {
            let root = tempfile::tempdir().unwrap();
            let folder = root.path().join("tenants");
            std::fs::create_dir(&folder).unwrap();
            std::fs::write(root.path().join("token"), "operator").unwrap();
            std::fs::write(folder.join("contoso"), "secret").unwrap();
            let settings = SecretsSettings {
                folder,
                ..SecretsSettings::default()
            };
            Self { root, settings }
        }

        fn inside(&self, name: &str) -> PathBuf {
            self.settings.folder.join(name)
        }

        fn locate(&self, reference: &str) -> Result<SecretPlace, Failure> {
            self.settings.locate(&reference.parse().unwrap())
        }

        /// Asserts that the reference is refused, with the folder in which the file belongs.
        fn assert_not_allowed(&self, reference: &str, reason: &str) {
            let failure = self.locate(reference).unwrap_err();
            assert_eq!(failure.code, Code::SecretNotAllowed, "{reference}: {failure}");
            assert_eq!(failure.class, ErrorClass::Refused);
            let folder = self.settings.folder.display().to_string();
            for part in [reference, reason, &folder] {
                assert!(failure.detail.contains(part), "{part}: {failure}");
            }
        }
    }

    #[test]
    fn a_secret_is_found_by_name_by_path_and_through_links_inside() {
        let disk = Disk::new();
        // As Kubernetes mounts a Secret: name → ..data/name → ..2026/name.
        std::fs::create_dir(disk.inside("..2026")).unwrap();
        std::fs::write(disk.inside("..2026/mounted"), "secret").unwrap();
        symlink("..2026", disk.inside("..data")).unwrap();
        symlink("..data/mounted", disk.inside("mounted")).unwrap();
        // The folder itself may be a link, as /var/run is one.
        symlink("tenants", disk.root.path().join("other-name")).unwrap();
        let folder = disk.settings.folder.canonicalize().unwrap();
        let root = disk.root.path().display();
        for (reference, file) in [
            ("file:contoso".to_owned(), "contoso"),
            (format!("file:{root}/tenants/contoso"), "contoso"),
            (format!("file:{root}/other-name/contoso"), "contoso"),
            ("file:mounted".to_owned(), "..2026/mounted"),
        ] {
            assert_eq!(
                disk.locate(&reference).unwrap(),
                SecretPlace::File(folder.join(file)),
                "{reference}"
            );
        }
        assert_eq!(
            disk.locate("env:TASKSYNC_SECRET_CONTOSO").unwrap(),
            SecretPlace::Variable("TASKSYNC_SECRET_CONTOSO".to_owned())
        );
    }

    #[test]
    fn what_tenants_may_not_use_is_refused_with_the_place_where_it_belongs() {
        let disk = Disk::new();
        let root = disk.root.path().display();
        symlink(disk.root.path().join("token"), disk.inside("link-out")).unwrap();
        symlink("/proc/self/environ", disk.inside("link-to-proc")).unwrap();
        symlink("/dev/zero", disk.inside("link-to-device")).unwrap();
        symlink(disk.root.path(), disk.inside("link-to-folder")).unwrap();
        std::fs::create_dir(disk.inside("folder")).unwrap();
        let made = Command::new("mkfifo").arg(disk.inside("pipe")).status().unwrap();
        assert!(made.success());
        let large = usize::try_from(MAXIMUM_SECRET_BYTES).unwrap() + 1;
        std::fs::write(disk.inside("large"), vec![b'x'; large]).unwrap();
        let outside = "not below the folder";
        for (reference, reason) in [
            ("file:/etc/shadow", outside),
            ("file:/proc/self/environ", outside),
            ("file:/sys/kernel/notes", outside),
            ("file:/dev/zero", outside),
            ("file:/no/such/file", outside),
            (&format!("file:{root}/token"), outside),
            (&format!("file:{root}/tenants-of-another/contoso"), outside),
            (&format!("file:{root}/tenants/../token"), "\"..\""),
            (&format!("file:{root}/tenants/../tenants/contoso"), "\"..\""),
            ("file:link-out", outside),
            ("file:link-to-proc", outside),
            ("file:link-to-device", outside),
            ("file:link-to-folder/token", outside),
            ("file:folder", "not a file"),
            ("file:pipe", "not a file"),
            ("file:large", "larger than 65536 bytes"),
        ] {
            disk.assert_not_allowed(reference, reason);
        }
        for variable in [
            "TASKSYNC_TOKEN",
            "TASKSYNC_QUEUE__URL",
            "PATH",
            "TASKSYNC_SECRETS__FOLDER",
        ] {
            let failure = disk.locate(&format!("env:{variable}")).unwrap_err();
            assert_eq!(failure.code, Code::SecretNotAllowed);
            assert!(
                failure.detail.contains("must begin with TASKSYNC_SECRET_"),
                "{failure}"
            );
        }
    }

    #[test]
    fn a_secret_that_is_not_there_yet_is_unavailable_and_not_refused() {
        let disk = Disk::new();
        let failure = disk.locate("file:fabrikam").unwrap_err();
        assert_eq!(failure.code, Code::SecretUnavailable);
        assert!(failure.detail.contains("put the file below"), "{failure}");
        std::fs::remove_dir_all(&disk.settings.folder).unwrap();
        let failure = disk.locate("file:contoso").unwrap_err();
        assert_eq!(failure.code, Code::SecretUnavailable);
        assert!(failure.detail.contains("create it"), "{failure}");
        disk.assert_not_allowed("file:/etc/shadow", "not below the folder");
    }

    #[test]
    fn a_folder_that_leads_to_the_operating_system_gives_no_secret() {
        let disk = Disk::new();
        std::fs::remove_dir_all(&disk.settings.folder).unwrap();
        symlink("/proc/self", &disk.settings.folder).unwrap();
        disk.assert_not_allowed("file:environ", "belongs to the operating system");
    }
}
