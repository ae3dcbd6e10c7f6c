//! Deciding whether a registry may be filled from a file, and as whose. Pure.

use tasksync_common::model::InstallationId;
use tasksync_common::registry::backup::BackupHeader;
use tasksync_common::registry::{RegistryContents, RestoreAs};

/// What the operator said about the installation of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TakeoverChoice {
    /// Nothing.
    Undecided,
    /// It does not run any more, and the registry continues it.
    TakesOver,
    /// It runs on, and the registry becomes a copy.
    AsCopy,
}

/// The registry that is to be filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RestoreTarget {
    pub(super) installation: InstallationId,
    pub(super) contents: RegistryContents,
}

/// How the registry is filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RestorePlan {
    pub(super) restore_as: RestoreAs,
    /// Whether its content is removed first.
    pub(super) clear: bool,
}

/// Why the registry is not filled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum RestoreRefusal {
    #[error(
        "the file is of installation {0}, which may still run. Say which it is: --takes-over if it does not run any more and \
         this registry continues it; --as-copy for a copy with an id of its own, which leaves the original's mailboxes alone"
    )]
    Undecided(InstallationId),
    #[error(
        "the registry is not empty: it has {tenants} tenants, {people} people and {journal} entries of the journal. Name another \
         registry.url, or remove them with `tasksync restore --replace` (make a backup of them first)"
    )]
    NotEmpty { tenants: u64, people: u64, journal: u64 },
}

/// Returns how the registry is filled from the file.
///
/// A file of `tasksync export --move`, and a backup of the registry itself, need no word of the operator: there is no
/// second registry that could run.
pub(super) fn plan_restore(
    header: &BackupHeader,
    choice: TakeoverChoice,
    replace: bool,
    target: &RestoreTarget,
) -> Result<RestorePlan, RestoreRefusal> {
    let RegistryContents {
        tenants,
        people,
        journal_entries,
    } = target.contents;
    let own_backup = !target.contents.is_empty() && target.installation == header.installation;
    let restore_as = match choice {
        TakeoverChoice::TakesOver => RestoreAs::Original,
        TakeoverChoice::AsCopy => RestoreAs::Copy,
        TakeoverChoice::Undecided if header.moved || own_backup => RestoreAs::Original,
        TakeoverChoice::Undecided => return Err(RestoreRefusal::Undecided(header.installation)),
    };
    if target.contents.is_empty() {
        return Ok(RestorePlan {
            restore_as,
            clear: false,
        });
    }
    if !replace {
        return Err(RestoreRefusal::NotEmpty {
            tenants,
            people,
            journal: journal_entries,
        });
    }
    Ok(RestorePlan {
        restore_as,
        clear: true,
    })
}

#[cfg(test)]
mod tests {
    use tasksync_common::registry::backup::{BACKUP_FORMAT, RecordCounts};

    use super::*;

    fn header(installation: InstallationId, moved: bool) -> BackupHeader {
        BackupHeader {
            format: BACKUP_FORMAT,
            build: String::new(),
            installation,
            made_at: "2026-11-30T00:00:00Z".parse().unwrap(),
            moved,
            records: RecordCounts::new(),
            skippable: Vec::new(),
        }
    }

    #[test]
    fn the_operator_is_asked_only_while_a_second_registry_may_run() {
        let (its, other) = (InstallationId::random(), InstallationId::random());
        let (empty, full) = (
            RegistryContents::default(),
            RegistryContents {
                people: 1,
                ..RegistryContents::default()
            },
        );
        let original = Some(RestoreAs::Original);
        // Moved; what the operator says; the target's id and content; as whose.
        for (moved, choice, installation, contents, expected) in [
            (false, TakeoverChoice::Undecided, other, empty, None),
            (false, TakeoverChoice::Undecided, its, empty, None),
            (false, TakeoverChoice::Undecided, other, full, None),
            (false, TakeoverChoice::Undecided, its, full, original),
            (true, TakeoverChoice::Undecided, other, empty, original),
            (false, TakeoverChoice::TakesOver, other, empty, original),
            (false, TakeoverChoice::AsCopy, other, empty, Some(RestoreAs::Copy)),
            (false, TakeoverChoice::AsCopy, its, full, Some(RestoreAs::Copy)),
            (true, TakeoverChoice::AsCopy, other, empty, Some(RestoreAs::Copy)),
        ] {
            let target = RestoreTarget {
                installation,
                contents,
            };
            let planned = plan_restore(&header(its, moved), choice, true, &target);
            let case = format!("{moved} {choice:?} {target:?}");
            match expected {
                Some(restore_as) => {
                    let clear = !contents.is_empty();
                    assert_eq!(planned, Ok(RestorePlan { restore_as, clear }), "{case}");
                }
                None => assert_eq!(planned, Err(RestoreRefusal::Undecided(its)), "{case}"),
            }
        }
    }

    #[test]
    fn what_is_there_is_removed_only_on_request() {
        let its = InstallationId::random();
        for contents in [(1, 0, 0), (0, 1, 0), (0, 0, 1)] {
            let (tenants, people, journal_entries) = contents;
            let target = RestoreTarget {
                installation: its,
                contents: RegistryContents {
                    tenants,
                    people,
                    journal_entries,
                },
            };
            let refused =
                plan_restore(&header(its, false), TakeoverChoice::TakesOver, false, &target).unwrap_err();
            assert!(matches!(refused, RestoreRefusal::NotEmpty { .. }));
            assert!(refused.to_string().contains("--replace"), "{refused}");
        }
    }
}
