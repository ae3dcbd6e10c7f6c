//! Applies the simulator's faults to a request and to its answer.

use bytes::Bytes;

use super::SharePoint;
use super::errors::SpError;
use super::server::{Incoming, Message, RequestResult, error_message};
use super::shape::MetadataMode;
use crate::sim::answers::Tamper;
use crate::sim::faults::Fault;

/// How a request is carried out and answered.
pub(crate) enum RequestHandling {
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
    pub(crate) async fn apply_fault(
        &self,
        fault: Option<Fault>,
        mode: MetadataMode,
    ) -> Result<RequestHandling, RequestResult> {
        let Some(fault) = fault else {
            return Ok(RequestHandling::Whole);
        };
        self.stats.count_fault();
        let text = |status, headers, body: &str| {
            RequestResult::Answer(Message {
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
            Fault::LoseResponse => return Ok(RequestHandling::Lost),
            Fault::Cut => RequestResult::Cut,
            Fault::Slow(pause) => {
                tokio::time::sleep(pause).await;
                return Ok(RequestHandling::Whole);
            }
            Fault::Hang => std::future::pending().await,
            Fault::Instead(answer) => RequestResult::Sent(answer),
            Fault::Afterwards(answer) => {
                return Ok(RequestHandling::Changed(Tamper::new(move |_| answer.clone())));
            }
            Fault::Tamper(tamper) => return Ok(RequestHandling::Changed(tamper)),
            // This fault exists for Exchange only.
            Fault::IgnoreFields(_) => return Ok(RequestHandling::Whole),
            Fault::Status(status) => text(status, vec![html()], "The request could not be carried out."),
            Fault::Error(code) => RequestResult::Answer(error_message(&SpError::by_code(&code), mode)),
            Fault::Garbage => text(
                200,
                vec![("Content-Type", mode.content_type().to_owned())],
                "\u{1}%<!not an answer at all {[",
            ),
            Fault::Huge(length) => RequestResult::Huge(length),
            Fault::ExpireCursor => return Ok(RequestHandling::Expired),
        })
    }

    /// Returns what the client receives of the answer to a request that was carried out.
    pub(crate) fn answered(
        &self,
        handling: RequestHandling,
        result: RequestResult,
        incoming: &Incoming<'_>,
    ) -> RequestResult {
        match handling {
            RequestHandling::Whole | RequestHandling::Expired => result,
            RequestHandling::Lost => RequestResult::Cut,
            RequestHandling::Changed(tamper) => match result {
                RequestResult::Answer(message) => {
                    RequestResult::Sent(tamper.apply(self.sent(message, incoming)))
                }
                RequestResult::Sent(answer) => RequestResult::Sent(tamper.apply(answer)),
                RequestResult::Cut => RequestResult::Cut,
                RequestResult::Huge(length) => RequestResult::Huge(length),
            },
        }
    }
}
