//! Names of tenants, users and mailboxes. The tenant is part of every address (ARCHITECTURE, invariant 11).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::stored_as_text;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The name is empty.
    #[error("{what} is empty")]
    Empty {
        /// The kind of name.
        what: &'static str,
    },
    /// The name is longer than allowed.
    #[error("{what} has {length} characters; at most {maximum} are allowed")]
    TooLong {
        /// The kind of name.
        what: &'static str,
        /// Length found, in bytes.
        length: usize,
        /// Longest length allowed, in bytes.
        maximum: usize,
    },
    /// The name holds a character that is not allowed.
    #[error("{what} \"{name}\" holds {character:?}; allowed are {allowed}")]
    Character {
        /// The kind of name.
        what: &'static str,
        /// The whole name.
        name: String,
        /// The first character that is not allowed.
        character: char,
        /// What is allowed, in words.
        allowed: &'static str,
    },
    /// The mailbox address does not have exactly one `@` between two parts.
    #[error("\"{0}\" is not a mailbox address of the form name@domain")]
    NotAnAddress(String),
}

fn check(
    what: &'static str,
    name: &str,
    maximum: usize,
    allowed: &'static str,
    accepts: fn(char) -> bool,
) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    if name.len() > maximum {
        return Err(NameError::TooLong {
            what,
            length: name.len(),
            maximum,
        });
    }
    match name.chars().find(|&character| !accepts(character)) {
        Some(character) => Err(NameError::Character {
            what,
            name: name.to_owned(),
            character,
            allowed,
        }),
        None => Ok(()),
    }
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// Returns the name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
        stored_as_text!($name, NameError);
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

/// Name of a tenant: 1 to 63 characters of `a-z`, `0-9` and `-`. It is used in keys, messages, metrics and
/// paths.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(std::sync::Arc<str>);
text_newtype!(TenantId);

impl FromStr for TenantId {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        check(
            "tenant name",
            name,
            63,
            "a-z, 0-9 and -",
            |character| matches!(character, 'a'..='z' | '0'..='9' | '-'),
        )?;
        Ok(Self(name.into()))
    }
}

/// Name of a user inside one tenant: 1 to 128 printable ASCII characters without blanks, `/`, `{`, `}` and
/// quotes. Usually the person's e-mail name or account name. Names are compared byte by byte, so they are
/// stored in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(std::sync::Arc<str>);
text_newtype!(UserId);

impl FromStr for UserId {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        let name = name.to_ascii_lowercase();
        check(
            "user name",
            &name,
            128,
            "printable ASCII without blanks, /, { } and quotes",
            |character| character.is_ascii_graphic() && !matches!(character, '/' | '{' | '}' | '"' | '\''),
        )?;
        Ok(Self(name.into()))
    }
}

/// A user together with the tenant, the only form in which a user is passed around.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UserKey {
    /// The tenant.
    pub tenant: TenantId,
    /// The user inside it.
    pub user: UserId,
}

impl UserKey {
    /// Returns the key of `user` in `tenant`.
    #[must_use]
    pub fn new(tenant: TenantId, user: UserId) -> Self {
        Self { tenant, user }
    }
}

impl fmt::Display for UserKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.tenant, self.user)
    }
}

/// Primary SMTP address of a mailbox, in lower case; at most 320 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MailboxAddress(std::sync::Arc<str>);
text_newtype!(MailboxAddress);

impl FromStr for MailboxAddress {
    type Err = NameError;
    fn from_str(address: &str) -> Result<Self, NameError> {
        let address = address.to_lowercase();
        check(
            "mailbox address",
            &address,
            320,
            "no blanks, control characters, <, > and quotes",
            |character| {
                !character.is_whitespace() && !character.is_control() && !matches!(character, '<' | '>' | '"')
            },
        )?;
        match address.split_once('@') {
            Some((name, domain)) if !name.is_empty() && !domain.is_empty() && !domain.contains('@') => {
                Ok(Self(address.into()))
            }
            _ => Err(NameError::NotAnAddress(address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_normalised() {
        assert_eq!("contoso-1".parse::<TenantId>().unwrap().as_str(), "contoso-1");
        assert!(matches!(
            "Contoso".parse::<TenantId>(),
            Err(NameError::Character { character: 'C', .. })
        ));
        assert!(matches!(
            "a{b".parse::<TenantId>(),
            Err(NameError::Character { .. })
        ));
        assert!(matches!("".parse::<TenantId>(), Err(NameError::Empty { .. })));
        assert!(matches!(
            "a".repeat(64).parse::<TenantId>(),
            Err(NameError::TooLong { length: 64, .. })
        ));
        assert_eq!(
            "Ana@Contoso.example".parse::<UserId>().unwrap().as_str(),
            "ana@contoso.example"
        );
        assert!("an a".parse::<UserId>().is_err());
        assert_eq!(
            "Ana@Contoso.Example".parse::<MailboxAddress>().unwrap().as_str(),
            "ana@contoso.example"
        );
        for wrong in ["ana", "@contoso", "ana@", "a@b@c", "a <b@c>"] {
            assert!(wrong.parse::<MailboxAddress>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stored_name_that_breaks_the_rules_is_refused_when_read() {
        assert!(serde_json::from_str::<TenantId>("\"no blanks\"").is_err());
        assert_eq!(
            serde_json::to_string(&"t1".parse::<TenantId>().unwrap()).unwrap(),
            "\"t1\""
        );
    }
}
