//! PostgreSQL for tests: a database at the server named by the environment, or a server of one test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use crate::random::unique_id;
use crate::settings::RegistrySettings;
use crate::tasks::{AbortOnDropHandle, spawn};

/// Variable with a superuser's URL of the server.
const URL: &str = "TASKSYNC_TEST_POSTGRES_URL";

#[expect(
    clippy::disallowed_methods,
    reason = "the tests' services are named by the environment"
)]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints that a test is skipped, or fails if services are required.
fn skip(what: &str) {
    assert_ne!(
        variable("TASKSYNC_TEST_SERVICES").as_deref(),
        Some("required"),
        "{what} is needed"
    );
    println!("skipped: {what} is needed; run make test");
}

/// A database that is dropped with this value.
pub(super) struct TestDatabase {
    server: Url,
    name: String,
}

impl TestDatabase {
    /// Creates an empty database; returns `None` if there is no server for tests.
    pub(super) async fn new() -> Option<Self> {
        let Some(server) = variable(URL) else {
            skip(URL);
            return None;
        };
        let database = Self {
            server: server.parse().unwrap(),
            name: format!("tasksync_test_{}", unique_id().simple()),
        };
        database
            .on_server(&format!("CREATE DATABASE {}", database.name))
            .await;
        Some(database)
    }

    /// Returns the URL of the database.
    pub(super) fn url(&self) -> Url {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url
    }

    pub(super) fn settings(&self) -> RegistrySettings {
        settings(&self.url())
    }

    /// Runs statements in the database.
    pub(super) async fn run(&self, statements: &str) {
        run(&self.url(), statements).await;
    }

    /// Runs a statement outside the database.
    pub(super) async fn on_server(&self, statement: &str) {
        run(&self.server, statement).await;
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

pub(super) fn settings(url: &Url) -> RegistrySettings {
    RegistrySettings {
        url: url.to_string(),
        connections: 5,
        ..RegistrySettings::default()
    }
}

async fn run(url: &Url, statements: &str) {
    let mut connection = PgConnection::connect(url.as_str()).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned()))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let (server, name) = (self.server.clone(), self.name.clone());
        // Run in another thread, because the test's runtime may be the one that drops it.
        let dropping = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(run(
                    &server,
                    &format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"),
                ));
        });
        assert!(
            dropping.join().is_ok() || std::thread::panicking(),
            "the database {} stays",
            self.name
        );
    }
}

/// A server of one test that can be stopped and restarted. It is stopped and removed with this value.
pub(super) struct OwnServer {
    programs: PathBuf,
    folder: tempfile::TempDir,
    port: u16,
    tls: bool,
}

impl OwnServer {
    /// Creates and starts a server; returns `None` if PostgreSQL is not installed.
    pub(super) fn start_new() -> Option<Self> {
        Self::make(None)
    }

    /// Does the same as [`Self::start_new`], with this certificate and key (one PEM text) for clients that
    /// use TLS.
    pub(super) fn start_tls(certificate: &str) -> Option<Self> {
        Self::make(Some(certificate))
    }

    fn make(certificate: Option<&str>) -> Option<Self> {
        let Some(programs) = programs() else {
            skip("PostgreSQL installed on this machine");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        let server = Self {
            programs,
            folder,
            port,
            tls: certificate.is_some(),
        };
        if let Some(certificate) = certificate {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::write(server.certificate(), certificate).unwrap();
            // PostgreSQL refuses a key that others may read.
            std::fs::set_permissions(server.certificate(), std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let password = server.folder.path().join("password");
        std::fs::write(&password, "geheim\n").unwrap();
        // PostgreSQL refuses to run as root, so the folder belongs to its user.
        if is_root() {
            let given = Command::new("chown")
                .args(["-R", "postgres:"])
                .arg(server.folder.path())
                .status()
                .unwrap();
            assert!(given.success());
        }
        let data = server.data();
        server.program(
            "initdb",
            &[
                "-D",
                &data,
                "-U",
                "tasksync",
                "-N",
                "-A",
                "scram-sha-256",
                "--pwfile",
                password.to_str().unwrap(),
            ],
        );
        server.start();
        Some(server)
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("server.pem")
    }

    fn program(&self, name: &str, arguments: &[&str]) {
        let program = self.programs.join(name);
        let mut command = if is_root() {
            let mut command = Command::new("setpriv");
            command
                .args(["--reuid=postgres", "--regid=postgres", "--init-groups"])
                .arg(program);
            command
        } else {
            Command::new(program)
        };
        let done = command
            .args(arguments)
            .current_dir("/")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(done.success(), "{name} {arguments:?}");
    }

    pub(super) fn start(&self) {
        let folder = self.folder.path().display();
        let tls = if self.tls {
            let file = self.certificate();
            let file = file.display();
            format!(" -c ssl=on -c ssl_cert_file={file} -c ssl_key_file={file}")
        } else {
            String::new()
        };
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off{tls}",
            self.port
        );
        let log = format!("{folder}/log");
        self.program(
            "pg_ctl",
            &["-D", &self.data(), "-o", &options, "-l", &log, "-w", "start"],
        );
    }

    /// Stops the server at once, like a crash.
    pub(super) fn crash(&self) {
        self.program("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-w", "stop"]);
    }

    pub(super) fn url(&self) -> Url {
        format!("postgres://tasksync:geheim@127.0.0.1:{}/postgres", self.port)
            .parse()
            .unwrap()
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        if Path::new(&self.data()).join("postmaster.pid").exists() {
            self.crash();
        }
    }
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Returns the folder of initdb and `pg_ctl`: Debian's newest, or the one on the path.
fn programs() -> Option<PathBuf> {
    let installed = std::fs::read_dir("/usr/lib/postgresql")
        .ok()
        .into_iter()
        .flatten();
    let mut folders: Vec<PathBuf> = installed
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .collect();
    folders.sort();
    folders.reverse();
    let path = variable("PATH").unwrap_or_default();
    folders.extend(std::env::split_paths(&path));
    folders.into_iter().find(|folder| folder.join("initdb").exists())
}

/// Waits until `check` holds.
pub(super) async fn until<F: Future<Output = bool>>(mut check: impl FnMut() -> F) {
    for _ in 0..600 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it never came");
}

/// Forwards connections to a server and counts the packets that clients send. A client that waits for each
/// answer sends one packet per call.
pub(super) struct Relay {
    pub(super) port: u16,
    sent: Arc<AtomicUsize>,
    serving: AbortOnDropHandle<()>,
}

impl Relay {
    pub(super) async fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let sent = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&sent);
        let serving = spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (server, counted) = (server.clone(), Arc::clone(&counted));
                open.spawn(async move {
                    let server = TcpStream::connect(server).await.unwrap();
                    server.set_nodelay(true).unwrap();
                    client.set_nodelay(true).unwrap();
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = server.into_split();
                    let there = async {
                        let mut buffer = vec![0; 65_536];
                        while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
                            counted.fetch_add(1, Ordering::SeqCst);
                            to_server.write_all(&buffer[..read]).await.unwrap();
                        }
                    };
                    tokio::select! {
                        () = there => {}
                        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                    }
                });
            }
        });
        Self { port, sent, serving }
    }

    /// Returns the number of packets that clients have sent.
    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
