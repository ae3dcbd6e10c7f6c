//! Samples taken every second, in a series of bounded length.

use std::collections::BTreeMap;

use serde::Serialize;

/// Largest number of samples kept. Beyond it, every second one is dropped.
const KEPT: usize = 1_200;
/// Clock ticks per second in `/proc/PID/stat` (`USER_HZ`, which is 100 on every Linux).
const TICKS: f64 = 100.0;

/// Resource usage of a process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub(crate) struct Usage {
    /// CPU time so far in seconds, including earlier runs of a restarted process.
    pub(crate) cpu_seconds: f64,
    /// Memory in MiB.
    pub(crate) memory_mib: f64,
    /// Peak memory of the current run of the process, in MiB; 0 for a family.
    pub(crate) peak_mib: f64,
}

/// One sample. Its counters count from the start, so that other samples can be dropped without loss.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub(crate) struct Sample {
    /// Seconds since the run began.
    pub(crate) at: f64,
    /// Number of visits by group.
    pub(crate) visits: Vec<u64>,
    /// Longest wait of each group, in seconds.
    pub(crate) oldest: Vec<f64>,
    /// Number of users that were never visited.
    pub(crate) never: u64,
    /// Requests to Exchange.
    pub(crate) exchange: u64,
    /// Requests to SharePoint.
    pub(crate) sharepoint: u64,
    /// Number of writes to both sides through requests.
    pub(crate) writes: u64,
    /// Number of edits that the other side does not show yet.
    pub(crate) open_edits: usize,
    /// Number of due users according to tasksync's status; `None` if it did not answer.
    pub(crate) due: Option<u64>,
    /// Usage of the processes by name.
    pub(crate) processes: BTreeMap<String, Usage>,
}

/// Samples in order of time.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Series {
    samples: Vec<Sample>,
    every: usize,
    offered: usize,
}

impl Series {
    pub(crate) fn push(&mut self, sample: Sample) {
        self.every = self.every.max(1);
        let due = self.offered.is_multiple_of(self.every);
        self.offered += 1;
        if !due {
            return;
        }
        self.samples.push(sample);
        if self.samples.len() > KEPT {
            let mut at = 0;
            self.samples.retain(|_| {
                at += 1;
                at % 2 == 1
            });
            self.every *= 2;
        }
    }

    pub(crate) fn samples(&self) -> &[Sample] {
        &self.samples
    }
}

/// The processes whose usage is measured together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ProcessScope {
    /// The process alone.
    Process,
    /// The process, its children, and children that have ended. PostgreSQL has one process per connection.
    Family,
}

/// Sums CPU time over restarts, because a restarted process starts at zero in `/proc`.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    last: BTreeMap<String, (u32, f64, f64)>,
}

impl Meter {
    /// Returns the usage of the process with this name. `pid` is `None` while it does not run.
    pub(crate) fn read(&mut self, name: &str, pid: Option<u32>, of: ProcessScope) -> Usage {
        let now = pid.and_then(|pid| Some((pid, usage_of(pid, of)?)));
        let (last_pid, before, lived) = self.last.get(name).copied().unwrap_or((0, 0.0, 0.0));
        let Some((
            pid,
            Usage {
                cpu_seconds: cpu,
                memory_mib,
                peak_mib,
            },
        )) = now
        else {
            return Usage {
                cpu_seconds: lived + before,
                ..Usage::default()
            };
        };
        let lived = if last_pid == pid { lived } else { lived + before };
        self.last.insert(name.to_owned(), (pid, cpu, lived));
        Usage {
            cpu_seconds: lived + cpu,
            memory_mib,
            peak_mib,
        }
    }
}

fn usage_of(pid: u32, of: ProcessScope) -> Option<Usage> {
    let usage = read(pid, "VmRSS:", of)?;
    if of == ProcessScope::Process {
        return Some(usage);
    }
    // Shared memory counts once, with the parent.
    let children = children_of(pid)
        .into_iter()
        .filter_map(|child| read(child, "RssAnon:", ProcessScope::Process));
    Some(children.fold(usage, |sum, child| Usage {
        cpu_seconds: sum.cpu_seconds + child.cpu_seconds,
        memory_mib: sum.memory_mib + child.memory_mib,
        peak_mib: 0.0,
    }))
}

