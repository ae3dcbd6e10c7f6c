//! The phases of one trial.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;

use super::file::Scenario;
use super::final_checks;
use super::fleet::{Fleet, Hit};
use super::kills::{Event, timeline};
use super::measure::{EditingThreads, MonitorSample, TrialMonitor, locked, set_conditions};
use super::phases::PhaseProgress;
use super::requests::ApiRequests;
use super::result::{
    GroupResult, IdleResult, OracleResult, Quantiles, RequestResult, StepResult, TenantResult, TrialResult,
    ViolationResult,
};
use crate::machine_clock::{machine_time, monotonic};
use crate::trial::{Farm, InitialTasks, Oracle, OracleReport, Violations};
use crate::wrong_answers::WrongAnswers;

/// Largest number of tries to read the status at the end.
const STATUS_TRIES: usize = 10;
/// Interval between samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// tasksync still sees its own last writes once more. The quiet phase begins after that, at most this much later.
const ECHO_LIMIT: Duration = Duration::from_secs(20);
/// Largest number of lines kept for each kind of disagreement.
const LINES_KEPT: usize = 20;

/// A trial under way.
pub(crate) struct Trial<'a> {
    scenario: &'a Scenario,
    fleet: Arc<Fleet>,
    monitor: TrialMonitor,
    wrong_answers: Option<Arc<WrongAnswers>>,
    initial_tasks: InitialTasks,
    violations: Violations,
    progress: &'a dyn PhaseProgress,
    marks: Vec<(String, f64)>,
    enrol_seconds: f64,
    everybody_within: Option<f64>,
    measured: Option<(MonitorSample, MonitorSample)>,
    staleness_max: f64,
    hits: Vec<Hit>,
    requests: RequestResult,
    steps: Vec<StepResult>,
    settled_within: Option<f64>,
    idle: Option<IdleResult>,
    oracle_report: OracleReport,
    unseen: Vec<String>,
    never_synced: u64,
    /// An upper bound for the time of the last wrong answer.
    wrong_answers_ended: Timestamp,
    unchecked_users: Option<u64>,
    /// Users who were disabled when the servers had been honest for `lies.honest`.
    disabled_by_wrong_answers: Option<u64>,
    disabled: Option<u64>,
}

impl<'a> Trial<'a> {
    pub(crate) fn new(
        scenario: &'a Scenario,
        fleet: Arc<Fleet>,
        monitor: TrialMonitor,
        wrong_answers: Option<Arc<WrongAnswers>>,
        progress: &'a dyn PhaseProgress,
    ) -> Self {
        // Recording a million tasks takes much memory, so only trials with wrong answers do it.
        let initial_tasks = match &wrong_answers {
            Some(_) => InitialTasks::record(&monitor.farm),
            None => InitialTasks::default(),
        };
        Self {
            scenario,
            fleet,
            monitor,
            wrong_answers,
            initial_tasks,
            violations: Violations::default(),
            progress,
            marks: Vec::new(),
            enrol_seconds: 0.0,
            everybody_within: None,
            measured: None,
            staleness_max: 0.0,
            hits: Vec::new(),
            requests: RequestResult::default(),
            steps: Vec::new(),
            settled_within: None,
            idle: None,
            oracle_report: OracleReport::default(),
            unseen: Vec::new(),
            never_synced: 0,
            wrong_answers_ended: Timestamp::MIN,
            unchecked_users: None,
            disabled_by_wrong_answers: None,
            disabled: None,
        }
    }

    pub(crate) async fn all_phases(&mut self, folder: &Path) -> Result<(), String> {
        self.enrol(folder).await?;
        self.warm_up().await;
        let editing_threads = EditingThreads::begin(&self.monitor, &self.scenario.edits, self.scenario.seed)?;
        if self.scenario.steps.is_empty() {
            self.measure().await?;
        } else {
            self.steps().await?;
        }
        editing_threads.stop_editing();
        self.settle().await;
        self.quiet().await;
        editing_threads.stop_and_join()?;
        self.judge().await;
        Ok(())
    }

    fn mark(&mut self, name: &str) {
        let now = self.monitor.began.elapsed().as_secs_f64();
        self.marks.push((name.to_owned(), now));
    }

    async fn take_sample(&mut self) -> MonitorSample {
        self.monitor.take_sample(&self.fleet).await
    }

