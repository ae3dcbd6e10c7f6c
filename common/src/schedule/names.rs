//! A digest of the names of a tenant's users. Registry and schedule keep it independently, because equal
//! numbers of users do not show that one is missing and another does not belong there.

use crate::model::{UserId, digest};

/// Digests are sums modulo this. Redis scripts calculate in doubles, which are exact up to 2⁵³.
const MODULUS: u64 = 1 << 48;

/// Returns the contribution of one user to the digest of a tenant: 40 bits, so that a database can add up a
/// million of them.
#[must_use]
pub fn digest_of(user: &UserId) -> u64 {
    digest(user.as_str().bytes()) >> 24
}

/// Returns the digest of a tenant from the contributions of its users, or from partial sums of them.
#[must_use]
pub fn digest_of_all(parts: impl IntoIterator<Item = u64>) -> u64 {
    parts
        .into_iter()
        .fold(0, |sum, part| (sum + part % MODULUS) % MODULUS)
}

/// The users of one tenant, as one store counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TenantUsers {
    /// Number of users.
    pub users: u64,
    /// Digest of their names; `None` if the store has not computed it yet.
    pub names: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_shows_a_missing_user_and_a_superfluous_one() {
        let of = |names: &[&str]| digest_of_all(names.iter().map(|name| digest_of(&name.parse().unwrap())));
        assert_eq!(of(&["ana", "ben"]), of(&["ben", "ana"]));
        assert_ne!(of(&["ana", "ben"]), of(&["ana", "bea"]));
        assert_eq!(of(&[]), 0);
        assert!(digest_of_all([MODULUS - 1, MODULUS + 1, u64::MAX]) < MODULUS);
    }
}
