//! The report as one HTML page. It has no scripts, loads nothing, and is readable in light and dark.

use std::fmt::Write as _;

use super::Report;
use super::plots::{charts, number};
use super::svg::escape;
use crate::scenario::expect::Metric;
use crate::scenario::result::TrialResult;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1c2330; --soft: #5a6475; --ground: #ffffff; --panel: #f5f7fa; --edge: #d9dee7;
  --good: #13753f; --bad: #b3261e; --c0: #1f6fd0; --c1: #c2570c; --c2: #1b8a5a; --c3: #8a3ffc; --c4: #b8336a; --c5: #0f7c8a;
  --c6: #7a6a00; --c7: #52606d; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ef; --soft: #9aa5b8; --ground: #14181f; --panel: #1c222c; --edge: #323b49;
  --good: #5fd39a; --bad: #ff8a80; --c0: #6cb0ff; --c1: #ffa05c; --c2: #5fd39a; --c3: #c3a1ff; --c4: #ff8fb8; --c5: #5fd3e0;
  --c6: #e0cc5a; --c7: #aab4c3; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 78rem; background: var(--ground); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p.about { color: var(--soft); margin: 0 0 1rem; max-width: 60rem; }
.badge { display: inline-block; padding: .15rem .7rem; border-radius: 1rem; font-weight: 600; font-size: .95rem; color: var(--ground);
  vertical-align: .25rem; margin-left: .75rem; } .badge.good { background: var(--good); } .badge.bad { background: var(--bad); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem; margin: 1.2rem 0; }
.facts div { background: var(--panel); border: 1px solid var(--edge); border-radius: .5rem; padding: .6rem .8rem; }
.facts b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; } .facts span { color: var(--soft); font-size: .85rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .7rem; border-bottom: 1px solid var(--edge); vertical-align: top; }
th { color: var(--soft); font-weight: 600; font-size: .85rem; } td.number, th.number { text-align: right; white-space: nowrap; }
td.good { color: var(--good); font-weight: 600; } td.bad { color: var(--bad); font-weight: 600; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(34rem, 100%), 1fr)); gap: 1rem; }
figure { margin: 0; background: var(--panel); border: 1px solid var(--edge); border-radius: .5rem; padding: .7rem .8rem .5rem; min-width: 0; }
figcaption { font-weight: 600; margin-bottom: .25rem; } svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--soft); font-size: 15px; font-family: inherit; } .end { text-anchor: end; } .middle { text-anchor: middle; }
.grid { stroke: var(--edge); stroke-width: 1; } .mark { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 3 3; } text.marked { font-size: 13px; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .dashed { stroke-dasharray: 6 3; }
.line.c0 { stroke: var(--c0); } .line.c1 { stroke: var(--c1); } .line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); }
.line.c4 { stroke: var(--c4); } .line.c5 { stroke: var(--c5); } .line.c6 { stroke: var(--c6); } .line.c7 { stroke: var(--c7); }
rect.c0 { fill: var(--c0); } rect.c1 { fill: var(--c1); } rect.c2 { fill: var(--c2); } rect.c3 { fill: var(--c3); }
rect.c4 { fill: var(--c4); } rect.c5 { fill: var(--c5); } rect.c6 { fill: var(--c6); } rect.c7 { fill: var(--c7); }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: .3rem 0 0; padding: 0; font-size: .85rem; color: var(--soft); }
.key { display: inline-block; width: .8rem; height: .8rem; border-radius: .2rem; margin-right: .35rem; vertical-align: -.08rem; }
.key.c0 { background: var(--c0); } .key.c1 { background: var(--c1); } .key.c2 { background: var(--c2); } .key.c3 { background: var(--c3); }
.key.c4 { background: var(--c4); } .key.c5 { background: var(--c5); } .key.c6 { background: var(--c6); } .key.c7 { background: var(--c7); }
pre { background: var(--panel); border: 1px solid var(--edge); border-radius: .5rem; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
details summary { cursor: pointer; color: var(--soft); }
";

/// Returns the page.
pub(super) fn page(report: &Report<'_>) -> String {
    let outcome = report.outcome;
    let (badge, class) = if outcome.passed() {
        ("passed", "good")
    } else {
        ("failed", "bad")
    };
    let mut out = String::new();
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <title>{name}: {badge}</title><style>{STYLE}</style></head><body>\
         <h1>{name}<span class=\"badge {class}\">{badge}</span></h1><p class=\"about\">{about}</p>",
        name = escape(&report.scenario.name),
        about = escape(&report.scenario.about),
    );
    facts(&mut out, report);
    expectations(&mut out, report);
    let begin = |out: &mut String, title: &str| {
        let _ = write!(out, "<h2>{}</h2><div class=\"charts\">", escape(title));
    };
    begin(&mut out, "The run");
    charts(&mut out, &outcome.trial, outcome.baseline.as_ref());
    out.push_str("</div>");
    tables(&mut out, &outcome.trial, outcome.baseline.as_ref());
    if let Some(baseline) = &outcome.baseline {
        begin(&mut out, "The baseline");
        charts(&mut out, baseline, None);
        out.push_str("</div>");
    }
    figures(&mut out, report);
    problems(&mut out, &outcome.trial);
    machine(&mut out, report);
    let _ = writeln!(
        out,
        "<h2>The scenario</h2><pre>{}</pre></body></html>",
        escape(report.text)
    );
    out
}