    async fn enrol(&mut self, folder: &Path) -> Result<(), String> {
        self.mark("opt-in");
        self.progress.begin("opt-in", self.scenario.users());
        let started = monotonic();
        let done = AtomicUsize::new(0);
        let progress = self.progress;
        let (fleet, farm) = (Arc::clone(&self.fleet), Arc::clone(&self.monitor.farm));
        let report_progress = |users| {
            let all = done.fetch_add(users, Ordering::Relaxed) + users;
            progress.at(u64::try_from(all).unwrap_or(0), "");
        };
        let enrolling = fleet.enrol(&farm, folder, report_progress);
        tokio::pin!(enrolling);
        loop {
            tokio::select! {
                done = &mut enrolling => {
                    done?;
                    break;
                }
                () = tokio::time::sleep(SAMPLE_INTERVAL) => {
                    self.monitor.take_sample(&fleet).await;
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
        let deadline = monotonic() + self.scenario.phases.warm_up.0;
        loop {
            let sample = self.take_sample().await;
            let never = sample.never_visited();
            self.progress.at(users.saturating_sub(never), "");
            if never == 0 {
                self.everybody_within = Some(self.monitor.began.elapsed().as_secs_f64());
                break;
            }
            if monotonic() > deadline {
                break;
            }
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
        self.progress.end();
    }

    /// Runs the measured phase with its kills and faults.
    async fn measure(&mut self) -> Result<(), String> {
        self.mark("measured");
        let length = self.scenario.phases.measured.0;
        let mut events = timeline(&self.scenario.kills, &self.scenario.tenants, length)
            .into_iter()
            .peekable();
        let mut hits: JoinSet<Hit> = JoinSet::new();
        let requests = ApiRequests::begin(&self.fleet, &self.monitor.farm, self.scenario.requests);
        self.progress.begin("measured", length.as_secs());
        self.monitor.visits.measure(true);
        let first = self.take_sample().await;
        let began = monotonic();
        let mut last = None;
        let wrong_answers = self.wrong_answers.clone();
        if let Some(wrong_answers) = &wrong_answers {
            wrong_answers.set_active(true);
        }
        while began.elapsed() < length
            && !wrong_answers
                .as_ref()
                .is_some_and(|wrong_answers| wrong_answers.is_done())
        {
            while let Some((_, event)) = events.next_if(|(at, _)| *at <= began.elapsed()) {
                self.carry_out_event(event, &mut hits);
            }
            let sample = self.take_sample().await;
            self.staleness_max = self.staleness_max.max(sample.oldest());
            let word = format!(
                "{} syncs, {} edits open",
                sample.visits().saturating_sub(first.visits()),
                sample.sample.open_edits
            );
            self.progress.at(began.elapsed().as_secs(), &word);
            last = Some(sample);
            tokio::time::sleep(SAMPLE_INTERVAL.min(length.saturating_sub(began.elapsed()))).await;
        }
        if let Some(wrong_answers) = &wrong_answers {
            wrong_answers.set_active(false);
            self.wrong_answers_ended = machine_time();
        }
        self.monitor.visits.measure(false);
        self.measured = last.map(|last| (first, last));
        for group in 0..self.scenario.tenants.len() {
            set_conditions(&self.monitor.farm, self.scenario, group, &[]);
        }
        self.progress.end();
        if !hits.is_empty() {
            self.progress
                .begin("mending", u64::try_from(hits.len()).unwrap_or(0));
        }
        while let Some(hit) = hits.join_next().await {
            self.hits.extend(hit.ok());
        }
        self.requests = requests.stop().await?;
        self.progress.end();
        self.hits.sort_by(|left, right| left.at.total_cmp(&right.at));
        Ok(())
    }

    fn carry_out_event(&self, event: Event, hits: &mut JoinSet<Hit>) {
        match event {
            Event::Hit {
                what,
                how,
                turn,
                down,
            } => {
                self.progress.say(&format!("{how:?} {what:?}"));
                let (fleet, began) = (Arc::clone(&self.fleet), self.monitor.began);
                hits.spawn(async move { fleet.hit(what, how, turn, down, began).await });
            }
            Event::Conditions { group, open } => {
                set_conditions(&self.monitor.farm, self.scenario, group, &open);
            }
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
            let began = monotonic();
            while began.elapsed() < step.settle.0 {
                self.take_sample().await;
                self.progress
                    .at(began.elapsed().as_secs(), "reaching a steady state");
                tokio::time::sleep(SAMPLE_INTERVAL).await;
            }
            self.monitor.visits.measure(true);
            let first = self.take_sample().await;
            let until = monotonic() + step.measured.0;
            let mut last = None;
            while monotonic() < until {
                let left = until.saturating_duration_since(monotonic());
                tokio::time::sleep(SAMPLE_INTERVAL.min(left)).await;
                let sample = self.take_sample().await;
                self.staleness_max = self.staleness_max.max(sample.oldest());
                let made = sample.visits().saturating_sub(first.visits());
                self.progress
                    .at(began.elapsed().as_secs(), &format!("{made} syncs"));
                last = Some(sample);
            }
            self.monitor.visits.measure(false);
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
        let began = monotonic();
        let mut next = began;
        let mut found = String::new();
        loop {
            let sample = self.take_sample().await;
            self.progress.at(
                began.elapsed().as_secs(),
                &format!("{} edits open{found}", sample.sample.open_edits),
            );
            self.request_disabled_syncs().await;
            if sample.sample.open_edits == 0 && monotonic() >= next {
                let asked = monotonic();
                self.unchecked_users = self.count_unchecked().await;
                self.oracle_report = self.compare_sides();
                let checked = self.unchecked_users.is_none_or(|unchecked| unchecked == 0);
                if self.oracle_report.agrees() && checked {
                    self.settled_within = Some(began.elapsed().as_secs_f64());
                    break;
                }
                let unchecked = self.unchecked_users.filter(|unchecked| *unchecked > 0);
                let unchecked = unchecked.map_or_else(String::new, |count| format!(", {count} not checked"));
                found = format!("{unchecked}, {}", self.oracle_report.summary());
                // Comparing a million mailboxes takes long. Spend at most a quarter of the time on it.
                next = monotonic() + asked.elapsed() * 3;
            }
            if began.elapsed() > limit {
                break;
            }
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
        self.progress.end();
    }

    /// Returns how many users had no full and no deep check against honest servers yet, or `None` without wrong
    /// answers. A deep check ends when full checks against honest servers span its interval.
    async fn count_unchecked(&self) -> Option<u64> {
        let honest_for = self.scenario.lies.as_ref()?.honest.0;
        let from = self
            .wrong_answers_ended
            .checked_add(honest_for)
            .unwrap_or(Timestamp::MAX);
        if machine_time() < from {
            return Some(self.scenario.users());
        }
        Some(final_checks::count_unchecked(&self.fleet, &self.monitor.farm, from).await)
    }

    /// Counts the disabled users and requests a sync for each of them, once the servers have been honest for
    /// `lies.honest`.
    async fn request_disabled_syncs(&mut self) {
        let plan = self.scenario.lies.as_ref();
        let honest_long_enough = plan.is_some_and(|plan| {
            self.wrong_answers_ended
                .checked_add(plan.honest.0)
                .is_ok_and(|from| machine_time() >= from)
        });
        if self.disabled_by_wrong_answers.is_none() && honest_long_enough {
            self.disabled_by_wrong_answers =
                Some(final_checks::request_disabled_syncs(&self.fleet, &self.monitor.farm).await);
        }
    }

    fn compare_sides(&self) -> OracleReport {
        let farm = &self.monitor.farm;
        tokio::task::block_in_place(|| Oracle::new(farm).compare_sides())
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
        let (mut still, began) = (monotonic(), monotonic());
        let mut writes = self.monitor.farm.writes();
        while still.elapsed() < ECHO_LIMIT / 4 && began.elapsed() < ECHO_LIMIT {
            tokio::time::sleep(SAMPLE_INTERVAL).await;
            let sample = self.take_sample().await;
            if sample.sample.writes != writes {
                (still, writes) = (monotonic(), sample.sample.writes);
            }
        }
        let first = self.take_sample().await;
        let began = monotonic();
        while began.elapsed() < length {
            tokio::time::sleep(SAMPLE_INTERVAL.min(length.saturating_sub(began.elapsed()))).await;
            let sample = self.take_sample().await;
            self.progress.at(
                began.elapsed().as_secs(),
                &format!("{} writes", sample.sample.writes - first.sample.writes),
            );
        }
        let last = self.take_sample().await;
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
        let sample = self.take_sample().await;
        self.never_synced = sample.never_visited();
        self.unchecked_users = self.count_unchecked().await;
        self.oracle_report = self.compare_sides();
        {
            let mut ledger = locked(&self.monitor.ledger);
            let oracle = Oracle::new(&self.monitor.farm);
            ledger.check_unseen(usize::MAX, |edit| oracle.shows(edit));
            self.unseen = ledger.unseen(LINES_KEPT);
        }
        if self.wrong_answers.is_some() {
            self.find_violations().await;
        }
        // The status is briefly unavailable while the leader examines all users.
        for _ in 0..STATUS_TRIES {
            let status = self.fleet.status().await;
            self.disabled = status.and_then(|status| status.get("disabled")?.as_u64());
            if self.disabled.is_some() {
                break;
            }
            tokio::time::sleep(SAMPLE_INTERVAL).await;
        }
    }

    /// Finds the differences from what people entered, with the help of all journals.
    async fn find_violations(&mut self) {
        let farm = Arc::clone(&self.monitor.farm);
        let mut journals: HashMap<(usize, usize), String> = HashMap::new();
        for (at, tenant) in farm.population.tenants.iter().enumerate() {
            for person in &tenant.people {
                let user = Farm::user_name(person);
                let journal = self.fleet.journal(&tenant.slug, &user).await;
                journals.insert((at, person.id), journal.unwrap_or_default());
            }
        }
        let ledger = locked(&self.monitor.ledger);
        let journal = |tenant, person| journals.get(&(tenant, person)).cloned().unwrap_or_default();
        self.violations = self.initial_tasks.find_violations(&farm, ledger.edits(), journal);
    }

    /// Returns all results.
    pub(crate) fn result(self, population_seconds: f64, ends: Vec<(String, Option<i32>)>) -> TrialResult {
        let counts = locked(&self.monitor.ledger).counts();
        let waits = self.monitor.visits.scan();
        let farm = &self.monitor.farm;
        let (exchange, sharepoint) = (farm.exchange.groups.requests(), farm.sharepoint.groups.requests());
        let plan = self.scenario.lies.as_ref();
        let groups = self
            .scenario
            .tenants
            .iter()
            .zip(self.monitor.visits.intervals())
            .zip(self.monitor.visits.lengths())
            .zip(waits)
            .zip(0..)
            .map(|((((group, intervals), lengths), group_waits), at)| {
                let both = [exchange.get(&at), sharepoint.get(&at)];
                let [exchange, sharepoint] = both.map(|counts| counts.copied().unwrap_or_default());
                GroupResult {
                    name: group.name.clone(),
                    tenants: group.count,
                    users: group_waits.users,
                    lied_to: plan.is_some_and(|plan| plan.affects(&group.name)),
                    interval: Quantiles::of(&intervals),
                    sync: Quantiles::of(&lengths),
                    exchange_requests: exchange.0,
                    sharepoint_requests: sharepoint.0,
                    troubled_requests: exchange.1 + sharepoint.1,
                }
            })
            .collect();
        let mut all = self.monitor.visits.overtaking();
        let overtaking = Quantiles::of(&all);
        all.reset();
        for intervals in self.monitor.visits.intervals() {
            all.add(&intervals).ok();
        }
        let tenants = farm
            .population
            .tenants
            .iter()
            .zip(self.monitor.visits.tenant_intervals())
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
            requests: self.requests,
            settled_within: self.settled_within,
            idle: self.idle,
            edits: counts.edits,
            mirrored: counts.mirrored,
            mirrored_p50: counts.p50.map(|time| time.as_secs_f64()),
            mirrored_p99: counts.p99.map(|time| time.as_secs_f64()),
            never_synced: self.never_synced,
            unchecked: self.unchecked_users,
            disabled: self.disabled.max(self.disabled_by_wrong_answers),
            verdict: OracleResult::of(&self.oracle_report, self.unseen, LINES_KEPT),
            violations: ViolationResult::of(&self.violations, LINES_KEPT),
            answers: self
                .wrong_answers
                .as_ref()
                .map(|wrong_answers| wrong_answers.answers()),
            wrong_answers: self
                .wrong_answers
                .as_ref()
                .map(|wrong_answers| wrong_answers.counts().into_iter().collect())
                .unwrap_or_default(),
            reactions: match &self.wrong_answers {
                Some(_) => self.fleet.codes(),
                None => BTreeMap::new(),
            },
            ends,
            marks: self.marks,
            samples: self.monitor.series.samples().to_vec(),
        }
    }
}
