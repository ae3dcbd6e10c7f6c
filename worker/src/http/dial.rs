//! Opening connections outside the shared client, under the same rules for addresses and with the same trust.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::CallError;
use super::address::AddressRules;
use super::explain::reason_of;
use super::resolver::{ADDRESSES_PER_NAME, Lookup};

/// The reason of a connection that takes too long.
const NOT_IN_TIME: &str = "the connection did not open in time";

/// Opens connections.
#[derive(Clone)]
pub(super) struct OutboundDialer {
    pub(super) rules: Arc<AddressRules>,
    pub(super) lookup: Arc<dyn Lookup>,
    pub(super) tls: Arc<ClientConfig>,
    pub(super) connect_timeout: Duration,
}

impl OutboundDialer {
    /// Opens a TCP connection to the first address of the host that answers and that the rules allow.
    ///
    /// # Errors
    /// `AddressRefused` or `NotConnected`.
    pub(super) async fn tcp(&self, host: &str, port: u16) -> Result<TcpStream, CallError> {
        let not_connected = |reason: String| CallError::NotConnected {
            host: format!("{host}:{port}"),
            reason,
        };
        let opening = async {
            let found = if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
                vec![address]
            } else {
                let found = self.lookup.lookup(host.to_owned()).await;
                let mut found = found.map_err(|error| not_connected(reason_of(&error)))?;
                found.truncate(ADDRESSES_PER_NAME);
                found
            };
            let chosen = self
                .rules
                .choose(host, &found)
                .map_err(CallError::AddressRefused)?;
            let mut last = not_connected("the name has no address".to_owned());
            // An address that does not answer leaves time for the others.
            let each = self.connect_timeout / u32::try_from(chosen.len().max(1)).unwrap_or(u32::MAX);
            for address in chosen {
                let connecting = TcpStream::connect(SocketAddr::new(address, port));
                match tokio::time::timeout(each, connecting).await {
                    Ok(Ok(stream)) => {
                        let _ = stream.set_nodelay(true);
                        return Ok(stream);
                    }
                    Ok(Err(error)) => last = not_connected(reason_of(&error)),
                    Err(_) => last = not_connected(NOT_IN_TIME.to_owned()),
                }
            }
            Err(last)
        };
        tokio::time::timeout(self.connect_timeout, opening)
            .await
            .unwrap_or_else(|_| Err(not_connected(NOT_IN_TIME.to_owned())))
    }

    /// Opens a TLS connection for HTTP/1.1.
    ///
    /// # Errors
    /// `AddressRefused` or `NotConnected`.
    pub(super) async fn tls(&self, host: &str, port: u16) -> Result<TlsStream<TcpStream>, CallError> {
        let stream = self.tcp(host, port).await?;
        let not_connected = |reason: String| CallError::NotConnected {
            host: format!("{host}:{port}"),
            reason,
        };
        let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
            .map_err(|error| not_connected(error.to_string()))?;
        let opening = TlsConnector::from(Arc::clone(&self.tls)).connect(name, stream);
        match tokio::time::timeout(self.connect_timeout, opening).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(not_connected(reason_of(&error))),
            Err(_) => Err(not_connected("TLS did not begin in time".to_owned())),
        }
    }
}

/// Returns the reason of a broken connection.
pub(super) fn broken(host: &str, error: &io::Error) -> CallError {
    CallError::Broken {
        host: host.to_owned(),
        reason: reason_of(error),
    }
}
