//! Messages over TCP with their length in front, as Kerberos sends them.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::dial::broken;
use super::{CallError, Http};

/// The largest answer. A ticket with many groups has some tens of kilobytes.
const ANSWER_BYTES: usize = 1024 * 1024;

impl Http {
    /// Sends a message that begins with its length (4 bytes, the highest first), and returns the answer in the same
    /// form (RFC 4120, section 7.2.2). The address obeys the operator's rules. `timeout` is that of the whole exchange.
    ///
    /// # Errors
    /// The error tells whether a connection was made.
    pub(crate) async fn exchange_framed(
        &self,
        host: &str,
        port: u16,
        message: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let server = format!("{host}:{port}");
        let exchange = async {
            let mut stream = self.dialer().tcp(host, port).await?;
            let failed = |error: std::io::Error| broken(&server, &error);
            stream.write_all(message).await.map_err(failed)?;
            let mut length = [0; 4];
            stream.read_exact(&mut length).await.map_err(failed)?;
            let announced = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if announced > ANSWER_BYTES {
                return Err(CallError::TooLarge {
                    host: server.clone(),
                    limit: ANSWER_BYTES,
                });
            }
            let mut answer = vec![0; announced];
            stream.read_exact(&mut answer).await.map_err(failed)?;
            Ok([length.as_slice(), &answer].concat())
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| {
            Err(CallError::TimedOut {
                host: server.clone(),
                seconds: timeout.as_secs(),
            })
        })
    }
}
