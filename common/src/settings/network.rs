//! Networks in CIDR form.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A network in CIDR form, for example `10.0.0.0/8` or `fd00::/8`; a bare address is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not a network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The part before the slash is not an IP address.
    #[error("\"{0}\" is not a network: write an IP address and a prefix length, for example 10.0.0.0/8")]
    NotAnAddress(String),
    /// The part after the slash is not a prefix length of this kind of address.
    #[error("\"{text}\": the prefix length must be a number from 0 to {maximum}")]
    Prefix {
        /// What was written.
        text: String,
        /// 32 for IPv4, 128 for IPv6.
        maximum: u8,
    },
    /// Bits after the prefix are set, so it is unclear which network is meant.
    #[error("\"{text}\" has bits set after its prefix; did you mean {intended}?")]
    HostBits {
        /// What was written.
        text: String,
        /// The same with these bits cleared.
        intended: Network,
    },
    /// An IPv4 network in its IPv6-mapped form would never match, because addresses are compared in their
    /// plain form.
    #[error("\"{0}\" is an IPv4-mapped network; write it as an IPv4 network")]
    Mapped(String),
}

impl Network {
    /// Returns the IPv4 network of these four numbers and a prefix length. No bit after the prefix may be set.
    #[must_use]
    pub const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)),
            prefix,
        }
    }

    /// Returns the IPv6 network of these eight numbers and a prefix length. No bit after the prefix may be set.
    #[must_use]
    pub const fn v6(segments: [u16; 8], prefix: u8) -> Self {
        Self {
            address: IpAddr::V6(Ipv6Addr::from_segments(segments)),
            prefix,
        }
    }

    /// Returns whether the address is in the network. IPv4 and IPv6 never match each other.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                masked4(network, self.prefix) == masked4(address, self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                masked6(network, self.prefix) == masked6(address, self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn masked4(address: Ipv4Addr, prefix: u8) -> Ipv4Addr {
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    Ipv4Addr::from_bits(address.to_bits() & mask)
}

fn masked6(address: Ipv6Addr, prefix: u8) -> Ipv6Addr {
    let mask = u128::MAX
        .checked_shl(128 - u32::from(prefix.min(128)))
        .unwrap_or(0);
    Ipv6Addr::from_bits(address.to_bits() & mask)
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address
            .parse()
            .map_err(|_| NetworkError::NotAnAddress(text.to_owned()))?;
        let maximum = match address {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let prefix = match prefix {
            None => maximum,
            Some(digits) => digits
                .parse::<u8>()
                .ok()
                .filter(|prefix| *prefix <= maximum && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| NetworkError::Prefix {
                    text: text.to_owned(),
                    maximum,
                })?,
        };
        let (cleared, mapped) = match address {
            IpAddr::V4(address) => (IpAddr::V4(masked4(address, prefix)), false),
            IpAddr::V6(address) => (
                IpAddr::V6(masked6(address, prefix)),
                prefix >= 96 && address.to_ipv4_mapped().is_some(),
            ),
        };
        if mapped {
            Err(NetworkError::Mapped(text.to_owned()))
        } else if cleared == address {
            Ok(Self { address, prefix })
        } else {
            Err(NetworkError::HostBits {
                text: text.to_owned(),
                intended: Self {
                    address: cleared,
                    prefix,
                },
            })
        }
    }
}
