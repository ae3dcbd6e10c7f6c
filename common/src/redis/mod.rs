//! Connections to Redis, shared by everything that stores data there.
//!
//! One process holds one connection per server and sends all calls over it concurrently. Calls that are made
//! at the same time are written together, so a loop that needs many answers asks for all of them at once.
//! Every change is one Lua script on keys of one slot. The connection is opened when it is needed, and
//! reopened after it broke. No call takes longer than [`RedisOptions::response_timeout`], including
//! connecting. Only calls that may be repeated are retried.

mod address;
mod connect;
mod explain;
#[cfg(test)]
mod tests;
mod trust;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use address::is_redis_url;
pub(crate) use address::redis_url_refusal;
use redis::{Cmd, FromRedisValue, Script};

use self::address::RedisAddress;
use self::connect::RedisConnector;
use crate::error::{Code, ErrorClass, Failure};
use crate::settings::ScheduleSettings;

/// Limits of a connection, and the authorities that it trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisOptions {
    /// Timeout for opening a connection.
    pub connect_timeout: Duration,
    /// Timeout of one call, including everything.
    pub response_timeout: Duration,
    /// Certificate authorities that a TLS connection trusts in addition to the machine's; a PEM file.
    pub authorities: Option<PathBuf>,
}

impl RedisOptions {
    /// Returns the options of these settings.
    #[must_use]
    pub fn of(settings: &ScheduleSettings) -> Self {
        Self {
            authorities: settings.authorities.clone(),
            ..Self::default()
        }
    }
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(3),
            authorities: None,
        }
    }
}

/// Whether a call may be repeated if its connection broke and it is unknown whether the server executed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It reads, or executing it twice has the same effect.
    Yes,
    /// Its second answer would differ.
    No,
}

/// A shared connection to one Redis server, master or cluster. Clones share it.
#[derive(Clone)]
pub struct RedisStore {
    connector: Arc<RedisConnector>,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RedisStore({})", self.connector.servers)
    }
}

impl RedisStore {
    /// Reads the URL and the authorities, and connects at the first use. `setting` names the setting of the
    /// URL in errors.
    ///
    /// # Errors
    /// The URL or the authorities cannot be used; the error never contains the password.
    pub fn new(setting: &str, url: &str, options: RedisOptions) -> Result<Self, Failure> {
        let address = RedisAddress::parse(setting, url)?;
        Ok(Self {
            connector: Arc::new(RedisConnector::new(setting, &address, options)?),
        })
    }

    /// Does the same as [`Self::new`] and checks that the server answers.
    ///
    /// # Errors
    /// The URL or the authorities cannot be used, or the server does not answer.
    pub async fn open(setting: &str, url: &str, options: RedisOptions) -> Result<Self, Failure> {
        let store = Self::new(setting, url, options)?;
        store.ping().await?;
        Ok(store)
    }

    /// Returns the servers as text, without user and password.
    #[must_use]
    pub fn servers(&self) -> &str {
        &self.connector.servers
    }

    /// Returns whether keys of different slots may be on different servers.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.connector.is_cluster()
    }

    /// Checks that the server answers.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn ping(&self) -> Result<(), Failure> {
        let answer: Result<String, _> = self
            .command("checking that it answers", redis::cmd("PING"), Repeat::Yes)
            .await;
        answer.map(drop)
    }

    /// Runs a command. On a cluster it goes to the server of its first key.
    ///
    /// # Errors
    /// The server does not answer or refuses; `doing` names the attempt.
    pub async fn command<T: FromRedisValue>(
        &self,
        doing: &str,
        command: Cmd,
        repeat: Repeat,
    ) -> Result<T, Failure> {
        let value = self.connector.send(&command, repeat).await;
        value
            .and_then(|value| redis::from_redis_value(value).map_err(Into::into))
            .map_err(|error| self.failure(doing, &error))
    }

    /// Runs a Lua script. `keys` holds at least one key, and all keys are in one slot: on a cluster the
    /// script runs on the server of the first key. A server that does not know the script receives its text.
    ///
    /// # Errors
    /// The server does not answer or refuses; `doing` names the attempt.
    pub async fn script<T: FromRedisValue>(
        &self,
        doing: &str,
        script: &'static LazyScript,
        keys: &[String],
        args: &[Vec<u8>],
        repeat: Repeat,
    ) -> Result<T, Failure> {
        let (text, script) = (script.text, script.script());
        let call = |name: &str, body: &[u8]| {
            let mut command = redis::cmd(name);
            command.arg(body).arg(keys.len());
            for key in keys {
                command.arg(key.as_str());
            }
            for arg in args {
                command.arg(arg.as_slice());
            }
            command
        };
        let by_hash = call("EVALSHA", script.get_hash().as_bytes());
        let mut answer = self.connector.send(&by_hash, repeat).await;
        if let Err(error) = &answer
            && error.kind() == redis::ErrorKind::Server(redis::ServerErrorKind::NoScript)
        {
            answer = self.connector.send(&call("EVAL", text.as_bytes()), repeat).await;
        }
        answer
            .and_then(|value| redis::from_redis_value(value).map_err(Into::into))
            .map_err(|error| self.failure(doing, &error))
    }

    /// Returns the names of all keys that match a pattern, on all nodes. It reads all keys, so it is for
    /// tests and repairs only.
    ///
    /// # Errors
    /// A server does not answer.
    #[cfg(any(test, feature = "contract-tests"))]
    pub async fn keys_of_all_nodes(&self, pattern: &str) -> Result<Vec<Vec<u8>>, Failure> {
        let mut command = redis::cmd("KEYS");
        command.arg(pattern);
        // The cluster's client asks every master and joins the answers.
        self.command("listing keys", command, Repeat::Yes).await
    }

    fn failure(&self, doing: &str, error: &redis::RedisError) -> Failure {
        // Always transient: even a wrong password heals without a restart when the operator corrects the
        // server.
        Failure::new(
            ErrorClass::Transient,
            Code::RedisUnavailable,
            format!(
                "{doing}, {}: {}",
                self.connector.servers,
                explain::explain(error, self.connector.tls)
            ),
        )
    }
}

/// A Lua script as a constant. Its digest is computed at the first use.
#[derive(Debug)]
pub struct LazyScript {
    text: &'static str,
    script: std::sync::OnceLock<Script>,
}

impl LazyScript {
    /// Returns a script with this text.
    #[must_use]
    pub const fn new(text: &'static str) -> Self {
        Self {
            text,
            script: std::sync::OnceLock::new(),
        }
    }

    fn script(&self) -> &Script {
        self.script.get_or_init(|| Script::new(self.text))
    }
}
