//! Finds free loopback ports.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::ServiceError;
use crate::random::unique_id;

/// Ports that this process has handed out, so that two servers starting at once never get the same one.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// Maximum number of tries before the search fails.
const TRIES: usize = 500;

/// Returns a port of 127.0.0.1 on which no process listens now.
///
/// It lies below the range that the system uses for client ports. While a server is down, no outgoing connection can
/// therefore occupy its port, not even a connection attempt to that very port.
pub(super) fn free_port() -> Result<u16, ServiceError> {
    let range =
        server_ports(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default());
    for _ in 0..TRIES {
        let random = unique_id().as_u128();
        let offset = u16::try_from(random % u128::from(range.end - range.start)).unwrap_or_default();
        let port = range.start + offset;
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
        if free && GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return Ok(port);
        }
    }
    Err(ServiceError::System {
        what: format!("no free port between {} and {}", range.start, range.end),
        source: std::io::Error::from(std::io::ErrorKind::AddrInUse),
    })
}

/// Returns the range of ports for servers, given the system's range of client ports ("first last").
fn server_ports(client_ports: &str) -> Range<u16> {
    let first: u16 = client_ports
        .split_whitespace()
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(32_768);
    if first >= 12_000 {
        10_000..first
    } else {
        // The system uses nearly all ports for clients. High ports are then as good as any.
        50_000..65_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_lie_outside_the_systems_client_range() {
        assert_eq!(server_ports("32768\t60999\n"), 10_000..32_768);
        assert_eq!(server_ports("15000 65535"), 10_000..15_000);
        assert_eq!(server_ports("1024 65535"), 50_000..65_000);
        assert_eq!(server_ports(""), 10_000..32_768);
    }

    #[test]
    fn no_port_is_given_twice() {
        let ports: BTreeSet<u16> = (0..50).map(|_| free_port().unwrap()).collect();
        assert_eq!(ports.len(), 50);
    }
}
