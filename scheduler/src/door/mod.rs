//! The door of a listener: how many connections clients may have, and how their wrong tokens are answered.
//!
//! The rules are pure: [`places`] decides who has a connection, [`wrong_tokens`] which wrong token is answered late.
//! This file counts, logs and closes as they say. A right token opens the door whatever its address did before, because
//! many people share an address behind a NAT or a proxy. What makes guessing hopeless is the token's length.

mod address;
mod places;
mod tally;
mod wrong_tokens;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use tasksync_common::clock::monotonic;
use tasksync_common::metrics::record::{self, Listener, LostConnection, WrongToken};
use tasksync_common::settings::{ApiSettings, Network, NetworkError};
use tasksync_common::tasks::spawn;
use tokio_util::sync::CancellationToken;

use address::ClientNetwork;
use places::{Admission, PlaceLimits, Places, ReachedLimit};
use tally::{ClientTally, TallyReport};
use wrong_tokens::{WrongTokenAnswer, WrongTokens};

/// Most open connections of the probes' listener.
const PROBE_CONNECTIONS: usize = 256;
/// Most open connections of one client of the probes' listener.
const PROBE_CONNECTIONS_PER_CLIENT: usize = 32;
/// Delay of a late answer to a wrong token.
const LATE_ANSWER: Duration = Duration::from_secs(1);
/// Time between two log lines about the same kind of event.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);
/// The header in which proxies name the client.
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The door of one listener. Clones share it.
#[derive(Clone)]
pub struct Door(Arc<DoorState>);

struct DoorState {
    listener: Listener,
    proxies: Vec<Network>,
    places: Mutex<Places>,
    /// Closes the connections, by place.
    cuts: Mutex<HashMap<u64, CancellationToken>>,
    wrong_tokens: Mutex<WrongTokens>,
    wrong_token_tally: Mutex<ClientTally>,
    lost_connection_tally: Mutex<ClientTally>,
}

/// Events that are logged once a minute.
#[derive(Debug, Clone, Copy)]
enum DoorEvent {
    WrongToken,
    LostConnection,
}

impl Door {
    /// Returns the door of the API.
    ///
    /// # Errors
    /// An entry of `api.trusted_proxies` is not a network.
    pub fn of_api(settings: &ApiSettings) -> Result<Self, NetworkError> {
        let limits = PlaceLimits {
            total: settings.connections,
            per_client: settings.connections_per_address,
        };
        let proxies = settings
            .trusted_proxies
            .iter()
            .map(|text| text.trim().parse())
            .collect::<Result<_, _>>()?;
        Ok(Self::new(Listener::Api, limits, proxies, settings.wrong_tokens))
    }

    /// Returns the door of the probes' listener. Its places are its own: connections to the API do not use them up.
    #[must_use]
    pub fn of_probes() -> Self {
        let limits = PlaceLimits {
            total: PROBE_CONNECTIONS,
            per_client: PROBE_CONNECTIONS_PER_CLIENT,
        };
        Self::new(Listener::Health, limits, Vec::new(), 0)
    }

    fn new(listener: Listener, limits: PlaceLimits, proxies: Vec<Network>, wrong_tokens: u32) -> Self {
        Self(Arc::new(DoorState {
            listener,
            proxies,
            places: Mutex::new(Places::new(limits)),
            cuts: Mutex::default(),
            wrong_tokens: Mutex::new(WrongTokens::new(wrong_tokens)),
            wrong_token_tally: Mutex::default(),
            lost_connection_tally: Mutex::default(),
        }))
    }

    /// Returns the place of a new connection, or `None` if it is to be closed.
    pub(crate) fn admit(&self, peer: IpAddr) -> Option<ClientConnection> {
        let state = &self.0;
        let client = ClientNetwork::of(peer);
        let admission = locked(&state.places).admit(client, address::is_in(peer, &state.proxies));
        let (place, closed) = match admission {
            Admission::Admitted { place, closed } => (place, closed),
            Admission::Refused(limit) => {
                let why = match limit {
                    ReachedLimit::Client => LostConnection::ClientLimit,
                    ReachedLimit::Total => LostConnection::TotalLimit,
                };
                record::lost_connection(state.listener, why);
                self.note(DoorEvent::LostConnection, client);
                return None;
            }
        };
        let cut = CancellationToken::new();
        let mut cuts = locked(&state.cuts);
        cuts.insert(place, cut.clone());
        let closed = closed.and_then(|closed| cuts.remove(&closed));
        drop(cuts);
        if let Some(closed) = closed {
            closed.cancel();
            record::lost_connection(state.listener, LostConnection::ClosedIdle);
            self.note(DoorEvent::LostConnection, client);
        }
        Some(ClientConnection(Arc::new(ConnectionPlace {
            door: self.clone(),
            peer,
            place,
            cut,
        })))
    }

