//! Sends one request over a loopback connection. This is enough to see that a server answers, without a client
//! library.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Time limit for connection, request and answer together.
const LIMIT: Duration = Duration::from_secs(3);

/// Largest answer that is read, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// Sends `question` and reads until `enough` returns true or the server closes the connection.
///
/// # Errors
/// The error, or that the exchange took longer than three seconds.
pub(super) async fn ask(
    port: u16,
    question: &[u8],
    enough: impl Fn(&[u8]) -> bool + Send,
) -> Result<Vec<u8>, String> {
    let conversation = async {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(question).await?;
        let mut answer = Vec::new();
        while !enough(&answer) && answer.len() < MOST_BYTES {
            if stream.read_buf(&mut answer).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(LIMIT, conversation).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("port {port}: {error}")),
        Err(_) => Err(format!("port {port}: no answer in {} s", LIMIT.as_secs())),
    }
}

/// Returns whether a process accepts connections on the port.
pub(super) async fn is_open(port: u16) -> bool {
    tokio::time::timeout(LIMIT, TcpStream::connect((Ipv4Addr::LOCALHOST, port)))
        .await
        .is_ok_and(|stream| stream.is_ok())
}
