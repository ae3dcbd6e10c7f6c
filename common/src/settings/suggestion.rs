//! "Did you mean …?": the setting that a misspelt key or variable resembles.

use super::keys::KEYS;
use crate::names::{likeness, most_alike};

/// Returns the key that is most like `section.name`, if any is like it enough. A name that belongs to
/// another section counts as very like.
pub(super) fn nearest_key(key: &str) -> Option<&'static str> {
    let name = key.rsplit_once('.').map_or(key, |(_, name)| name);
    let rated = KEYS.iter().map(|declared| {
        let same_name = if declared.parts().1 == name { 0.9 } else { 0.0 };
        (
            declared.key,
            likeness(key, declared.key).max(same_name + likeness(key, declared.key) / 10.0),
        )
    });
    most_alike(rated).map(|(key, _)| key)
}

/// Returns the key whose variable is most like `name`, the lower-case part of a variable after its prefix,
/// and the likeness. One underscore counts like two.
pub(super) fn nearest_variable(name: &str) -> Option<(&'static str, f64)> {
    let name = name.replace("__", "_");
    most_alike(
        KEYS.iter()
            .map(|declared| (declared.key, likeness(&name, &declared.key.replace('.', "_")))),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_keys_find_the_one_that_was_meant() {
        for (written, meant) in [
            ("worker.user_at_once", Some("worker.users_at_once")),
            ("schedule.users_at_once", Some("worker.users_at_once")),
            ("users_at_once", Some("worker.users_at_once")),
            ("log.filer", Some("log.filter")),
            ("worker.nonsense", None),
        ] {
            assert_eq!(nearest_key(written), meant, "{written}");
        }
        for (variable, meant) in [
            ("worker_users_at_once", Some("worker.users_at_once")),
            ("worker__user_at_once", Some("worker.users_at_once")),
            ("image", None),
        ] {
            assert_eq!(
                nearest_variable(variable).map(|(key, _)| key),
                meant,
                "{variable}"
            );
        }
    }
}
