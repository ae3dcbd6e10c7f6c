//! The plots of a trial.

use std::collections::BTreeSet;

use super::svg::{Chart, Line};
use crate::scenario::result::{Quantiles, StepResult, TrialResult, group_names, is_tasksync_process};
use crate::scenario::sample::Sample;

/// Returns a counter of the samples as a rate: the difference between two neighbouring samples divided by the time.
fn rate(samples: &[Sample], count: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    samples
        .windows(2)
        .filter_map(|pair| match pair {
            [before, after] if after.at > before.at => Some((
                after.at,
                ((count(after) - count(before)) / (after.at - before.at)).max(0.0),
            )),
            _ => None,
        })
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "drawn, not counted")]
pub(super) fn number(count: u64) -> f64 {
    count as f64
}

/// Draws all plots of a trial, with the baseline's distributions beside its own.
pub(super) fn charts(out: &mut String, trial: &TrialResult, baseline: Option<&TrialResult>) {
    let samples = &trial.samples;
    let names = group_names(&trial.groups);
    let mut marks: Vec<(f64, String)> = trial.marks.iter().map(|(name, at)| (*at, name.clone())).collect();
    marks.extend(trial.hits.iter().map(|hit| (hit.at, hit.name.clone())));
    marks.sort_by(|left, right| left.0.total_cmp(&right.0));
    let by_group = |value: &dyn Fn(usize) -> Vec<(f64, f64)>| -> Vec<Line> {
        names
            .iter()
            .enumerate()
            .map(|(at, name)| Line {
                name: (*name).to_owned(),
                points: value(at),
            })
            .collect()
    };
    let mut draw = |title: &str, y: &str, lines: Vec<Line>| {
        let chart = Chart {
            title,
            x: "seconds since the first opt-in",
            y,
            lines,
            marks: marks.clone(),
            bars: false,
        };
        out.push_str(&chart.render());
    };
    draw(
        "Throughput",
        "syncs per second",
        by_group(&|at| {
            rate(samples, |sample| {
                sample.visits.get(at).copied().map_or(0.0, number)
            })
        }),
    );
    draw(
        "Staleness: the longest wait of any user",
        "seconds",
        by_group(&|at| {
            let point = |sample: &Sample| Some((sample.at, *sample.oldest.get(at)?));
            samples.iter().filter_map(point).collect()
        }),
    );
    let processes: BTreeSet<&String> = samples
        .iter()
        .flat_map(|sample| sample.processes.keys())
        .collect();
    let mut processes: Vec<&String> = processes.into_iter().collect();
    processes.sort_by_key(|name| (!is_tasksync_process(name), name.len(), (*name).clone()));
    let by_process = |value: &dyn Fn(&str) -> Vec<(f64, f64)>| -> Vec<Line> {
        processes
            .iter()
            .map(|name| Line {
                name: (*name).clone(),
                points: value(name),
            })
            .collect()
    };
    let cpu = |sample: &Sample, name: &str| sample.processes.get(name).map_or(0.0, |usage| usage.cpu_seconds);
    draw(
        "CPU by process",
        "cores",
        by_process(&|name| rate(samples, |sample| cpu(sample, name))),
    );
    draw(
        "Memory by process",
        "MiB",
        by_process(&|name| {
            let point = |sample: &Sample| Some((sample.at, sample.processes.get(name)?.memory_mib));
            samples.iter().filter_map(point).collect()
        }),
    );
    let line = |name: &str, points| Line {
        name: name.to_owned(),
        points,
    };
    draw(
        "Requests of a sync",
        "requests per sync",
        vec![
            line("Exchange", per_sync(samples, |sample| sample.exchange)),
            line("SharePoint", per_sync(samples, |sample| sample.sharepoint)),
            line("writes to both", per_sync(samples, |sample| sample.writes)),
        ],
    );
    let waiting = |sample: &Sample| (sample.at, number(u64::try_from(sample.open_edits).unwrap_or(0)));
    let due = samples
        .iter()
        .filter_map(|sample| Some((sample.at, number(sample.due?))));
    draw(
        "Waiting",
        "number",
        vec![
            line("users due", due.collect()),
            line("edits not mirrored yet", samples.iter().map(waiting).collect()),
        ],
    );
    distributions(out, trial, baseline);
}

/// Returns requests per visit between neighbouring samples.
fn per_sync(samples: &[Sample], count: impl Fn(&Sample) -> u64) -> Vec<(f64, f64)> {
    let visits = |sample: &Sample| sample.visits.iter().sum::<u64>();
    samples
        .windows(2)
        .filter_map(|pair| match pair {
            [before, after] if visits(after) > visits(before) => Some((
                after.at,
                number(count(after).saturating_sub(count(before))) / number(visits(after) - visits(before)),
            )),
            _ => None,
        })
        .collect()
}

/// Draws the plots that do not run over time: intervals, and throughput by number of workers.
fn distributions(out: &mut String, trial: &TrialResult, baseline: Option<&TrialResult>) {
    let points = |line: &[f64]| -> Vec<(f64, f64)> {
        let last = number(u64::try_from(line.len().saturating_sub(1).max(1)).unwrap_or(1));
        (0_u32..)
            .zip(line)
            .map(|(at, seconds)| (f64::from(at) / last * 100.0, *seconds))
            .collect()
    };
    let mut lines: Vec<Line> = trial
        .groups
        .iter()
        .map(|group| Line {
            name: group.name.clone(),
            points: points(&group.interval.line),
        })
        .collect();
    lines.extend(
        baseline
            .iter()
            .flat_map(|baseline| &baseline.groups)
            .map(|group| Line {
                name: format!("{} (baseline)", group.name),
                points: points(&group.interval.line),
            }),
    );
    let chart = Chart {
        title: "Sync interval: how many users wait how long",
        x: "percentage of intervals that are shorter",
        y: "seconds",
        lines,
        marks: Vec::new(),
        bars: false,
    };
    out.push_str(&chart.render());
    let bars = |name: &str, pick: fn(&Quantiles) -> f64| Line {
        name: name.to_owned(),
        points: (0_u32..)
            .zip(&trial.tenants)
            .map(|(at, tenant)| (f64::from(at), pick(&tenant.interval)))
            .collect(),
    };
    let chart = Chart {
        title: "Sync interval by tenant",
        x: "tenant",
        y: "seconds",
        lines: vec![bars("median", |q| q.p50), bars("99th percentile", |q| q.p99)],
        marks: (0_u32..)
            .zip(&trial.tenants)
            .map(|(at, tenant)| (f64::from(at), tenant.name.clone()))
            .collect(),
        bars: true,
    };
    out.push_str(&chart.render());
    let step = |step: &StepResult| {
        let rate = number(step.syncs) / step.seconds.max(1e-9);
        (number(step.workers), rate)
    };
    let mut lines = vec![Line {
        name: "measured".to_owned(),
        points: trial.steps.iter().map(step).collect(),
    }];
    if let Some(first) = trial.steps.first().map(step) {
        lines.push(Line {
            name: "the rate of one worker times the number of workers".to_owned(),
            points: trial
                .steps
                .iter()
                .map(|step| number(step.workers))
                .map(|workers| (workers, first.1 / first.0.max(1.0) * workers))
                .collect(),
        });
    }
    let chart = Chart {
        title: "Throughput by number of workers",
        x: "workers",
        y: "syncs per second",
        lines,
        marks: Vec::new(),
        bars: false,
    };
    out.push_str(&chart.render());
}
