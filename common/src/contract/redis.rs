//! Redis for tests: the servers named by the environment, and private ones that tests may stop and break.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::random::unique_id;
use crate::redis::{RedisOptions, RedisStore, Repeat};

/// Variable with the URL of one server that all tests share.
pub const SINGLE: &str = "TASKSYNC_TEST_REDIS_URL";
/// Variable with the URL of a cluster that all tests share.
pub const CLUSTER: &str = "TASKSYNC_TEST_REDIS_CLUSTER_URL";
/// Variable with the URL of Sentinels, with a primary and a replica, that all tests share.
pub const SENTINEL: &str = "TASKSYNC_TEST_REDIS_SENTINEL_URL";

/// Returns whether a missing service is a failure instead of a reason to skip.
fn is_required() -> bool {
    variable("TASKSYNC_TEST_SERVICES").as_deref() == Some("required")
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests learn from the environment which servers they may use"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::print_stderr, reason = "the test's own output")]
fn report_skipped(what: &str) {
    assert!(!is_required(), "{what}, and TASKSYNC_TEST_SERVICES=required");
    eprintln!("skipped: {what}; run make test");
}

/// Returns the URL in a variable. Without it, the test is skipped (`None`), or fails if services are
/// required.
#[must_use]
pub fn url_in(name: &str) -> Option<String> {
    let url = variable(name);
    if url.is_none() {
        report_skipped(&format!("{name} is not set"));
    }
    url
}

/// Returns a prefix that no other test has.
#[must_use]
pub fn own_prefix() -> String {
    format!("t{}", unique_id().simple())
}

/// Removes every key that begins with the prefix, on all nodes.
///
/// # Panics
/// Redis does not answer.
pub async fn remove_prefix(url: &str, prefix: &str) {
    let store = RedisStore::new("test", url, RedisOptions::default()).unwrap();
    let keys = store.keys_of_all_nodes(&format!("{prefix}*")).await.unwrap();
    futures::future::join_all(keys.iter().map(|key| {
        let mut command = ::redis::cmd("UNLINK");
        command.arg(key.as_slice());
        store.command::<i64>("cleaning up", command, Repeat::Yes)
    }))
    .await;
}

/// A server of one test, without persistence, which ends with the test.
pub struct PrivateRedis {
    port: u16,
    tls: bool,
    /// The settings file, which a Sentinel requires.
    sentinel: Option<PathBuf>,
    arguments: Vec<String>,
    child: Option<Child>,
    folder: tempfile_folder::TemporaryFolder,
}

impl PrivateRedis {
    /// Starts `redis-server` with these further arguments. Returns `None` (skipped) if the machine has no
    /// `redis-server`.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self::start_in(own_folder(), free_port(), false, None, arguments)
    }

    /// Does the same as [`Self::start`] for a server that speaks TLS only, with the certificate and key in
    /// this PEM file. It requires no certificates of its clients.
    #[must_use]
    pub fn start_tls(certificate: &Path, arguments: &[&str]) -> Option<Self> {
        let port = free_port();
        let mut all = tls_arguments(port, certificate);
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Self::start_in(own_folder(), port, true, None, all)
    }

    /// Starts a Sentinel that speaks TLS only, even to the server it watches. It watches only the server on
    /// port `watched` of this machine, under the name `private`.
    ///
    /// # Panics
    /// The settings cannot be written.
    #[must_use]
    pub fn start_tls_sentinel(certificate: &Path, authority: &Path, watched: u16) -> Option<Self> {
        let port = free_port();
        let folder = own_folder();
        let file = folder.path().join("sentinel.conf");
        std::fs::write(&file, format!("sentinel monitor private 127.0.0.1 {watched} 1\n")).unwrap();
        let mut all = tls_arguments(port, certificate);
        all.extend(["--tls-replication", "yes", "--tls-ca-cert-file"].map(str::to_owned));
        all.push(authority.display().to_string());
        Self::start_in(folder, port, true, Some(file), all)
    }

    fn start_in(
        folder: tempfile_folder::TemporaryFolder,
        port: u16,
        tls: bool,
        sentinel: Option<PathBuf>,
        arguments: Vec<String>,
    ) -> Option<Self> {
        let mut server = Self {
            port,
            tls,
            sentinel,
            arguments,
            child: None,
            folder,
        };
        if server.up() {
            Some(server)
        } else {
            report_skipped("redis-server is not installed");
            None
        }
    }

    /// Returns the URL of the server.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Returns the port of the server.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts the server, empty and on the same port. Returns `false` if the machine has no `redis-server`.
    ///
    /// # Panics
    /// The server does not start.
    pub fn up(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        // A settings file comes first. Arguments that a Sentinel does not know are left out.
        match &self.sentinel {
            Some(file) => command.arg(file).arg("--sentinel"),
            None => command.args(["--save", "", "--appendonly", "no"]),
        };
        if !self.tls {
            command.args(["--port", &self.port.to_string()]);
        }
        let spawned = command
            .args(["--bind", "127.0.0.1", "--dir"])
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = spawned else { return false };
        self.child = Some(child);
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("redis-server did not come up on port {}", self.port)
    }

    /// Kills the server, like a crash.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Stops the process without ending it, or continues it: connections stay open, but nothing answers.
    ///
    /// # Panics
    /// The signal cannot be sent.
    pub fn freeze(&self, frozen: bool) {
        let pid = self.child.as_ref().map(Child::id).unwrap();
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let sent = Command::new("kill")
            .args([signal, &pid.to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}

fn own_folder() -> tempfile_folder::TemporaryFolder {
    tempfile_folder::TemporaryFolder::new(&own_prefix())
}

/// Returns the arguments of a server that speaks TLS only.
fn tls_arguments(port: u16, certificate: &Path) -> Vec<String> {
    let (port, certificate) = (port.to_string(), certificate.display().to_string());
    [
        ("--port", "0"),
        ("--tls-port", &port),
        ("--tls-cert-file", &certificate),
        ("--tls-key-file", &certificate),
        ("--tls-auth-clients", "no"),
    ]
    .into_iter()
    .flat_map(|(name, value)| [name.to_owned(), value.to_owned()])
    .collect()
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        self.down();
    }
}

/// Returns a port that is free now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A folder that is removed with its owner. The library itself does not depend on `tempfile`.
mod tempfile_folder {
    use std::path::{Path, PathBuf};

    pub(super) struct TemporaryFolder(PathBuf);

    impl TemporaryFolder {
        pub(super) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
        pub(super) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for TemporaryFolder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }
}
