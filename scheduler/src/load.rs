//! What the workers do now, as the leader sees it, and what it makes of it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use tasksync_common::error::Failure;
use tasksync_common::fleet::{Fleet, Member, Permits};
use tasksync_common::model::TenantId;
use tasksync_common::queue::{Depth, JobQueue, QueueName};
use tasksync_common::schedule::fair::{Running, Usage};
use tokio::time::Instant;

/// A job sent so lately need not be in what workers say they run: they tell of it within a fraction of a second.
const UNSEEN: Duration = Duration::from_millis(500);

/// Most jobs remembered for so long; more are not sent.
const MOST_UNSEEN: usize = 10_000;

/// The pace of the last seconds counts most.
const PACE_MEMORY: Duration = Duration::from_secs(3);

/// Most jobs sent ahead of free permits, whatever the pace.
const MOST_AHEAD: usize = 1_000;

/// The workers together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Live processes that take jobs.
    pub(crate) workers: usize,
    /// Batches of scheduled work all can work on, and how many more they would take.
    pub(crate) background: Total,
    /// The same of batches somebody waits for.
    pub(crate) interactive: Total,
    /// Batches of scheduled work that run, by tenant.
    pub(crate) running: Running,
    /// Batches somebody waits for that run, by tenant.
    pub(crate) running_interactive: Running,
    /// Batches of scheduled work each process has done since it started.
    done: HashMap<String, u64>,
}

/// Permits of many processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Total {
    pub(crate) permits: usize,
    pub(crate) free: u64,
}

impl Total {
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

    /// What all that live told last.
    pub(crate) async fn read(fleet: &dyn Fleet) -> Result<Self, Failure> {
        fleet.members().await.map(|members| Self::of(&members))
    }

    /// How deep a queue is. What workers would take they tell themselves where processes share a fleet, because a broker
    /// knows only how many it may have given them.
    pub(crate) async fn depth(
        &self,
        queue: &dyn JobQueue,
        fleet: &dyn Fleet,
        name: QueueName,
    ) -> Result<Depth, Failure> {
        let depth = queue.depth(name).await?;
        Ok(if fleet.is_shared() {
            Depth {
                wanted: self.of_queue(name).free,
                ..depth
            }
        } else {
            depth
        })
    }

    fn of_queue(&self, name: QueueName) -> Total {
        match name {
            QueueName::Background => self.background,
            QueueName::Interactive => self.interactive,
        }
    }

    /// How many batches somebody waits for one tenant may have with workers: half of what there is, so that one who asks
    /// for everybody does not stand in the way of another who asks for one. 0 when no worker is known.
    pub(crate) fn interactive_cap(&self) -> usize {
        self.interactive.permits.div_ceil(2)
    }
}

/// What the leader remembers from look to look.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) usage: Usage,
    looked: Option<Instant>,
    pace: Pace,
    background: Unseen,
    interactive: Unseen,
}

/// How many batches all workers end in a second, in the mean of the last seconds.
#[derive(Debug, Default)]
struct Pace {
    per_second: f64,
    done: HashMap<String, u64>,
}

impl Pace {
    /// Looks so long after the last look. What a process did before it was seen first counts as nothing.
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

/// Jobs sent lately, and those that still wait in the queue.
#[derive(Debug, Default)]
struct Unseen {
    sent: VecDeque<(Instant, TenantId)>,
    /// So many of the youngest have not been taken yet, however long ago they were sent.
    waiting: usize,
}

impl Unseen {
    fn add(&mut self, tenant: &TenantId, now: Instant) {
        if self.sent.len() < MOST_UNSEEN {
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

impl Memory {
    fn unseen(&mut self, queue: QueueName) -> &mut Unseen {
        match queue {
            QueueName::Background => &mut self.background,
            QueueName::Interactive => &mut self.interactive,
        }
    }

    /// A job was sent.
    pub(crate) fn sent(&mut self, queue: QueueName, tenant: &TenantId, users: usize, now: Instant) {
        if queue == QueueName::Background {
            self.usage.sent(tenant, users);
        }
        self.unseen(queue).add(tenant, now);
    }

    /// Learns from what runs and what waits in the queue, and answers with what is in flight: that, and what was sent a
    /// moment ago.
    pub(crate) fn look(&mut self, load: &Load, waiting: usize, now: Instant) -> Running {
        let elapsed = self
            .looked
            .map_or(Duration::ZERO, |looked| now.saturating_duration_since(looked));
        self.looked = Some(now);
        self.usage.observe(&load.running, elapsed);
        self.pace.observe(&load.done, elapsed);
        self.background.waiting = waiting;
        self.in_flight(load, now)
    }

    /// How many more jobs the workers will end within this time, if they go on as they did lately.
    pub(crate) fn ended_within(&self, time: Duration) -> usize {
        self.pace.within(time)
    }

    /// What is in flight, without learning from it again.
    pub(crate) fn in_flight(&mut self, load: &Load, now: Instant) -> Running {
        self.with_unseen(QueueName::Background, load.running.clone(), now)
    }

    /// What of one tenant somebody waits for and is in flight.
    pub(crate) fn interactive(&mut self, load: &Load, tenant: &TenantId, now: Instant) -> usize {
        let all = self.with_unseen(QueueName::Interactive, load.running_interactive.clone(), now);
        all.get(tenant).copied().unwrap_or(0)
    }

    fn with_unseen(
        &mut self,
        queue: QueueName,
        mut running: HashMap<TenantId, usize>,
        now: Instant,
    ) -> Running {
        let unseen = self.unseen(queue);
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
    async fn the_workers_are_added_up_and_what_was_sent_a_moment_ago_is_in_flight() {
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
        let mut memory = Memory::default();
        let contoso: TenantId = "contoso".parse().unwrap();
        let start = Instant::now();
        memory.sent(QueueName::Background, &contoso, 100, start);
        memory.sent(QueueName::Interactive, &contoso, 1, start);
        assert_eq!(memory.look(&load, 1, start)[&contoso], 13);
        assert_eq!(memory.interactive(&load, &contoso, start), 1);
        let later = start + UNSEEN;
        assert_eq!(
            memory.look(&load, 1, later)[&contoso],
            13,
            "it waits in the queue"
        );
        assert_eq!(memory.look(&load, 0, later)[&contoso], 12);
        assert_eq!(memory.interactive(&load, &contoso, later), 0);
        assert!(memory.usage.of(&contoso) > 0.0);
    }

    #[test]
    fn the_pace_is_what_known_processes_ended_lately() {
        let told = |done: &[(&str, u64)]| {
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
        let mut memory = Memory::default();
        let mut now = Instant::now();
        // What was done before anybody looked is not the pace of now.
        memory.look(&told(&[("w1", 1_000_000)]), 0, now);
        assert_eq!(memory.ended_within(second), 0);
        for step in 1..=30 {
            now += second;
            memory.look(&told(&[("w1", 1_000_000 + 40 * step)]), 0, now);
        }
        assert_eq!(memory.ended_within(second), 40);
        assert_eq!(memory.ended_within(second / 2), 20);
        // A process that comes, or comes again under another name, is first looked at.
        now += second;
        memory.look(&told(&[("w2", 5_000)]), 0, now);
        assert!(memory.ended_within(second) < 40);
        for _ in 0..60 {
            now += second;
            memory.look(&told(&[("w2", 5_000)]), 0, now);
        }
        assert_eq!(memory.ended_within(second), 0);
        now += second;
        memory.look(&told(&[("w2", u64::MAX)]), 0, now);
        assert_eq!(memory.ended_within(Duration::from_secs(3600)), MOST_AHEAD);
    }
}
