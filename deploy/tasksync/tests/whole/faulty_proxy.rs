//! A gate in front of a server: passes everything through, or acts as something else in its place.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use tasksync_common::tasks::{AbortOnDropHandle, spawn};

/// What the gate does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProxyMode {
    /// Passes everything through.
    Open,
    /// Nothing listens.
    Closed,
    /// Every request is answered with this status, content type and body.
    Answer(u16, &'static str, &'static str),
    /// Every connection gets these bytes instead of HTTP.
    Bytes(&'static str),
    /// Every request gets a valid beginning, followed by 100 MB.
    Huge(&'static str),
    /// Every request gets a valid beginning, then one byte at a time without end.
    Drip(&'static str),
    /// Connections are accepted and never answered.
    Silent,
}

const HUGE: usize = 100 * 1024 * 1024;
const CHUNK: usize = 64 * 1024;

pub(crate) struct FaultyProxy {
    address: SocketAddr,
    mode: watch::Sender<ProxyMode>,
    task: AbortOnDropHandle<()>,
}

impl FaultyProxy {
    /// Returns an open gate in front of the server at this address.
    pub(crate) async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, mode_receiver) = watch::channel(ProxyMode::Open);
        let task = spawn(serve(listener, address, server, mode_receiver));
        Self { address, mode, task }
    }

    /// Returns host and port, as messages name them.
    pub(crate) fn authority(&self) -> String {
        self.address.to_string()
    }

    /// Cuts every connection, and behaves in this way from now on.
    pub(crate) fn set(&self, mode: ProxyMode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for FaultyProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    server: SocketAddr,
    mut told: watch::Receiver<ProxyMode>,
) {
    let mut listener = Some(listener);
    loop {
        let mode = *told.borrow_and_update();
        if mode == ProxyMode::Closed {
            listener = None;
            if told.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = if let Some(open) = listener.take() {
            open
        } else if let Ok(open) = TcpListener::bind(address).await {
            open
        } else {
            // The port is still being released.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let accepted = tokio::select! {
            accepted = open.accept() => accepted,
            changed = told.changed() => {
                listener = Some(open);
                if changed.is_err() {
                    return;
                }
                continue;
            }
        };
        listener = Some(open);
        if let Ok((stream, _)) = accepted {
            let mut ends = told.clone();
            spawn(async move {
                tokio::select! {
                    _ = ends.changed() => {}
                    () = connection(stream, server, mode) => {}
                }
            })
            .detach();
        }
    }
}

async fn connection(mut client: TcpStream, server: SocketAddr, mode: ProxyMode) {
    match mode {
        ProxyMode::Open => {
            if let Ok(mut server) = TcpStream::connect(server).await {
                tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
            }
        }
        ProxyMode::Closed => {}
        ProxyMode::Silent => std::future::pending().await,
        ProxyMode::Bytes(text) => {
            client.write_all(text.as_bytes()).await.ok();
        }
        ProxyMode::Answer(status, kind, body) => {
            while request(&mut client).await {
                let head = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
                    body.len()
                );
                let sent = client.write_all(format!("{head}{body}").as_bytes()).await;
                if sent.is_err() {
                    return;
                }
            }
        }
        // Chunked, so that no header announces the length.
        ProxyMode::Huge(kind) => {
            let chunk = vec![b' '; CHUNK];
            if request(&mut client).await && client.write_all(chunked(kind).as_bytes()).await.is_ok() {
                for _ in 0..HUGE / CHUNK {
                    let sent = async {
                        client.write_all(format!("{CHUNK:x}\r\n").as_bytes()).await?;
                        client.write_all(&chunk).await?;
                        client.write_all(b"\r\n").await
                    };
                    if sent.await.is_err() {
                        return;
                    }
                }
                client.write_all(b"0\r\n\r\n").await.ok();
            }
        }
        ProxyMode::Drip(kind) => {
            if request(&mut client).await && client.write_all(chunked(kind).as_bytes()).await.is_ok() {
                while client.write_all(b"1\r\n \r\n").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

fn chunked(kind: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n")
}

/// Reads one request with its body. Returns false if the connection ended.
async fn request(client: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut chunk = vec![0_u8; 16 * 1024];
    loop {
        match client.read(&mut chunk).await {
            Ok(read) if read > 0 => seen.extend_from_slice(&chunk[..read]),
            _ => return false,
        }
        let text = String::from_utf8_lossy(&seen).to_ascii_lowercase();
        let Some((head, _)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())
            .unwrap_or(0);
        let body_at = seen.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(0) + 4;
        if seen.len() >= body_at + length {
            return true;
        }
    }
}
