//! Parses a scenario and rejects contradictions before anything is started.

use super::expect;
use crate::wrong_answers::WrongAnswerKind;

use super::file::{Baseline, DeploymentMode, Kill, Method, Scenario, Servers, TenantGroup, Victim};

/// Largest number of people in a scenario.
const MAXIMUM_USERS: u64 = 5_000_000;
/// Largest number of tenants in a scenario.
const MAXIMUM_TENANTS: u64 = 100_000;
/// Largest number of processes per role.
const MAXIMUM_PROCESSES: u64 = 64;

/// Why a scenario cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// The text is not TOML, or a key is unknown, missing or has a value of the wrong type.
    #[error("the scenario cannot be read: {0}")]
    Syntax(String),
    /// The values contradict each other.
    #[error("{key}: {problem}")]
    Wrong {
        /// The key.
        key: String,
        /// The problem.
        problem: String,
    },
}

fn wrong(key: impl Into<String>, problem: impl Into<String>) -> ScenarioError {
    ScenarioError::Wrong {
        key: key.into(),
        problem: problem.into(),
    }
}

impl Scenario {
    /// Parses and checks the text of a scenario file.
    ///
    /// # Errors
    /// Names the key and the problem.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text)
            .map_err(|error| ScenarioError::Syntax(error.to_string().trim_end().to_owned()))?;
        scenario.check()?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), ScenarioError> {
        let plain = |name: &str| {
            !name.is_empty()
                && name.len() <= 40
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        if !plain(&self.name) {
            return Err(wrong(
                "name",
                "use lower-case letters, digits and hyphens, at most 40",
            ));
        }
        for (key, count) in [("schedulers", self.schedulers), ("workers", self.workers)] {
            if !(1..=MAXIMUM_PROCESSES).contains(&count) {
                return Err(wrong(
                    key,
                    format!("{count} is not between 1 and {MAXIMUM_PROCESSES}"),
                ));
            }
        }
        if self.mode == DeploymentMode::Standalone && (self.schedulers, self.workers) != (1, 1) {
            return Err(wrong(
                "mode",
                "standalone is one process; more need mode = \"distributed\"",
            ));
        }
        if self.servers == Servers::PerTenant && self.tls {
            return Err(wrong("tls", "servers = \"per-tenant\" support plain HTTP only"));
        }
        self.check_groups(plain)?;
        self.check_wrong_answers()?;
        for (at, kill) in self.kills.iter().enumerate() {
            self.check_kill(&format!("kills[{at}]"), kill)?;
        }
        self.check_steps()?;
        self.check_edits()?;
        if !(0.0..=1_000.0).contains(&self.requests.per_second) {
            return Err(wrong("requests.per_second", "is not between 0 and 1,000"));
        }
        self.check_settings()?;
        self.check_expectations()
    }

    fn check_steps(&self) -> Result<(), ScenarioError> {
        if self.steps.is_empty() {
            return Ok(());
        }
        if self.mode == DeploymentMode::Standalone {
            return Err(wrong("steps", "need mode = \"distributed\""));
        }
        if !self.kills.is_empty() {
            return Err(wrong("steps", "cannot be combined with kills"));
        }
        if let Some(step) = self
            .steps
            .iter()
            .find(|step| !(1..=MAXIMUM_PROCESSES).contains(&step.workers))
        {
            return Err(wrong(
                "steps",
                format!(
                    "{} workers are not between 1 and {MAXIMUM_PROCESSES}",
                    step.workers
                ),
            ));
        }
        Ok(())
    }

    fn check_edits(&self) -> Result<(), ScenarioError> {
        if !(0.0..=10_000.0).contains(&self.edits.per_second) {
            return Err(wrong("edits.per_second", "is not between 0 and 10,000"));
        }
        let parts = [
            self.edits.at_source,
            self.edits.in_mailbox,
            self.edits.create,
            self.edits.delete,
            self.edits.reassign,
            self.edits.conflict,
        ];
        if parts.iter().any(|part| *part > 1_000)
            || self.edits.per_second > 0.0 && parts.iter().sum::<u64>() == 0
        {
            return Err(wrong("edits", "the weights must be 0 to 1,000, and not all 0"));
        }
        Ok(())
    }

    fn check_settings(&self) -> Result<(), ScenarioError> {
        for key in ["registry", "queue", "api"] {
            if self
                .settings
                .get(key)
                .and_then(|part| part.get("url").or_else(|| part.get("listen")))
                .is_some()
            {
                return Err(wrong(
                    format!("settings.{key}"),
                    "addresses are chosen by the run itself",
                ));
            }
        }
        Ok(())
    }

    fn check_expectations(&self) -> Result<(), ScenarioError> {
        for (at, text) in self.expect.iter().enumerate() {
            let expectation =
                expect::parse(text).map_err(|problem| wrong(format!("expect[{at}]"), problem))?;
            if expectation.metric.needs_baseline() && self.baseline.is_none() {
                return Err(wrong(
                    format!("expect[{at}]"),
                    format!("{text}: needs a [baseline]"),
                ));
            }
            if expectation.metric.needs_steps() && self.steps.len() < 2 {
                return Err(wrong(
                    format!("expect[{at}]"),
                    format!("{text}: needs at least two [[steps]]"),
                ));
            }
        }
        Ok(())
    }

    fn check_groups(&self, plain: impl Fn(&str) -> bool) -> Result<(), ScenarioError> {
        let (mut users, mut tenants) = (0_u64, 0_u64);
        for (at, group) in self.tenants.iter().enumerate() {
            let key = |name: &str| format!("tenants[{at}].{name}");
            if !plain(&group.name)
                || self
                    .tenants
                    .iter()
                    .filter(|other| other.name == group.name)
                    .count()
                    > 1
            {
                return Err(wrong(
                    key("name"),
                    "use lower-case letters, digits and hyphens, each name once",
                ));
            }
            if group.count == 0 || group.users == 0 {
                return Err(wrong(key("count"), "count and users must be at least 1"));
            }
            if !(1.0..=1_000.0).contains(&group.tasks) || !(0.0..=5.0).contains(&group.skew) {
                return Err(wrong(
                    key("tasks"),
                    "tasks must be 1 to 1,000 per person (the servers see no sync of a person without tasks), skew 0 to 5",
                ));
            }
            for fault in &group.faults {
                if !(0.0..=1.0).contains(&fault.share) {
                    return Err(wrong(key("faults.share"), "is not between 0 and 1"));
                }
            }
            tenants = tenants.saturating_add(group.count);
            users = users.saturating_add(group.users.saturating_mul(group.count));
        }
        if users == 0 || users > MAXIMUM_USERS || tenants > MAXIMUM_TENANTS {
            return Err(wrong(
                "tenants",
                format!(
                    "{users} people in {tenants} tenants; 1 to {MAXIMUM_USERS} in at most {MAXIMUM_TENANTS} can be simulated"
                ),
            ));
        }
        if let Some(baseline) = &self.baseline {
            let is_group = |name: &String| self.tenants.iter().any(|group| group.name == *name);
            if let Some(name) = baseline.without.iter().find(|name| !is_group(name)) {
                return Err(wrong("baseline.without", format!("there is no group \"{name}\"")));
            }
            if self
                .tenants
                .iter()
                .all(|group| baseline.without.contains(&group.name))
            {
                return Err(wrong("baseline.without", "no tenants would be left"));
            }
        }
        Ok(())
    }

    fn check_wrong_answers(&self) -> Result<(), ScenarioError> {
        let Some(plan) = &self.lies else { return Ok(()) };
        if !(0.0..=1.0).contains(&plan.share) {
            return Err(wrong("lies.share", "is not between 0 and 1"));
        }
        if let Some(name) = plan
            .kinds
            .iter()
            .find(|name| WrongAnswerKind::ALL.iter().all(|kind| kind.name() != **name))
        {
            let kinds: Vec<_> = WrongAnswerKind::ALL.iter().map(|kind| kind.name()).collect();
            return Err(wrong(
                "lies.kinds",
                format!("there is no kind \"{name}\"; there are {}", kinds.join(", ")),
            ));
        }
        if let Some(name) = plan
            .tenants
            .iter()
            .find(|name| self.tenants.iter().all(|group| group.name != **name))
        {
            return Err(wrong("lies.tenants", format!("there is no group \"{name}\"")));
        }
        if plan.tenants.is_empty() && self.baseline.as_ref().is_some_and(|baseline| !baseline.honest) {
            return Err(wrong(
                "lies.tenants",
                "name the groups that get wrong answers, or set baseline.honest: the baseline has no wrong answers",
            ));
        }
        Ok(())
    }

    fn check_kill(&self, key: &str, kill: &Kill) -> Result<(), ScenarioError> {
        let store = match kill.what {
            Victim::Rabbitmq | Victim::Redis | Victim::Postgres => true,
            Victim::Leader | Victim::Scheduler | Victim::Worker => false,
        };
        if self.mode == DeploymentMode::Standalone && kill.what != Victim::Leader {
            return Err(wrong(key, "in standalone mode there is only the leader to kill"));
        }
        if kill.how == Method::Wipe && !matches!(kill.what, Victim::Rabbitmq | Victim::Redis) {
            return Err(wrong(
                key,
                "only redis and rabbitmq can be wiped: the registry is the truth",
            ));
        }
        if store && matches!(kill.how, Method::Terminate | Method::Replace) {
            return Err(wrong(key, "stores are killed, wiped or paused"));
        }
        if kill.every.is_some_and(|every| every.0.is_zero()) {
            return Err(wrong(key, "every: is zero"));
        }
        Ok(())
    }

    /// Returns the scenario of the baseline run.
    pub(crate) fn before(&self, baseline: &Baseline) -> Self {
        let keep = |group: &&TenantGroup| !baseline.without.contains(&group.name);
        let mut before = Self {
            tenants: self.tenants.iter().filter(keep).cloned().collect(),
            ..self.clone()
        };
        if let Some(plan) = before.lies.as_mut().filter(|_| baseline.honest) {
            plan.share = 0.0;
        }
        before
    }

    /// Returns whether the scenario replaces one build by another, so that it needs the executable of an earlier one.
    #[must_use]
    pub fn needs_earlier_build(&self) -> bool {
        self.kills.iter().any(|kill| kill.how == Method::Replace)
    }

    /// Returns the number of people in all groups.
    #[must_use]
    pub fn users(&self) -> u64 {
        self.tenants.iter().map(|group| group.users * group.count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = "name = \"small\"\nabout = \"Small.\"\n[[tenants]]\nname = \"all\"\nusers = 3\n";

    #[test]
    fn a_small_file_is_enough() {
        let scenario = Scenario::parse(SMALL).unwrap();
        assert_eq!(
            (scenario.mode, scenario.users(), scenario.workers),
            (DeploymentMode::Standalone, 3, 1)
        );
    }

    #[test]
    fn contradictions_are_refused_with_their_key() {
        let refused = |text: &str| Scenario::parse(text).unwrap_err().to_string();
        let with = |more: &str| refused(&format!("{more}\n{SMALL}"));
        assert!(with("colour = 1").contains("unknown field `colour`"));
        assert!(with("workers = 2").contains("standalone is one process"));
        assert!(with("workers = 0").contains("workers: 0 is not between"));
        assert!(with("expect = [\"lust = 0\"]").contains("expect[0]"));
        assert!(with("expect = [\"others_interval_p99_ratio <= 1.1\"]").contains("needs a [baseline]"));
        assert!(with("expect = [\"throughput_ratio >= 2\"]").contains("two [[steps]]"));
        let after = |more: &str| refused(&format!("{SMALL}{more}\n"));
        assert!(after("[[tenants]]\nname = \"all\"\nusers = 1").contains("each name once"));
        assert!(after("[[kills]]\nwhat = \"redis\"\nat = \"1s\"").contains("only the leader"));
        assert!(after("[[kills]]\nwhat = \"leader\"\nhow = \"wipe\"\nat = \"1s\"").contains("the truth"));
        assert!(after("[baseline]\nwithout = [\"nobody\"]").contains("no group"));
        assert!(after("[baseline]\nwithout = [\"all\"]").contains("no tenants would be left"));
        assert!(after("[phases]\nmeasured = 5").contains("measured"));
        assert!(after("[phases]\nmeasured = \"5\"").contains("not a time"));
        assert!(after("[settings.registry]\nurl = \"x\"").contains("chosen by the run"));
        assert!(after("[requests]\nper_second = -1").contains("requests.per_second"));
        assert!(after("[[kills]]\nwhat = \"scheduler\"\nat = \"1s\"").contains("only the leader"));
        assert!(after("[edits]\nper_second = -1").contains("edits.per_second"));
    }
}
