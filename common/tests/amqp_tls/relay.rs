//! A relay that forwards connections to the broker and records everything sent over them.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use tasksync_common::tasks::{AbortOnDropHandle, spawn};

pub(crate) struct Relay {
    port: u16,
    forwarded: Arc<Mutex<Vec<Vec<u8>>>>,
    task: AbortOnDropHandle<()>,
}

impl Relay {
    /// Starts a relay to a port of this machine.
    pub(crate) async fn start(to: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        let task = spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to)).await else {
                    continue;
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                spawn(pass(from_client, to_server, Arc::clone(&kept))).detach();
                spawn(pass(from_server, to_client, Arc::clone(&kept))).detach();
            }
        });
        Self {
            port,
            forwarded: heard,
            task,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether the text went over the relay in readable form.
    pub(crate) fn saw(&self, text: &str) -> bool {
        let heard = self.forwarded.lock().unwrap();
        let mut directions = heard.iter();
        directions.any(|bytes| bytes.windows(text.len()).any(|window| window == text.as_bytes()))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.forwarded.lock().unwrap().iter().map(Vec::len).sum()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
) {
    let index = {
        let mut heard = heard.lock().unwrap();
        heard.push(Vec::new());
        heard.len() - 1
    };
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        heard.lock().unwrap()[index].extend_from_slice(&buffer[..count]);
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
}
