//! One request without signing in, which shows the server's certificate and what it offers. For the doctor.

use std::time::Duration;

use tasksync_common::clock::monotonic;
use tasksync_common::facts::CertificateProblem;
use tasksync_common::metrics::record::{self, Outcome, Server};
use url::Url;

use super::explain::{call_error, certificate_problem};
use super::header::HeaderMap;
use super::{CallError, Http, host_of};

/// What a server shows to a caller who does not sign in.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) headers: HeaderMap,
    /// The server's certificate (DER); `None` without encryption.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// Why a server showed nothing.
#[derive(Debug)]
pub(crate) enum LookError {
    /// Its certificate is refused.
    Certificate(CertificateProblem, CallError),
    /// Any other reason.
    NoAnswer(CallError),
}

impl Http {
    /// Sends a GET without credentials on a connection of its own, under the same rules for addresses. The answer's
    /// body is not read.
    ///
    /// # Errors
    /// The error distinguishes a refused certificate from every other reason.
    #[expect(
        clippy::disallowed_methods,
        reason = "a part of the one way out; it limits the time and reads no body"
    )]
    pub(crate) async fn get_without_sign_in(
        &self,
        url: &Url,
        server: Server,
        timeout: Duration,
    ) -> Result<Looked, LookError> {
        let no_answer = |error| LookError::NoAnswer(error);
        self.rules()
            .check_url(url)
            .map_err(|reason| no_answer(CallError::AddressRefused(reason)))?;
        let host = host_of(url);
        let client = self.looking_client().map_err(|error| {
            no_answer(CallError::NotConnected {
                host: host.clone(),
                reason: error.to_string(),
            })
        })?;
        let began = monotonic();
        let answered = tokio::time::timeout(timeout, client.get(url.clone()).send()).await;
        let looked = match answered {
            Err(_) => Err(no_answer(CallError::TimedOut {
                host,
                seconds: timeout.as_secs(),
            })),
            Ok(Err(error)) => {
                let problem = certificate_problem(&error);
                let error = call_error(error, &host);
                Err(match problem {
                    Some(problem) => LookError::Certificate(problem, error),
                    None => no_answer(error),
                })
            }
            Ok(Ok(mut answer)) => {
                let certificate = answer
                    .extensions()
                    .get::<reqwest::tls::TlsInfo>()
                    .and_then(reqwest::tls::TlsInfo::peer_certificate)
                    .map(<[u8]>::to_vec);
                Ok((
                    answer.status().as_u16(),
                    Looked {
                        headers: std::mem::take(answer.headers_mut()),
                        certificate,
                    },
                ))
            }
        };
        let outcome = match &looked {
            Ok((status, _)) => Outcome::of_status(*status),
            Err(LookError::Certificate(_, error) | LookError::NoAnswer(error)) => error.outcome(),
        };
        record::request(server, outcome, began.elapsed());
        looked.map(|(_, looked)| looked)
    }
}
