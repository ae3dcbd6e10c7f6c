//! Writing a backup file.

use std::io::Write;

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::error::BackupError;
use super::record::{BackupHeader, BackupRecord, RecordCounts};

/// The last line of a backup file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackupEnd {
    /// Number of lines before this one.
    pub(super) lines: u64,
    /// SHA-256 of these lines with their line breaks, in hexadecimal digits.
    pub(super) sha256: String,
}

/// What a complete backup file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupSummary {
    /// Its header.
    pub header: BackupHeader,
    /// Records that were skipped because this build does not know their kinds.
    pub skipped: RecordCounts,
    /// SHA-256 of all lines but the last, in hexadecimal digits.
    pub sha256: String,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum FrameLine<'a> {
    Header(&'a BackupHeader),
    End(&'a BackupEnd),
}

/// Returns the digest as text.
pub(super) fn hexadecimal(digest: Context) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in digest.finish().as_ref() {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Writes a backup file, one line at a time. A file without [`Self::finish`] counts as cut off.
pub struct BackupWriter<W> {
    out: W,
    header: BackupHeader,
    digest: Context,
    lines: u64,
    written: RecordCounts,
    buffer: Vec<u8>,
}

impl<W: Write> BackupWriter<W> {
    /// Writes the header and returns a writer for the records.
    ///
    /// # Errors
    /// `Unwritable` if the operating system refuses.
    pub fn begin(out: W, header: BackupHeader) -> Result<Self, BackupError> {
        let mut writer = Self {
            out,
            header,
            digest: Context::new(&SHA256),
            lines: 0,
            written: RecordCounts::new(),
            buffer: Vec::new(),
        };
        let header = writer.header.clone();
        writer.put("header", &FrameLine::Header(&header))?;
        Ok(writer)
    }

    /// Writes one record.
    ///
    /// # Errors
    /// `Unwritable` if the operating system refuses, `Unwritten` if the record has no JSON form.
    pub fn write(&mut self, record: &BackupRecord) -> Result<(), BackupError> {
        self.put(record.kind(), record)?;
        *self.written.entry(record.kind().to_owned()).or_default() += 1;
        Ok(())
    }

    /// Writes the last line. Returns the output, which the caller still has to bring to the disk, and the summary.
    ///
    /// # Errors
    /// `Miscounted` if the records are not as many as the header says; otherwise as [`Self::write`].
    pub fn finish(mut self) -> Result<(W, BackupSummary), BackupError> {
        compare_counts(&self.header.records, &self.written)?;
        let end = BackupEnd {
            lines: self.lines,
            sha256: hexadecimal(self.digest.clone()),
        };
        self.put("end", &FrameLine::End(&end))?;
        self.out.flush().map_err(BackupError::Unwritable)?;
        let summary = BackupSummary {
            header: self.header,
            skipped: RecordCounts::new(),
            sha256: end.sha256,
        };
        Ok((self.out, summary))
    }

    fn put(&mut self, kind: &'static str, line: &impl Serialize) -> Result<(), BackupError> {
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, line)
            .map_err(|error| BackupError::Unwritten { kind, error })?;
        self.buffer.push(b'\n');
        self.digest.update(&self.buffer);
        self.lines += 1;
        self.out.write_all(&self.buffer).map_err(BackupError::Unwritable)
    }
}

/// Compares the header's counts with the records; a kind that is not named counts as 0.
pub(super) fn compare_counts(announced: &RecordCounts, present: &RecordCounts) -> Result<(), BackupError> {
    for kind in announced.keys().chain(present.keys()) {
        let number = |counts: &RecordCounts| counts.get(kind).copied().unwrap_or(0);
        if number(announced) != number(present) {
            return Err(BackupError::Miscounted {
                kind: kind.clone(),
                announced: number(announced),
                present: number(present),
            });
        }
    }
    Ok(())
}
