//! The parts that this crate's benchmarks share.

/// Returns the median; NaN if there are no values.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.len() % 2) {
        (Some(middle), 1) => *middle,
        (Some(upper), _) => (sorted.get(sorted.len() / 2 - 1).unwrap_or(upper) + upper) / 2.0,
        (None, _) => f64::NAN,
    }
}

/// Returns the text that says whether a figure meets its aim.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT MET" }
}
