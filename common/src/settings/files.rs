//! The files and folders that settings name, on the machine where the program runs.

use std::path::Path;

use super::{Settings, authorities};

/// Returns the keys whose files or folders cannot be used, each with the reason as the rest of a sentence.
pub(super) fn refusals(settings: &Settings) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    if let Some(why) = crate::registry::url_file_refusal(&settings.registry.url) {
        found.push(("registry.url", why));
    }
    for (key, path) in [
        ("schedule.authorities", &settings.schedule.authorities),
        ("queue.authorities", &settings.queue.authorities),
        ("outbound.authorities", &settings.outbound.authorities),
    ] {
        if let Some(why) = path.as_deref().and_then(authorities_refusal) {
            found.push((key, why));
        }
    }
    found
}

fn authorities_refusal(path: &Path) -> Option<String> {
    authorities::certificates(path)
        .err()
        .map(|why| format!("cannot be used: {why}"))
}
