//! The filter of log lines in the settings.
//!
//! The filter's own library takes a misspelt level for the name of a module, and then logs nothing. So the
//! parts are checked here first.

/// The words for what is allowed.
pub(super) const ALLOWED: &str = "levels (off, error, warn, info, debug or trace) and MODULE=LEVEL, separated by commas; \
    warnings and errors of tasksync are logged whatever the filter says";

const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];
/// The modules of tasksync.
const MODULES: &[&str] = &[
    "tasksync",
    "tasksync_common",
    "tasksync_scheduler",
    "tasksync_worker",
];

/// Returns why a filter is refused, as the rest of a sentence.
pub(crate) fn refusal(text: &str) -> Option<String> {
    // Parts with conditions on spans (`[sync{user=a}]=debug`) may contain commas; the library checks them.
    if text.contains('[') {
        return tracing_subscriber::EnvFilter::builder()
            .parse(text)
            .err()
            .map(|_| "has a part that is no filter".to_owned());
    }
    text.split(',').find_map(part_refusal)
}

fn part_refusal(part: &str) -> Option<String> {
    let is_level = |word: &str| LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
    let suggest = |word: &str, known: &[&str]| {
        crate::names::nearest_name(&word.to_ascii_lowercase(), known.iter().copied())
            .map_or_else(String::new, |near| format!("; did you mean {near}?"))
    };
    let Some((module, level)) = part.split_once('=') else {
        return match part {
            "" => Some("has an empty part".to_owned()),
            word if is_level(word) => None,
            word => Some(format!(
                "has \"{word}\", which is no level{}",
                suggest(word, LEVELS)
            )),
        };
    };
    let of_name = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '_' | ':' | '-' | '.');
    if module.is_empty() || !module.chars().all(of_name) {
        return Some(format!("has \"{part}\", which names no module before the \"=\""));
    }
    if !is_level(level) {
        return Some(format!(
            "has \"{part}\", whose level is none{}",
            suggest(level, LEVELS)
        ));
    }
    let krate = module.split("::").next().unwrap_or(module);
    if krate.starts_with("tasksync") && !MODULES.contains(&krate) {
        return Some(format!(
            "has \"{krate}\", which is no module of tasksync{}",
            suggest(krate, MODULES)
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_modules_with_levels_are_taken_and_misspelt_ones_refused() {
        for right in [
            "info",
            "WARN",
            "info,tasksync_worker=debug",
            "tasksync_common::registry=trace",
            "info,[sync{user=a}]=debug",
            "off",
        ] {
            assert_eq!(refusal(right), None, "{right}");
            assert!(
                tracing_subscriber::EnvFilter::builder().parse(right).is_ok(),
                "{right}"
            );
        }
        for (wrong, says) in [
            ("inof", "did you mean info"),
            ("loud==", "level is none"),
            ("tasksync=loudly", "level is none"),
            ("info,,warn", "empty part"),
            ("info, lapin=debug", "names no module"),
            ("info, warn", "did you mean warn"),
            ("=debug", "names no module"),
            ("info,tasksync_wroker=debug", "did you mean tasksync_worker"),
            ("info,[sync{user=a=debug", "no filter"),
        ] {
            let why = refusal(wrong).unwrap_or_default();
            assert!(why.contains(says), "{wrong}: {why}");
        }
    }
}
