//! CPU time of the servers' processes and of this process's groups of threads.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

/// Ticks per second in `/proc`: `USER_HZ`, 100 on every Linux architecture in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// Threads of this process by the beginning of their names. Threads with other names count for the AMQP client.
const THREADS: [(&str, Part); 4] = [
    ("scheduler", Part::Scheduler),
    ("worker", Part::Worker),
    ("bare", Part::Bare),
    ("sqlx", Part::Registry),
];

/// A part of the system whose CPU time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The scheduler's runtime: dispatch, its Redis connections, half of its AMQP calls.
    Scheduler,
    /// The worker's runtime.
    Worker,
    /// The AMQP client's own threads, one per connection, and this benchmark's own thread.
    Amqp,
    /// The runtime of the baseline.
    Bare,
    /// Redis.
    Redis,
    /// RabbitMQ.
    RabbitMq,
    /// The registry: PostgreSQL's processes, or SQLite's threads.
    Registry,
}

/// CPU seconds by part, since the start of each process.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage(BTreeMap<Part, f64>);

impl Usage {
    /// Returns a part's seconds.
    pub(crate) fn of(&self, part: Part) -> f64 {
        self.0.get(&part).copied().unwrap_or(0.0)
    }

    /// Returns what was used since an earlier reading.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        self.map(|part, seconds| seconds - earlier.of(part))
    }

    /// Returns the usage with every part's seconds changed.
    pub(crate) fn map(&self, change: impl Fn(Part, f64) -> f64) -> Self {
        Self(
            self.0
                .iter()
                .map(|(part, seconds)| (*part, change(*part, *seconds)))
                .collect(),
        )
    }

    /// Returns the seconds of these parts together.
    pub(crate) fn sum(&self, parts: &[Part]) -> f64 {
        parts.iter().map(|part| self.of(*part)).sum()
    }
}

/// Reads CPU times.
#[derive(Debug)]
pub(crate) struct Meter {
    /// The servers' root processes.
    servers: Vec<(Part, u32)>,
}

impl Meter {
    /// Returns a meter of the servers with these process ids, and of this process.
    pub(crate) fn new(servers: Vec<(Part, u32)>) -> Self {
        Self { servers }
    }

    /// Returns the CPU time so far.
    ///
    /// # Errors
    /// A process does not exist, or there is no `/proc`.
    pub(crate) fn read(&self) -> Result<Usage, String> {
        let mut usage = BTreeMap::new();
        let mut add = |part: Part, seconds: f64| *usage.entry(part).or_insert(0.0) += seconds;
        let parents = parents()?;
        for (part, root) in &self.servers {
            for pid in tree(*root, &parents) {
                match times(Path::new(&format!("/proc/{pid}/stat"))) {
                    // `times.children` is the time of ended children that the process has waited for.
                    Ok(times) => add(*part, times.own + times.children),
                    Err(error) if pid == *root => return Err(error),
                    Err(_) => {}
                }
            }
        }
        let mut rest = times(Path::new("/proc/self/stat"))?.own;
        for thread in fs::read_dir("/proc/self/task").map_err(|error| format!("/proc/self/task: {error}"))? {
            let folder = thread.map_err(|error| error.to_string())?.path();
            // A thread may end while it is read. Its time is still part of the process's.
            let (Ok(name), Ok(times)) = (
                fs::read_to_string(folder.join("comm")),
                times(&folder.join("stat")),
            ) else {
                continue;
            };
            let known = THREADS.iter().find(|(beginning, _)| name.starts_with(beginning));
            if let Some((_, part)) = known {
                rest -= times.own;
                add(*part, times.own);
            }
        }
        add(Part::Amqp, rest);
        Ok(Usage(usage))
    }
}

struct Times {
    own: f64,
    children: f64,
}

/// Reads the times of a `stat` file. Its second field, the program's name in parentheses, may have any characters.
/// `utime`, `stime`, `cutime` and `cstime` are fields 14 to 17.
fn times(path: &Path) -> Result<Times, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let fields: Option<Vec<f64>> = text.rsplit_once(')').and_then(|(_, rest)| {
        let fields = rest.split_ascii_whitespace().skip(11).take(4);
        fields.map(|field| field.parse().ok()).collect()
    });
    match fields.as_deref() {
        Some([user, system, children_user, children_system]) => Ok(Times {
            own: (user + system) / TICKS_PER_SECOND,
            children: (children_user + children_system) / TICKS_PER_SECOND,
        }),
        _ => Err(format!("{} is not as expected", path.display())),
    }
}

/// Returns the children of every process.
fn parents() -> Result<HashMap<u32, Vec<u32>>, String> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")
        .map_err(|error| format!("/proc: {error}"))?
        .flatten()
    {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let parent = fs::read_to_string(entry.path().join("stat"))
            .ok()
            .and_then(|text| {
                let (_, rest) = text.rsplit_once(')')?;
                rest.split_ascii_whitespace().nth(1)?.parse().ok()
            });
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    Ok(children)
}

fn tree(root: u32, children: &HashMap<u32, Vec<u32>>) -> Vec<u32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.get(pid).into_iter().flatten().copied());
        next += 1;
    }
    found
}
