//! What the workers do now, as the leader sees it, and what the leader derives from it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tasksync_common::error::Failure;
use tasksync_common::fleet::{Fleet, Member, Permits};
use tasksync_common::model::TenantId;
use tasksync_common::queue::{JobQueue, QueueDepth, QueueName};
use tasksync_common::schedule::fair::{BatchesInFlight, Usage};
use tokio::time::Instant;

/// Workers report a new job within a fraction of a second. Until this time has passed, the leader counts it itself.
const UNSEEN: Duration = Duration::from_millis(500);

/// Most jobs counted like that. Further jobs are sent, but not counted.
const MAXIMUM_UNREPORTED: usize = 10_000;

/// Time constant of the pace's moving average.
const PACE_MEMORY: Duration = Duration::from_secs(3);

/// Most jobs sent ahead of free permits, at any pace.
const MOST_AHEAD: usize = 1_000;

/// The load of all workers together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Live processes that take jobs.
    pub(crate) workers: usize,
    /// Permits for scheduled batches.
    pub(crate) background: PermitTotals,
    /// Permits for interactive batches, which a user waits for.
    pub(crate) interactive: PermitTotals,
    /// Scheduled batches that run, by tenant.
    pub(crate) running: BatchesInFlight,
    /// Interactive batches that run, by tenant.
    pub(crate) running_interactive: BatchesInFlight,
    /// Scheduled batches that each process finished since it started.
    done: HashMap<String, u64>,
}

/// Permits of many processes: all of them, and the free ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PermitTotals {
    pub(crate) permits: usize,
    pub(crate) free: u64,
}

impl PermitTotals {
    fn add(&mut self, permits: Permits) {
        self.permits = self.permits.saturating_add(permits.total as usize);
        self.free = self.free.saturating_add(u64::from(permits.free));
    }
}

impl Load {
    pub(crate) fn of(members: &[Member]) -> Self {
        let mut load = Self::default();
        for member in members {
            load.workers += usize::from(member.role.works());
            load.background.add(member.background);
            load.interactive.add(member.interactive);
            load.done.insert(member.name.clone(), member.batches_done);
            for (running, by_tenant) in [
                (&mut load.running, &member.running),
                (&mut load.running_interactive, &member.running_interactive),
            ] {
                for (tenant, batches) in by_tenant {
                    *running.entry(tenant.clone()).or_default() += *batches as usize;
                }
            }
        }
        load
    }

    /// Reads what all live processes last reported.
    pub(crate) async fn read(fleet: &dyn Fleet) -> Result<Self, Failure> {
        fleet.members().await.map(|members| Self::of(&members))
    }

    /// Returns the depth of a queue. Where processes share a fleet, `wanted` is the free permits that the workers
    /// report, because a broker knows only an upper bound.
    pub(crate) async fn depth(
        &self,
        queue: &dyn JobQueue,
        fleet: &dyn Fleet,
        name: QueueName,
    ) -> Result<QueueDepth, Failure> {
        let depth = queue.depth(name).await?;
        Ok(if fleet.is_shared() {
            QueueDepth {
                wanted: self.of_queue(name).free,
                ..depth
            }
        } else {
            depth
        })
    }

    fn of_queue(&self, name: QueueName) -> PermitTotals {
        match name {
            QueueName::Background => self.background,
            QueueName::Interactive => self.interactive,
        }
    }

    /// Returns how many interactive batches of one tenant the workers may have at a time: half of their permits. So a
    /// tenant that asks for all its users does not block another that asks for one. 0 when no worker is known.
    pub(crate) fn interactive_cap(&self) -> usize {
        self.interactive.permits.div_ceil(2)
    }
}

/// What the leader remembers between two looks.
#[derive(Debug, Default)]
pub(crate) struct DispatchMemory {
    pub(crate) usage: Usage,
    observed_at: Option<Instant>,
    pace: CompletionRate,
    background: UnreportedJobs,
    interactive: UnreportedJobs,
}

/// How many batches all workers finish per second, as a moving average over the last seconds.
#[derive(Debug, Default)]
struct CompletionRate {
    per_second: f64,
    done: HashMap<String, u64>,
}

