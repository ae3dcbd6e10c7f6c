//! The doctor: looks at everything that must be right for tasks to flow, and says what to do where it is not.
//!
//! It only reads. What is looked at is fetched here and in `tenant`; what it means is decided by pure functions.

mod catalogue;
mod installation;
mod mailboxes;
mod tenant;

use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use serde::Serialize;
use tasksync_common::error::Failure;
use tasksync_common::registry::Tenant;

pub use catalogue::markdown;
use catalogue::{Definition, definitions};

use crate::parts::Parts;

/// Tenants whose servers are asked when no tenant is named.
const TENANTS_ASKED: u32 = 20;
/// Tenants asked at once.
const TENANTS_AT_ONCE: usize = 4;
/// One of our own stores has this long to answer.
const OWN_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The check does not fit this installation or tenant, or could not be made because an earlier one failed.
    NotApplicable,
    /// Right.
    Ok,
    /// Works, but somebody should look.
    Warning,
    /// Does not work.
    Failed,
}

/// One check: what was looked at, what was found and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name of the check.
    pub id: &'static str,
    /// What is looked at: `installation`, or `tenant NAME`.
    pub subject: String,
    /// What must be right, in one sentence.
    pub what: &'static str,
    /// How it is.
    pub result: Outcome,
    /// What was found.
    pub explanation: String,
    /// What to do; empty when all is well.
    pub solution: String,
    /// Further facts.
    pub additional_information: Vec<String>,
    /// Which products and versions the check is for.
    pub applies_to: &'static str,
    /// Where to read on.
    pub reference: String,
}

impl Finding {
    fn new(definition: &Definition, subject: &str, result: Outcome, explanation: impl Into<String>) -> Self {
        let solution = match result {
            Outcome::Ok | Outcome::NotApplicable => String::new(),
            Outcome::Warning | Outcome::Failed => definition.solution.to_owned(),
        };
        Self {
            id: definition.id,
            subject: subject.to_owned(),
            what: definition.what,
            result,
            explanation: explanation.into(),
            solution,
            additional_information: Vec::new(),
            applies_to: definition.applies_to,
            reference: format!("docs/doctor.md#{}", definition.id),
        }
    }

    /// A check that met a failure of the catalogue: its solution and reference are the catalogue's.
    fn of_failure(definition: &Definition, subject: &str, failure: &Failure) -> Self {
        let mut finding = Self::new(definition, subject, Outcome::Failed, failure.to_string());
        finding.solution = failure.code.action().to_owned();
        finding.reference = format!("docs/errors.md#{}", failure.code);
        finding
            .additional_information
            .push(format!("Cause: {}", failure.code.cause()));
        finding
            .additional_information
            .push(format!("Who acts: {}", failure.code.actor().name()));
        finding
    }

    fn informed(mut self, information: impl IntoIterator<Item = String>) -> Self {
        self.additional_information.extend(information);
        self
    }
}

/// What the doctor found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// When it was asked.
    pub at: Timestamp,
    /// The worst result among the checks.
    pub result: Outcome,
    /// The checks, the installation's first.
    pub checks: Vec<Finding>,
}

/// Examines the installation, and one tenant or the first ones.
pub async fn examine(parts: &Parts, tenant: Option<Tenant>) -> Report {
    let mut checks = installation::examine(parts).await;
    let (tenants, more) = match tenant {
        Some(tenant) => (vec![tenant], false),
        None => match own(parts.registry.tenants(None, TENANTS_ASKED + 1)).await {
            Ok(mut tenants) => {
                let more = tenants.len() > TENANTS_ASKED as usize;
                tenants.truncate(TENANTS_ASKED as usize);
                (tenants, more)
            }
            // The registry's own check says what is wrong with it.
            Err(_) => (Vec::new(), false),
        },
    };
    let found: Vec<Vec<Finding>> = futures::stream::iter(tenants)
        .map(|one| async move { tenant::examine(parts, &one).await })
        .buffered(TENANTS_AT_ONCE)
        .collect()
        .await;
    checks.extend(found.into_iter().flatten());
    if more {
        checks.push(Finding::new(
            &definitions::TENANTS_ASKED,
            "installation",
            Outcome::NotApplicable,
            format!(
                "only the first {TENANTS_ASKED} tenants were asked; `tasksync doctor --tenant TENANT` asks any other"
            ),
        ));
    }
    Report {
        at: parts.clock.now(),
        result: worst(&checks),
        checks,
    }
}

fn worst(checks: &[Finding]) -> Outcome {
    checks
        .iter()
        .map(|check| check.result)
        .max()
        .unwrap_or(Outcome::Ok)
}

/// What a store of our own answers, in time or not.
async fn own<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Trouble> {
    match tokio::time::timeout(OWN_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(Trouble::Failed(failure)),
        Err(_) => Err(Trouble::Silent(OWN_TIMEOUT)),
    }
}

/// Why a question was not answered.
enum Trouble {
    Failed(Failure),
    Silent(Duration),
}

impl Trouble {
    fn finding(&self, definition: &Definition, subject: &str) -> Finding {
        match self {
            Self::Failed(failure) => Finding::of_failure(definition, subject, failure),
            Self::Silent(time) => Finding::new(
                definition,
                subject,
                Outcome::Failed,
                format!("no answer within {} s", time.as_secs()),
            ),
        }
    }
}

/// The difference between a clock and ours, judged: above 60 s conflicts may be decided wrong, above 5 min signing in
/// fails too.
fn judge_clock(offset: jiff::SignedDuration) -> Outcome {
    match offset.unsigned_abs().as_secs() {
        0..=60 => Outcome::Ok,
        61..=300 => Outcome::Warning,
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_judged_both_ways() {
        for (seconds, expected) in [
            (0, Outcome::Ok),
            (60, Outcome::Ok),
            (61, Outcome::Warning),
            (-300, Outcome::Warning),
            (301, Outcome::Failed),
            (-86_400, Outcome::Failed),
        ] {
            assert_eq!(
                judge_clock(jiff::SignedDuration::from_secs(seconds)),
                expected,
                "{seconds}"
            );
        }
    }

    #[test]
    fn a_check_that_fits_not_never_outweighs_one_that_does() {
        assert!(Outcome::NotApplicable < Outcome::Ok);
        assert!(Outcome::Warning < Outcome::Failed);
        assert_eq!(worst(&[]), Outcome::Ok);
    }
}
