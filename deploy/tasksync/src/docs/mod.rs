//! Reference pages generated from the program itself, so that they cannot contradict it.

mod commands;
mod settings;

use crate::cli::Page;

/// Returns a page as Markdown.
pub(crate) fn page(page: Page) -> String {
    match page {
        Page::Errors => {
            tasksync_common::error_catalogue_markdown() + &tasksync_scheduler::api::errors_markdown()
        }
        Page::Settings => settings::markdown(),
        Page::Api => tasksync_scheduler::api::markdown(),
        Page::Doctor => tasksync_scheduler::doctor::markdown(),
        Page::Commands => commands::markdown(),
        Page::Metrics => tasksync_common::metrics::markdown(),
    }
}
