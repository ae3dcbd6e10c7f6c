//! The background of a trial: a sample every second, the threads of the simulated people, and the faults of the
//! servers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::file::{Edits, FaultKind, FaultServer, LatencySpec, Scenario, TenantGroup};
use super::fleet::Fleet;
use super::result::is_tasksync_process;
use super::sample::{Meter, ProcessScope, Sample, Series};
use super::visits::{GroupWaits, VisitLog};
use crate::machine_clock::monotonic;
use crate::sim::conditions::{Conditions, FaultShare, GroupId, Latency};
use crate::sim::faults::Fault;
use crate::trial::{Editor, Farm, Habits, Ledger, Oracle};

/// The service's status is read with every fifth sample.
const STATUS_EVERY: u64 = 5;
/// Largest number of unseen edits that are checked in one round.
const CHECKED_PER_ROUND: usize = 5_000;
/// Pause between two rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(200);

/// Takes samples of a running trial and keeps them.
pub(crate) struct TrialMonitor {
    pub(crate) began: Instant,
    pub(crate) farm: Arc<Farm>,
    pub(crate) visits: Arc<VisitLog>,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    pub(crate) series: Series,
    meter: Meter,
    samples_taken: u64,
    due: Option<u64>,
}

/// Locks a mutex even if it is poisoned.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The result of one sampling.
pub(crate) struct MonitorSample {
    pub(crate) sample: Sample,
    pub(crate) waits: Vec<GroupWaits>,
}

impl MonitorSample {
    /// Returns the number of users that were never visited.
    pub(crate) fn never_visited(&self) -> u64 {
        self.waits.iter().map(|wait| wait.never_visited).sum()
    }

    /// Returns the number of visits of all groups.
    pub(crate) fn visits(&self) -> u64 {
        self.sample.visits.iter().sum()
    }

    /// Returns the longest wait in seconds.
    pub(crate) fn oldest(&self) -> f64 {
        self.sample.oldest.iter().copied().fold(0.0, f64::max)
    }

    /// Returns the CPU time of all tasksync processes in seconds.
    pub(crate) fn cpu(&self) -> f64 {
        self.sample
            .processes
            .iter()
            .filter(|(name, _)| is_tasksync_process(name))
            .map(|(_, usage)| usage.cpu_seconds)
            .sum()
    }
}

impl TrialMonitor {
    pub(crate) fn new(farm: Arc<Farm>, visits: Arc<VisitLog>) -> Self {
        Self {
            began: monotonic(),
            farm,
            visits,
            ledger: Arc::default(),
            series: Series::default(),
            meter: Meter::default(),
            samples_taken: 0,
            due: None,
        }
    }

    /// Takes a sample and keeps it.
    pub(crate) async fn take_sample(&mut self, fleet: &Fleet) -> MonitorSample {
        if self.samples_taken.is_multiple_of(STATUS_EVERY) {
            let status = fleet.status().await;
            self.due = status.and_then(|status| status.pointer("/summary/due")?.as_u64());
        }
        self.samples_taken += 1;
        let waits = self.visits.scan();
        let mut sample = Sample {
            at: self.began.elapsed().as_secs_f64(),
            visits: self.visits.visits(),
            oldest: waits.iter().map(|wait| seconds(wait.oldest_ms)).collect(),
            never: waits.iter().map(|wait| wait.never_visited).sum(),
            open_edits: locked(&self.ledger).waiting(),
            due: self.due,
            ..Sample::default()
        };
        (sample.exchange, sample.sharepoint) = self.farm.requests();
        sample.writes = self.farm.writes();
        for process in fleet.processes() {
            let usage = self
                .meter
                .read(&process.spec.name, process.id(), ProcessScope::Process);
            sample.processes.insert(process.spec.name.clone(), usage);
        }
        for (name, pid) in fleet.store_pids() {
            sample
                .processes
                .insert(name.to_owned(), self.meter.read(name, pid, ProcessScope::Family));
        }
        let usage = self
            .meter
            .read("simulators", Some(std::process::id()), ProcessScope::Process);
        sample.processes.insert("simulators".to_owned(), usage);
        self.series.push(sample.clone());
        MonitorSample { sample, waits }
    }
}

/// Converts milliseconds to seconds.
pub(crate) fn seconds(milliseconds: u64) -> f64 {
    Duration::from_millis(milliseconds).as_secs_f64()
}

/// Two threads: one makes the edits, the other checks whether the other side shows them.
pub(crate) struct EditingThreads {
    stop_editing: Arc<AtomicBool>,
    stop_checking: Arc<AtomicBool>,
    threads: Vec<std::thread::JoinHandle<Result<(), String>>>,
}

impl EditingThreads {
    /// Starts the threads.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub(crate) fn begin(monitor: &TrialMonitor, edits: &Edits, seed: u64) -> Result<Self, String> {
        let (stop_editing, stop_checking) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        let failed = |error: std::io::Error| format!("no thread for the people: {error}");
        if edits.per_second > 0.0 {
            let (farm, ledger, stop, edits) = (
                Arc::clone(&monitor.farm),
                Arc::clone(&monitor.ledger),
                Arc::clone(&stop_editing),
                edits.clone(),
            );
            let editing = move || edit(&farm, &ledger, &stop, &edits, seed);
            threads.push(
                std::thread::Builder::new()
                    .name("people".to_owned())
                    .spawn(editing)
                    .map_err(failed)?,
            );
        }
        let (farm, ledger, stop) = (
            Arc::clone(&monitor.farm),
            Arc::clone(&monitor.ledger),
            Arc::clone(&stop_checking),
        );
        let checking = move || {
            let oracle = Oracle::new(&farm);
            while !stop.load(Ordering::Relaxed) {
                locked(&ledger).check_unseen(CHECKED_PER_ROUND, |edit| oracle.shows(edit));
                std::thread::sleep(ROUND_PAUSE);
            }
            Ok(())
        };
        threads.push(
            std::thread::Builder::new()
                .name("onlooker".to_owned())
                .spawn(checking)
                .map_err(failed)?,
        );
        Ok(Self {
            stop_editing,
            stop_checking,
            threads,
        })
    }

    /// Stops the edits. Unseen edits are still checked.
    pub(crate) fn stop_editing(&self) {
        self.stop_editing.store(true, Ordering::Relaxed);
    }

    /// Stops both threads. Returns the editor's error, if it met one.
    pub(crate) fn stop_and_join(self) -> Result<(), String> {
        self.stop_editing();
        self.stop_checking.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread
                .join()
                .map_err(|_| "a thread of the people panicked".to_owned())??;
        }
        Ok(())
    }
}

