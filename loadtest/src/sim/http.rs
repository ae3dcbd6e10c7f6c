//! An HTTP/1.1 listener on a free loopback port, with keep-alive, optional TLS, and answers that can be cut.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::StreamExt as _;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::tls::SimTls;

/// Largest request body in bytes; a larger one is answered with 413.
pub const MAXIMUM_REQUEST_BYTES: usize = 32 * 1024 * 1024;

/// What a simulated server does with one request.
pub enum Reply {
    /// An answer.
    Answer(Response<Bytes>),
    /// The connection is closed without an answer.
    Cut,
    /// The connection is closed after the first `keep` bytes of the body. `Content-Length` states the length of the
    /// whole body.
    Partial {
        /// The whole answer.
        response: Response<Bytes>,
        /// Number of bytes that are sent.
        keep: usize,
    },
    /// An answer of this many bytes whose start looks valid (`prefix`, then filler). It is streamed and never held in
    /// memory.
    Huge {
        /// First bytes of the body.
        prefix: Bytes,
        /// Total length of the body in bytes.
        length: u64,
        /// Content type of the answer.
        content_type: &'static str,
    },
}

/// The boxed future of a [`Handler`].
pub type ReplyFuture = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// A simulated server's logic.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Its body is already read.
    fn handle(self: Arc<Self>, request: Request<Bytes>) -> ReplyFuture;
}

/// A running listener; stops when dropped.
pub struct Listener {
    address: SocketAddr,
    scheme: &'static str,
    stop: CancellationToken,
    tasks: TaskTracker,
    accepted: Arc<AtomicU64>,
}

impl Listener {
    /// Starts listening on a free loopback port, with TLS when `tls` is given.
    ///
    /// # Errors
    /// The operating system's error when no port can be opened.
    pub async fn start<H: Handler>(handler: Arc<H>, tls: Option<&SimTls>) -> std::io::Result<Self> {
        Self::start_at(
            "127.0.0.1:0".parse().map_err(std::io::Error::other)?,
            handler,
            tls,
        )
        .await
    }

    /// Starts listening on `address`; port 0 takes a free one.
    ///
    /// # Errors
    /// The operating system's error when the port cannot be opened.
    pub async fn start_at<H: Handler>(
        address: SocketAddr,
        handler: Arc<H>,
        tls: Option<&SimTls>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let acceptor = tls.map(|tls| TlsAcceptor::from(Arc::clone(&tls.server)));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let accepted = Arc::new(AtomicU64::new(0));
        let served = Served {
            handler,
            acceptor,
            stop: stop.clone(),
            tasks: tasks.clone(),
            accepted: Arc::clone(&accepted),
        };
        tasks.spawn(accept(listener, served));
        Ok(Self {
            address,
            scheme,
            stop,
            tasks,
            accepted,
        })
    }

    /// Returns the base URL, `https://localhost:port` (or `http://127.0.0.1:port` without TLS), without a final slash.
    #[must_use]
    pub fn base_url(&self) -> String {
        let host = if self.scheme == "https" {
            "localhost"
        } else {
            "127.0.0.1"
        };
        format!("{}://{host}:{}", self.scheme, self.address.port())
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns how many connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Closes the port and every connection, and waits until all tasks have ended.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What the tasks of accepted connections share.
struct Served<H> {
    handler: Arc<H>,
    acceptor: Option<TlsAcceptor>,
    stop: CancellationToken,
    tasks: TaskTracker,
    accepted: Arc<AtomicU64>,
}

async fn accept<H: Handler>(listener: TcpListener, served: Served<H>) {
    let Served {
        handler,
        acceptor,
        stop,
        tasks,
        accepted: count,
    } = served;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else { continue };
        // Only this machine may use a simulated server, whatever address it listens on.
        if !peer.ip().is_loopback() {
            continue;
        }
        count.fetch_add(1, Ordering::Relaxed);
        stream.set_nodelay(true).ok();
        let handler = Arc::clone(&handler);
        let acceptor = acceptor.clone();
        let stop = stop.clone();
        tasks.spawn(async move {
            let work = async {
                match acceptor {
                    Some(acceptor) => {
                        if let Ok(stream) = acceptor.accept(stream).await {
                            connection(TokioIo::new(stream), handler).await;
                        }
                    }
                    None => connection(TokioIo::new(stream), handler).await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
    }
}

async fn connection<I, H>(io: I, handler: Arc<H>)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    H: Handler,
{
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let handler = Arc::clone(&handler);
        async move {
            let (parts, body) = request.into_parts();
            let Some(body) = read_body(body).await else {
                return Ok(plain(413, "request too large"));
            };
            match handler.handle(Request::from_parts(parts, body)).await {
                Reply::Answer(response) => {
                    let (parts, body) = response.into_parts();
                    Ok(Response::from_parts(parts, axum::body::Body::from(body)))
                }
                // An error from the service makes hyper close the connection without an answer.
                Reply::Cut => Err(std::io::Error::other("cut on purpose")),
                Reply::Partial { response, keep } => Ok(partial(response, keep)),
                Reply::Huge {
                    prefix,
                    length,
                    content_type,
                } => Ok(huge(prefix, length, content_type)),
            }
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // The simulated servers set `Date` by their own clock, or leave it out on purpose.
    builder
        .timer(TokioTimer::new())
        .keep_alive(true)
        .auto_date_header(false);
    // Clients may disconnect at any time; a connection that ends with an error needs no action here.
    builder.serve_connection(io, service).await.ok();
}

async fn read_body(body: hyper::body::Incoming) -> Option<Bytes> {
    axum::body::to_bytes(axum::body::Body::new(body), MAXIMUM_REQUEST_BYTES)
        .await
        .ok()
}

/// Returns an answer with a plain text body.
#[must_use]
pub fn plain(status: u16, text: &'static str) -> Response<axum::body::Body> {
    let mut response = Response::new(axum::body::Body::from(text));
    *response.status_mut() = hyper::StatusCode::from_u16(status).unwrap_or(hyper::StatusCode::OK);
    response
}

fn partial(response: Response<Bytes>, keep: usize) -> Response<axum::body::Body> {
    let (mut parts, body) = response.into_parts();
    parts
        .headers
        .insert(hyper::header::CONTENT_LENGTH, body.len().into());
    let sent = body.slice(..keep.min(body.len()));
    // An error of the body makes hyper close the connection.
    let stream = futures::stream::iter([Ok(sent), Err(std::io::Error::other("cut on purpose"))]);
    Response::from_parts(parts, axum::body::Body::from_stream(stream))
}

fn huge(prefix: Bytes, length: u64, content_type: &'static str) -> Response<axum::body::Body> {
    const CHUNK: usize = 64 * 1024;
    let filler = Bytes::from(vec![b' '; CHUNK]);
    let rest = length.saturating_sub(prefix.len() as u64);
    let chunk = CHUNK as u64;
    let chunks = futures::stream::iter(0..rest.div_ceil(chunk)).map(move |index| {
        let left = usize::try_from(rest - index * chunk).unwrap_or(CHUNK);
        filler.slice(..left.min(CHUNK))
    });
    let stream = futures::stream::iter([prefix])
        .chain(chunks)
        .map(Ok::<_, Infallible>);
    let mut response = Response::new(axum::body::Body::from_stream(stream));
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert(hyper::header::CONTENT_TYPE, value);
    }
    response
}
