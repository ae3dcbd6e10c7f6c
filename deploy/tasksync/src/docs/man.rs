//! Man pages, one for each command.

use std::path::Path;

use crate::examples;
use crate::exit::CommandError;

/// Writes the man pages of all commands into a folder, which is created if necessary. Returns how many there are.
///
/// # Errors
/// A page cannot be written.
pub(crate) fn write_pages(folder: &Path) -> Result<usize, CommandError> {
    let failed = |error: std::io::Error| {
        CommandError::settings(format!(
            "man pages cannot be written to {}: {error}; name a folder that you may write to",
            folder.display()
        ))
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    let command = examples::command();
    let pages = pages(&command);
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    Ok(pages)
}

/// Returns the number of commands, each of which has a page.
fn pages(command: &clap::Command) -> usize {
    1 + command.get_subcommands().map(pages).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_with_its_examples() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("man1");
        let written = write_pages(&inner).unwrap();
        assert!(written > 25, "{written}");
        assert_eq!(std::fs::read_dir(&inner).unwrap().count(), written);
        let page = std::fs::read_to_string(inner.join("tasksync-user-opt-in.1")).unwrap();
        assert!(
            page.contains("Examples") && page.contains("source\\-login"),
            "{page}"
        );
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(
            write_pages(&file.join("man1"))
                .unwrap_err()
                .to_string()
                .contains("name a folder")
        );
    }
}
