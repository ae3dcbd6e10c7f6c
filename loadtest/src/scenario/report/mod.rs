//! The results of a run as JSON and as one HTML page.

mod html;
mod machine;
mod plots;
mod svg;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use machine::Machine;

use super::file::Scenario;
use super::result::ScenarioResult;

/// Version of the JSON report. It increases when a field changes its meaning or is removed.
pub const VERSION: u32 = 1;

/// A report.
pub struct Report<'a> {
    /// The scenario that was run.
    pub scenario: &'a Scenario,
    /// The text of the scenario file.
    pub text: &'a str,
    /// The results.
    pub outcome: &'a ScenarioResult,
    /// The machine.
    pub machine: Machine,
}

impl Report<'_> {
    /// Returns the report as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let judgements: Vec<Value> = self
            .outcome
            .judgements
            .iter()
            .map(|judgement| {
                json!({
                    "expectation": judgement.expectation.text,
                    "metric": judgement.expectation.metric.name(),
                    "found": judgement.found,
                    "holds": judgement.holds,
                })
            })
            .collect();
        let figures: serde_json::Map<String, Value> = self
            .outcome
            .figures
            .iter()
            .map(|(metric, value)| {
                (
                    metric.name().to_owned(),
                    json!({ "value": value, "unit": metric.unit() }),
                )
            })
            .collect();
        json!({
            "version": VERSION,
            "scenario": self.scenario.name,
            "about": self.scenario.about,
            "passed": self.outcome.passed(),
            "machine": self.machine,
            "expectations": judgements,
            "figures": figures,
            "trial": self.outcome.trial,
            "baseline": self.outcome.baseline,
            "text": self.text,
        })
    }

    /// Returns the report as one HTML page that needs nothing else.
    #[must_use]
    pub fn html(&self) -> String {
        html::page(self)
    }

    /// Writes both forms into a folder. Returns their paths.
    ///
    /// # Errors
    /// Names the file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(PathBuf, PathBuf), String> {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let write = |name: String, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text)
                .map_err(|error| format!("{}: {error}", path.display()))
                .map(|()| path)
        };
        let json = write(
            format!("{}.json", self.scenario.name),
            format!("{:#}\n", self.json()),
        )?;
        let html = write(format!("{}.html", self.scenario.name), self.html())?;
        Ok((json, html))
    }
}

#[cfg(test)]
mod tests;
