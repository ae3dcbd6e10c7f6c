//! The way to the key distribution centres of a realm. It obeys the operator's rules for addresses.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sspi::ErrorKind;
use sspi::generator::NetworkRequest;
use sspi::network_client::{NetworkClient, NetworkProtocol};
use tasksync_common::clock::monotonic;
use tasksync_common::registry::{KDC_PORT, KdcAddress};
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::http::{CallError, Http};

/// Time that one step may spend with key distribution centres; less than a request may take.
const KDC_TIME: Duration = Duration::from_secs(15);

/// Time that one key distribution centre may take for an answer.
const ONE_KDC_TIME: Duration = Duration::from_secs(5);

/// Returns the address by which the library names the account's own realm.
pub(super) fn home_url(kdc: &KdcAddress) -> String {
    format!("tcp://{kdc}")
}

/// Returns all values with their positions, beginning with position `first`.
fn in_turn<T>(values: &[T], first: usize) -> impl Iterator<Item = (usize, &T)> {
    values
        .iter()
        .enumerate()
        .cycle()
        .skip(first.checked_rem(values.len()).unwrap_or(0))
        .take(values.len())
}

/// The library's way to key distribution centres.
pub(super) struct KdcClient {
    http: Http,
    /// Those of the account's realm. They are asked in turn until one answers.
    own: Vec<KdcAddress>,
    /// The position of the one that is asked first.
    first: Arc<AtomicUsize>,
    given_up: Arc<AtomicBool>,
    runtime: Handle,
    traffic: Mutex<KdcTraffic>,
}

/// What became of the library's questions in one step.
struct KdcTraffic {
    began: Instant,
    answered: bool,
    failure: Option<CallError>,
}

impl KdcTraffic {
    /// Returns the traffic of a step that begins now.
    fn new() -> Self {
        Self {
            began: monotonic(),
            answered: false,
            failure: None,
        }
    }
}

impl KdcClient {
    /// Returns a way to these centres. `first` is the position of the one that is asked first, and becomes that of the
    /// one that answered. Once `given_up` is set, no further one is asked.
    pub(super) fn new(
        http: Http,
        own: &[KdcAddress],
        first: Arc<AtomicUsize>,
        given_up: Arc<AtomicBool>,
    ) -> Self {
        Self {
            http,
            own: own.to_vec(),
            first,
            given_up,
            runtime: Handle::current(),
            traffic: Mutex::new(KdcTraffic::new()),
        }
    }

    /// Begins a step of a sign-in, which may ask several questions.
    pub(super) fn begin_step(&self) {
        *self.traffic() = KdcTraffic::new();
    }

    /// Returns whether a centre answered in this step, and why a question has no answer.
    pub(super) fn outcome(&self) -> (bool, Option<String>) {
        let traffic = self.traffic();
        (
            traffic.answered,
            traffic.failure.as_ref().map(CallError::to_string),
        )
    }

    fn traffic(&self) -> MutexGuard<'_, KdcTraffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, request: &NetworkRequest) -> Result<Vec<u8>, CallError> {
        let is_own = self
            .own
            .first()
            .is_some_and(|kdc| home_url(kdc) == request.url.as_str());
        let mut last = CallError::NotConnected {
            host: request.url.to_string(),
            reason: "it is no address of a key distribution centre".to_owned(),
        };
        if !is_own {
            let Some(host) = request.url.host_str() else {
                return Err(last);
            };
            let port = request.url.port().unwrap_or(KDC_PORT);
            return self
                .http
                .exchange_framed(host, port, &request.data, ONE_KDC_TIME)
                .await;
        }
        let first = self.first.load(Ordering::Relaxed);
        for (position, kdc) in in_turn(&self.own, first) {
            let left = KDC_TIME.saturating_sub(self.traffic().began.elapsed());
            if left.is_zero() || self.given_up.load(Ordering::Relaxed) {
                break;
            }
            let time = left.min(ONE_KDC_TIME);
            match self
                .http
                .exchange_framed(&kdc.host, kdc.port, &request.data, time)
                .await
            {
                Ok(answer) => {
                    self.first.store(position, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl NetworkClient for KdcClient {
    fn send(&self, request: &NetworkRequest) -> sspi::Result<Vec<u8>> {
        let answer = match request.protocol {
            NetworkProtocol::Tcp => self.runtime.block_on(self.ask(request)),
            NetworkProtocol::Udp | NetworkProtocol::Http | NetworkProtocol::Https => {
                Err(CallError::NotConnected {
                    host: request.url.to_string(),
                    reason: "key distribution centres are asked over TCP only".to_owned(),
                })
            }
        };
        let mut traffic = self.traffic();
        match answer {
            Ok(answer) => {
                traffic.answered = true;
                Ok(answer)
            }
            Err(error) => {
                let shown = error.to_string();
                traffic.failure = Some(error);
                Err(sspi::Error::new(ErrorKind::NoAuthenticatingAuthority, shown))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_repeats_the_address_by_which_the_realm_is_known() {
        for text in ["dc1.corp.example", "dc1:8800", "10.0.0.5", "[fd00::5]:750"] {
            let named = home_url(&text.parse().unwrap());
            let config = sspi::KerberosConfig::new_with_kdc_url(&named, String::new());
            assert_eq!(config.get_kdc_url("CORP.TEST").unwrap().as_str(), named);
        }
    }

    #[test]
    fn the_centre_that_answered_last_is_asked_first_and_each_one_once() {
        let of = |first| in_turn(&["a", "b", "c"], first).collect::<Vec<_>>();
        assert_eq!(of(0), [(0, &"a"), (1, &"b"), (2, &"c")]);
        assert_eq!(of(2), [(2, &"c"), (0, &"a"), (1, &"b")]);
        assert_eq!(of(7), [(1, &"b"), (2, &"c"), (0, &"a")]);
        assert_eq!(in_turn::<u8>(&[], 3).count(), 0);
    }
}
