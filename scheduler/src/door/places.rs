//! Who may have an open connection: a limit for all connections, one for each client, and which connection is closed
//! when a limit is reached.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::address::ClientNetwork;

/// The limits of one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlaceLimits {
    /// Most open connections.
    pub(super) total: usize,
    /// Most open connections of one client. Trusted proxies are exempt.
    pub(super) per_client: usize,
}

/// The limit that a refused connection met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReachedLimit {
    /// That of all connections.
    Total,
    /// That of its client.
    Client,
}

/// What becomes of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// It has this place. If `closed` names another place, the connection there is to be closed in return.
    Admitted { place: u64, closed: Option<u64> },
    /// It is to be closed.
    Refused(ReachedLimit),
}

/// An open connection.
#[derive(Debug)]
struct OpenPlace {
    client: ClientNetwork,
    proxy: bool,
    /// The number of the event since which it has served no request with the right token; `None` while it serves one.
    idle_since: Option<u64>,
}

/// The open connections of one listener.
#[derive(Debug)]
pub(super) struct Places {
    limits: PlaceLimits,
    open: BTreeMap<u64, OpenPlace>,
    /// Numbers places and events.
    next: u64,
}

impl Places {
    pub(super) fn new(limits: PlaceLimits) -> Self {
        Self {
            limits,
            open: BTreeMap::new(),
            next: 0,
        }
    }

    /// Decides about a new connection of a client. At a limit, it takes the place of a connection that serves no
    /// request with the right token: at the client's own limit that of the client's longest idle one, and at the
    /// limit of all that of the longest idle one of the client with the most connections. So a client that opens
    /// connections without end only closes its own. If every such connection serves a request, the new one is refused.
    pub(super) fn admit(&mut self, client: ClientNetwork, proxy: bool) -> Admission {
        let of_client = self.of(client);
        let (limit, closed) = if !proxy && of_client >= self.limits.per_client {
            (ReachedLimit::Client, self.longest_idle(client))
        } else if self.open.len() >= self.limits.total {
            (ReachedLimit::Total, self.idle_of_largest_client())
        } else {
            return Admission::Admitted {
                place: self.open_place(client, proxy),
                closed: None,
            };
        };
        let Some(closed) = closed else {
            return Admission::Refused(limit);
        };
        self.open.remove(&closed);
        Admission::Admitted {
            place: self.open_place(client, proxy),
            closed: Some(closed),
        }
    }

    /// Notes that a place serves a request with the right token.
    pub(super) fn begin_request(&mut self, place: u64) {
        if let Some(open) = self.open.get_mut(&place) {
            open.idle_since = None;
        }
    }

    /// Notes that the request was answered.
    pub(super) fn end_request(&mut self, place: u64) {
        let event = self.number();
        if let Some(open) = self.open.get_mut(&place) {
            open.idle_since = Some(event);
        }
    }

    /// Notes that a connection is closed.
    pub(super) fn leave(&mut self, place: u64) {
        self.open.remove(&place);
    }

    /// Returns the number of open connections.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn open_place(&mut self, client: ClientNetwork, proxy: bool) -> u64 {
        let place = self.number();
        let idle_since = Some(place);
        self.open.insert(
            place,
            OpenPlace {
                client,
                proxy,
                idle_since,
            },
        );
        place
    }

    fn of(&self, client: ClientNetwork) -> usize {
        self.open.values().filter(|open| open.client == client).count()
    }

    fn longest_idle(&self, client: ClientNetwork) -> Option<u64> {
        self.open
            .iter()
            .filter(|(_, open)| open.client == client)
            .filter_map(|(place, open)| Some((open.idle_since?, *place)))
            .min()
            .map(|(_, place)| place)
    }

    /// Returns the longest idle place of the client with the most places among those that have an idle one. A proxy
    /// speaks for many clients, so its places come last.
    fn idle_of_largest_client(&self) -> Option<u64> {
        let mut sizes: HashMap<ClientNetwork, usize> = HashMap::new();
        for open in self.open.values() {
            *sizes.entry(open.client).or_default() += 1;
        }
        self.open
            .iter()
            .filter_map(|(place, open)| {
                let idle_since = open.idle_since?;
                let size = sizes.get(&open.client).copied().unwrap_or_default();
                Some(((!open.proxy, size, Reverse(idle_since)), *place))
            })
            .max()
            .map(|(_, place)| place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> ClientNetwork {
        ClientNetwork::of([192, 0, 2, number].into())
    }

    fn places(total: usize, per_client: usize) -> Places {
        Places::new(PlaceLimits { total, per_client })
    }

    fn admitted(places: &mut Places, of: ClientNetwork) -> (u64, Option<u64>) {
        match places.admit(of, false) {
            Admission::Admitted { place, closed } => (place, closed),
            Admission::Refused(limit) => panic!("refused at {limit:?}"),
        }
    }

    #[test]
    fn a_client_at_its_limit_closes_its_own_longest_idle_connection() {
        let mut places = places(10, 2);
        let (other, _) = admitted(&mut places, client(1));
        let (first, _) = admitted(&mut places, client(2));
        let (second, _) = admitted(&mut places, client(2));
        // The first one was used since, so the second one is idle for longer.
        places.begin_request(first);
        places.end_request(first);
        let (third, closed) = admitted(&mut places, client(2));
        assert_eq!(closed, Some(second));
        assert_eq!(places.len(), 3);
        // What serves a request is never closed.
        places.begin_request(first);
        places.begin_request(third);
        assert_eq!(
            places.admit(client(2), false),
            Admission::Refused(ReachedLimit::Client)
        );
        places.leave(first);
        assert_eq!(admitted(&mut places, client(2)).1, None);
        places.leave(other);
        assert_eq!(places.len(), 2);
    }

    #[test]
    fn when_all_places_are_taken_the_client_with_the_most_connections_gives_one_up() {
        let mut places = places(5, 4);
        let (honest, _) = admitted(&mut places, client(1));
        let (first_of_many, _) = admitted(&mut places, client(2));
        for _ in 0..3 {
            admitted(&mut places, client(2));
        }
        assert_eq!(admitted(&mut places, client(3)).1, Some(first_of_many));
        for number in 4..=5 {
            let (_, closed) = admitted(&mut places, client(number));
            assert!(closed.is_some() && closed != Some(honest), "{number}");
            assert_eq!(places.len(), 5);
        }
        // Each of five clients has one place now, so that the longest idle one goes.
        assert_eq!(admitted(&mut places, client(6)).1, Some(honest));
    }

    #[test]
    fn a_proxy_has_no_limit_of_its_own_and_a_connection_at_work_is_never_closed() {
        let mut places = places(3, 1);
        for _ in 0..3 {
            let Admission::Admitted { place, closed: None } = places.admit(client(1), true) else {
                panic!("the proxy was refused")
            };
            places.begin_request(place);
        }
        assert_eq!(
            places.admit(client(2), false),
            Admission::Refused(ReachedLimit::Total)
        );
    }
}
