//! The archive of a support bundle: a folder of small text files, packed with tar and gzip.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::exit::CommandError;
use crate::new_file::NewFile;

/// One file of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BundleFile {
    pub(super) name: &'static str,
    /// What it is, as a phrase for the list of files.
    pub(super) meaning: &'static str,
    pub(super) text: String,
}

/// Writes the files into an archive, below a folder of this name, and gives it its name. Only its owner may read it.
///
/// # Errors
/// The file cannot be written.
pub(super) fn write(file: NewFile, folder: &str, files: &[BundleFile]) -> Result<(), CommandError> {
    let packed = || -> std::io::Result<()> {
        let mut archive = tar::Builder::new(GzEncoder::new(file.file(), Compression::default()));
        for one in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(one.text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(0);
            archive.append_data(&mut header, format!("{folder}/{}", one.name), one.text.as_bytes())?;
        }
        archive.into_inner()?.finish()?.flush()
    };
    packed().map_err(|error| {
        CommandError::settings(format!("{} cannot be written: {error}", file.target().display()))
    })?;
    file.keep()
}
