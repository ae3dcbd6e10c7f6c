//! The phases of one trial.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::file::Scenario;
use super::fleet::{Fleet, Hit};
use super::honest;
use super::kills::{Event, timeline};
use super::measure::{Look, People, Watch, locked, set_weather};
use super::phases::Progress;
use super::result::{
    GroupResult, IdleResult, Quantiles, StepResult, TenantResult, TrialResult, UntruthResult, Verdicts,
};
use crate::liar::Liar;
use crate::trial::{Farm, Oracle, Truth, Untruths, Verdict};

/// Largest number of tries to read the status at the end.
const STATUS_ASKED: usize = 10;
/// Interval between samples.
const LOOK: Duration = Duration::from_secs(1);
/// tasksync still sees its own last writes once more. The quiet phase begins after that, at most this much later.
const ECHO: Duration = Duration::from_secs(20);
/// Largest number of lines kept for each kind of disagreement.
const LINES: usize = 20;

/// A trial under way.
pub(crate) struct Trial<'a> {
    scenario: &'a Scenario,
    fleet: Arc<Fleet>,
    watch: Watch,
    liar: Option<Arc<Liar>>,
    truth: Truth,
    untruths: Untruths,
    progress: &'a dyn Progress,
    marks: Vec<(String, f64)>,
    enrol_seconds: f64,
    everybody_within: Option<f64>,
    measured: Option<(Look, Look)>,
    staleness_max: f64,
    hits: Vec<Hit>,
    steps: Vec<StepResult>,
    settled_within: Option<f64>,
    idle: Option<IdleResult>,
    verdict: Verdict,
    unseen: Vec<String>,
    never: u64,
    /// An upper bound for the time of the last wrong answer.
    honest_from: Timestamp,
    unchecked: Option<u64>,
    /// Users who were disabled when the servers had been honest for `lies.honest`.
    disabled_by_lies: Option<u64>,
    disabled: Option<u64>,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(
        scenario: &'a Scenario,
        fleet: Arc<Fleet>,
        watch: Watch,
        liar: Option<Arc<Liar>>,
        progress: &'a dyn Progress,
    ) -> Self {
        // Recording a million tasks takes much memory, so only trials with wrong answers do it.
        let truth = match &liar {
            Some(_) => Truth::remember(&watch.farm),
            None => Truth::default(),
        };
        Self {
            scenario,
            fleet,
            watch,
            liar,
            truth,
            untruths: Untruths::default(),
            progress,
            marks: Vec::new(),
            enrol_seconds: 0.0,
            everybody_within: None,
            measured: None,
            staleness_max: 0.0,
            hits: Vec::new(),
            steps: Vec::new(),
            settled_within: None,
            idle: None,
            verdict: Verdict::default(),
            unseen: Vec::new(),
            never: 0,
            honest_from: Timestamp::MIN,
            unchecked: None,
            disabled_by_lies: None,
            disabled: None,
        }
    }

    pub(crate) async fn all_phases(&mut self, folder: &Path) -> Result<(), String> {
        self.enrol(folder).await?;
        self.warm_up().await;
        let people = People::begin(&self.watch, &self.scenario.edits, self.scenario.seed)?;
        if self.scenario.steps.is_empty() {
            self.measure().await;
        } else {
            self.steps().await?;
        }
        people.rest();
        self.settle().await;
        self.quiet().await;
        people.end()?;
        self.judge().await;
        Ok(())
    }

    fn mark(&mut self, name: &str) {
        let now = self.watch.began.elapsed().as_secs_f64();
        self.marks.push((name.to_owned(), now));
    }

    async fn look(&mut self) -> Look {
        self.watch.look(&self.fleet).await
    }

    async fn enrol(&mut self, folder: &Path) -> Result<(), String> {
        self.mark("opt-in");
        self.progress.begin("opt-in", self.scenario.users());
        let started = Instant::now();
        let done = AtomicUsize::new(0);
        let progress = self.progress;
        let (fleet, farm) = (Arc::clone(&self.fleet), Arc::clone(&self.watch.farm));
        let tell = |users| {
            let all = done.fetch_add(users, Ordering::Relaxed) + users;
            progress.at(u64::try_from(all).unwrap_or(0), "");
        };
        let enrolling = fleet.enrol(&farm, folder, tell);
        tokio::pin!(enrolling);
        loop {
            tokio::select! {
                done = &mut enrolling => {
                    done?;
                    break;
                }
                () = tokio::time::sleep(LOOK) => {
                    self.watch.look(&fleet).await;
                }
            }
        }
        self.enrol_seconds = started.elapsed().as_secs_f64();
        self.progress.end();
        Ok(())
    }

    /// Waits until each user was synced once.
    async fn warm_up(&mut self) {
        self.mark("warm-up");
        let users = self.scenario.users();
        self.progress.begin("first sync", users);
        let deadline = Instant::now() + self.scenario.phases.warm_up.0;
        loop {
            let look = self.look().await;
            let never = look.never();
            self.progress.at(users.saturating_sub(never), "");
            if never == 0 {
                self.everybody_within = Some(self.watch.began.elapsed().as_secs_f64());
                break;
            }
            if Instant::now() > deadline {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.progress.end();
    }

    /// Runs the measured phase with its kills and faults.
    async fn measure(&mut self) {
        self.mark("measured");
        let length = self.scenario.phases.measured.0;
        let mut events = timeline(&self.scenario.kills, &self.scenario.tenants, length)
            .into_iter()
            .peekable();
        let mut hits: JoinSet<Hit> = JoinSet::new();
        self.progress.begin("measured", length.as_secs());
        self.watch.visits.measure(true);
        let first = self.look().await;
        let began = Instant::now();
        let mut last = None;
        let lies = self.liar.clone();
        if let Some(liar) = &lies {
            liar.lie(true);
        }
        while began.elapsed() < length && !lies.as_ref().is_some_and(|liar| liar.is_done()) {
            while let Some((_, event)) = events.next_if(|(at, _)| *at <= began.elapsed()) {
                self.happens(event, &mut hits);
            }
            let look = self.look().await;
            self.staleness_max = self.staleness_max.max(look.oldest());
            let word = format!(
                "{} syncs, {} edits open",
                look.visits().saturating_sub(first.visits()),
                look.sample.open_edits
            );
            self.progress.at(began.elapsed().as_secs(), &word);
            last = Some(look);
            tokio::time::sleep(LOOK.min(length.saturating_sub(began.elapsed()))).await;
        }
        if let Some(liar) = &lies {
            liar.lie(false);
            self.honest_from = honest::now();
        }
        self.watch.visits.measure(false);
        self.measured = last.map(|last| (first, last));
        for group in 0..self.scenario.tenants.len() {
            set_weather(&self.watch.farm, self.scenario, group, &[]);
        }
        self.progress.end();
        if !hits.is_empty() {
            self.progress
                .begin("mending", u64::try_from(hits.len()).unwrap_or(0));
        }
        while let Some(hit) = hits.join_next().await {
            self.hits.extend(hit.ok());
        }
        self.progress.end();
        self.hits.sort_by(|left, right| left.at.total_cmp(&right.at));
    }

    fn happens(&self, event: Event, hits: &mut JoinSet<Hit>) {
        match event {
            Event::Hit {
                what,
                how,
                turn,
                down,
            } => {
                self.progress.say(&format!("{how:?} {what:?}"));
                let (fleet, began) = (Arc::clone(&self.fleet), self.watch.began);
                hits.spawn(async move { fleet.hit(what, how, turn, down, began).await });
            }
            Event::Weather { group, open } => set_weather(&self.watch.farm, self.scenario, group, &open),
        }
    }

    /// Runs the measured windows with different numbers of workers.
    async fn steps(&mut self) -> Result<(), String> {
        for step in &self.scenario.steps {
            self.mark(&format!("{} workers", step.workers));
            self.fleet.scale(step.workers).await?;
            let name = format!("{} workers", step.workers);
            self.progress
                .begin(&name, (step.settle.0 + step.measured.0).as_secs());
            let began = Instant::now();
            while began.elapsed() < step.settle.0 {
                self.look().await;
                self.progress
                    .at(began.elapsed().as_secs(), "reaching a steady state");
                tokio::time::sleep(LOOK).await;
            }
            self.watch.visits.measure(true);
            let first = self.look().await;
            let until = Instant::now() + step.measured.0;
            let mut last = None;
            while Instant::now() < until {
                let left = until.saturating_duration_since(Instant::now());
                tokio::time::sleep(LOOK.min(left)).await;
                let look = self.look().await;
                self.staleness_max = self.staleness_max.max(look.oldest());
                let made = look.visits().saturating_sub(first.visits());
                self.progress
                    .at(began.elapsed().as_secs(), &format!("{made} syncs"));
                last = Some(look);
            }
            self.watch.visits.measure(false);
            self.progress.end();
            if let Some(last) = last {
                self.steps.push(StepResult {
                    workers: step.workers,
                    syncs: last.visits() - first.visits(),
                    seconds: last.sample.at - first.sample.at,
                    cpu_seconds: last.cpu() - first.cpu(),
                });
                self.measured = Some((first, last));
            }
        }
        Ok(())
    }

    /// Waits until both sides agree.
    async fn settle(&mut self) {
        self.mark("settle");
        let limit = self.scenario.phases.settle.0;
        self.progress.begin("settle", limit.as_secs());
        let began = Instant::now();
        let mut next = began;
        let mut found = String::new();
        loop {
            let look = self.look().await;
            self.progress.at(
                began.elapsed().as_secs(),
                &format!("{} edits open{found}", look.sample.open_edits),
            );
            self.sync_disabled().await;
            if look.sample.open_edits == 0 && Instant::now() >= next {
                let asked = Instant::now();
                self.unchecked = self.unchecked().await;
                self.verdict = self.verdict();
                let checked = self.unchecked.is_none_or(|unchecked| unchecked == 0);
                if self.verdict.agrees() && checked {
                    self.settled_within = Some(began.elapsed().as_secs_f64());
                    break;
                }
                let unchecked = self.unchecked.filter(|unchecked| *unchecked > 0);
                let unchecked = unchecked.map_or_else(String::new, |count| format!(", {count} not checked"));
                found = format!("{unchecked}, {}", self.verdict.in_short());
                // Comparing a million mailboxes takes long. Spend at most a quarter of the time on it.
                next = Instant::now() + asked.elapsed() * 3;
            }
            if began.elapsed() > limit {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.progress.end();
    }

    /// Returns how many users had no full and no deep check against honest servers yet, or `None` without wrong
    /// answers. A deep check ends when full checks against honest servers span its interval.
    async fn unchecked(&self) -> Option<u64> {
        let honest = self.scenario.lies.as_ref()?.honest.0;
        let from = self.honest_from.checked_add(honest).unwrap_or(Timestamp::MAX);
        if honest::now() < from {
            return Some(self.scenario.users());
        }
        Some(honest::unchecked(&self.fleet, &self.watch.farm, from).await)
    }

    /// Counts the disabled users and requests a sync for each of them, once the servers have been honest for
    /// `lies.honest`.
    async fn sync_disabled(&mut self) {
        let lies = self.scenario.lies.as_ref();
        let honest_long_enough = lies.is_some_and(|lies| {
            self.honest_from
                .checked_add(lies.honest.0)
                .is_ok_and(|from| honest::now() >= from)
        });
        if self.disabled_by_lies.is_none() && honest_long_enough {
            self.disabled_by_lies = Some(honest::sync_disabled(&self.fleet, &self.watch.farm).await);
        }
    }

    fn verdict(&self) -> Verdict {
        let farm = &self.watch.farm;
        tokio::task::block_in_place(|| Oracle::new(farm).verdict())
    }

    /// Runs the quiet phase, which measures what an idle sync costs and whether anything is written.
    async fn quiet(&mut self) {
        let length = self.scenario.phases.quiet.0;
        if length.is_zero() {
            return;
        }
        self.mark("quiet");
        self.progress.begin("quiet", length.as_secs());
        // Wait until tasksync has seen its own writes once more.
        let (mut still, began) = (Instant::now(), Instant::now());
        let mut writes = self.watch.farm.writes();
        while still.elapsed() < ECHO / 4 && began.elapsed() < ECHO {
            tokio::time::sleep(LOOK).await;
            let look = self.look().await;
            if look.sample.writes != writes {
                (still, writes) = (Instant::now(), look.sample.writes);
            }
        }
        let first = self.look().await;
        let began = Instant::now();
        while began.elapsed() < length {
            tokio::time::sleep(LOOK.min(length.saturating_sub(began.elapsed()))).await;
            let look = self.look().await;
            self.progress.at(
                began.elapsed().as_secs(),
                &format!("{} writes", look.sample.writes - first.sample.writes),
            );
        }
        let last = self.look().await;
        self.idle = Some(IdleResult {
            syncs: last.visits() - first.visits(),
            exchange_requests: last.sample.exchange - first.sample.exchange,
            sharepoint_requests: last.sample.sharepoint - first.sample.sharepoint,
            writes: last.sample.writes - first.sample.writes,
            cpu_seconds: last.cpu() - first.cpu(),
        });
        self.progress.end();
    }

    async fn judge(&mut self) {
        self.mark("end");
        let look = self.look().await;
        self.never = look.never();
        self.unchecked = self.unchecked().await;
        self.verdict = self.verdict();
        {
            let mut ledger = locked(&self.watch.ledger);
            let oracle = Oracle::new(&self.watch.farm);
            ledger.look(usize::MAX, |edit| oracle.shows(edit));
            self.unseen = ledger.unseen(LINES);
        }
        if self.liar.is_some() {
            self.judge_truth().await;
        }
        // The status is briefly unavailable while the leader examines all users.
        for _ in 0..STATUS_ASKED {
            let status = self.fleet.status().await;
            self.disabled = status.and_then(|status| status["disabled"].as_u64());
            if self.disabled.is_some() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Finds the differences from what people entered, with the help of all journals.
    async fn judge_truth(&mut self) {
        let farm = Arc::clone(&self.watch.farm);
        let mut journals: HashMap<(usize, usize), String> = HashMap::new();
        for (at, tenant) in farm.population.tenants.iter().enumerate() {
            for person in &tenant.people {
                let user = Farm::user_name(person);
                let journal = self.fleet.journal(&tenant.slug, &user).await;
                journals.insert((at, person.id), journal.unwrap_or_default());
            }
        }
        let ledger = locked(&self.watch.ledger);
        let journal = |tenant, person| journals.get(&(tenant, person)).cloned().unwrap_or_default();
        self.untruths = self.truth.judge(&farm, ledger.edits(), journal);
    }

    /// Returns all results.
    pub(crate) fn result(self, population_seconds: f64, ends: Vec<(String, Option<i32>)>) -> TrialResult {
        let counts = locked(&self.watch.ledger).counts();
        let standings = self.watch.visits.scan();
        let farm = &self.watch.farm;
        let (exchange, sharepoint) = (farm.exchange.groups.requests(), farm.sharepoint.groups.requests());
        let lies = self.scenario.lies.as_ref();
        let groups = self
            .scenario
            .tenants
            .iter()
            .zip(self.watch.visits.intervals())
            .zip(self.watch.visits.lengths())
            .zip(standings)
            .zip(0..)
            .map(|((((group, intervals), lengths), standing), at)| {
                let both = [exchange.get(&at), sharepoint.get(&at)];
                let [exchange, sharepoint] = both.map(|counts| counts.copied().unwrap_or_default());
                GroupResult {
                    name: group.name.clone(),
                    tenants: group.count,
                    users: standing.users,
                    lied_to: lies.is_some_and(|lies| lies.reach(&group.name)),
                    interval: Quantiles::of(&intervals),
                    sync: Quantiles::of(&lengths),
                    exchange_requests: exchange.0,
                    sharepoint_requests: sharepoint.0,
                    troubled_requests: exchange.1 + sharepoint.1,
                }
            })
            .collect();
        let mut all = self.watch.visits.overtaking();
        let overtaking = Quantiles::of(&all);
        all.reset();
        for intervals in self.watch.visits.intervals() {
            all.add(&intervals).ok();
        }
        let tenants = farm
            .population
            .tenants
            .iter()
            .zip(self.watch.visits.tenant_intervals())
            .map(|(tenant, intervals)| TenantResult {
                name: tenant.slug.clone(),
                group: usize::from(tenant.group),
                users: tenant.people.len(),
                interval: Quantiles::of(&intervals),
            })
            .collect();
        let measured = self.measured.as_ref();
        TrialResult {
            population_seconds,
            enrol_seconds: self.enrol_seconds,
            everybody_within: self.everybody_within,
            measured_from: measured.map_or(0.0, |(first, _)| first.sample.at),
            measured_seconds: measured.map_or(0.0, |(first, last)| last.sample.at - first.sample.at),
            measured_syncs: measured.map_or(0, |(first, last)| last.visits() - first.visits()),
            measured_cpu_seconds: measured.map_or(0.0, |(first, last)| last.cpu() - first.cpu()),
            staleness_max: self.staleness_max,
            interval: Quantiles::of(&all),
            overtaking,
            groups,
            tenants,
            steps: self.steps,
            hits: self.hits,
            settled_within: self.settled_within,
            idle: self.idle,
            edits: counts.edits,
            mirrored: counts.mirrored,
            mirrored_p50: counts.p50.map(|time| time.as_secs_f64()),
            mirrored_p99: counts.p99.map(|time| time.as_secs_f64()),
            never_synced: self.never,
            unchecked: self.unchecked,
            disabled: self.disabled.max(self.disabled_by_lies),
            verdict: Verdicts::of(&self.verdict, self.unseen, LINES),
            untruths: UntruthResult::of(&self.untruths, LINES),
            answers: self.liar.as_ref().map(|liar| liar.answers()),
            lies: self
                .liar
                .as_ref()
                .map(|liar| liar.lies().into_iter().collect())
                .unwrap_or_default(),
            reactions: match &self.liar {
                Some(_) => self.fleet.codes(),
                None => BTreeMap::new(),
            },
            ends,
            marks: self.marks,
            samples: self.watch.series.samples().to_vec(),
        }
    }
}
