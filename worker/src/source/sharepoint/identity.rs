//! A person's identity in the tenant's sites, as saved with their sync state. Pure.
//!
//! The stored form is compact JSON:
//! `{"login":"<asked for>","at":<unix seconds>,"users":{"<site>":[<id>,"<login name>"]}}`, where `<site>` is the
//! site's name in a [cursor](super::cursor). This is a stored format: what cannot be read counts as unknown, and
//! the sites are asked.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::people::SiteUser;
use crate::source::Person;

/// A person's identity; its stored form is described in the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// The login about which the sites were asked. The identity does not apply to another login.
    login: String,
    /// The time of the oldest answer.
    at: i64,
    users: BTreeMap<String, (i64, String)>,
}

impl Identity {
    /// Returns what these sites, each with its name, answered about `login`; `None` if no site knows it.
    pub(super) fn of<'a>(
        login: &str,
        answers: impl Iterator<Item = (&'a str, SiteUser, Timestamp)>,
    ) -> Option<Self> {
        let mut identity = Self {
            login: login.to_owned(),
            at: i64::MAX,
            users: BTreeMap::new(),
        };
        for (site, user, at) in answers {
            identity.at = identity.at.min(at.as_second());
            identity.users.insert(site.to_owned(), (user.id, user.login));
        }
        (!identity.users.is_empty()).then_some(identity)
    }

    /// Returns the saved identity of the person.
    pub(super) fn saved_of(person: &Person) -> Option<Self> {
        let identity: Self = serde_json::from_str(person.identity.as_deref()?).ok()?;
        (identity.login == person.login).then_some(identity)
    }

    /// Returns the person in a site, and the time since which this is known.
    pub(super) fn in_site(&self, site: &str) -> Option<(SiteUser, Timestamp)> {
        let (id, login) = self.users.get(site)?;
        let user = SiteUser {
            id: *id,
            login: login.clone(),
        };
        Some((user, Timestamp::from_second(self.at).ok()?))
    }

    /// Returns the stored form.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_of_another_login_or_one_that_cannot_be_read_says_nothing() {
        let user = |id| SiteUser {
            id,
            login: "i:0#.w|ana".to_owned(),
        };
        let at = |second| Timestamp::from_second(second).unwrap();
        let answers = [("a", user(12), at(50)), ("b", user(7), at(40))];
        let identity = Identity::of("ana", answers.into_iter()).unwrap();
        let kept = |login: &str, text: &str| {
            Identity::saved_of(&Person {
                login: login.to_owned(),
                identity: Some(text.to_owned()),
            })
        };
        let text = identity.to_text();
        assert_eq!(kept("ana", &text), Some(identity.clone()));
        assert_eq!(identity.in_site("a"), Some((user(12), at(40))));
        assert_eq!(identity.in_site("c"), None);
        assert_eq!(kept("bo", &text), None);
        for damaged in ["", "{}", &text[1..], &text.replace("12", "\"x\"")] {
            assert_eq!(kept("ana", damaged), None, "{damaged}");
        }
        assert_eq!(Identity::saved_of(&Person::new("ana")), None);
        assert_eq!(Identity::of("ana", std::iter::empty()), None);
    }
}
