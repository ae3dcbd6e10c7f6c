//! A private Redis.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use super::process::{Launch, Signal};
use super::server::{Home, Recipe, Server};
use super::{ServiceError, ServiceFolder, net, ports};

/// The data that Redis keeps over a kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Persistence {
    /// An append-only file that is synced every second, as operators usually run it. While a sync takes long, writes
    /// wait in memory, so a kill may lose the last two seconds of writes although they were answered.
    #[default]
    EverySecond,
    /// An append-only file that is synced before every answer. No answered write is lost.
    Always,
    /// No data is kept.
    None,
}

/// A private Redis node.
pub type Redis = Server<RedisRecipe>;

/// How a Redis node is started.
#[derive(Debug)]
pub struct RedisRecipe {
    port: u16,
    /// Port of the cluster bus, for a node of a cluster.
    bus: Option<u16>,
    /// Port of the primary that it replicates from its first start on.
    primary: Option<u16>,
    persistence: Persistence,
}

impl Redis {
    /// Starts a single node in `folder` and waits until it answers.
    ///
    /// # Errors
    /// Reports why it does not start, with the last lines of its log.
    pub async fn start(folder: &Arc<ServiceFolder>, persistence: Persistence) -> Result<Self, ServiceError> {
        Self::start_named(folder, "redis", persistence).await
    }

    pub(super) async fn start_named(
        folder: &Arc<ServiceFolder>,
        name: &str,
        persistence: Persistence,
    ) -> Result<Self, ServiceError> {
        Self::start_new(folder, name, || {
            Ok(RedisRecipe::new(ports::free_port()?, None, persistence))
        })
        .await
    }

    /// Starts a node that can join a cluster. It serves no keys yet.
    pub(super) async fn start_cluster_node(
        folder: &Arc<ServiceFolder>,
        name: &str,
        persistence: Persistence,
    ) -> Result<Self, ServiceError> {
        Self::start_new(folder, name, || {
            let bus = ports::free_port()?;
            Ok(RedisRecipe::new(ports::free_port()?, Some(bus), persistence))
        })
        .await
    }

    /// Starts a replica of the node on port `primary`.
    pub(super) async fn start_replica(
        folder: &Arc<ServiceFolder>,
        name: &str,
        persistence: Persistence,
        primary: u16,
    ) -> Result<Self, ServiceError> {
        Self::start_new(folder, name, || {
            let recipe = RedisRecipe::new(ports::free_port()?, None, persistence);
            Ok(RedisRecipe {
                primary: Some(primary),
                ..recipe
            })
        })
        .await
    }

    /// Returns `redis://127.0.0.1:port`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// Returns the port of the node.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.recipe().port
    }

    /// Returns the port of the cluster bus.
    pub(super) fn bus(&self) -> Option<u16> {
        self.recipe().bus
    }

    /// Sends one command whose arguments contain no blanks. Returns the first reply.
    pub(super) async fn command(&self, command: &str) -> Result<String, String> {
        command_at(self.port(), command).await
    }
}

impl RedisRecipe {
    pub(super) fn new(port: u16, bus: Option<u16>, persistence: Persistence) -> Self {
        Self {
            port,
            bus,
            primary: None,
            persistence,
        }
    }
}

impl Recipe for RedisRecipe {
    const NAME: &'static str = "Redis";
    const STOP: Signal = Signal::Terminate;
    const DISCARD: Signal = Signal::Kill;
    const START_LIMIT: Duration = Duration::from_mins(1);

    async fn prepare(&self, home: &Home, _folder: &Arc<ServiceFolder>) -> Result<(), ServiceError> {
        std::fs::create_dir_all(home.data()).map_err(ServiceError::system(home.data().display().to_string()))
    }

    #[expect(private_interfaces, reason = "recipes are used in this module only")]
    fn launches(&self, home: &Home, folder: &ServiceFolder) -> Result<Vec<Launch>, ServiceError> {
        let mut command: Vec<OsString> = vec![folder.binaries().redis_server()?.into()];
        let (append, sync) = match self.persistence {
            Persistence::EverySecond => ("yes", "everysec"),
            Persistence::Always => ("yes", "always"),
            Persistence::None => ("no", "no"),
        };
        let port = self.port.to_string();
        for (key, value) in [
            ("--bind", "127.0.0.1"),
            ("--port", port.as_str()),
            ("--daemonize", "no"),
            ("--appendonly", append),
            ("--appendfsync", sync),
            ("--save", ""),
            ("--maxmemory-policy", "noeviction"),
            // A replica is synchronised at once. By default Redis waits five seconds for more replicas to join.
            ("--repl-diskless-sync-delay", "0"),
        ] {
            command.extend([key.into(), value.into()]);
        }
        if let Some(bus) = self.bus {
            for (key, value) in [
                ("--cluster-enabled", "yes"),
                ("--cluster-config-file", "nodes.conf"),
                ("--cluster-port", &bus.to_string()),
                ("--cluster-node-timeout", "5000"),
            ] {
                command.extend([key.into(), value.into()]);
            }
        }
        if let Some(primary) = self.primary {
            command.extend([
                "--replicaof".into(),
                "127.0.0.1".into(),
                primary.to_string().into(),
            ]);
        }
        Ok(vec![Launch::new(command, home.data(), home.log(), Self::DISCARD)])
    }

    async fn ready(&self, _home: &Home, pid: u32) -> Result<(), String> {
        answers_as(self.port, pid).await
    }
}

/// Checks that process `pid` answers on the port.
pub(super) async fn answers_as(port: u16, pid: u32) -> Result<(), String> {
    // Query the process id: another Redis may listen on the port while ours is about to fail.
    let information = command_at(port, "INFO server").await?;
    if !information
        .lines()
        .any(|line| line == format!("process_id:{pid}"))
    {
        return Err(information);
    }
    match command_at(port, "PING").await?.as_str() {
        "PONG" => Ok(()),
        other => Err(other.to_owned()),
    }
}

pub(super) async fn command_at(port: u16, command: &str) -> Result<String, String> {
    let answer = net::ask(port, format!("{command}\r\n").as_bytes(), |answer| {
        reply(answer).is_some()
    })
    .await?;
    reply(&answer).unwrap_or_else(|| Err(format!("port {port}: the answer to {command} is incomplete")))
}

/// Parses the first reply: a simple string, an error, a number or one bulk string. Returns `None` while it is
/// incomplete.
fn reply(answer: &[u8]) -> Option<Result<String, String>> {
    let end = answer.windows(2).position(|pair| pair == b"\r\n")?;
    let line = String::from_utf8_lossy(answer.get(1..end)?).into_owned();
    match answer.first()? {
        b'-' => Some(Err(line)),
        b'$' => {
            let length: usize = line.parse().ok()?;
            let bulk = answer.get(end + 2..end + 2 + length)?;
            Some(Ok(String::from_utf8_lossy(bulk).into_owned()))
        }
        _ => Some(Ok(line)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_when_they_are_whole() {
        assert_eq!(reply(b"+PONG\r\n"), Some(Ok("PONG".into())));
        assert_eq!(reply(b"-LOADING wait\r\n"), Some(Err("LOADING wait".into())));
        assert_eq!(reply(b"$5\r\nab\r\nc\r\n"), Some(Ok("ab\r\nc".into())));
        assert_eq!(reply(b"$5\r\nab"), None);
        assert_eq!(reply(b"+PON"), None);
        assert_eq!(reply(b""), None);
    }
}
