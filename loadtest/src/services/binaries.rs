//! Finds the programs of the servers.

use std::path::{Path, PathBuf};

use super::{ServiceError, ServicesPlan};

/// The folders that are searched for programs.
#[derive(Debug, Clone, Default)]
pub struct Binaries {
    /// Folders that are searched before the usual ones.
    pub searched_first: Vec<PathBuf>,
}

impl Binaries {
    /// Checks that the programs of all servers of `plan` are installed.
    ///
    /// # Errors
    /// [`ServiceError::NotInstalled`] for the first program that was not found.
    pub fn check(&self, plan: &ServicesPlan) -> Result<(), ServiceError> {
        if plan.redis.is_some() || plan.redis_cluster.is_some() || plan.redis_sentinel.is_some() {
            self.redis_server()?;
        }
        if plan.rabbitmq || plan.rabbitmq_cluster {
            self.epmd()?;
            self.rabbitmq_server()?;
        }
        if plan.postgres.is_some() {
            self.postgres("initdb")?;
            self.postgres("postgres")?;
        }
        Ok(())
    }

    /// Returns the path of `redis-server`.
    pub(super) fn redis_server(&self) -> Result<PathBuf, ServiceError> {
        self.find("Redis", "redis-server", "redis-server", &[])
    }

    /// Returns the path of RabbitMQ's server script in the package's library folder. The script on the PATH would
    /// change the user with `su`.
    pub(super) fn rabbitmq_server(&self) -> Result<PathBuf, ServiceError> {
        let versions = versions(Path::new("/usr/lib/rabbitmq/lib"), "rabbitmq_server-", "sbin");
        self.find("RabbitMQ", "rabbitmq-server", "rabbitmq-server", &versions)
    }

    /// Returns the path of Erlang's port mapper, which RabbitMQ needs.
    pub(super) fn epmd(&self) -> Result<PathBuf, ServiceError> {
        let mut folders = versions(Path::new("/usr/lib/erlang"), "erts-", "bin");
        folders.push("/usr/lib/erlang/bin".into());
        self.find("Erlang", "epmd", "erlang-base", &folders)
    }

    /// Returns the path of a program of PostgreSQL's server.
    pub(super) fn postgres(&self, program: &'static str) -> Result<PathBuf, ServiceError> {
        let versions = versions(Path::new("/usr/lib/postgresql"), "", "bin");
        self.find("PostgreSQL", program, "postgresql", &versions)
    }

    /// Returns the path of a program of the servers that sign people in.
    pub(super) fn program(
        &self,
        program: &'static str,
        package: &'static str,
    ) -> Result<PathBuf, ServiceError> {
        self.find("on-premises sign-in", program, package, &[])
    }

    /// Returns the `PATH` value for the servers.
    pub(super) fn search_path(&self) -> std::ffi::OsString {
        std::env::join_paths(self.searched_first.iter().cloned().chain(search_path()))
            .unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin".into())
    }

    fn find(
        &self,
        service: &'static str,
        program: &'static str,
        package: &'static str,
        usual: &[PathBuf],
    ) -> Result<PathBuf, ServiceError> {
        let folders: Vec<PathBuf> = self
            .searched_first
            .iter()
            .cloned()
            .chain(usual.iter().cloned())
            .chain(search_path())
            .collect();
        folders
            .iter()
            .map(|folder| folder.join(program))
            .find(|path| path.is_file())
            .ok_or_else(|| ServiceError::NotInstalled {
                service,
                program,
                package,
                looked: folders
                    .iter()
                    .map(|folder| folder.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }
}

/// Returns the folders of PATH, followed by server folders that an ordinary user's PATH does not contain.
fn search_path() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::var_os("PATH").map_or_else(Vec::new, |path| std::env::split_paths(&path).collect());
    for usual in [
        "/usr/local/bin",
        "/usr/bin",
        "/bin",
        "/usr/local/sbin",
        "/usr/sbin",
        "/sbin",
    ] {
        if !folders.iter().any(|folder| folder == Path::new(usual)) {
            folders.push(usual.into());
        }
    }
    folders
}

/// Returns `parent/PREFIX<version>/inner` for every version that exists, newest first.
fn versions(parent: &Path, prefix: &str, inner: &str) -> Vec<PathBuf> {
    let mut found: Vec<(Vec<u64>, PathBuf)> = std::fs::read_dir(parent)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name
                .strip_prefix(prefix)?
                .split('.')
                .map(|part| part.parse().unwrap_or_default())
                .collect();
            Some((version, entry.path().join(inner)))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_version_first_and_a_named_folder_before_all() {
        let folder = tempfile::tempdir().unwrap();
        for version in ["9", "15", "9.6"] {
            let bin = folder.path().join(version).join("bin");
            std::fs::create_dir_all(&bin).unwrap();
            std::fs::write(bin.join("initdb"), "").unwrap();
        }
        let usual = versions(folder.path(), "", "bin");
        assert_eq!(usual.first(), Some(&folder.path().join("15/bin")));
        assert_eq!(usual.last(), Some(&folder.path().join("9/bin")));
        let bin = folder.path().join("9/bin");
        let binaries = Binaries {
            searched_first: vec![bin.clone()],
        };
        let found = binaries
            .find("PostgreSQL", "initdb", "postgresql", &usual)
            .unwrap();
        assert_eq!(found, bin.join("initdb"));
    }

    #[test]
    fn a_missing_program_names_the_package() {
        let error = Binaries::default()
            .find("Redis", "no-such-redis-server", "redis-server", &[])
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("install the package redis-server"), "{text}");
        assert!(text.contains("setup.sh"), "{text}");
    }
}
