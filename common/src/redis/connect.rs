//! Opens connections, and reopens them.

use std::time::Duration;

use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo as _,
    RedisConnectionInfo, RedisError, ServerErrorKind, TlsCertificates, TlsMode, Value,
};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::address::{RedisAddress, RedisLogin, RedisTopology};
use super::{RedisOptions, Repeat, trust};
use crate::clock::monotonic;
use crate::error::{Code, ErrorClass, Failure};

/// For this time after a failed attempt to connect, callers get the same error at once instead of trying in
/// turn.
const BREATHER: Duration = Duration::from_millis(250);

/// Number of calls that a connection queues before callers wait.
const CALLS_QUEUED: usize = 1_000;

/// How often a cluster's client follows a moved slot or tries another node, and its shortest and longest wait
/// in between, in milliseconds. The whole call has its own limit.
const CLUSTER_RETRIES: u32 = 5;
const CLUSTER_WAIT: (u64, u64) = (20, 500);

/// Opens connections of one kind.
enum RedisClient {
    Single(Client),
    /// Mutable, because it learns which Sentinels answer.
    Sentinel(Mutex<SentinelClient>),
    Cluster(ClusterClient),
}

#[derive(Clone)]
enum RedisConnection {
    One(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// The present connection, or the reason why there is none.
enum RedisSlot {
    /// No connection was needed yet, or the last one broke.
    Empty,
    Open {
        connection: RedisConnection,
        number: u64,
    },
    Failed {
        error: RedisError,
        until: Instant,
    },
}

/// One shared connection, opened when it is needed.
pub(super) struct RedisConnector {
    /// The servers as text.
    pub(super) servers: String,
    /// Whether the connections use TLS.
    pub(super) tls: bool,
    client: RedisClient,
    options: RedisOptions,
    slot: Mutex<(RedisSlot, u64)>,
}

impl RedisConnector {
    pub(super) fn new(setting: &str, address: &RedisAddress, options: RedisOptions) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::new(ErrorClass::Refused, Code::SettingsWrong, why);
        let certificates = match &options.authorities {
            Some(_) if !address.tls => {
                return Err(wrong(format!(
                    "{} is set, but {setting} does not use TLS: write rediss in place of redis there, or remove {}",
                    trust::SETTING,
                    trust::SETTING
                )));
            }
            Some(path) => Some(trust::certificates(path)?),
            None => None,
        };
        let maker = build_client(address, &options, certificates)
            .map_err(|error| wrong(format!("{setting}: {}: {error}", address.describe())))?;
        Ok(Self {
            servers: address.describe(),
            tls: address.tls,
            client: maker,
            options,
            slot: Mutex::new((RedisSlot::Empty, 0)),
        })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.client, RedisClient::Cluster(_))
    }

    /// Sends one command and returns its answer. An error inside the answer becomes an error.
    pub(super) async fn send(&self, command: &Cmd, repeat: Repeat) -> Result<Value, RedisError> {
        let limit = self.options.response_timeout;
        let call = async {
            let first = self.send_once(command).await;
            match (&first, repeat) {
                (Err(error), Repeat::Yes) if is_worth_another_try(error) => self.send_once(command).await,
                _ => first,
            }
        };
        if let Ok(answer) = timeout(limit, call).await {
            answer
        } else {
            // The server may be gone without notice; the next call opens a new connection.
            self.drop_connection(None);
            Err(no_answer(limit))
        }
    }

    async fn send_once(&self, command: &Cmd) -> Result<Value, RedisError> {
        let (connection, number) = self.connection().await?;
        let answer = match connection {
            RedisConnection::One(mut connection) => connection.req_packed_command(command).await,
            RedisConnection::Cluster(mut connection) => connection.req_packed_command(command).await,
        };
        let answer = answer.and_then(redis::Value::extract_error);
        if let Err(error) = &answer
            && ends_connection(error)
        {
            self.drop_connection(Some(number));
        }
        answer
    }

    /// Returns the present connection or opens one. Callers wait while another caller opens it.
    async fn connection(&self) -> Result<(RedisConnection, u64), RedisError> {
        let mut slot = self.slot.lock().await;
        match &slot.0 {
            RedisSlot::Open { connection, number } => return Ok((connection.clone(), *number)),
            RedisSlot::Failed { error, until } if monotonic() < *until => return Err(error.clone()),
            RedisSlot::Failed { .. } | RedisSlot::Empty => {}
        }
        // If this caller is cancelled here, the slot stays as it is and the next caller tries.
        match self.open_connection().await {
            Ok(connection) => {
                let number = slot.1 + 1;
                *slot = (
                    RedisSlot::Open {
                        connection: connection.clone(),
                        number,
                    },
                    number,
                );
                Ok((connection, number))
            }
            Err(error) => {
                slot.0 = RedisSlot::Failed {
                    error: error.clone(),
                    until: monotonic() + BREATHER,
                };
                Err(error)
            }
        }
    }

