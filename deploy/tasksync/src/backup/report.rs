//! What the commands print.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};
use tasksync_common::model::InstallationId;
use tasksync_common::registry::backup::{BackupSummary, RecordCounts};
use tasksync_common::registry::{RegistryContents, RestoreAs};

use crate::client::pretty;
use crate::exit::{CommandEnd, CommandError, print};

/// A backup file that was written or checked.
pub(super) struct WrittenBackup<'a> {
    file: &'a Path,
    summary: &'a BackupSummary,
}

impl<'a> WrittenBackup<'a> {
    pub(super) fn of(file: &'a Path, summary: &'a BackupSummary) -> Self {
        Self { file, summary }
    }

    /// Returns what the file holds in one line.
    pub(super) fn line(&self) -> String {
        let header = &self.summary.header;
        format!(
            "{} holds installation {} as it was at {} ({})",
            self.file.display(),
            header.installation,
            header.made_at,
            counts(&header.records)
        )
    }

    fn json(&self) -> Value {
        let header = &self.summary.header;
        json!({
            "file": self.file.display().to_string(),
            "format": header.format,
            "build": header.build,
            "installation": header.installation,
            "made_at": header.made_at,
            "moved": header.moved,
            "records": header.records,
            "skipped": self.summary.skipped,
            "sha256": self.summary.sha256,
        })
    }
}

/// A registry that was filled from a backup.
pub(super) struct FilledRegistry {
    pub(super) summary: BackupSummary,
    pub(super) installation: InstallationId,
    pub(super) restore_as: RestoreAs,
    /// What was removed before.
    pub(super) removed: Option<RegistryContents>,
}

pub(super) fn print_written(written: &WrittenBackup<'_>, json: bool) -> Result<CommandEnd, CommandError> {
    if json {
        return print(&pretty(&written.json()));
    }
    let mut text = format!("{}.\n", written.line());
    if written.summary.header.moved {
        text.push_str(
            "This registry was given up: no process starts with it any more. Import the file into the new registry:\n  \
             tasksync import --config SETTINGS FILE\n",
        );
    }
    text.push_str("Secrets are not in it: back up what the tenants' env: and file: references name.\n");
    print(&text)
}

pub(super) fn print_checked(checked: &WrittenBackup<'_>, json: bool) -> Result<CommandEnd, CommandError> {
    if json {
        return print(&pretty(&checked.json()));
    }
    print(&format!(
        "{}.\nIt is complete and unchanged.{}\n",
        checked.line(),
        skipped(&checked.summary.skipped)
    ))
}

pub(super) fn print_filled(filled: &FilledRegistry, json: bool) -> Result<CommandEnd, CommandError> {
    let header = &filled.summary.header;
    if json {
        return print(&pretty(&json!({
            "installation": filled.installation,
            "copy_of": (filled.restore_as == RestoreAs::Copy).then_some(header.installation),
            "made_at": header.made_at,
            "records": header.records,
            "skipped": filled.summary.skipped,
            "removed": filled.removed.map(|removed| json!({
                "tenants": removed.tenants,
                "people": removed.people,
                "journal_entries": removed.journal_entries,
            })),
        })));
    }
    let mut text = String::new();
    if let Some(removed) = filled.removed {
        let _ = writeln!(
            text,
            "Removed what was there before: tenants: {}, people: {}, journal entries: {}.",
            removed.tenants, removed.people, removed.journal_entries
        );
    }
    let _ = writeln!(
        text,
        "Restored the content of {} ({}).{}",
        header.made_at,
        counts(&header.records),
        skipped(&filled.summary.skipped)
    );
    match filled.restore_as {
        RestoreAs::Original => {
            let _ = writeln!(
                text,
                "This registry is installation {} from now on. Put the tenants' secrets in place, then start the service.",
                filled.installation
            );
        }
        RestoreAs::Copy => {
            let _ = writeln!(
                text,
                "This registry is a copy with the id {}. Its tenants are disabled, and alerts and sync states of the original \
                 were left out. Point each tenant at the servers that the copy may write, then: tasksync tenant enable TENANT",
                filled.installation
            );
        }
    }
    print(&text)
}

/// Returns the numbers for people, in the order of a backup file.
fn counts(records: &RecordCounts) -> String {
    let number = |kind: &str| records.get(kind).copied().unwrap_or(0);
    format!(
        "tenants: {}, people: {}, alerts: {}, journal entries: {}",
        number("tenant"),
        number("person"),
        number("alert") + number("location_alert"),
        number("journal")
    )
}

fn skipped(skipped: &RecordCounts) -> String {
    let named: Vec<String> = skipped
        .iter()
        .map(|(kind, number)| format!("{number} of kind \"{kind}\""))
        .collect();
    if named.is_empty() {
        return String::new();
    }
    format!(
        " Records that this build does not know were left out: {}.",
        named.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_named_and_what_was_left_out_is_said() {
        let records = RecordCounts::from([
            ("tenant".to_owned(), 2),
            ("person".to_owned(), 1000),
            ("location_alert".to_owned(), 1),
            ("alert".to_owned(), 2),
        ]);
        assert_eq!(
            counts(&records),
            "tenants: 2, people: 1000, alerts: 3, journal entries: 0"
        );
        assert_eq!(skipped(&RecordCounts::new()), "");
        let left_out = skipped(&RecordCounts::from([("audit".to_owned(), 5)]));
        assert!(left_out.contains("5 of kind \"audit\""), "{left_out}");
    }
}
