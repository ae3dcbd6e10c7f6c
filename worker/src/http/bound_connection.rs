//! Open connections that belong to one identity, and those of them that carry no request.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tasksync_common::clock::monotonic;
use tasksync_common::tasks::{AbortOnDropHandle, spawn};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::explain::reason_of;
use super::{CallError, HEADER_LINES, IDLE_CONNECTION};

/// Shortest time between two looks through all unused connections.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// An open connection. It is closed when dropped.
pub(super) struct BoundConnection {
    sender: SendRequest<Full<Bytes>>,
    /// The server's certificate (DER); `None` without encryption.
    pub(super) certificate: Option<Vec<u8>>,
    _driver: AbortOnDropHandle<()>,
}

/// Why a request on a connection has no answer.
pub(super) enum Unanswered {
    /// The connection was closed before anything was sent.
    NotSent,
    Failed(CallError),
}

impl BoundConnection {
    /// Returns the connection over an open stream.
    ///
    /// # Errors
    /// `NotConnected`.
    pub(super) async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        certificate: Option<Vec<u8>>,
        host: &str,
    ) -> Result<Self, CallError> {
        let (sender, connection) = http1::Builder::new()
            .max_headers(HEADER_LINES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| CallError::NotConnected {
                host: host.to_owned(),
                reason: reason_of(&error),
            })?;
        let driver = spawn(async move {
            // Its error is that of the request.
            let _ = connection.await;
        });
        Ok(Self {
            sender,
            certificate,
            _driver: driver,
        })
    }

    /// Returns whether the server has closed the connection.
    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Returns whether the connection, unused since `since`, is still open and not about to be closed by the server.
    fn is_usable(&self, since: Instant, now: Instant) -> bool {
        now.duration_since(since) < IDLE_CONNECTION && !self.sender.is_closed()
    }

    /// Sends one request. Its answer's body is not read yet.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        host: &str,
    ) -> Result<Response<hyper::body::Incoming>, Unanswered> {
        if self.sender.ready().await.is_err() {
            return Err(Unanswered::NotSent);
        }
        self.sender
            .try_send_request(request)
            .await
            .map_err(|mut refused| {
                if refused.take_message().is_some() {
                    Unanswered::NotSent
                } else {
                    Unanswered::Failed(CallError::Broken {
                        host: host.to_owned(),
                        reason: reason_of(refused.error()),
                    })
                }
            })
    }
}

/// The unused connections of all identities.
pub(super) struct IdleConnections {
    /// Connections that are kept for an identity at a server.
    most: usize,
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// By the name of the identity and the server, with the time since which each is unused.
    connections: HashMap<String, Vec<(BoundConnection, Instant)>>,
    /// When the unused connections of all identities were last looked through.
    swept: Option<Instant>,
}

impl Idle {
    /// Closes every connection that was unused for [`IDLE_CONNECTION`]. Looks through them at most once in
    /// [`SWEEP_INTERVAL`].
    fn sweep(&mut self, now: Instant) {
        if self
            .swept
            .is_some_and(|swept| now.duration_since(swept) < SWEEP_INTERVAL)
        {
            return;
        }
        self.swept = Some(now);
        self.connections.retain(|_, own| {
            own.retain(|(connection, since)| connection.is_usable(*since, now));
            !own.is_empty()
        });
    }
}

impl IdleConnections {
    /// Returns no connection yet. At most `most` are kept for an identity at a server.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            idle: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the connection of this name that was used last, if one is still open.
    pub(super) fn take(&self, name: &str) -> Option<BoundConnection> {
        let now = monotonic();
        let mut idle = self.lock();
        idle.sweep(now);
        let connections = &mut idle.connections;
        let own = connections.get_mut(name)?;
        let found =
            std::iter::from_fn(|| own.pop()).find(|(connection, since)| connection.is_usable(*since, now));
        if own.is_empty() {
            connections.remove(name);
        }
        found.map(|(connection, _)| connection)
    }

    /// Keeps a connection for the next request.
    pub(super) fn put(&self, name: String, connection: BoundConnection) {
        let now = monotonic();
        let mut idle = self.lock();
        idle.sweep(now);
        let own = idle.connections.entry(name).or_default();
        if own.len() < self.most {
            own.push((connection, now));
        }
    }
}
