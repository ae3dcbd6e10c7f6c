//! Keys of objects at the source: of the locations that hold tasks, and of the tasks.
//!
//! A key is text. It is stable for the life of the object and the same for every user. It is written into
//! mailboxes (on folders as `TaskSyncLocation`, on items as `TaskSyncSourceKey`), so its form is a stored
//! format and never changes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Key of a location that holds tasks, for example `sp|3f1c2f0e-0000-4000-8000-000000000001` for a SharePoint
/// list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LocationKey(std::sync::Arc<str>);

/// Key of a task at its source: the key of its location, `|`, and the id inside the location.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceKey(std::sync::Arc<str>);

impl LocationKey {
    /// Returns the key of the SharePoint list with this GUID. The GUID may have any case and braces; the key
    /// has it in lower case, without braces.
    #[must_use]
    pub fn sharepoint_list(list: &str) -> Self {
        Self(format!("sp|{}", list.trim_matches(['{', '}']).to_ascii_lowercase()).into())
    }

    /// Returns a key read back from a store. Any text is accepted; one that tasksync did not write matches
    /// nothing.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the GUID of the list, if this is a SharePoint list.
    #[must_use]
    pub fn sharepoint_list_id(&self) -> Option<&str> {
        self.0.strip_prefix("sp|").filter(|rest| !rest.contains('|'))
    }

    /// Returns the key of the task with this id in this location.
    #[must_use]
    pub fn task(&self, id: i64) -> SourceKey {
        SourceKey(format!("{}|{id}", self.0).into())
    }

    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SourceKey {
    /// Returns a key read back from a store or a mailbox item. Any text is accepted; one that tasksync did
    /// not write matches nothing.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.into())
    }

    /// Returns the key of the location, or the whole key if it has no parts.
    #[must_use]
    pub fn location(&self) -> LocationKey {
        LocationKey(
            self.0
                .rsplit_once('|')
                .map_or(&*self.0, |(location, _)| location)
                .into(),
        )
    }

    /// Returns the id inside the location, if it is a number.
    #[must_use]
    pub fn item_id(&self) -> Option<i64> {
        self.0.rsplit_once('|').and_then(|(_, id)| id.parse().ok())
    }

    /// Returns the key as text.
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