impl CompletionRate {
    /// Adds what was finished since the last look, `elapsed` ago. Batches that a process finished before its first
    /// look do not count.
    fn observe(&mut self, done: &HashMap<String, u64>, elapsed: Duration) {
        let ended: u64 = done
            .iter()
            .filter_map(|(name, now)| Some(now.saturating_sub(*self.done.get(name)?)))
            .sum();
        self.done.clone_from(done);
        let elapsed = elapsed.as_secs_f64();
        if elapsed > 0.0 {
            let kept = (-elapsed / PACE_MEMORY.as_secs_f64()).exp();
            let now = f64::from(u32::try_from(ended).unwrap_or(u32::MAX)) / elapsed;
            self.per_second = self.per_second * kept + now * (1.0 - kept);
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "held between 0 and MOST_AHEAD before"
    )]
    fn within(&self, time: Duration) -> usize {
        let most = f64::from(u32::try_from(MOST_AHEAD).unwrap_or(u32::MAX));
        (self.per_second * time.as_secs_f64()).round().clamp(0.0, most) as usize
    }
}

/// Jobs that the leader sent and counts itself: those sent less than [`UNSEEN`] ago, and those that still wait in the
/// queue.
#[derive(Debug, Default)]
struct UnreportedJobs {
    sent: VecDeque<(Instant, TenantId)>,
    /// How many of the youngest jobs still wait in the queue, however long ago they were sent.
    waiting: usize,
}

impl UnreportedJobs {
    fn add(&mut self, tenant: &TenantId, now: Instant) {
        if self.sent.len() < MAXIMUM_UNREPORTED {
            self.sent.push_back((now, tenant.clone()));
        }
    }

    fn forget(&mut self, now: Instant) {
        while self.sent.len() > self.waiting
            && self
                .sent
                .front()
                .is_some_and(|(sent, _)| now.saturating_duration_since(*sent) >= UNSEEN)
        {
            self.sent.pop_front();
        }
    }
}

impl DispatchMemory {
    fn unreported_jobs(&mut self, queue: QueueName) -> &mut UnreportedJobs {
        match queue {
            QueueName::Background => &mut self.background,
            QueueName::Interactive => &mut self.interactive,
        }
    }

    /// Remembers a job that was sent.
    pub(crate) fn record_sent(&mut self, queue: QueueName, tenant: &TenantId, users: usize, now: Instant) {
        if queue == QueueName::Background {
            self.usage.record_sent(tenant, users);
        }
        self.unreported_jobs(queue).add(tenant, now);
    }

    /// Updates usage and pace with what the workers run and how many jobs wait in the queue. Returns the batches in
    /// flight: those that run, and the sent jobs that workers do not report yet.
    pub(crate) fn observe_load(&mut self, load: &Load, waiting: usize, now: Instant) -> BatchesInFlight {
        let elapsed = self.observed_at.map_or(Duration::ZERO, |observed_at| {
            now.saturating_duration_since(observed_at)
        });
        self.observed_at = Some(now);
        self.usage.observe(&load.running, elapsed);
        self.pace.observe(&load.done, elapsed);
        self.background.waiting = waiting;
        self.in_flight(load, now)
    }

    /// Returns how many more jobs the workers will finish within this time at their recent pace.
    pub(crate) fn expected_completions(&self, time: Duration) -> usize {
        self.pace.within(time)
    }

    /// Returns the batches in flight without updating usage and pace.
    pub(crate) fn in_flight(&mut self, load: &Load, now: Instant) -> BatchesInFlight {
        self.with_unreported(QueueName::Background, load.running.clone(), now)
    }

    /// Returns how many interactive batches of one tenant are in flight.
    pub(crate) fn interactive(&mut self, load: &Load, tenant: &TenantId, now: Instant) -> usize {
        let all = self.with_unreported(QueueName::Interactive, load.running_interactive.clone(), now);
        all.get(tenant).copied().unwrap_or(0)
    }

