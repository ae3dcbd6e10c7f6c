//! The rules for addresses to which tasksync connects. Tenants write URLs, so a URL may try to reach into the
//! operator's network.
//!
//! The rules, in this order:
//! 1. A cloud's metadata address is never connected to, however it is written.
//! 2. An address inside `outbound.allowed_networks` is connected to.
//! 3. Every private, reserved or special address is refused; the rest of the internet is connected to.
//!
//! An IPv6 address that contains an IPv4 address is judged by the address that the packet reaches.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use tasksync_common::settings::{Network, NetworkError};
use url::{Host, Url};

/// Addresses at which clouds serve an instance's identity or accept instructions. No tenant's server has one
/// of them.
const METADATA: &[IpAddr] = &[
    // EC2, Azure, Google, OpenStack, Oracle, DigitalOcean, Hetzner and others.
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    // Credentials of ECS tasks and EKS pods, and EC2's time server.
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 2)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 170, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 123)),
    // Tencent, Scaleway.
    IpAddr::V4(Ipv4Addr::new(169, 254, 0, 23)),
    IpAddr::V4(Ipv4Addr::new(169, 254, 42, 42)),
    // Alibaba, in the carrier range.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle's old form.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // Azure's wire server; looks like a public address.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // EC2, EKS pods, Google, Scaleway over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),
];

/// The special-purpose registries of IANA (RFC 6890 and its successors), the more specific networks first.
const SPECIAL: &[(Network, &str)] = &[
    (Network::v4(0, 0, 0, 0, 8), "unspecified"),
    (Network::v4(10, 0, 0, 0, 8), "private"),
    (Network::v4(100, 64, 0, 0, 10), "shared by carriers"),
    (Network::v4(127, 0, 0, 0, 8), "loopback"),
    (Network::v4(169, 254, 0, 0, 16), "link-local"),
    (Network::v4(172, 16, 0, 0, 12), "private"),
    (Network::v4(192, 0, 0, 0, 24), "reserved for protocols"),
    (Network::v4(192, 0, 2, 0, 24), "for documentation"),
    (Network::v4(192, 31, 196, 0, 24), "reserved for AS112"),
    (Network::v4(192, 52, 193, 0, 24), "reserved for AMT"),
    (Network::v4(192, 88, 99, 0, 24), "reserved for 6to4 relays"),
    (Network::v4(192, 168, 0, 0, 16), "private"),
    (Network::v4(192, 175, 48, 0, 24), "reserved for AS112"),
    (Network::v4(198, 18, 0, 0, 15), "for benchmarks"),
    (Network::v4(198, 51, 100, 0, 24), "for documentation"),
    (Network::v4(203, 0, 113, 0, 24), "for documentation"),
    (Network::v4(224, 0, 0, 0, 4), "multicast"),
    (Network::v4(255, 255, 255, 255, 32), "broadcast"),
    (Network::v4(240, 0, 0, 0, 4), "reserved"),
    (Network::v6([0; 8], 128), "unspecified"),
    (Network::v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "loopback"),
    (Network::v6([0; 8], 96), "IPv4-compatible"),
    (Network::v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "IPv4-translated"),
    (
        Network::v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),
        "a local translation to IPv4",
    ),
    (Network::v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "discarded"),
    (Network::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "a Teredo tunnel"),
    (
        Network::v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
        "reserved for protocols",
    ),
    (
        Network::v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
        "for documentation",
    ),
    (Network::v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "a 6to4 tunnel"),
    (
        Network::v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0], 48),
        "reserved for AS112",
    ),
    (
        Network::v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
        "for documentation",
    ),
    (
        Network::v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16),
        "a segment identifier",
    ),
    (
        Network::v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),
        "unique local (private)",
    ),
    (Network::v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "link-local"),
    (
        Network::v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),
        "site-local (private)",
    ),
    (Network::v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "multicast"),
];

/// All IPv6 addresses that are assigned so far.
const GLOBAL_UNICAST: Network = Network::v6([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);

/// The well-known prefix of NAT64 (RFC 6052): the last 32 bits are an IPv4 address.
const NAT64: Network = Network::v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// Why tasksync does not connect to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressRefusal {
    /// A cloud's metadata address: refused whatever the settings say.
    Metadata,
    /// Not an address of the public internet, and not in `outbound.allowed_networks`.
    Special {
        /// The kind of address, as a phrase for a sentence.
        kind: &'static str,
        /// The address that would have to be allowed.
        address: IpAddr,
    },
}

/// The operator's rules, parsed once at start.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    allowed: Vec<Network>,
    allow_plain_http: bool,
}

impl AddressRules {
    /// Returns rules that allow these networks in addition to the public internet.
    ///
    /// # Errors
    /// The error names the entry that is not a network.
    pub fn new(allowed_networks: &[String], allow_plain_http: bool) -> Result<Self, NetworkError> {
        Ok(Self {
            allowed: allowed_networks
                .iter()
                .map(|text| text.trim().parse())
                .collect::<Result<_, _>>()?,
            allow_plain_http,
        })
    }

