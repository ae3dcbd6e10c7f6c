//! Metrics and traces of a whole process, read by programs of others: an OTLP receiver and Prometheus' own parser.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tasksync_common::clock::monotonic;
use tasksync_common::metrics::catalogue::{self, MetricKind};
use tasksync_loadtest::trial::{Ledger, Service};

use crate::rig::{PATIENCE, ask, farm, service, wait_until_settled};

#[path = "../../../../loadtest/tests/foreign/python.rs"]
mod python;

/// The receiver's process, killed on drop.
struct Receiver {
    child: Child,
    port: u16,
    file: PathBuf,
}

impl Receiver {
    fn start(python: &Path, folder: &Path) -> Self {
        let file = folder.join("received.jsonl");
        let mut child = Command::new(python)
            .arg(script("receiver.py"))
            .arg(&file)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let port = line.trim().parse().unwrap();
        Self { child, port, file }
    }

    fn received(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.file).unwrap_or_default();
        // The last line may be written only in part.
        text.lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|found| found["kind"] == kind)
            .collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/whole/telemetry")
        .join(name)
}

fn settings(port: u16) -> String {
    format!(
        "\n[telemetry]\notlp_endpoint = \"http://127.0.0.1:{port}\"\ntrace_ratio = 1\nmetrics_interval = \"1s\"\n\n[log]\nformat = \"json\"\n"
    )
}

