//! A RabbitMQ node of one test, which may kill, pause and restart it.

use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

/// Longest wait for the boot of a node, which takes 5 to 7 seconds on an idle machine.
const BOOT: Duration = Duration::from_mins(2);

pub(crate) struct Broker {
    server: PathBuf,
    folder: TempDir,
    ports: [u16; 3],
    child: Option<Child>,
}

fn installed() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/rabbitmq/lib").ok()?;
    versions
        .filter_map(Result::ok)
        .map(|entry| entry.path().join("sbin/rabbitmq-server"))
        .find(|path| path.exists())
}

fn free_ports() -> [u16; 3] {
    // All are held at once, so that they differ.
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

impl Broker {
    /// Returns a running node. If RabbitMQ is not installed, it prints so and returns `None`.
    pub(crate) async fn start() -> Option<Self> {
        let Some(server) = installed() else {
            assert_ne!(
                std::env::var_os("TASKSYNC_TEST_SERVICES").and_then(|value| value.into_string().ok()),
                Some("required".to_owned()),
                "rabbitmq-server is required"
            );
            println!("skipped: rabbitmq-server is not installed; run make test");
            return None;
        };
        let mut broker = Self {
            server,
            folder: tempfile::tempdir().unwrap(),
            ports: free_ports(),
            child: None,
        };
        broker.boot().await;
        Some(broker)
    }

    pub(crate) fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}", self.ports[0])
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts the node with its earlier data, and waits until it accepts connections.
    pub(crate) async fn boot(&mut self) {
        let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();
        write(&self.path("environment"), "");
        write(&self.path("plugins"), "[].");
        write(&self.path("rabbitmq.conf"), "");
        let home = self.path("home");
        std::fs::create_dir_all(&home).unwrap();
        let log = std::fs::File::create(self.path("output")).unwrap();
        let child = Command::new(&self.server)
            .env("HOME", &home)
            .env("RABBITMQ_NODENAME", format!("t{}@localhost", self.ports[0]))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", self.ports[0].to_string())
            .env("RABBITMQ_DIST_PORT", self.ports[1].to_string())
            .env("ERL_EPMD_PORT", self.ports[2].to_string())
            .env("ERL_EPMD_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_MNESIA_BASE", self.path("data"))
            .env("RABBITMQ_LOG_BASE", self.path("log"))
            .env("RABBITMQ_CONFIG_FILE", self.path("rabbitmq.conf"))
            .env("RABBITMQ_CONF_ENV_FILE", self.path("environment"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", self.path("plugins"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            // A process group of its own, so that signals reach the node and its helpers together.
            .process_group(0)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let address = format!("127.0.0.1:{}", self.ports[0]);
        let up = async {
            while tokio::net::TcpStream::connect(&address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        assert!(
            tokio::time::timeout(BOOT, up).await.is_ok(),
            "the broker did not start: {}",
            std::fs::read_to_string(self.path("output")).unwrap_or_default()
        );
    }

    fn signal(&self, signal: &str) {
        let group = self.child.as_ref().unwrap().id();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), "--", &format!("-{group}")])
            .status()
            .unwrap();
        assert!(sent.success() || signal == "KILL");
    }

    /// Kills the node, like a power failure.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        if let Some(mut child) = self.child.take() {
            child.wait().unwrap();
        }
    }

    /// Pauses the node: it accepts connections and says nothing.
    pub(crate) fn pause(&self) {
        self.signal("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("CONT");
    }

    /// Runs the broker's own command-line tool against the node.
    pub(crate) fn control(&self, arguments: &[&str]) {
        let tool = self.server.with_file_name("rabbitmqctl");
        let output = Command::new(tool)
            .env("HOME", self.path("home"))
            .env("RABBITMQ_NODENAME", format!("t{}@localhost", self.ports[0]))
            .env("ERL_EPMD_PORT", self.ports[2].to_string())
            .env("RABBITMQ_CONF_ENV_FILE", self.path("environment"))
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// Ends the port mapper, which outlives its node.
    fn end_port_mapper(&self) {
        let _ = Command::new("epmd")
            .env("ERL_EPMD_PORT", self.ports[2].to_string())
            .arg("-kill")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("kill")
                .args(["-KILL", "--", &format!("-{}", child.id())])
                .status();
            let _ = child.wait();
        }
        self.end_port_mapper();
    }
}
