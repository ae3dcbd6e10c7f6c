//! Applies the simulator's faults to a request and to its answer.

use bytes::Bytes;

use super::SharePoint;
use super::errors::SpError;
use super::server::{Incoming, Message, Turn, error_message};
use super::shape::Mode;
use crate::sim::answers::Tamper;
use crate::sim::faults::Fault;

/// How a request is carried out and answered.
pub(crate) enum Fate {
    /// Without any fault.
    Whole,
    /// With its change token refused as too old.
    Expired,
    /// Normally, but the answer is lost.
    Lost,
    /// Normally, but the answer is changed.
    Changed(Tamper),
}

impl SharePoint {
    /// Waits as the fault demands. Returns how the request is to be carried out.
    ///
    /// # Errors
    /// The answer to send without carrying out the request.
    pub(crate) async fn meet(&self, fault: Option<Fault>, mode: Mode) -> Result<Fate, Turn> {
        let Some(fault) = fault else {
            return Ok(Fate::Whole);
        };
        self.stats.count_fault();
        let text = |status, headers, body: &str| {
            Turn::Answer(Message {
                status,
                headers,
                body: Bytes::copy_from_slice(body.as_bytes()),
            })
        };
        let html = || ("Content-Type", "text/html; charset=utf-8".to_owned());
        Err(match fault {
            Fault::Busy { pause, status, .. } => {
                let status = if status == 503 { 503 } else { 429 };
                let mut headers = vec![html()];
                if let Some(pause) = pause {
                    let seconds = pause.as_secs() + u64::from(pause.subsec_nanos() > 0);
                    headers.push(("Retry-After", seconds.to_string()));
                }
                text(
                    status,
                    headers,
                    "<html><body>The server is busy. Please try again later.</body></html>",
                )
            }
            Fault::LoseResponse => return Ok(Fate::Lost),
            Fault::Cut => Turn::Cut,
            Fault::Slow(pause) => {
                tokio::time::sleep(pause).await;
                return Ok(Fate::Whole);
            }
            Fault::Hang => std::future::pending().await,
            Fault::Instead(answer) => Turn::Sent(answer),
            Fault::Afterwards(answer) => return Ok(Fate::Changed(Tamper::new(move |_| answer.clone()))),
            Fault::Tamper(tamper) => return Ok(Fate::Changed(tamper)),
            // This fault exists for Exchange only.
            Fault::IgnoreFields(_) => return Ok(Fate::Whole),
            Fault::Status(status) => text(status, vec![html()], "The request could not be carried out."),
            Fault::Error(code) => Turn::Answer(error_message(&SpError::by_code(&code), mode)),
            Fault::Garbage => text(
                200,
                vec![("Content-Type", mode.content_type().to_owned())],
                "\u{1}%<!not an answer at all {[",
            ),
            Fault::Huge(length) => Turn::Huge(length),
            Fault::ExpireCursor => return Ok(Fate::Expired),
        })
    }

    /// Returns what the client receives of the answer to a request that was carried out.
    pub(crate) fn answered(&self, fate: Fate, turn: Turn, incoming: &Incoming<'_>) -> Turn {
        match fate {
            Fate::Whole | Fate::Expired => turn,
            Fate::Lost => Turn::Cut,
            Fate::Changed(tamper) => match turn {
                Turn::Answer(message) => Turn::Sent(tamper.apply(self.sent(message, incoming))),
                Turn::Sent(answer) => Turn::Sent(tamper.apply(answer)),
                Turn::Cut => Turn::Cut,
                Turn::Huge(length) => Turn::Huge(length),
            },
        }
    }
}
