//! The doctor: checks everything that must be right for tasks to be synced, and says what to do where it is not.
//!
//! It only reads. The facts are fetched here and in `tenant`; pure functions judge them.

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

/// Most tenants whose servers are checked when the request names no tenant.
const TENANTS_ASKED: u32 = 20;
/// Most tenants checked at a time.
const TENANTS_AT_ONCE: usize = 4;
/// Timeout of a call to one of tasksync's own stores.
const OWN_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The check does not apply to this installation or tenant, or an earlier check that it needs failed.
    NotApplicable,
    /// All is well.
    Ok,
    /// Works, but needs attention.
    Warning,
    /// Does not work.
    Failed,
}

/// Result of one check: what was checked, what was found and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name of the check.
    pub id: &'static str,
    /// What was checked: `installation`, or `tenant NAME`.
    pub subject: String,
    /// What must be right, in one sentence.
    pub what: &'static str,
    /// How the check ended.
    pub result: Outcome,
    /// What was found.
    pub explanation: String,
    /// What to do; empty if there is nothing to do.
    pub solution: String,
    /// More details.
    pub additional_information: Vec<String>,
    /// Which products and versions the check is for.
    pub applies_to: &'static str,
    /// The page and section to read.
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

    /// Returns the finding of a check that met a failure of the error catalogue. Solution and reference come from
    /// there.
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

/// The result of an examination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// When the examination was made.
    pub at: Timestamp,
    /// The worst result of all checks.
    pub result: Outcome,
    /// The findings, those about the installation first.
    pub checks: Vec<Finding>,
}

/// Checks the installation, and one tenant or the first [`TENANTS_ASKED`].
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
            // The registry's own check reports what is wrong with it.
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
                "only the first {TENANTS_ASKED} tenants were checked; `tasksync doctor --tenant TENANT` checks any other"
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

/// Returns the answer of one of tasksync's own stores, or why there was none in time.
async fn own<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, Trouble> {
    match tokio::time::timeout(OWN_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(Trouble::Failed(failure)),
        Err(_) => Err(Trouble::Silent(OWN_TIMEOUT)),
    }
}

/// Why a store gave no answer.
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

/// Judges the difference between another clock and this machine's. Above 60 s, conflicts may be decided wrongly.
/// Above 5 min, signing in fails, too.
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
    fn a_check_that_does_not_apply_never_outweighs_one_that_does() {
        assert!(Outcome::NotApplicable < Outcome::Ok);
        assert!(Outcome::Warning < Outcome::Failed);
        assert_eq!(worst(&[]), Outcome::Ok);
    }
}
