//! The owner of a marker in a mailbox: the installation, the tenant and the person it was written for.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{NameError, TenantId, UserId, UserKey, stored_as_text};
use crate::random::unique_id;

/// Why the text of an installation id or of a marker's owner was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// The text is not a UUID.
    #[error(
        "\"{0}\" is not an installation id; expected a UUID such as 6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa"
    )]
    Installation(String),
    /// The text has fewer or more than three parts.
    #[error("\"{0}\" does not name an owner; expected INSTALLATION/TENANT/USER")]
    Parts(String),
    /// The tenant's or the user's name breaks the rules of names.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// Id of an installation: a random UUID, kept in the registry. All processes that share a registry are one
/// installation; a copy of the registry is the same installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InstallationId(Uuid);

impl InstallationId {
    /// Returns an id that no other installation has.
    #[must_use]
    pub fn random() -> Self {
        Self(unique_id())
    }
}

impl fmt::Display for InstallationId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(formatter)
    }
}

impl FromStr for InstallationId {
    type Err = OwnerError;
    fn from_str(text: &str) -> Result<Self, OwnerError> {
        match Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Ok(Self(id)),
            Ok(_) | Err(_) => Err(OwnerError::Installation(shortened(text))),
        }
    }
}

stored_as_text!(InstallationId, OwnerError);

/// The owner of a marker. Its text form, `INSTALLATION/TENANT/USER`, is written into mailboxes and never changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MarkerOwner {
    /// The installation that wrote the marker.
    pub installation: InstallationId,
    /// The tenant it was written for.
    pub tenant: TenantId,
    /// The person it was written for.
    pub user: UserId,
}

impl MarkerOwner {
    /// Returns the owner of the markers that `installation` writes for `user`.
    #[must_use]
    pub fn new(installation: InstallationId, user: &UserKey) -> Self {
        Self {
            installation,
            tenant: user.tenant.clone(),
            user: user.user.clone(),
        }
    }
}

impl fmt::Display for MarkerOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.installation, self.tenant, self.user)
    }
}

impl FromStr for MarkerOwner {
    type Err = OwnerError;
    fn from_str(text: &str) -> Result<Self, OwnerError> {
        // Names of tenants and users contain no slash.
        let mut parts = text.split('/');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(installation), Some(tenant), Some(user), None) => Ok(Self {
                installation: installation.parse()?,
                tenant: tenant.parse()?,
                user: user.parse()?,
            }),
            _ => Err(OwnerError::Parts(shortened(text))),
        }
    }
}

stored_as_text!(MarkerOwner, OwnerError);

/// Returns at most 80 characters of a text from outside, to be shown in an error.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_back_from_its_text() {
        let user = UserKey::new("contoso".parse().unwrap(), "ana@contoso.example".parse().unwrap());
        let owner = MarkerOwner::new(InstallationId::random(), &user);
        assert_eq!(owner.to_string().parse::<MarkerOwner>(), Ok(owner.clone()));
        assert_eq!(
            serde_json::from_str::<MarkerOwner>(&serde_json::to_string(&owner).unwrap()).unwrap(),
            owner
        );
    }

    #[test]
    fn a_text_that_names_no_owner_is_refused() {
        let id = "6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa";
        assert!(id.parse::<InstallationId>().is_ok());
        for wrong in [
            "",
            "6f1c1c5e3b0a4f6e9d0e2a54b7c1f0aa",
            "{6f1c1c5e-3b0a-4f6e-9d0e-2a54b7c1f0aa}",
        ] {
            assert!(wrong.parse::<InstallationId>().is_err(), "{wrong}");
        }
        for wrong in [
            String::new(),
            id.to_owned(),
            format!("{id}/contoso"),
            format!("{id}/Contoso/ana"),
            format!("{id}/contoso/ana/more"),
            "x/contoso/ana".to_owned(),
        ] {
            assert!(wrong.parse::<MarkerOwner>().is_err(), "{wrong}");
        }
    }
}