fn read(pid: u32, memory: &str, of: ProcessScope) -> Option<Usage> {
    let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let status = file("status")?;
    Some(Usage {
        cpu_seconds: cpu_in(&file("stat")?, of)?,
        memory_mib: memory_in(&status, memory)?,
        peak_mib: memory_in(&status, "VmHWM:").unwrap_or_default(),
    })
}

/// Returns the children that the threads of a process have started and not yet waited for.
fn children_of(pid: u32) -> Vec<u32> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten();
    let children: Vec<String> = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .collect();
    children
        .iter()
        .flat_map(|children| children.split_ascii_whitespace())
        .filter_map(|child| child.parse().ok())
        .collect()
}

/// Returns the user and system time in the text of `/proc/PID/stat`; for a family, with that of ended children. The
/// program's name may contain blanks and brackets.
fn cpu_in(stat: &str, of: ProcessScope) -> Option<f64> {
    let behind = stat.get(stat.rfind(')')? + 1..)?;
    let fields = match of {
        ProcessScope::Process => 2,
        ProcessScope::Family => 4,
    };
    let times: Vec<u32> = behind
        .split_ascii_whitespace()
        .skip(11)
        .take(fields)
        .map_while(|time| time.parse().ok())
        .collect();
    (times.len() == fields).then(|| times.iter().map(|ticks| f64::from(*ticks)).sum::<f64>() / TICKS)
}

/// Returns the value of a line such as `VmRSS`, in MiB.
fn memory_in(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u32 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(f64::from(kib) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_keeps_its_length_and_its_span() {
        let mut series = Series::default();
        for at in 0..10_000_u32 {
            series.push(Sample {
                at: f64::from(at),
                ..Sample::default()
            });
        }
        let samples = series.samples();
        assert!(
            samples.len() <= KEPT && samples.len() > KEPT / 3,
            "{}",
            samples.len()
        );
        assert!(samples[0].at < 1.0 && samples.last().unwrap().at > 9_900.0);
        let step = samples[1].at - samples[0].at;
        assert!(
            samples
                .windows(2)
                .all(|pair| (pair[1].at - pair[0].at - step).abs() < 0.001)
        );
    }

    #[test]
    fn proc_files_are_read() {
        let stat = "42 (task (sync) x) S 1 42 42 0 -1 4194560 500 0 0 0 250 50 60 10 20 0 4 0 100 1000 200";
        assert_eq!(cpu_in(stat, ProcessScope::Process), Some(3.0));
        assert_eq!(cpu_in(stat, ProcessScope::Family), Some(3.7));
        assert_eq!(cpu_in("42 (x", ProcessScope::Process), None);
        assert_eq!(cpu_in("42 (x) S 1 42 42 0", ProcessScope::Process), None);
        assert_eq!(memory_in("Name:\tx\nVmRSS:\t  2048 kB\n", "VmRSS:"), Some(2.0));
        assert!(
            usage_of(std::process::id(), ProcessScope::Process)
                .unwrap()
                .memory_mib
                > 1.0
        );
    }

    #[test]
    fn the_children_of_a_family_count() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = std::process::id();
        let (alone, family) = (
            usage_of(pid, ProcessScope::Process),
            usage_of(pid, ProcessScope::Family),
        );
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(family.unwrap().memory_mib > alone.unwrap().memory_mib);
    }

    #[test]
    fn cpu_time_goes_on_after_a_restart() {
        let mut meter = Meter::default();
        meter.last.insert("a".to_owned(), (u32::MAX, 5.0, 2.0));
        assert!((meter.read("a", None, ProcessScope::Process).cpu_seconds - 7.0).abs() < 1e-9);
        let alive = meter.read("a", Some(std::process::id()), ProcessScope::Process);
        assert!(alive.cpu_seconds >= 7.0);
    }
}
