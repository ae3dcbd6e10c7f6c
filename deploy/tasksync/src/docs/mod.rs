//! Reference pages generated from the program itself, so that they cannot contradict it.

mod commands;
mod declared;
mod settings;
mod tenant;

use crate::cli::DocsPage;

/// The longest line of prose in a page, in columns.
const COLUMNS: usize = 120;

/// Returns a page as Markdown.
pub(crate) fn page(page: DocsPage) -> String {
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
