//! What the benchmarks of this crate share.

use std::io::Write as _;

/// The middle value; NaN when there is none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.get(sorted.len() / 2), sorted.len() % 2) {
        (Some(middle), 1) => *middle,
        (Some(upper), _) => (sorted.get(sorted.len() / 2 - 1).unwrap_or(upper) + upper) / 2.0,
        (None, _) => f64::NAN,
    }
}

/// How a figure stands to its aim.
pub(crate) fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT MET" }
}

/// Prints a line at once.
pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody reads any more: nothing to do about it.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
