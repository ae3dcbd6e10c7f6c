//! The report's JSON schema and its page.

use std::collections::BTreeMap;

use quick_xml::events::Event;
use serde_json::Value;

use super::super::expect::{self, Figures, Metric};
use super::super::file::{Method, Victim};
use super::super::fleet::Hit;
use super::super::result::*;
use super::super::sample::{Sample, Usage};
use super::*;

const TEXT: &str = "name = \"made-up\"\nabout = \"A <made-up> run & its report.\"\nexpect = [\"lost = 0\", \"failover <= 15s\"]\n\
    [[tenants]]\nname = \"big\"\nusers = 10\n[[tenants]]\nname = \"others\"\ncount = 3\nusers = 5\n";

fn quantiles(scale: f64) -> Quantiles {
    Quantiles {
        count: 100,
        p50: scale,
        p90: scale * 1.5,
        p99: scale * 2.0,
        max: scale * 3.0,
        line: (0..=40).map(|at| scale * f64::from(at) / 20.0).collect(),
    }
}

fn trial() -> TrialResult {
    let group = |name: &str, scale| GroupResult {
        name: name.to_owned(),
        tenants: 3,
        users: 15,
        interval: quantiles(scale),
        ..GroupResult::default()
    };
    let sample = |at: u32| Sample {
        at: f64::from(at),
        visits: vec![u64::from(at) * 7, u64::from(at) * 3],
        oldest: vec![f64::from(at % 9), 2.0],
        exchange: u64::from(at) * 4,
        sharepoint: u64::from(at),
        due: at.is_multiple_of(5).then_some(3),
        processes: BTreeMap::from([
            (
                "tasksync".to_owned(),
                Usage {
                    cpu_seconds: f64::from(at) * 0.4,
                    memory_mib: 50.0,
                    peak_mib: 60.0,
                },
            ),
            ("simulators".to_owned(), Usage::default()),
        ]),
        ..Sample::default()
    };
    TrialResult {
        groups: vec![group("big", 4.0), group("others", 5.0)],
        tenants: vec![TenantResult {
            name: "big-000".to_owned(),
            group: 0,
            users: 10,
            interval: quantiles(4.0),
        }],
        interval: quantiles(4.5),
        steps: vec![
            StepResult {
                workers: 1,
                syncs: 100,
                seconds: 10.0,
                cpu_seconds: 1.0,
            },
            StepResult {
                workers: 8,
                syncs: 790,
                seconds: 10.0,
                cpu_seconds: 7.0,
            },
        ],
        hits: vec![Hit {
            what: Victim::Leader,
            how: Method::Kill,
            name: "scheduler-1".to_owned(),
            at: 12.0,
            back_after: Some(3.0),
            failover: Some(9.5),
            problem: None,
        }],
        idle: Some(IdleResult {
            syncs: 100,
            exchange_requests: 10,
            sharepoint_requests: 5,
            writes: 0,
            cpu_seconds: 0.1,
        }),
        edits: 10,
        mirrored: 9,
        marks: vec![("warm-up".to_owned(), 0.0), ("measured".to_owned(), 10.0)],
        samples: (0..60).map(sample).collect(),
        verdict: OracleResult {
            tasks: 30,
            unseen: vec!["\"title\" of task 1 <x>".to_owned()],
            ..OracleResult::default()
        },
        violations: ViolationResult {
            lines: vec!["shifted: a task".to_owned()],
            ..ViolationResult::default()
        },
        requests: RequestResult {
            sent: 100,
            failed: 1,
            lines: vec!["1.0 s: GET /status: 503".to_owned()],
        },
        answers: Some(100),
        ends: vec![("tasksync".to_owned(), Some(0))],
        ..TrialResult::default()
    }
}

/// Returns the JSON and the page.
fn rendered() -> (Value, String) {
    let scenario = Scenario::parse(TEXT).unwrap();
    let expectations: Vec<_> = scenario
        .expect
        .iter()
        .map(|text| expect::parse(text).unwrap())
        .collect();
    let figures = Figures::from([(Metric::Lost, 1.0), (Metric::Failover, 9.5)]);
    let judgements = expect::judge(&expectations, &figures);
    let outcome = ScenarioResult {
        trial: trial(),
        baseline: Some(trial()),
        figures,
        judgements,
    };
    let report = Report {
        scenario: &scenario,
        text: TEXT,
        outcome: &outcome,
        machine: Machine {
            date: "2026-11-22 12:00 UTC".to_owned(),
            processors: 2,
            processor: "Processor & Co".to_owned(),
            memory_gib: 24.0,
            kernel: "6.1".to_owned(),
            commit: "0123456789ab".to_owned(),
            version: "0.1.0".to_owned(),
            optimised: true,
        },
    };
    (report.json(), report.html())
}

/// Collects every path of a document. Of an array only the first element counts.
fn paths(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                paths(value, &format!("{at}.{key}"), found);
            }
        }
        Value::Array(list) => match list.first() {
            Some(first) => paths(first, &format!("{at}[]"), found),
            None => found.push(format!("{at}[]")),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => found.push(at.to_owned()),
    }
}

#[test]
fn the_json_has_every_field_of_its_version() {
    let (json, _) = rendered();
    assert_eq!(
        (json["version"].as_u64(), json["passed"].as_bool()),
        (Some(1), Some(false))
    );
    assert_eq!(json["expectations"][0]["holds"], false);
    assert_eq!(json["figures"]["failover"]["unit"], "seconds");
    let mut found = Vec::new();
    paths(&json, "", &mut found);
    // The names of processes are data and not part of the schema.
    let found: Vec<_> = found
        .into_iter()
        .filter(|path| !path.contains(".processes."))
        .collect();
    let fixture = include_str!("schema-1.txt");
    let missing: Vec<_> = fixture
        .lines()
        .filter(|path| !found.iter().any(|known| known == path))
        .collect();
    assert_eq!(
        missing,
        Vec::<&str>::new(),
        "a field went: raise the version. There are:\n{}",
        found.join("\n")
    );
    let new: Vec<_> = found
        .iter()
        .filter(|path| !fixture.lines().any(|known| known == *path))
        .collect();
    assert!(new.is_empty(), "add to schema-1.txt: {new:?}");
}

#[test]
fn the_page_is_well_formed_and_loads_nothing() {
    let (_, page) = rendered();
    let mut reader = quick_xml::Reader::from_str(&page);
    let (mut depth, mut figures) = (0_i32, 0);
    loop {
        match reader.read_event().unwrap() {
            Event::Start(element) => {
                depth += 1;
                figures += i32::from(element.name().as_ref() == "figure");
            }
            Event::End(_) => depth -= 1,
            Event::Eof => break,
            Event::Empty(_)
            | Event::Text(_)
            | Event::CData(_)
            | Event::Comment(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::DocType(_)
            | Event::GeneralRef(_) => {}
        }
    }
    assert_eq!(depth, 0);
    assert!(figures >= 15, "{figures} charts");
    for word in ["<script", "http://", "https://", "url(", "NaN", "inf"] {
        assert!(
            !page.contains(&format!("\"{word}")) && !page.contains("<script"),
            "{word}"
        );
    }
    assert!(page.contains("A &lt;made-up&gt; run &amp; its report."));
    assert!(page.contains("does not hold") && page.contains("9.5 s"));
    assert!(page.contains("&quot;title&quot; of task 1 &lt;x&gt;"));
}