    /// Checks that tasksync may connect to this address.
    ///
    /// # Errors
    /// The reason why not.
    pub fn judge(&self, address: IpAddr) -> Result<(), AddressRefusal> {
        let address = address.to_canonical();
        let embedded = match address {
            IpAddr::V4(_) => [None; 3],
            IpAddr::V6(address) => embedded_ipv4(address),
        };
        let metadata = |address: IpAddr| METADATA.contains(&address);
        if metadata(address)
            || embedded
                .iter()
                .flatten()
                .any(|inner| metadata(IpAddr::V4(*inner)))
        {
            return Err(AddressRefusal::Metadata);
        }
        if self.allowed.iter().any(|network| network.contains(address)) {
            return Ok(());
        }
        if let Some((_, kind)) = SPECIAL.iter().find(|(network, _)| network.contains(address)) {
            return Err(AddressRefusal::Special { kind, address });
        }
        match address {
            IpAddr::V4(_) => Ok(()),
            IpAddr::V6(wide) if NAT64.contains(address) || is_isatap(wide) => embedded
                .iter()
                .flatten()
                .try_for_each(|inner| self.judge(IpAddr::V4(*inner))),
            IpAddr::V6(_) if GLOBAL_UNICAST.contains(address) => Ok(()),
            IpAddr::V6(_) => Err(AddressRefusal::Special {
                kind: "not assigned",
                address,
            }),
        }
    }

    /// Checks a URL itself: scheme, credentials, and the host if it is an IP address. A host name is checked
    /// when it is resolved. The `url` crate has already converted decimal, octal, hexadecimal and shortened
    /// forms of IPv4 addresses into plain ones.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what to do.
    pub fn check_url(&self, url: &Url) -> Result<(), String> {
        let host = super::host_of(url);
        match url.scheme() {
            "https" => {}
            "http" if self.allow_plain_http => {}
            "http" => {
                return Err(format!(
                    "{host}: http:// is not encrypted; write https:// (or, for trials only, set outbound.allow_plain_http)"
                ));
            }
            other => {
                return Err(format!("{host}: tasksync speaks https only, not {other}"));
            }
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!(
                "{host}: an address must not hold a user name or password; name them in the tenant's credentials"
            ));
        }
        let literal = match url.host() {
            Some(Host::Ipv4(address)) => IpAddr::V4(address),
            Some(Host::Ipv6(address)) => IpAddr::V6(address),
            Some(Host::Domain(name)) if !name.trim_matches('.').is_empty() => return Ok(()),
            Some(Host::Domain(_)) | None => return Err(format!("{host}: the address names no host")),
        };
        self.judge(literal)
            .map_err(|refusal| explain(&host, literal, refusal))
    }

    /// Returns the addresses of a name that tasksync may connect to, in the resolver's order.
    ///
    /// One metadata address refuses the whole answer: no legitimate name has one. Other refused addresses are
    /// left out, because company names often have tunnel or link-local addresses beside the one that is
    /// meant.
    ///
    /// # Errors
    /// If no address is left, the reason why the first was refused.
    pub fn choose(&self, host: &str, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, String> {
        let mut first = None;
        let mut chosen = Vec::new();
        for address in addresses {
            match self.judge(*address) {
                Ok(()) => chosen.push(*address),
                Err(AddressRefusal::Metadata) => {
                    return Err(explain(host, *address, AddressRefusal::Metadata));
                }
                Err(refusal) => {
                    first.get_or_insert((*address, refusal));
                }
            }
        }
        match (chosen.is_empty(), first) {
            (true, Some((address, refusal))) => Err(explain(host, address, refusal)),
            (true, None) => Err(format!("{host} has no address")),
            (false, _) => Ok(chosen),
        }
    }
}

/// Returns the refusal as text, with the network that would have to be allowed.
fn explain(host: &str, found: IpAddr, refusal: AddressRefusal) -> String {
    match refusal {
        AddressRefusal::Metadata => format!(
            "{host} leads to {found}, a metadata address of the cloud; tasksync never connects there, whatever is allowed"
        ),
        AddressRefusal::Special { kind, address } => {
            let prefix = match address {
                IpAddr::V4(_) => 32,
                IpAddr::V6(_) => 128,
            };
            let through = if found == address {
                String::new()
            } else {
                format!(" (reached through {found})")
            };
            format!(
                "{host} leads to {address}{through}, which is {kind}; if that is right, the operator adds its network to \
                 outbound.allowed_networks, for example \"{address}/{prefix}\""
            )
        }
    }
}

/// Returns the IPv4 addresses that the known transition techniques would extract from this address.
fn embedded_ipv4(address: Ipv6Addr) -> [Option<Ipv4Addr>; 3] {
    let bits = address.to_bits();
    let at = |shift: u32| Ipv4Addr::from_bits(u32::try_from((bits >> shift) & 0xffff_ffff).unwrap_or(0));
    let last = at(0);
    let segments = address.segments();
    match segments {
        // IPv4-compatible, IPv4-translated, NAT64.
        [0, 0, 0, 0, 0 | 0xffff, 0, ..] | [0x64, 0xff9b, 0, 0, 0, 0, ..] => [Some(last), None, None],
        // A local NAT64 prefix (RFC 8215) of 48 or 96 bits. RFC 6052 skips bits 64 to 71.
        [0x64, 0xff9b, 1, ..] => {
            let split = (at(48).to_bits() & 0xffff_0000) | (at(40).to_bits() & 0xffff);
            [Some(last), Some(Ipv4Addr::from_bits(split)), None]
        }
        // Teredo: the server's address as it is, the client's inverted.
        [0x2001, 0, ..] => [Some(at(64)), Some(Ipv4Addr::from_bits(!last.to_bits())), None],
        // 6to4, and ISATAP inside of it.
        [0x2002, ..] => [
            Some(at(80)),
            if is_isatap(address) { Some(last) } else { None },
            None,
        ],
        _ if is_isatap(address) => [Some(last), None, None],
        _ => [None; 3],
    }
}

/// Returns whether this is an ISATAP address (RFC 5214): its interface identifier is 0:5efe or 200:5efe,
/// followed by an IPv4 address.
fn is_isatap(address: Ipv6Addr) -> bool {
    matches!(address.segments(), [_, _, _, _, 0 | 0x200, 0x5efe, _, _])
}

#[cfg(test)]
mod tests;
