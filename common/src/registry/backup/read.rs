//! Reading a backup file.

use std::collections::BTreeMap;
use std::io::{BufRead, Read as _};

use ring::digest::{Context, SHA256};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::error::BackupError;
use super::record::{BACKUP_FORMAT, BackupHeader, BackupRecord, RecordCounts};
use super::write::{BackupEnd, BackupSummary, compare_counts, hexadecimal};

/// Longest line that is read, in bytes. A person's state takes a few hundred bytes for each task.
const LONGEST_LINE: usize = 256 * 1024 * 1024;

/// What every format's header has.
#[derive(Deserialize)]
struct AnyHeader {
    format: u64,
    #[serde(default)]
    build: String,
}

#[derive(Deserialize)]
struct AnyHeaderLine {
    header: AnyHeader,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HeaderLine {
    header: BackupHeader,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EndLine {
    end: BackupEnd,
}

/// Reads a backup file, one line at a time, so that memory holds one line whatever the size of the file.
///
/// The records may be believed only after [`Self::next_record`] returned `None`: only then the digest of the
/// whole file was compared.
pub struct BackupReader<R> {
    input: R,
    header: BackupHeader,
    digest: Context,
    lines: u64,
    present: RecordCounts,
    skipped: RecordCounts,
    buffer: Vec<u8>,
    /// The digest, after the last line was read and compared.
    compared: Option<String>,
    longest_line: usize,
}

impl<R: BufRead> BackupReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// `NotABackup` or `LaterFormat`; `Unreadable` if the operating system refuses.
    pub fn open(input: R) -> Result<Self, BackupError> {
        Self::with_longest_line(input, LONGEST_LINE)
    }

    /// Does the same as [`Self::open`] with another limit of a line, in bytes.
    pub(super) fn with_longest_line(mut input: R, longest_line: usize) -> Result<Self, BackupError> {
        let mut buffer = Vec::new();
        let mut digest = Context::new(&SHA256);
        if !read_line(&mut input, &mut buffer, 1, longest_line)? {
            return Err(BackupError::NotABackup);
        }
        let any: AnyHeaderLine = serde_json::from_slice(&buffer).map_err(|_| BackupError::NotABackup)?;
        if any.header.format > BACKUP_FORMAT {
            return Err(BackupError::LaterFormat {
                format: any.header.format,
                build: any.header.build.chars().take(40).collect(),
            });
        }
        let HeaderLine { header } = parse(&buffer, 1)?;
        digest.update(&buffer);
        Ok(Self {
            input,
            header,
            digest,
            lines: 1,
            present: RecordCounts::new(),
            skipped: RecordCounts::new(),
            buffer,
            compared: None,
            longest_line,
        })
    }

    /// Returns the header.
    #[must_use]
    pub fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// Returns the next record, or `None` after the last line if the file is complete and unchanged.
    ///
    /// # Errors
    /// What is wrong with the file, with the line.
    pub fn next_record(&mut self) -> Result<Option<BackupRecord>, BackupError> {
        while self.compared.is_none() {
            let line = self.lines + 1;
            if !read_line(&mut self.input, &mut self.buffer, line, self.longest_line)? {
                return Err(BackupError::CutOff { lines: self.lines });
            }
            let kind = kind_of(&self.buffer, line)?;
            if kind == "end" {
                self.compare_end()?;
                break;
            }
            self.lines = line;
            self.digest.update(&self.buffer);
            *self.present.entry(kind.clone()).or_default() += 1;
            if BackupRecord::KINDS.contains(&kind.as_str()) {
                return parse(&self.buffer, line).map(Some);
            }
            if !self.header.skippable.contains(&kind) {
                return Err(BackupError::UnknownKind { line, kind });
            }
            *self.skipped.entry(kind).or_default() += 1;
        }
        Ok(None)
    }

    /// Reads the remaining records, and returns what the file holds if it is complete and unchanged.
    ///
    /// # Errors
    /// As [`Self::next_record`].
    pub fn summary(mut self) -> Result<BackupSummary, BackupError> {
        while self.next_record()?.is_some() {}
        Ok(BackupSummary {
            header: self.header,
            skipped: self.skipped,
            sha256: self.compared.unwrap_or_default(),
        })
    }

    fn compare_end(&mut self) -> Result<(), BackupError> {
        let line = self.lines + 1;
        let EndLine { end } = parse(&self.buffer, line)?;
        let sha256 = hexadecimal(self.digest.clone());
        if end.lines != self.lines || end.sha256 != sha256 {
            return Err(BackupError::Altered);
        }
        compare_counts(&self.header.records, &self.present)?;
        if !self.input.fill_buf().map_err(BackupError::Unreadable)?.is_empty() {
            return Err(BackupError::AfterEnd { line });
        }
        self.compared = Some(sha256);
        Ok(())
    }
}

/// Reads one line with its line break. Returns `false` if the input ends before the line break.
fn read_line(
    input: &mut impl BufRead,
    buffer: &mut Vec<u8>,
    line: u64,
    limit: usize,
) -> Result<bool, BackupError> {
    buffer.clear();
    let most = u64::try_from(limit).unwrap_or(u64::MAX);
    input
        .by_ref()
        .take(most)
        .read_until(b'\n', buffer)
        .map_err(BackupError::Unreadable)?;
    if buffer.last() == Some(&b'\n') {
        return Ok(true);
    }
    if buffer.len() >= limit {
        return Err(BackupError::LongLine { line, limit });
    }
    Ok(false)
}

/// Returns the only member's name of the object on a line.
#[expect(
    clippy::zero_sized_map_values,
    reason = "serde reads members as a map; their values are skipped"
)]
fn kind_of(text: &[u8], line: u64) -> Result<String, BackupError> {
    let members: BTreeMap<String, IgnoredAny> = parse(text, line)?;
    let mut names = members.into_keys();
    match (names.next(), names.next()) {
        (Some(kind), None) => Ok(kind),
        (None, _) | (Some(_), Some(_)) => Err(BackupError::Wrong {
            line,
            reason: "an object with one member is expected".to_owned(),
        }),
    }
}

fn parse<T: DeserializeOwned>(text: &[u8], line: u64) -> Result<T, BackupError> {
    serde_json::from_slice(text).map_err(|error| BackupError::Wrong {
        line,
        reason: error.to_string(),
    })
}