    fn with_unreported(
        &mut self,
        queue: QueueName,
        mut running: HashMap<TenantId, usize>,
        now: Instant,
    ) -> BatchesInFlight {
        let unseen = self.unreported_jobs(queue);
        unseen.forget(now);
        for (_, tenant) in &unseen.sent {
            *running.entry(tenant.clone()).or_default() += 1;
        }
        running
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use tasksync_common::clock::monotonic;
    use tasksync_common::fleet::Role;

    use super::*;

    fn member(name: &str, role: Role, free: u32, running: &[(&str, u32)]) -> Member {
        Member {
            background: Permits { total: 16, free },
            interactive: Permits { total: 4, free: 3 },
            running: running
                .iter()
                .map(|(tenant, batches)| (tenant.parse().unwrap(), *batches))
                .collect(),
            ..Member::new(name, role, Timestamp::UNIX_EPOCH)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn loads_are_added_up_and_jobs_just_sent_are_in_flight() {
        let members = [
            Member::new("s1", Role::Scheduler, Timestamp::UNIX_EPOCH),
            member("w1", Role::Worker, 5, &[("contoso", 10), ("fabrikam", 1)]),
            member("w2", Role::Worker, 16, &[("contoso", 2)]),
        ];
        let load = Load::of(&members);
        assert_eq!(
            (load.workers, load.background.permits, load.background.free),
            (2, 32, 21)
        );
        assert_eq!(load.of_queue(QueueName::Interactive).free, 6);
        assert_eq!(load.of_queue(QueueName::Background).free, 21);
        assert_eq!(
            (load.interactive_cap(), Load::default().interactive_cap()),
            (4, 0)
        );
        let mut memory = DispatchMemory::default();
        let contoso: TenantId = "contoso".parse().unwrap();
        let start = monotonic();
        memory.record_sent(QueueName::Background, &contoso, 100, start);
        memory.record_sent(QueueName::Interactive, &contoso, 1, start);
        assert_eq!(memory.observe_load(&load, 1, start)[&contoso], 13);
        assert_eq!(memory.interactive(&load, &contoso, start), 1);
        let later = start + UNSEEN;
        assert_eq!(
            memory.observe_load(&load, 1, later)[&contoso],
            13,
            "it waits in the queue"
        );
        assert_eq!(memory.observe_load(&load, 0, later)[&contoso], 12);
        assert_eq!(memory.interactive(&load, &contoso, later), 0);
        assert!(memory.usage.of(&contoso) > 0.0);
    }

    #[test]
    fn the_pace_counts_what_known_processes_finished_lately() {
        let load_of = |done: &[(&str, u64)]| {
            let members: Vec<Member> = done
                .iter()
                .map(|(name, done)| Member {
                    batches_done: *done,
                    ..member(name, Role::Worker, 0, &[])
                })
                .collect();
            Load::of(&members)
        };
        let second = Duration::from_secs(1);
        let mut memory = DispatchMemory::default();
        let mut now = monotonic();
        // Batches finished before the first look do not count for the pace.
        memory.observe_load(&load_of(&[("w1", 1_000_000)]), 0, now);
        assert_eq!(memory.expected_completions(second), 0);
        for step in 1..=30 {
            now += second;
            memory.observe_load(&load_of(&[("w1", 1_000_000 + 40 * step)]), 0, now);
        }
        assert_eq!(memory.expected_completions(second), 40);
        assert_eq!(memory.expected_completions(second / 2), 20);
        // A new process, or a restarted one under another name, counts only from its first look on.
        now += second;
        memory.observe_load(&load_of(&[("w2", 5_000)]), 0, now);
        assert!(memory.expected_completions(second) < 40);
        for _ in 0..60 {
            now += second;
            memory.observe_load(&load_of(&[("w2", 5_000)]), 0, now);
        }
        assert_eq!(memory.expected_completions(second), 0);
        now += second;
        memory.observe_load(&load_of(&[("w2", u64::MAX)]), 0, now);
        assert_eq!(memory.expected_completions(Duration::from_hours(1)), MOST_AHEAD);
    }
}
