//! Serves HTTP/1.1, with limits on connections, on slow headers and on the time to stop.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Most open connections. Further ones wait in the operating system's queue.
const CONNECTIONS: usize = 512;
/// Longest time a client may take to send a request's headers, and to begin the next request on an open connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Pause after the operating system failed to accept a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop` is cancelled, then waits at most `drain` for running requests to finish.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken, drain: Duration) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let connections = TaskTracker::new();
    let cut = CancellationToken::new();
    let service = TowerToHyperService::new(router);
    loop {
        let Some(Ok(permit)) = stop
            .run_until_cancelled(Arc::clone(&permits).acquire_owned())
            .await
        else {
            break;
        };
        let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else {
            break;
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        stream.set_nodelay(true).ok();
        let service = service.clone();
        let stop = stop.clone();
        let cut = cut.clone();
        connections.spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(64 * 1024)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = std::pin::pin!(connection);
            let result = tokio::select! {
                result = connection.as_mut() => result,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        result = connection.as_mut() => result,
                        () = cut.cancelled() => Ok(()),
                    }
                }
            };
            if let Err(error) = result {
                tracing::debug!(%error, "a connection ended early");
            }
            drop(permit);
        });
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
