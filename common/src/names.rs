//! "Did you mean …?": the known name that a misspelt one resembles.

/// Least likeness of a suggestion, between 0 (nothing in common) and 1 (equal).
const LEAST: f64 = 0.6;

/// Returns the known name that is most like `given`, if any is like it enough. An equal name is none.
#[must_use]
pub fn nearest_name<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let other = known.into_iter().filter(|name| *name != given);
    most_alike(other.map(|name| (name, likeness(given, name)))).map(|(name, _)| name)
}

/// Returns how much two names are alike, between 0 (nothing in common) and 1 (equal).
pub(crate) fn likeness(one: &str, other: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(one, other)
}

/// Returns the name with the largest likeness and that likeness, if it is enough for a suggestion.
pub(crate) fn most_alike<'a>(rated: impl Iterator<Item = (&'a str, f64)>) -> Option<(&'a str, f64)> {
    rated
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .filter(|(_, likeness)| *likeness >= LEAST)
}

#[cfg(test)]
mod tests {
    use super::nearest_name;

    #[test]
    fn misspelt_names_find_the_one_that_was_meant() {
        let known = ["tenant", "limit", "after"];
        assert_eq!(nearest_name("tenannt", known), Some("tenant"));
        assert_eq!(nearest_name("limits", known), Some("limit"));
        assert_eq!(nearest_name("nonsense", known), None);
        assert_eq!(nearest_name("limit", known), None);
    }
}
