//! The machine and the time of a run.

use serde::Serialize;

/// A description of the machine and the program, with a date.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Machine {
    /// Date and time in UTC.
    pub date: String,
    /// Number of processors that this program may use.
    pub processors: usize,
    /// Model of the processors.
    pub processor: String,
    /// Memory in GiB.
    pub memory_gib: f64,
    /// Kernel.
    pub kernel: String,
    /// Revision of the source, if the program runs in its checkout.
    pub commit: String,
    /// Version of this program.
    pub version: String,
    /// Whether this program was built with optimisation.
    pub optimised: bool,
}

impl Machine {
    /// Returns the description of this machine now.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let line = |text: &str, key: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(key))
                .map(|rest| rest.trim_start_matches([':', '\t', ' ']).to_owned())
                .unwrap_or_default()
        };
        let memory = line(&read("/proc/meminfo"), "MemTotal");
        let kib: f64 = memory
            .split_ascii_whitespace()
            .next()
            .and_then(|kib| kib.parse().ok())
            .unwrap_or(0.0);
        let commit = std::process::Command::new("git")
            .args(["describe", "--always", "--dirty", "--abbrev=12"])
            .output()
            .ok()
            .filter(|output| output.status.success())
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Self {
            date: crate::machine_clock::machine_time()
                .strftime("%Y-%m-%d %H:%M UTC")
                .to_string(),
            processors: std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
            processor: line(&read("/proc/cpuinfo"), "model name"),
            memory_gib: kib / 1024.0 / 1024.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            commit: commit.unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            optimised: !cfg!(debug_assertions),
        }
    }
}
