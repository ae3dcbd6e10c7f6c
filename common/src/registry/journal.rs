//! The journal: what a sync overwrote, deleted or restored.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::model::{SourceKey, UserKey};
use crate::plan::Side;

/// A value that a sync overwrote, deleted or restored, kept so that people can see and undo it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalEntry {
    /// When it happened.
    pub at: Timestamp,
    /// The user whose sync it was.
    pub user: UserKey,
    /// The task.
    pub task: SourceKey,
    /// What happened, and on which side.
    pub kind: JournalKind,
    /// The overwritten or deleted values: an object with one member per value.
    pub before: Option<serde_json::Value>,
    /// The values that replaced them, in the same form.
    pub after: Option<serde_json::Value>,
}

/// Declares the kinds with their stored names, which never change.
macro_rules! journal_kinds {
    ($(#[doc = $meaning:literal] $kind:ident, $name:literal, $side:expr;)+) => {
        /// What happened to a task, and on which side.
        #[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum JournalKind {
            $(#[doc = $meaning] $kind,)+
            /// A kind that another build wrote, by its name.
            Other(String),
        }

        impl JournalKind {
            /// Every kind of this build.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// Returns the name that is stored and shown.
            #[must_use]
            pub fn name(&self) -> &str {
                match self {
                    $(Self::$kind => $name,)+
                    Self::Other(name) => name,
                }
            }

            /// Returns what happened as a sentence for people; `None` for a kind of another build.
            #[must_use]
            pub fn meaning(&self) -> Option<&'static str> {
                match self {
                    $(Self::$kind => Some($meaning.trim_ascii_start()),)+
                    Self::Other(_) => None,
                }
            }

            /// Returns the side whose values changed; `None` for a kind of another build.
            #[must_use]
            pub fn side(&self) -> Option<Side> {
                match self {
                    $(Self::$kind => Some($side),)+
                    Self::Other(_) => None,
                }
            }
        }

        impl From<String> for JournalKind {
            fn from(name: String) -> Self {
                match name.as_str() {
                    $($name => Self::$kind,)+
                    _ => Self::Other(name),
                }
            }
        }
    };
}

impl From<JournalKind> for String {
    fn from(kind: JournalKind) -> Self {
        kind.name().to_owned()
    }
}

journal_kinds! {
    /// An edit of the mailbox replaced values at the source that had not changed since the last sync.
    OverwrittenAtSource, "overwritten_at_source", Side::Source;
    /// An edit at the source replaced values in the mailbox that had not changed since the last sync.
    OverwrittenInMailbox, "overwritten_in_mailbox", Side::Mailbox;
    /// Both sides were edited, and the source's edit lost.
    ConflictLostAtSource, "conflict_lost_at_source", Side::Source;
    /// Both sides were edited, and the mailbox's edit lost.
    ConflictLostInMailbox, "conflict_lost_in_mailbox", Side::Mailbox;
    /// The person has no right to edit the task at the source, and an edit of the copy was set back.
    SetBackInMailbox, "set_back_in_mailbox", Side::Mailbox;
    /// The person has no right to edit or delete the task at the source, and the deleted copy was recreated.
    DeletionSetBackInMailbox, "deletion_set_back_in_mailbox", Side::Mailbox;
    /// A task was deleted at the source, because its copy was deleted.
    DeletedAtSource, "deleted_at_source", Side::Source;
    /// A task was completed at the source, because its copy was deleted.
    CompletedAtSource, "completed_at_source", Side::Source;
    /// A copy was removed, because its task is gone.
    RemovedFromMailbox, "removed_from_mailbox", Side::Mailbox;
    /// A copy was removed, because its task is gone; the copy had edits that were never sent to the source.
    EditRemovedFromMailbox, "edit_removed_from_mailbox", Side::Mailbox;
    /// A copy was completed and became the person's own, because its task is gone.
    CompletedInMailbox, "completed_in_mailbox", Side::Mailbox;
    /// A copy became the person's own, because its task is gone.
    LeftInMailbox, "left_in_mailbox", Side::Mailbox;
    /// A deleted copy was recreated.
    RestoredInMailbox, "restored_in_mailbox", Side::Mailbox;
    /// An unchanged second copy was removed.
    SecondCopyRemoved, "second_copy_removed", Side::Mailbox;
    /// A changed second copy became the person's own.
    SecondCopyLeft, "second_copy_left", Side::Mailbox;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_by_its_name_and_one_of_another_build_keeps_its_own() {
        for kind in JournalKind::ALL {
            assert_eq!(JournalKind::from(kind.name().to_owned()), *kind);
            let meaning = kind.meaning().unwrap();
            assert!(
                meaning.starts_with(char::is_uppercase) && meaning.ends_with('.'),
                "{meaning}"
            );
        }
        let other = JournalKind::from("of_tomorrow".to_owned());
        assert_eq!(other, JournalKind::Other("of_tomorrow".to_owned()));
        assert_eq!(
            (other.name(), other.side(), other.meaning()),
            ("of_tomorrow", None, None)
        );
    }
}