/// Formats a count with a comma before every three digits.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn facts(out: &mut String, report: &Report<'_>) {
    let trial = &report.outcome.trial;
    let figure = |metric: Metric| {
        report
            .outcome
            .figures
            .get(&metric)
            .map(|value| metric.format_value(*value))
    };
    let users: u64 = trial.groups.iter().map(|group| group.users).sum();
    let tenants: u64 = trial.groups.iter().map(|group| group.tenants).sum();
    let mut facts = vec![
        (
            Some(format!("{} in {}", grouped(users), grouped(tenants))),
            "people in tenants",
        ),
        (figure(Metric::EverybodyWithin), "until each user was synced once"),
        (figure(Metric::Throughput), "syncs, measured phase"),
        (figure(Metric::IntervalP99), "99 % of sync intervals are shorter"),
        (figure(Metric::StalenessMax), "longest wait of a user"),
        (figure(Metric::MirroredP99), "99 % of edits mirrored within"),
        (figure(Metric::CpuPerSync), "CPU time of a sync"),
        (figure(Metric::Failover), "longest time without a leader"),
        (
            figure(Metric::IdleExchangeRequests),
            "Exchange requests of an idle sync",
        ),
    ];
    if trial.edits > 0 {
        let edits = u64::try_from(trial.edits).unwrap_or(u64::MAX);
        facts.push((Some(grouped(edits)), "edits on both sides"));
    }
    out.push_str("<div class=\"facts\">");
    for (value, name) in facts {
        if let Some(value) = value {
            let _ = write!(
                out,
                "<div><b>{}</b><span>{}</span></div>",
                escape(&value),
                escape(name)
            );
        }
    }
    out.push_str("</div>");
}

fn expectations(out: &mut String, report: &Report<'_>) {
    out.push_str(
        "<h2>Expectations</h2><div class=\"wide\"><table><tr><th>expected</th><th class=\"number\">found</th><th></th><th>what it is</th></tr>",
    );
    let row = |out: &mut String, text: &str, found: &str, holds: bool, what: &str| {
        let (class, word) = if holds {
            ("good", "holds")
        } else {
            ("bad", "does not hold")
        };
        let _ = write!(
            out,
            "<tr><td><code>{}</code></td><td class=\"number\">{}</td><td class=\"{class}\">{word}</td><td>{}</td></tr>",
            escape(text),
            escape(found),
            escape(what)
        );
    };
    let trial = &report.outcome.trial;
    row(
        out,
        "both sides agree",
        &format!("{} tasks compared", trial.verdict.tasks),
        trial.agrees(),
        "The oracle reads both stores and uses none of tasksync's code.",
    );
    for judgement in &report.outcome.judgements {
        let metric = judgement.expectation.metric;
        let found = judgement
            .found
            .map_or_else(|| "not measured".to_owned(), |value| metric.format_value(value));
        row(
            out,
            &judgement.expectation.text,
            &found,
            judgement.holds,
            metric.what(),
        );
    }
    out.push_str("</table></div>");
}

