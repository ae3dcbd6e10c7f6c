//! Deciding to whom a marker in a mailbox belongs. Pure.

use tasksync_common::model::InstallationId;

use crate::mailbox::{MarkedFor, Marker, Owner};

/// The owner of a marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum MarkerOwnership {
    /// It names this installation, tenant and person.
    OwnMarker,
    /// An earlier build wrote it without an owner; it is ours.
    Unnamed,
    /// It names another owner, or cannot be read. The item or folder is left alone.
    Foreign(String),
}

/// Returns the owner of a marker that was found in this owner's mailbox.
pub(super) fn ownership_of<T>(marker: &Marker<T>, owner: &Owner) -> MarkerOwnership {
    match &marker.marked_for {
        MarkedFor::Unnamed => MarkerOwnership::Unnamed,
        MarkedFor::Owner(named) if *named == owner.marker => MarkerOwnership::OwnMarker,
        MarkedFor::Owner(named) => MarkerOwnership::Foreign(named.to_string()),
        MarkedFor::Unreadable(text) => MarkerOwnership::Foreign(text.chars().take(80).collect()),
    }
}

/// Returns the installation that wrote a marker, if it is not this one.
pub(super) fn other_installation<T>(marker: &Marker<T>, owner: &Owner) -> Option<InstallationId> {
    match &marker.marked_for {
        MarkedFor::Owner(named) => {
            (named.installation != owner.marker.installation).then_some(named.installation)
        }
        MarkedFor::Unnamed | MarkedFor::Unreadable(_) => None,
    }
}
