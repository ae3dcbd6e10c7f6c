//! The operating system's numbers about this process. They are read on Linux only; elsewhere these metrics
//! are missing.

use super::{Metrics, as_f64, catalogue};

/// Clock ticks per second in `/proc`. Linux reports 100 to programs on every platform that tasksync supports.
const TICKS: f64 = 100.0;

/// Values of `/proc/self/stat`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    threads: f64,
}

pub(super) fn register(metrics: &Metrics) {
    let stat = || parse_stat(&std::fs::read_to_string("/proc/self/stat").ok()?);
    metrics.observe(&catalogue::PROCESS_CPU, move |sink| {
        if let Some(stat) = stat() {
            sink.value(stat.cpu_seconds);
        }
    });
    metrics.observe(&catalogue::PROCESS_THREADS, move |sink| {
        if let Some(stat) = stat() {
            sink.value(stat.threads);
        }
    });
    metrics.observe(&catalogue::PROCESS_MEMORY, |sink| {
        let status = std::fs::read_to_string("/proc/self/status").ok();
        if let Some(bytes) = status.as_deref().and_then(parse_resident) {
            sink.value(bytes);
        }
    });
    metrics.observe(&catalogue::PROCESS_FILES, |sink| {
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            // One of them is the folder being read.
            sink.value(as_f64((files.count() as u64).saturating_sub(1)));
        }
    });
    metrics.observe(&catalogue::PROCESS_FILES_MAXIMUM, |sink| {
        let limits = std::fs::read_to_string("/proc/self/limits").ok();
        if let Some(files) = limits.as_deref().and_then(parse_files_limit) {
            sink.value(files);
        }
    });
}

/// Reads CPU time and threads. The command in parentheses may itself contain spaces and parentheses
/// (`proc_pid_stat(5)`), so the fields are counted after it: `utime` is the 14th of all, `stime` the 15th,
/// `num_threads` the 20th.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    let threads: f64 = fields.nth(4)?.parse().ok()?;
    Some(Stat {
        cpu_seconds: (user + system) / TICKS,
        threads,
    })
}

fn parse_resident(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

fn parse_files_limit(limits: &str) -> Option<f64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let text = "12 (a) b (c)) S 1 12 12 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 1 2 3";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.cpu_seconds, stat.threads), (3.0, 9.0));
        assert_eq!(parse_stat("12 (a) S 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn memory_and_limits_are_read() {
        assert_eq!(
            parse_resident("Name:\ta\nVmRSS:\t    2048 kB\n"),
            Some(2_097_152.0)
        );
        let limits = "Limit  Soft Limit  Hard Limit\nMax open files            1024       4096       files\n";
        assert_eq!(parse_files_limit(limits), Some(1024.0));
        assert_eq!(
            parse_files_limit("Max open files unlimited unlimited files"),
            None
        );
    }
}