    /// Notes an event of a client. The first one is logged at once, later ones together at the end of each minute.
    fn note(&self, event: DoorEvent, client: ClientNetwork) {
        if !locked(self.0.tally(event)).count(client) {
            return;
        }
        self.0.report(event);
        let state = Arc::downgrade(&self.0);
        spawn(async move {
            loop {
                tokio::time::sleep(REPORT_INTERVAL).await;
                let reported = state.upgrade().is_some_and(|state| state.report(event));
                if !reported {
                    return;
                }
            }
        })
        .detach();
    }
}

impl DoorState {
    fn tally(&self, event: DoorEvent) -> &Mutex<ClientTally> {
        match event {
            DoorEvent::WrongToken => &self.wrong_token_tally,
            DoorEvent::LostConnection => &self.lost_connection_tally,
        }
    }

    /// Logs what happened since the last line. Returns false if nothing did.
    fn report(&self, event: DoorEvent) -> bool {
        let Some(TallyReport { events, clients }) = locked(self.tally(event)).take_report() else {
            return false;
        };
        let listener = self.listener.name();
        match event {
            DoorEvent::WrongToken => {
                tracing::warn!(
                    listener,
                    requests = events,
                    clients,
                    "requests with a wrong operator token were refused"
                );
            }
            DoorEvent::LostConnection => {
                tracing::warn!(
                    listener,
                    connections = events,
                    clients,
                    "clients opened more connections than the limits allow; idle ones were closed, or new ones refused"
                );
            }
        }
        true
    }
}

/// An open connection of a client. Its place is free when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct ClientConnection(Arc<ConnectionPlace>);

struct ConnectionPlace {
    door: Door,
    peer: IpAddr,
    place: u64,
    cut: CancellationToken,
}

impl ClientConnection {
    /// Completes when the connection is to be closed in favour of a new one.
    pub(crate) async fn cut(&self) {
        self.0.cut.cancelled().await;
    }

    /// Returns the address that a request on this connection comes from.
    pub(crate) fn client(&self, headers: &HeaderMap) -> IpAddr {
        let forwarded = headers.get_all(FORWARDED_FOR).iter();
        let forwarded: Vec<&str> = forwarded.filter_map(|value| value.to_str().ok()).collect();
        address::client_address(self.0.peer, forwarded.into_iter(), &self.0.door.0.proxies)
    }

    /// Marks the connection as serving a request with the right token until the guard is dropped. Meanwhile it is not
    /// closed in favour of another one.
    pub(crate) fn begin_request(&self) -> AuthorizedRequest {
        locked(&self.0.door.0.places).begin_request(self.0.place);
        AuthorizedRequest(self.clone())
    }

    /// Notes a wrong token of this client. Returns `None` if it is to be answered at once. Otherwise delays the answer
    /// and returns the time until the client's wrong tokens are answered at once again.
    pub(crate) async fn refuse_token(&self, client: IpAddr) -> Option<Duration> {
        let door = &self.0.door;
        let client = ClientNetwork::of(client);
        let answer = locked(&door.0.wrong_tokens).note(client, monotonic());
        door.note(DoorEvent::WrongToken, client);
        match answer {
            WrongTokenAnswer::AtOnce => {
                record::wrong_token(WrongToken::AtOnce);
                None
            }
            WrongTokenAnswer::Late { retry_after } => {
                record::wrong_token(WrongToken::Late);
                tokio::time::sleep(LATE_ANSWER).await;
                Some(retry_after)
            }
        }
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        locked(&self.door.0.places).leave(self.place);
        locked(&self.door.0.cuts).remove(&self.place);
    }
}

/// A request with the right token that is being served.
pub(crate) struct AuthorizedRequest(ClientConnection);

impl Drop for AuthorizedRequest {
    fn drop(&mut self) {
        let place = &self.0.0;
        locked(&place.door.0.places).end_request(place.place);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn door(total: usize, per_client: usize) -> Door {
        Door::new(Listener::Api, PlaceLimits { total, per_client }, Vec::new(), 1)
    }

    #[tokio::test]
    async fn a_place_is_free_again_when_its_connection_has_ended() {
        let door = door(4, 2);
        let peer = [192, 0, 2, 1].into();
        let first = door.admit(peer).unwrap();
        let second = door.admit(peer).unwrap();
        let (at_work, also_at_work) = (first.begin_request(), second.begin_request());
        assert!(door.admit(peer).is_none());
        drop(also_at_work);
        let third = door.admit(peer).unwrap();
        second.cut().await;
        assert_eq!(locked(&door.0.places).len(), 2);
        // The connection that was closed gives no place back a second time.
        drop(second);
        assert_eq!(locked(&door.0.places).len(), 2);
        drop((at_work, first, third));
        assert_eq!(locked(&door.0.places).len(), 0);
        assert!(locked(&door.0.cuts).is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_answers_to_further_wrong_tokens_of_the_same_client_are_late() {
        let door = door(4, 2);
        let connection = door.admit([192, 0, 2, 1].into()).unwrap();
        let began = monotonic();
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert_eq!(connection.refuse_token(one).await, None);
        assert_eq!(connection.refuse_token(other).await, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(connection.refuse_token(one).await, Some(Duration::from_secs(6)));
        assert_eq!(began.elapsed(), LATE_ANSWER);
    }
}
