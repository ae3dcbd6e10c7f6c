//! The CPU time that this process has used.

/// Ticks per second in `/proc`: `USER_HZ`, 100 on every Linux architecture in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// Returns the CPU seconds used so far, in user and in system mode, including ended threads, in steps of 10
/// ms.
///
/// # Errors
/// There is no readable `/proc/self/stat`.
pub(crate) fn seconds() -> Result<f64, String> {
    let path = "/proc/self/stat";
    let stat = std::fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    // The second field, the program's name in parentheses, may contain any character. utime and stime are
    // fields 14 and 15.
    let ticks = stat.rsplit_once(')').and_then(|(_, rest)| {
        let mut fields = rest.split_ascii_whitespace().skip(11);
        let user: u32 = fields.next()?.parse().ok()?;
        let system: u32 = fields.next()?.parse().ok()?;
        user.checked_add(system)
    });
    let ticks = ticks.ok_or_else(|| format!("{path} is not as expected"))?;
    Ok(f64::from(ticks) / TICKS_PER_SECOND)
}