    async fn open_connection(&self) -> Result<RedisConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.options.connect_timeout))
            .set_response_timeout(Some(self.options.response_timeout))
            .set_pipeline_buffer_size(CALLS_QUEUED);
        let limit = self.options.connect_timeout;
        let making = async {
            match &self.client {
                RedisClient::Single(client) => client
                    .get_multiplexed_async_connection_with_config(&config)
                    .await
                    .map(RedisConnection::One),
                RedisClient::Sentinel(client) => client
                    .lock()
                    .await
                    .get_async_connection_with_config(&config)
                    .await
                    .map(RedisConnection::One),
                RedisClient::Cluster(client) => {
                    client.get_async_connection().await.map(RedisConnection::Cluster)
                }
            }
        };
        timeout(limit, making)
            .await
            .unwrap_or_else(|_| Err(no_answer(limit)))
    }

    /// Drops the connection, unless a newer one than `number` was opened meanwhile.
    fn drop_connection(&self, number: Option<u64>) {
        // A cluster's connection repairs itself node by node, and its other nodes still answer.
        if self.is_cluster() {
            return;
        }
        // If the lock is taken, its holder is already opening a new connection.
        if let Ok(mut slot) = self.slot.try_lock()
            && let RedisSlot::Open { number: present, .. } = &slot.0
            && number.is_none_or(|number| number == *present)
        {
            slot.0 = RedisSlot::Empty;
        }
    }
}

fn no_answer(limit: Duration) -> RedisError {
    std::io::Error::new(
        std::io::ErrorKind::TimedOut,
        format!("no answer within {} ms", limit.as_millis()),
    )
    .into()
}

/// Returns whether the next call needs a new connection.
fn ends_connection(error: &RedisError) -> bool {
    // A master that became a replica keeps its connections, but the Sentinels know the new master.
    error.is_io_error()
        || error.is_unrecoverable_error()
        || error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
}

/// Returns whether the same call is likely to work on a new connection.
fn is_worth_another_try(error: &RedisError) -> bool {
    ends_connection(error) && !error.is_timeout() && !error.is_connection_refusal()
}

fn build_client(
    address: &RedisAddress,
    options: &RedisOptions,
    certificates: Option<TlsCertificates>,
) -> Result<RedisClient, RedisError> {
    let tcp = TcpSettings::default().set_nodelay(true);
    let addresses = address
        .hosts
        .iter()
        .map(|(host, port)| addr(host, *port, address.tls));
    Ok(match &address.kind {
        RedisTopology::Single => {
            let Some(addr) = addresses.into_iter().next() else {
                return Err((ErrorKind::InvalidClientConfig, "no host").into());
            };
            let info = addr
                .into_connection_info()?
                .set_tcp_settings(tcp)
                .set_redis_settings(login_info(&address.login).set_db(address.database));
            RedisClient::Single(match certificates {
                Some(certificates) => Client::build_with_tls(info, certificates)?,
                None => Client::open(info)?,
            })
        }
        RedisTopology::Cluster => {
            let nodes = addresses
                .map(|addr| {
                    Ok(addr
                        .into_connection_info()?
                        .set_tcp_settings(tcp.clone())
                        .set_redis_settings(login_info(&address.login)))
                })
                .collect::<Result<Vec<_>, RedisError>>()?;
            let mut builder = ClusterClient::builder(nodes)
                .tcp_settings(tcp)
                .connection_timeout(options.connect_timeout)
                .response_timeout(options.response_timeout)
                .overall_response_timeout(Some(options.response_timeout))
                .retries(CLUSTER_RETRIES)
                .min_retry_wait(CLUSTER_WAIT.0)
                .max_retry_wait(CLUSTER_WAIT.1);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            RedisClient::Cluster(builder.build()?)
        }
        RedisTopology::Sentinel { master } => {
            let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?
                .set_client_to_redis_tcp_settings(tcp.clone())
                .set_client_to_sentinel_tcp_settings(tcp)
                .set_client_to_redis_db(address.database);
            if address.tls {
                builder = builder
                    .set_client_to_redis_tls_mode(TlsMode::Secure)
                    .set_client_to_sentinel_tls_mode(TlsMode::Secure);
            }
            if let Some(certificates) = certificates {
                builder = builder
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates);
            }
            if let Some(user) = &address.login.user {
                builder = builder.set_client_to_redis_username(user);
            }
            if let Some(password) = address.login.password() {
                builder = builder.set_client_to_redis_password(password);
            }
            if let Some(user) = &address.sentinel_login.user {
                builder = builder.set_client_to_sentinel_username(user);
            }
            if let Some(password) = address.sentinel_login.password() {
                builder = builder.set_client_to_sentinel_password(password);
            }
            RedisClient::Sentinel(Mutex::new(builder.build()?))
        }
    })
}

fn addr(host: &str, port: u16, tls: bool) -> ConnectionAddr {
    if tls {
        ConnectionAddr::TcpTls {
            host: host.to_owned(),
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host.to_owned(), port)
    }
}

fn login_info(login: &RedisLogin) -> RedisConnectionInfo {
    let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(user) = &login.user {
        info = info.set_username(user);
    }
    if let Some(password) = login.password() {
        info = info.set_password(password);
    }
    info
}