fn table(out: &mut String, title: &str, heads: &[&str], rows: &[Vec<String>]) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(out, "<h2>{}</h2><div class=\"wide\"><table><tr>", escape(title));
    // A column whose cells all begin with a digit contains numbers.
    let digits = |cell: Option<&String>| {
        cell.is_some_and(|cell| cell.is_empty() || cell.starts_with(|c: char| c.is_ascii_digit()))
    };
    let class = |at: usize| {
        let numbers = rows.iter().all(|row| digits(row.get(at)));
        if numbers { " class=\"number\"" } else { "" }
    };
    for (at, head) in heads.iter().enumerate() {
        let class = class(at);
        let _ = write!(out, "<th{class}>{}</th>", escape(head));
    }
    out.push_str("</tr>");
    for row in rows {
        out.push_str("<tr>");
        for (at, cell) in row.iter().enumerate() {
            let class = class(at);
            let _ = write!(out, "<td{class}>{}</td>", escape(cell));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table></div>");
}

fn tables(out: &mut String, trial: &TrialResult, baseline: Option<&TrialResult>) {
    let time = |seconds: f64| Metric::IntervalP99.format_value(seconds);
    let groups = |trial: &TrialResult, suffix: &str| -> Vec<Vec<String>> {
        trial
            .groups
            .iter()
            .map(|group| {
                vec![
                    format!("{}{suffix}", group.name),
                    group.tenants.to_string(),
                    group.users.to_string(),
                    time(group.interval.p50),
                    time(group.interval.p90),
                    time(group.interval.p99),
                    time(group.interval.max),
                    time(group.sync.p50),
                    time(group.sync.p99),
                    group.exchange_requests.to_string(),
                    group.sharepoint_requests.to_string(),
                    group.troubled_requests.to_string(),
                ]
            })
            .collect()
    };
    let mut rows = groups(trial, "");
    rows.extend(
        baseline
            .into_iter()
            .flat_map(|baseline| groups(baseline, " (baseline)")),
    );
    let heads = [
        "group",
        "tenants",
        "people",
        "interval p50",
        "p90",
        "p99",
        "longest",
        "sync p50",
        "sync p99",
        "Exchange requests",
        "SharePoint requests",
        "met trouble",
    ];
    table(out, "Groups of tenants", &heads, &rows);
    let steps: Vec<Vec<String>> = trial
        .steps
        .iter()
        .map(|step| {
            vec![
                step.workers.to_string(),
                step.syncs.to_string(),
                format!("{:.1} s", step.seconds),
                format!("{:.1}/s", number(step.syncs) / step.seconds.max(1e-9)),
                format!("{:.2}", step.cpu_seconds / step.seconds.max(1e-9)),
            ]
        })
        .collect();
    table(
        out,
        "Steps",
        &["workers", "syncs", "window", "rate", "cores used by tasksync"],
        &steps,
    );
    let seconds = |value: Option<f64>| value.map_or_else(String::new, time);
    let hits: Vec<Vec<String>> = trial
        .hits
        .iter()
        .map(|hit| {
            vec![
                hit.name.clone(),
                format!("{:?}", hit.how).to_lowercase(),
                time(hit.at),
                seconds(hit.back_after),
                seconds(hit.failover),
                hit.problem.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table(
        out,
        "Kills",
        &["victim", "how", "at", "back after", "without a leader", "problem"],
        &hits,
    );
}

fn figures(out: &mut String, report: &Report<'_>) {
    let rows: Vec<Vec<String>> = report
        .outcome
        .figures
        .iter()
        .map(|(metric, value)| {
            vec![
                metric.what().to_owned(),
                metric.name().to_owned(),
                metric.format_value(*value),
            ]
        })
        .collect();
    table(out, "All figures", &["figure", "name", "value"], &rows);
}

fn problems(out: &mut String, trial: &TrialResult) {
    let verdict = trial.verdict.lines.iter().chain(&trial.verdict.unseen);
    lines(out, "Differences", verdict.chain(&trial.violations.lines));
    lines(out, "Failed API requests", &trial.requests.lines);
}

/// Writes lines as they are under a heading, or nothing if there are none.
fn lines<'a>(out: &mut String, heading: &str, lines: impl IntoIterator<Item = &'a String>) {
    let text: String = lines.into_iter().map(|line| escape(line) + "\n").collect();
    if !text.is_empty() {
        let _ = write!(out, "<h2>{heading}</h2><pre>{text}</pre>");
    }
}

fn machine(out: &mut String, report: &Report<'_>) {
    let machine = &report.machine;
    let build = if machine.optimised {
        "optimised build"
    } else {
        "debug build: figures are not comparable"
    };
    let rows = vec![
        vec!["date".to_owned(), machine.date.clone()],
        vec![
            "revision".to_owned(),
            match machine.commit.as_str() {
                "" => format!("{}, {build}", machine.version),
                commit => format!("{commit} ({}, {build})", machine.version),
            },
        ],
        vec![
            "processors".to_owned(),
            format!("{} × {}", machine.processors, machine.processor),
        ],
        vec!["memory".to_owned(), format!("{:.1} GiB", machine.memory_gib)],
        vec!["kernel".to_owned(), machine.kernel.clone()],
        vec![
            "simulated servers".to_owned(),
            "run on the same machine; their CPU is shown as \u{201c}simulators\u{201d}".to_owned(),
        ],
    ];
    table(out, "Machine", &["", ""], &rows);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_at_a_glance() {
        let shown = [0, 999, 1_000, 10_000, 1_000_000].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "10,000", "1,000,000"]);
    }
}
