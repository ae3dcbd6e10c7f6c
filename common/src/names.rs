//! "Did you mean …?": the known name that a misspelt one resembles.

/// Least likeness of a suggestion, between 0 (nothing in common) and 1 (equal).
const LEAST: f64 = 0.6;

/// Returns the known name that is most like `given`, if any is like it enough. An equal name is none.
#[must_use]
pub fn nearest_name<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .filter(|name| *name != given)
        .map(|name| (name, strsim::normalized_damerau_levenshtein(given, name)))
        .max_by(|(_, one), (_, other)| one.total_cmp(other))
        .filter(|(_, likeness)| *likeness >= LEAST)
        .map(|(name, _)| name)
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
