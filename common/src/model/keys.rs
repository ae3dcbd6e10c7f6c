//! Keys of things at the source: where tasks live, and which task it is.
//!
//! A key is text, stable for the life of the thing, and the same for every user. It is written into the mailbox (on
//! folders as `TaskSyncLocation`, on items as `TaskSyncSourceKey`), so its form is a stored format: it never changes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A place that holds tasks, for example `sp|3f1c2f0e-0000-4000-8000-000000000001` for a SharePoint list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LocationKey(std::sync::Arc<str>);

/// A task at its source: the location's key, `|`, and the id inside it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceKey(std::sync::Arc<str>);

impl LocationKey {
    /// A SharePoint list by its GUID (any case; stored in lower case, without braces).
    #[must_use]
    pub fn sharepoint_list(list: &str) -> Self {
        Self(format!("sp|{}", list.trim_matches(['{', '}']).to_ascii_lowercase()).into())
    }

    /// The key read back from a store; any text is accepted, a foreign one simply matches nothing.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The list GUID, when this is a SharePoint list.
    #[must_use]
    pub fn sharepoint_list_id(&self) -> Option<&str> {
        self.0.strip_prefix("sp|").filter(|rest| !rest.contains('|'))
    }

    /// The key of the task with this id in this location.
    #[must_use]
    pub fn task(&self, id: i64) -> SourceKey {
        SourceKey(format!("{}|{id}", self.0).into())
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SourceKey {
    /// The key read back from a store or a mailbox item; any text is accepted, a foreign one simply matches nothing.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// The location part, or the whole key when it has no parts.
    #[must_use]
    pub fn location(&self) -> LocationKey {
        LocationKey(
            self.0
                .rsplit_once('|')
                .map_or(&*self.0, |(location, _)| location)
                .into(),
        )
    }

    /// The id inside the location, when it is a number.
    #[must_use]
    pub fn item_id(&self) -> Option<i64> {
        self.0.rsplit_once('|').and_then(|(_, id)| id.parse().ok())
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LocationKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for SourceKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_carries_its_location() {
        let list = LocationKey::sharepoint_list("{3F1C2F0E-0000-4000-8000-000000000001}");
        assert_eq!(list.as_str(), "sp|3f1c2f0e-0000-4000-8000-000000000001");
        let task = list.task(17);
        assert_eq!(task.as_str(), "sp|3f1c2f0e-0000-4000-8000-000000000001|17");
        assert_eq!(task.location(), list);
        assert_eq!(task.item_id(), Some(17));
        assert_eq!(
            list.sharepoint_list_id(),
            Some("3f1c2f0e-0000-4000-8000-000000000001")
        );
        assert_eq!(SourceKey::from_stored("what").item_id(), None);
    }
}
