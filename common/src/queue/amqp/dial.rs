//! Opens one connection to one host in a way that it can always be cut.
//!
//! The client runs each connection on its own thread, which ends only with the socket. This module keeps a
//! second handle on the socket. A task that stops waiting (for a broker that accepts and then says nothing)
//! shuts the socket down, so an abandoned attempt leaves no thread behind.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use rustls_connector::RustlsConnector;
use tokio::time::timeout;

use super::address::{AmqpAddress, Host};
use super::errors;
use crate::error::Failure;

/// Time for the orderly end of a connection before the socket is shut down.
const FAREWELL: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
enum SocketState {
    #[default]
    Waiting,
    Open(TcpStream),
    Cut,
}

/// A second handle on a connection's socket.
#[derive(Debug, Clone, Default)]
pub(super) struct Socket(Arc<Mutex<SocketState>>);

impl Socket {
    /// Keeps the handle. Fails if the connection was given up meanwhile.
    fn keep(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*state, SocketState::Cut) {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        *state = SocketState::Open(stream);
        Ok(())
    }

    /// Ends the connection, whatever its state.
    pub(super) fn cut(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let SocketState::Open(stream) = std::mem::replace(&mut *state, SocketState::Cut) {
            // An error means that the socket has ended already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Ends the connection after the time for an orderly end.
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

/// A guard that cuts the connection if the attempt is abandoned.
struct DialGuard(Option<Socket>);

impl Drop for DialGuard {
    fn drop(&mut self) {
        if let Some(socket) = self.0.take() {
            socket.cut();
        }
    }
}

/// The parameters of every connection.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) address: AmqpAddress,
    /// Set for `amqps://`.
    pub(super) tls: Option<RustlsConnector>,
    pub(super) connect_timeout: Duration,
    pub(super) heartbeat: Duration,
}

impl Dialer {
    /// Opens a connection to one host; `name` is the connection's name at the broker.
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
        let mut attempt = DialGuard(Some(socket.clone()));
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
