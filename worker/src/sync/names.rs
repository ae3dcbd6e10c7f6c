//! What people call the tasks and lists of a pass.

use std::collections::BTreeMap;

use tasksync_common::model::{LocationKey, SourceKey};
use tasksync_common::plan::{MailboxSide, Pair, SourceSide};

use super::load::Loaded;

/// Titles of tasks and names of lists, as far as they are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PlanNames {
    /// The titles: at the source, or else in the mailbox, or else as last agreed.
    pub titles: BTreeMap<SourceKey, String>,
    /// The names of lists: at the source, or else as saved.
    pub lists: BTreeMap<LocationKey, String>,
}

impl PlanNames {
    pub(super) fn of(loaded: &Loaded) -> Self {
        let saved = loaded.pass.saved();
        let agreed = saved.links.iter().filter(|(_, link)| link.is_agreed());
        let mut titles: BTreeMap<SourceKey, String> = agreed
            .map(|(key, link)| (key.clone(), link.agreed.title().to_owned()))
            .collect();
        titles.extend(
            loaded
                .pairs
                .iter()
                .filter_map(|pair| Some((pair.key.clone(), title_of(pair)?))),
        );
        let saved_lists = saved.locations.iter();
        let mut lists: BTreeMap<LocationKey, String> = saved_lists
            .map(|(key, location)| (key.clone(), location.name.clone()))
            .collect();
        let read = loaded.locations.iter();
        lists.extend(read.map(|(key, location)| (key.clone(), location.name.clone())));
        Self { titles, lists }
    }
}

/// Returns the title that was read in this pass.
fn title_of(pair: &Pair) -> Option<String> {
    let of_source = match &pair.source {
        SourceSide::Present(value) => Some(&value.task.title),
        SourceSide::Unchanged | SourceSide::Absent(_) => None,
    };
    let of_mailbox = match &pair.mailbox {
        // The title of a private item belongs to the person.
        MailboxSide::Present(value) => (!value.private).then_some(&value.task.title),
        MailboxSide::Unchanged | MailboxSide::Gone | MailboxSide::Archived | MailboxSide::FolderGone => None,
    };
    of_source.or(of_mailbox).cloned()
}
