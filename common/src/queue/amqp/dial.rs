//! Opening one connection to one host, so that it can always be cut.
//!
//! The client runs each connection on a thread of its own, which ends only when the socket does. A second handle on the
//! socket is kept here: whoever gives up waiting (a broker that accepts and then says nothing) shuts it down, so an
//! abandoned attempt costs no thread.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use rustls_connector::RustlsConnector;
use tokio::time::timeout;

use super::address::{Address, Host};
use super::errors;
use crate::error::Failure;

/// The end in order may take this long before the socket is shut down.
const FAREWELL: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
enum State {
    #[default]
    Waiting,
    Open(TcpStream),
    Cut,
}

/// A second handle on a connection's socket.
#[derive(Debug, Clone, Default)]
pub(super) struct Socket(Arc<Mutex<State>>);

impl Socket {
    /// Keeps the handle; refused when the connection was given up meanwhile.
    fn keep(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, State::Cut) {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        *state = State::Open(stream);
        Ok(())
    }

    /// Ends the connection, whatever state it is in.
    pub(super) fn cut(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Open(stream) = std::mem::replace(&mut *state, State::Cut) {
            // Already ended: nothing is left to be done.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends the connection after the time an end in order may take.
    pub(super) fn cut_later(&self) {
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let socket = self.clone();
                runtime.spawn(async move {
                    tokio::time::sleep(FAREWELL).await;
                    socket.cut();
                });
            }
            Err(_) => self.cut(),
        }
    }
}

/// Cuts the attempt when it is abandoned.
struct Attempt(Option<Socket>);

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            socket.cut();
        }
    }
}

/// What every connection needs.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) address: Address,
    /// With `amqps://`.
    pub(super) tls: Option<RustlsConnector>,
    pub(super) connect_timeout: Duration,
    pub(super) heartbeat: Duration,
}

impl Dialer {
    /// Opens a connection to one host; `name` is what the broker's operator sees.
    pub(super) async fn dial(&self, host: &Host, name: &str) -> Result<(Connection, Socket), Failure> {
        let doing = format!(
            "connecting to {} at {host}{}",
            if self.address.tls { "amqps" } else { "amqp" },
            match self.address.vhost.as_str() {
                "/" => String::new(),
                vhost => format!(", vhost {vhost}"),
            }
        );
        let socket = Socket::default();
        let mut attempt = Attempt(Some(socket.clone()));
        match timeout(self.connect_timeout, self.open(host, name, socket.clone())).await {
            Ok(Ok(connection)) => {
                attempt.0 = None;
                Ok((connection, socket))
            }
            Ok(Err(error)) => Err(errors::failure(&error, &doing)),
            Err(_) => Err(errors::timed_out(&doing, self.connect_timeout)),
        }
    }

    async fn open(&self, host: &Host, name: &str, socket: Socket) -> lapin::Result<Connection> {
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host.name.as_str(), host.port))
            .await?
            .collect();
        let tls = self.tls.clone();
        let server = host.name.clone();
        let properties = ConnectionProperties::default()
            .with_connection_name(name.into())
            .with_client_property("product".into(), "tasksync".into())
            .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into());
        Connection::connector(
            self.uri(host),
            lapin::runtime::default_runtime()?,
            async move |_uri, runtime| {
                let stream = AsyncTcpStream::connect(&runtime, addresses.clone()).await?;
                if let AsyncTcpStream::Plain(stream) = &stream {
                    let second = stream.get_ref().as_fd().try_clone_to_owned()?;
                    socket.keep(second.into())?;
                }
                Ok(match &tls {
                    None => stream,
                    Some(tls) => stream.into_rustls(tls, &server).await?,
                })
            },
            properties,
        )
        .await
    }

    fn uri(&self, host: &Host) -> AMQPUri {
        AMQPUri {
            scheme: if self.address.tls {
                AMQPScheme::AMQPS
            } else {
                AMQPScheme::AMQP
            },
            authority: AMQPAuthority {
                userinfo: AMQPUserInfo {
                    username: self.address.user.clone(),
                    password: self.address.password().to_owned(),
                },
                host: host.name.clone(),
                port: host.port,
            },
            vhost: self.address.vhost.clone(),
            query: AMQPQueryString {
                heartbeat: Some(u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX)),
                ..AMQPQueryString::default()
            },
        }
    }
}
