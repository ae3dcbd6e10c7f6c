//! Reference pages generated from the program itself, so that they cannot contradict it.

mod commands;
mod declared;
mod man;
mod settings;
mod tenant;
mod tenant_examples;

use std::path::Path;

use serde_json::json;

use crate::cli::DocsPage;
use crate::exit::{CommandEnd, CommandError, print};

/// The longest line of prose in a page, in columns.
const COLUMNS: usize = 120;

/// Prints a page as Markdown, or writes the man pages to `folder`.
///
/// # Errors
/// A man page cannot be written.
pub(crate) fn run(which: DocsPage, folder: Option<&Path>, json: bool) -> Result<CommandEnd, CommandError> {
    let (text, value) = match (which, folder) {
        (DocsPage::Man, Some(folder)) => {
            let pages = man::write_pages(folder)?;
            let folder = folder.display().to_string();
            (
                format!("{pages} man pages were written to {folder}\n"),
                json!({ "folder": folder, "pages": pages }),
            )
        }
        (which, _) => {
            let text = page(which);
            let value = json!({ "markdown": text });
            (text, value)
        }
    };
    print(&if json { crate::client::pretty(&value) } else { text })
}

/// Returns a page as Markdown. The man pages are none.
fn page(page: DocsPage) -> String {
    wrap(&match page {
        DocsPage::Errors => {
            tasksync_common::error_catalogue_markdown() + &tasksync_scheduler::api::errors_markdown()
        }
        DocsPage::Settings => settings::markdown(),
        DocsPage::Tenant => tenant::markdown(),
        DocsPage::Api => tasksync_scheduler::api::markdown(),
        DocsPage::Doctor => tasksync_scheduler::doctor::markdown(),
        DocsPage::Commands => commands::markdown(),
        DocsPage::Metrics => tasksync_common::metrics::markdown(),
        DocsPage::Man => String::new(),
    })
}

/// Wraps the prose of a page at 120 columns. Tables, headings and fenced code stay as they are.
fn wrap(markdown: &str) -> String {
    let mut fenced = false;
    markdown
        .lines()
        .map(|line| {
            let fence = line.starts_with("```");
            fenced ^= fence;
            if fence || fenced || line.starts_with(['|', '#', ' ']) {
                return format!("{line}\n");
            }
            let indent = if line.starts_with("- ") { "  " } else { "" };
            let options = textwrap::Options::new(COLUMNS)
                .break_words(false)
                .word_splitter(textwrap::WordSplitter::NoHyphenation)
                .subsequent_indent(indent);
            textwrap::fill(line, options) + "\n"
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::wrap;

    #[test]
    fn prose_is_wrapped_and_tables_and_code_are_not() {
        let long = "whole-word ".repeat(15).trim_end().to_owned();
        let page = format!("- {long}\n\n| {long} |\n\n```\n{long}\n```\n");

        let wrapped = wrap(&page);

        assert!(wrapped.starts_with("- whole-word"));
        assert!(wrapped.contains("\n  whole-word"), "{wrapped}");
        assert!(wrapped.contains(&format!("| {long} |\n")));
        assert!(wrapped.contains(&format!("```\n{long}\n```\n")));
        assert_eq!(
            wrapped.split_whitespace().count(),
            page.split_whitespace().count()
        );
    }
}
