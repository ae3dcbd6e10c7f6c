//! Clients by address: who counts as one client, and which client a request behind a proxy comes from.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use tasksync_common::settings::Network;

/// Most entries of `X-Forwarded-For` that are read, from the nearest proxy on.
const LONGEST_CHAIN: usize = 16;

/// What counts as one client: an IPv4 address, or the /64 network of an IPv6 address, because one host may use every
/// address of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientNetwork(IpAddr);

impl ClientNetwork {
    /// Returns the client to which an address belongs.
    pub(crate) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        })
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => write!(formatter, "{address}"),
            IpAddr::V6(network) => write!(formatter, "{network}/64"),
        }
    }
}

/// Returns the address that a request comes from: that of the connection, unless a trusted proxy sent it. Then it is
/// the last address in `forwarded` that no trusted proxy has. `forwarded` has the values of the `X-Forwarded-For`
/// headers in order. Everything before that address was written by the client itself and is not read.
pub(super) fn client_address<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    proxies: &[Network],
) -> IpAddr {
    let mut client = peer.to_canonical();
    let entries = forwarded.rev().flat_map(|value| value.rsplit(','));
    for entry in entries.take(LONGEST_CHAIN) {
        if !is_in(client, proxies) {
            break;
        }
        // An entry that cannot be read leaves the proxy that passed it on as the client.
        let Some(address) = forwarded_address(entry.trim()) else {
            break;
        };
        client = address.to_canonical();
    }
    client
}

/// Returns whether one of the networks contains the address.
pub(super) fn is_in(address: IpAddr, networks: &[Network]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(address))
}

/// Reads an entry: an address, with or without a port.
fn forwarded_address(entry: &str) -> Option<IpAddr> {
    entry
        .parse()
        .ok()
        .or_else(|| entry.parse().ok().map(|socket: std::net::SocketAddr| socket.ip()))
        .or_else(|| entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_ipv6_client_is_its_whole_network_and_a_mapped_address_is_ipv4() {
        let client = |text: &str| ClientNetwork::of(ip(text));
        assert_eq!(client("2001:db8:1:2::3"), client("2001:db8:1:2:ffff::"));
        assert_ne!(client("2001:db8:1:2::3"), client("2001:db8:1:3::3"));
        assert_eq!(client("::ffff:192.0.2.1"), client("192.0.2.1"));
        assert_ne!(client("192.0.2.1"), client("192.0.2.2"));
        assert_eq!(client("2001:db8:1:2::3").to_string(), "2001:db8:1:2::/64");
        assert_eq!(client("192.0.2.1").to_string(), "192.0.2.1");
    }

    #[test]
    fn only_a_trusted_proxy_names_another_client() {
        let proxies: Vec<Network> = ["10.0.0.0/8", "2001:db8:ffff::/48"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        for (peer, forwarded, client) in [
            // Without a proxy the header is the client's own invention.
            ("192.0.2.1", vec!["198.51.100.7"], "192.0.2.1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", vec!["198.51.100.7:4711"], "198.51.100.7"),
            ("2001:db8:ffff::1", vec!["[2001:db8::7]:443"], "2001:db8::7"),
            // Two proxies in a row, and an entry that the client wrote before them.
            (
                "10.0.0.1",
                vec!["203.0.113.9, 198.51.100.7, 10.0.0.2"],
                "198.51.100.7",
            ),
            ("10.0.0.1", vec!["198.51.100.7", "10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", vec!["198.51.100.7, nonsense"], "10.0.0.1"),
        ] {
            assert_eq!(
                client_address(ip(peer), forwarded.iter().copied(), &proxies),
                ip(client),
                "{peer} {forwarded:?}"
            );
        }
        assert_eq!(
            client_address(ip("10.0.0.1"), ["192.0.2.1"].into_iter(), &[]),
            ip("10.0.0.1")
        );
    }
}
