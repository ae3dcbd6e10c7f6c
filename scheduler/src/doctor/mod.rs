//! The doctor: checks everything that must be right for tasks to be synced, and says what to do where it is not.
//!
//! It only reads. The facts are fetched here and in `tenant`; pure functions judge them.

mod care;
mod catalogue;
mod installation;
mod mailboxes;
mod people;
mod processes;
mod sample;
mod servers;
mod sites;
mod tenant;

use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use serde::Serialize;
use tasksync_common::error::Failure;
use tasksync_common::registry::Tenant;

use catalogue::Definition;
pub use catalogue::markdown;

use crate::parts::ServiceParts;

/// Most tenants whose servers are checked when the request names no tenant.
const TENANTS_ASKED: u32 = 20;
/// Most tenants checked at a time.
const TENANTS_AT_ONCE: usize = 4;
/// Timeout of a call to one of tasksync's own stores.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);

/// The result of one check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckResult {
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
pub struct DoctorFinding {
    /// Stable name of the check.
    pub id: &'static str,
    /// What was checked: `installation`, or `tenant NAME`.
    pub subject: String,
    /// What must be right, in one sentence.
    pub what: &'static str,
    /// How the check ended.
    pub result: CheckResult,
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

impl DoctorFinding {
    fn new(
        definition: &Definition,
        subject: &str,
        result: CheckResult,
        explanation: impl Into<String>,
    ) -> Self {
        let solution = match result {
            CheckResult::Ok | CheckResult::NotApplicable => String::new(),
            CheckResult::Warning | CheckResult::Failed => definition.solution.to_owned(),
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
        Self {
            solution: failure.code.action().to_owned(),
            reference: format!("docs/errors.md#{}", failure.code),
            additional_information: vec![
                format!("Cause: {}", failure.code.cause()),
                format!("Who acts: {}", failure.code.actor().name()),
            ],
            ..Self::new(definition, subject, CheckResult::Failed, failure.to_string())
        }
    }

    fn with_information(mut self, information: impl IntoIterator<Item = String>) -> Self {
        self.additional_information.extend(information);
        self
    }
}

/// The result of an examination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DoctorReport {
    /// When the examination was made.
    pub at: Timestamp,
    /// The worst result of all checks.
    pub result: CheckResult,
    /// The findings, those about the installation first.
    pub checks: Vec<DoctorFinding>,
}

/// Checks the installation, and one tenant or the first [`TENANTS_ASKED`].
pub async fn examine(parts: &ServiceParts, tenant: Option<Tenant>) -> DoctorReport {
    let mut checks = installation::examine(parts).await;
    let (tenants, more) = match tenant {
        Some(tenant) => (vec![tenant], false),
        None => match ask_store(parts.registry.tenants(None, TENANTS_ASKED + 1)).await {
            Ok(mut tenants) => {
                let more = tenants.len() > TENANTS_ASKED as usize;
                tenants.truncate(TENANTS_ASKED as usize);
                (tenants, more)
            }
            // The registry's own check reports what is wrong with it.
            Err(_) => (Vec::new(), false),
        },
    };
    let found: Vec<Vec<DoctorFinding>> = futures::stream::iter(tenants)
        .map(|one| async move { tenant::examine(parts, &one).await })
        .buffered(TENANTS_AT_ONCE)
        .collect()
        .await;
    checks.extend(found.into_iter().flatten());
    if more {
        checks.push(DoctorFinding::new(
            &catalogue::installation::TENANTS_ASKED,
            "installation",
            CheckResult::NotApplicable,
            format!(
                "only the first {TENANTS_ASKED} tenants were checked; `tasksync doctor --tenant TENANT` checks any other"
            ),
        ));
    }
    DoctorReport {
        at: parts.clock.now(),
        result: worst(&checks),
        checks,
    }
}

/// Tests a tenant's servers with settings that need not be stored. Only reads.
pub async fn test_connections(parts: &ServiceParts, tenant: &Tenant) -> DoctorReport {
    let checks = tenant::examine_servers(parts, tenant, &format!("tenant {}", tenant.id)).await;
    DoctorReport {
        at: parts.clock.now(),
        result: worst(&checks),
        checks,
    }
}

fn worst(checks: &[DoctorFinding]) -> CheckResult {
    checks
        .iter()
        .map(|check| check.result)
        .max()
        .unwrap_or(CheckResult::Ok)
}

/// Returns the answer of one of tasksync's own stores, or why there was none in time.
async fn ask_store<T>(call: impl Future<Output = Result<T, Failure>>) -> Result<T, StoreProblem> {
    match tokio::time::timeout(STORE_TIMEOUT, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(failure)) => Err(StoreProblem::Failed(failure)),
        Err(_) => Err(StoreProblem::Silent(STORE_TIMEOUT)),
    }
}

/// Why a store gave no answer.
enum StoreProblem {
    Failed(Failure),
    Silent(Duration),
}

impl StoreProblem {
    fn finding(&self, definition: &Definition, subject: &str) -> DoctorFinding {
        match self {
            Self::Failed(failure) => DoctorFinding::of_failure(definition, subject, failure),
            Self::Silent(time) => DoctorFinding::new(
                definition,
                subject,
                CheckResult::Failed,
                format!("no answer within {} s", time.as_secs()),
            ),
        }
    }
}

/// Judges the difference between another clock and this machine's. Above 60 s, conflicts may be decided wrongly.
/// Above 5 min, signing in fails, too.
fn judge_clock(offset: jiff::SignedDuration) -> CheckResult {
    match offset.unsigned_abs().as_secs() {
        0..=60 => CheckResult::Ok,
        61..=300 => CheckResult::Warning,
        _ => CheckResult::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_judged_both_ways() {
        for (seconds, expected) in [
            (0, CheckResult::Ok),
            (60, CheckResult::Ok),
            (61, CheckResult::Warning),
            (-300, CheckResult::Warning),
            (301, CheckResult::Failed),
            (-86_400, CheckResult::Failed),
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
        assert!(CheckResult::NotApplicable < CheckResult::Ok);
        assert!(CheckResult::Warning < CheckResult::Failed);
        assert_eq!(worst(&[]), CheckResult::Ok);
    }
}
