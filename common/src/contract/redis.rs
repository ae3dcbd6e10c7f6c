//! Redis for tests: the servers the environment names, and private ones that may be stopped and broken.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::redis::{RedisOptions, RedisStore, Repeat};

/// One server, shared by all tests.
pub const SINGLE: &str = "TASKSYNC_TEST_REDIS_URL";
/// A cluster, shared by all tests.
pub const CLUSTER: &str = "TASKSYNC_TEST_REDIS_CLUSTER_URL";
/// A primary with a replica, by its Sentinels, shared by all tests.
pub const SENTINEL: &str = "TASKSYNC_TEST_REDIS_SENTINEL_URL";

/// Returns whether a missing service is a failure and not a reason to skip.
fn required() -> bool {
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
fn skipped(what: &str) {
    assert!(!required(), "{what}, and TASKSYNC_TEST_SERVICES=required");
    eprintln!("skipped: {what}; run make test");
}

/// Returns the URL in a variable; without it the test is skipped (`None`), or fails when services are required.
#[must_use]
pub fn url_in(name: &str) -> Option<String> {
    let url = variable(name);
    if url.is_none() {
        skipped(&format!("{name} is not set"));
    }
    url
}

/// Returns a prefix no other test has.
#[must_use]
pub fn own_prefix() -> String {
    format!("t{}", uuid::Uuid::new_v4().simple())
}

/// Removes every key that begins with the prefix, on all nodes.
///
/// # Panics
/// When Redis does not answer.
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

/// A server of the test's own, without persistence, ended with it.
pub struct PrivateRedis {
    port: u16,
    tls: bool,
    /// Its settings file, which a Sentinel must have.
    sentinel: Option<PathBuf>,
    arguments: Vec<String>,
    child: Option<Child>,
    folder: tempfile_folder::Folder,
}

impl PrivateRedis {
    /// Starts `redis-server` with these further arguments; `None` (skipped) when the machine has none.
    #[must_use]
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
        Self::start_in(own_folder(), free_port(), false, None, arguments)
    }

    /// As [`Self::start`], but it speaks TLS only, with the certificate and key of this PEM file, and asks for none of its
    /// clients.
    #[must_use]
    pub fn start_tls(certificate: &Path, arguments: &[&str]) -> Option<Self> {
        let port = free_port();
        let mut all = tls_arguments(port, certificate);
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        Self::start_in(own_folder(), port, true, None, all)
    }

    /// Starts a Sentinel that speaks TLS only, also to the server on port `watched` of this machine, which it watches alone
    /// under the name `private`.
    ///
    /// # Panics
    /// When its settings cannot be written.
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
        folder: tempfile_folder::Folder,
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
            skipped("redis-server is not installed");
            None
        }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls { "rediss" } else { "redis" };
        format!("{scheme}://127.0.0.1:{}", self.port)
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Starts it (again, empty, on the same port); `false` when there is no such program.
    ///
    /// # Panics
    /// When it does not come up.
    pub fn up(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        // A settings file goes before everything else; what a Sentinel does not know is left out.
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

    /// Ends it at once, as a crash does.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Stops its process without ending it, or lets it go on: connections stay open and nothing answers.
    ///
    /// # Panics
    /// When the signal cannot be sent.
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

fn own_folder() -> tempfile_folder::Folder {
    tempfile_folder::Folder::new(&own_prefix())
}

/// Switches of a server that speaks TLS only.
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

/// Returns a port nobody listens on now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.local_addr().unwrap().port()
}

/// A folder that goes with its owner; `tempfile` is no dependency of the library itself.
mod tempfile_folder {
    use std::path::{Path, PathBuf};

    pub(super) struct Folder(PathBuf);

    impl Folder {
        pub(super) fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
        pub(super) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }
}