/// Repeats `sample` until it finds something.
async fn eventually<T>(what: &str, mut poll: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = monotonic();
    loop {
        match poll().await {
            Ok(found) => return found,
            Err(missing) => assert!(started.elapsed() < PATIENCE, "{what} does not come: {missing}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn exposition(service: &Service) -> String {
    // Without a token, at the address of the probes, which the log names.
    let log = std::fs::read_to_string(service.log_path()).unwrap();
    let address = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find_map(|line| {
            line["health"]
                .as_str()
                .map(|health| format!("http://{health}/metrics"))
        })
        .unwrap();
    let answer = reqwest::get(address).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(
        answer.headers()["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    answer.text().await.unwrap()
}

/// Returns what Prometheus' own parser reads: the type of each family, and the names of samples.
fn parsed(python: &Path, text: &str) -> Vec<Value> {
    let mut child = Command::new(python)
        .arg(script("parse.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{text}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_reaches_from_the_tick_to_the_exchange_request_and_every_metric_is_there() {
    let python = tokio::task::spawn_blocking(python::interpreter).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let receiver = Receiver::start(&python, folder.path());
    let farm = farm(31, 1, 3, 4.0).await;
    let service = service(folder.path(), &farm, &settings(receiver.port)).await;
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;

    let spans = eventually("a whole trace", async || {
        let spans = receiver.received("span");
        whole_trace(&spans).map(|()| spans)
    })
    .await;
    for span in &spans {
        assert_eq!(span["service"], "tasksync");
        assert_eq!(span["events"], 0, "{span}");
        // A user's name in tasksync, which is an address in these farms, is in this one attribute and nowhere else.
        let mut rest = span.clone();
        if span["name"] == "user" {
            rest["attributes"]["tasksync.user"].take();
        }
        let text = rest.to_string();
        for (_, _, person) in farm.people() {
            assert!(!text.contains(&person.smtp), "{text}");
        }
        assert!(!text.contains("?$") && !text.contains("_api"), "{text}");
    }

    let installation: Value =
        serde_json::from_str(&ask(&service, &["installation", "show", "--json"]).out).unwrap();
    let installation = serde_json::json!([installation["id"]]);
    // Everything on the metrics page is sent, and Prometheus sees it with the documented type.
    eventually("every metric", async || {
        let sent: BTreeMap<String, Value> = receiver
            .received("metric")
            .into_iter()
            .map(|metric| (metric["name"].as_str().unwrap().to_owned(), metric))
            .collect();
        let missing: Vec<&str> = catalogue::ALL
            .iter()
            .map(|spec| spec.name.trim_end_matches("_total"))
            .filter(|name| !sent.contains_key(*name))
            .collect();
        if !missing.is_empty() {
            return Err(format!("OTLP: {missing:?}"));
        }
        for spec in catalogue::ALL {
            let metric = &sent[spec.name.trim_end_matches("_total")];
            assert_eq!(metric["unit"], spec.unit, "{metric}");
            let expected = match spec.kind {
                MetricKind::Counter => "sum",
                MetricKind::Gauge => "gauge",
                MetricKind::Histogram(_) => "histogram",
            };
            assert_eq!(metric["form"], expected, "{metric}");
        }
        // What was sent before the process knew the installation names none.
        let mut installations = sent.values().map(|metric| &metric["installations"]);
        if installations.all(|found| *found == installation) {
            Ok(())
        } else {
            Err("OTLP: the label installation is missing".to_owned())
        }
    })
    .await;
    let families = eventually("every metric", async || {
        let families = parsed(&python, &exposition(&service).await);
        let types: BTreeMap<&str, &str> = families
            .iter()
            .map(|family| (family["name"].as_str().unwrap(), family["type"].as_str().unwrap()))
            .collect();
        let missing: Vec<&str> = catalogue::ALL
            .iter()
            // The parser's families of counters have no suffix.
            .filter(|spec| types.get(spec.name.trim_end_matches("_total")) != Some(&spec.kind.name()))
            .map(|spec| spec.name)
            .collect();
        if missing.is_empty() {
            Ok(families)
        } else {
            Err(format!("Prometheus: {missing:?}"))
        }
    })
    .await;
    labels_are_those_of_the_catalogue(&families);
    assert!((sample(&families, "tasksync_leader") - 1.0).abs() < f64::EPSILON);
    assert!((sample(&families, "tasksync_users") - 3.0).abs() < f64::EPSILON);
    assert!(sample(&families, "tasksync_jobs_published_total") > 0.0);
    assert!(sample(&families, "process_resident_memory_bytes") > 1e6);

    // At its end, the process sends what waits, and the receiver does not delay the end.
    assert_eq!(service.terminate().await, Ok(Some(0)), "{}", service.log_tail(20));
    farm.stop().await;
}

/// Returns the value of a metric without labels.
fn sample(families: &[Value], name: &str) -> f64 {
    families
        .iter()
        .flat_map(|family| family["samples"].as_array().unwrap())
        .find(|sample| sample[0] == name)
        .and_then(|sample| sample[2].as_f64())
        .unwrap_or_else(|| panic!("{name} is missing"))
}

fn labels_are_those_of_the_catalogue(families: &[Value]) {
    for spec in catalogue::ALL {
        let family = families
            .iter()
            .find(|family| family["name"] == spec.name.trim_end_matches("_total"))
            .unwrap();
        // Every metric also names the installation.
        let labels = spec.labels.iter().map(|label| label.name);
        let documented: BTreeSet<&str> = labels.chain(["installation"]).collect();
        for sample in family["samples"].as_array().unwrap() {
            let labels = sample[1].as_object().unwrap();
            let found: BTreeSet<&str> = labels
                .keys()
                .map(String::as_str)
                .filter(|name| *name != "le")
                .collect();
            assert_eq!(found, documented, "{sample}");
            for label in spec.labels.iter().filter(|label| !label.values.is_empty()) {
                let value = labels[label.name].as_str().unwrap();
                assert!(label.values.contains(&value), "{sample}");
            }
        }
    }
}

/// Checks that a trace leads from a request to Exchange up to a tick: request, user, job (linked to its publish),
/// publish, tick.
fn whole_trace(spans: &[Value]) -> Result<(), String> {
    let by_id: BTreeMap<(&str, &str), &Value> = spans
        .iter()
        .map(|span| {
            (
                (span["trace"].as_str().unwrap(), span["span"].as_str().unwrap()),
                span,
            )
        })
        .collect();
    let parent = |span: &Value| {
        by_id
            .get(&(span["trace"].as_str().unwrap(), span["parent"].as_str().unwrap()))
            .copied()
    };
    let mut reached = "no request";
    for request in spans.iter().filter(|span| {
        span["attributes"]["tasksync.server"] == "ews" && span["span_kind"] == "SPAN_KIND_CLIENT"
    }) {
        reached = "a request";
        assert_eq!(request["attributes"]["server.address"], "127.0.0.1", "{request}");
        let Some(user) = parent(request).filter(|span| span["name"] == "user") else {
            continue;
        };
        reached = "a user";
        let Some(job) = parent(user) else { continue };
        assert_eq!(job["span_kind"], "SPAN_KIND_CONSUMER", "{job}");
        reached = "a job";
        let Some(publish) = parent(job) else { continue };
        assert_eq!(publish["span_kind"], "SPAN_KIND_PRODUCER", "{publish}");
        let link = serde_json::json!([publish["trace"], publish["span"]]);
        assert!(job["links"].as_array().unwrap().contains(&link), "{job}");
        reached = "a published job";
        let Some(tick) = parent(publish) else { continue };
        assert_eq!(
            (&tick["name"], &tick["parent"]),
            (&"tick".into(), &"".into()),
            "{tick}"
        );
        assert_eq!(
            request["attributes"]["http.response.status_code"], 200,
            "{request}"
        );
        return Ok(());
    }
    Err(format!("{} spans, up to {reached}", spans.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_receiver_the_service_works_on_and_says_so_once() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(32, 1, 2, 3.0).await;
    // Nothing listens on the discard port.
    let service = service(folder.path(), &farm, &settings(9)).await;
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    eventually("failed exports", async || {
        let text = exposition(&service).await;
        let failed = |signal: &str| {
            text.lines().any(|line| {
                line.starts_with("tasksync_telemetry_exports_total{")
                    && line.contains("outcome=\"failed\"")
                    && line.contains(signal)
                    && !line.ends_with(" 0")
            })
        };
        if failed("traces") && failed("metrics") {
            Ok(())
        } else {
            Err("no export failed yet".to_owned())
        }
    })
    .await;
    let warnings = |service: &Service| {
        let text = std::fs::read_to_string(service.log_path()).unwrap();
        text.lines()
            .filter(|line| line.contains("OTLP"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(warnings(&service).len(), 1, "{:?}", warnings(&service));
    let asked = monotonic();
    assert_eq!(service.terminate().await, Ok(Some(0)), "{}", service.log_tail(20));
    assert!(asked.elapsed() < Duration::from_mins(1));
    assert_eq!(warnings(&service).len(), 1, "{:?}", warnings(&service));
    farm.stop().await;
}
