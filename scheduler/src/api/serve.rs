//! Serves HTTP/1.1, with limits on connections, on slow headers, on a connection's age and on the time to stop.

use std::io::Write as _;
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::{ApiCode, ApiError};
use crate::door::{ClientConnection, Door};

/// Longest time a client may take to send a request's headers, and to begin the next request on an open connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Age at which a connection takes no further request, so that clients which stop reading do not keep theirs.
const CONNECTION_LIFETIME: Duration = Duration::from_mins(10);
/// Time for the last request of a connection. It is above the longest time limit of a request.
const LAST_REQUEST: Duration = Duration::from_mins(3);
/// Pause after the operating system failed to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is cancelled, then waits at most `drain` for running requests to finish. The door decides which
/// connections are open.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    door: Door,
    stop: CancellationToken,
    drain: Duration,
) {
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let service = TowerToHyperService::new(router);
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(client) = door.admit(peer.ip()) else {
            refuse(stream);
            continue;
        };
        stream.set_nodelay(true).ok();
        let service = service.clone();
        let ends = ConnectionEnds {
            stop: stop.clone(),
            cut: cut.clone(),
        };
        connections.spawn(serve_connection(stream, service, client, ends));
    }
    connections.close();
    if tokio::time::timeout(drain, connections.wait()).await.is_err() {
        tracing::warn!(
            connections = connections.len(),
            "running requests were cut off at the end"
        );
        cut.cancel();
        connections.wait().await;
    }
}

/// How the service ends its connections.
struct ConnectionEnds {
    /// After the present request.
    stop: CancellationToken,
    /// At once.
    cut: CancellationToken,
}

async fn serve_connection(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    client: ClientConnection,
    ends: ConnectionEnds,
) {
    let of_requests = client.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(of_requests.clone());
        service.call(request)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = client.cut() => Ok(()),
        () = last_request(&ends.stop) => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection.as_mut() => result,
                () = client.cut() => Ok(()),
                () = ends.cut.cancelled() => Ok(()),
                () = tokio::time::sleep(LAST_REQUEST) => Ok(()),
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// Completes when a connection is to take no further request.
async fn last_request(stop: &CancellationToken) {
    // An elapsed lifetime and a stop have the same consequence.
    stop.run_until_cancelled(tokio::time::sleep(CONNECTION_LIFETIME))
        .await;
}

/// Answers a connection that has no place, as far as the answer fits into the system's buffer, and closes it.
fn refuse(stream: TcpStream) {
    let error = ApiError::new(
        ApiCode::TooManyConnections,
        "every connection that is allowed serves a request",
    );
    let body = serde_json::to_string(error.body()).unwrap_or_default();
    let status = error.status();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nretry-after: 1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // Written without waiting: a client that does not read costs nothing.
    if let Ok(mut stream) = stream.into_std() {
        stream.write_all(answer.as_bytes()).ok();
    }
}