fn edit(
    farm: &Farm,
    ledger: &Mutex<Ledger>,
    stop: &AtomicBool,
    edits: &Edits,
    seed: u64,
) -> Result<(), String> {
    let part = |part: u64| usize::try_from(part).unwrap_or(0);
    let habits = Habits {
        at_source: part(edits.at_source),
        in_mailbox: part(edits.in_mailbox),
        create: part(edits.create),
        delete: part(edits.delete),
        reassign: part(edits.reassign),
        conflict: part(edits.conflict),
    };
    let mut editor = Editor::resting(seed, edits.rest.0).with_habits(habits);
    let pause = Duration::from_secs_f64(1.0 / edits.per_second);
    let mut next = monotonic();
    while !stop.load(Ordering::Relaxed) {
        let now = monotonic();
        if now < next {
            std::thread::sleep((next - now).min(Duration::from_millis(50)));
            continue;
        }
        editor.act(farm, &mut locked(ledger))?;
        // An editor that fell behind catches up by at most one second's edits.
        next = (next + pause).max(now.checked_sub(Duration::from_secs(1)).unwrap_or(now));
    }
    Ok(())
}

fn latency(answers: &LatencySpec) -> Latency {
    match (answers.latency.0, answers.p99) {
        (latency, Some(p99)) => Latency::Spread {
            median: latency,
            p99: p99.0,
        },
        (latency, None) if latency.is_zero() => Latency::None,
        (latency, None) => Latency::Fixed(latency),
    }
}

/// Returns how a group's Exchange and SharePoint servers behave while these fault windows are open.
pub(crate) fn conditions_during(group: &TenantGroup, open: &[usize]) -> (Conditions, Conditions) {
    let conditions = |answers: &LatencySpec, server: FaultServer| {
        let windows = open.iter().filter_map(|at| group.faults.get(*at));
        let faults = windows
            .filter(|fault| fault.server == server || fault.server == FaultServer::Both)
            .map(|fault| {
                let pause = fault.pause.0;
                let kind = match fault.kind {
                    FaultKind::Down => Fault::Cut,
                    FaultKind::Busy => Fault::Busy {
                        pause: (!pause.is_zero()).then_some(pause),
                        inside: false,
                        status: 429,
                    },
                    FaultKind::Slow => Fault::Slow(pause),
                    FaultKind::LoseAnswers => Fault::LoseResponse,
                    FaultKind::Unavailable => Fault::Status(503),
                };
                FaultShare {
                    per_mille: per_mille(fault.share),
                    fault: kind,
                }
            })
            .collect();
        Conditions {
            latency: latency(answers),
            faults,
        }
    };
    (
        conditions(&group.exchange, FaultServer::Exchange),
        conditions(&group.sharepoint, FaultServer::Sharepoint),
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the range before the cast"
)]
pub(crate) fn per_mille(share: f64) -> u16 {
    (share * 1000.0).round().clamp(0.0, 1000.0) as u16
}

/// Sets the behaviour of a group's servers for these open fault windows.
pub(crate) fn set_conditions(farm: &Farm, scenario: &Scenario, group: usize, open: &[usize]) {
    let (Some(spec), Ok(id)) = (scenario.tenants.get(group), GroupId::try_from(group)) else {
        return;
    };
    let (exchange, sharepoint) = conditions_during(spec, open);
    farm.exchange.groups.set(id, exchange);
    farm.sharepoint.groups.set(id, sharepoint);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_fault_windows_decide_how_their_server_behaves() {
        let text = "name = \"a\"\nabout = \"b\"\n[[tenants]]\nname = \"all\"\nusers = 1\n\
            exchange = { latency = \"20ms\", p99 = \"200ms\" }\n\
            [[tenants.faults]]\nserver = \"exchange\"\nkind = \"down\"\nlasts = \"1s\"\nshare = 0.25\n\
            [[tenants.faults]]\nserver = \"both\"\nkind = \"busy\"\npause = \"2s\"\nlasts = \"1s\"\n";
        let group = &Scenario::parse(text).unwrap().tenants[0];
        let (exchange, sharepoint) = conditions_during(group, &[]);
        assert!(exchange.faults.is_empty() && matches!(exchange.latency, Latency::Spread { .. }));
        assert_eq!(sharepoint, Conditions::default());
        let (exchange, sharepoint) = conditions_during(group, &[0, 1]);
        assert_eq!(
            exchange.faults[0],
            FaultShare {
                per_mille: 250,
                fault: Fault::Cut
            }
        );
        assert_eq!((exchange.faults.len(), sharepoint.faults.len()), (2, 1));
        assert!(matches!(
            sharepoint.faults[0].fault,
            Fault::Busy { pause: Some(_), .. }
        ));
    }
}
