//! `config check`, `config show`, and that no start refuses what the check accepts.

use serde_json::Value;

use crate::harness::{TOKEN, run, tasksync};

/// Wrong settings, each with a part of the refusal.
const WRONG: &[(&str, &str)] = &[
    ("[registry]\nurl = \"mysql://root:geheim@db/x\"", "mysql:"),
    ("[registry]\nurl = \"\"", "registry.url = \"\" is empty"),
    ("[registry]\nurl = \"sqlite:\"", "does not name a file"),
    (
        "[registry]\nurl = \"sqlite:/no/such/folder/r.sqlite\"",
        "/no/such/folder",
    ),
    ("[registry]\nurl = \"postgres://t:geheim@db\"", "no database"),
    (
        "[registry]\nurl = \"postgres://t:geheim@db/t?sslMode=require\"",
        "sslMode",
    ),
    (
        "[registry]\nurl = \"postgres://t:geheim@db/t?sslrootcert=/no/such.pem\"",
        "/no/such.pem",
    ),
    ("[schedule]\nurl = \"etcd://root:geheim@db\"", "etcd:"),
    ("[schedule]\nurl = \"redis://root:geheim@db:x\"", "port"),
    ("[schedule]\nkey_prefix = \"\"", "schedule.key_prefix"),
    ("[schedule]\nkey_prefix = \"a b\"", "character ' '"),
    ("[queue]\nurl = \"kafka://root:geheim@db\"", "kafka:"),
    ("[queue]\nurl = \"amqp://u:geheim:x@h\"", "colon"),
    (
        "[queue]\nurl = \"amqps://u:geheim@h\"\nauthorities = \"/no/such.pem\"",
        "No such file",
    ),
    ("[outbound]\nallowed_networks = [\"10.0.0.0/33\"]", "10.0.0.0/33"),
    ("[outbound]\nallowed_networks = [\"10.0.0.1/8\"]", "10.0.0.0/8"),
    ("[outbound]\nauthorities = \"/no/such.pem\"", "No such file"),
    ("[outbound]\nauthorities = \"/dev/null\"", "no certificate"),
    ("[log]\nfilter = \"loud==\"", "loud=="),
    ("[log]\nfilter = \"inof\"", "did you mean info?"),
    ("[log]\nformat = \"yaml\"", "\"text\" or \"json\""),
    (
        "[telemetry]\notlp_endpoint = \"collector:4318\"",
        "telemetry.otlp_endpoint",
    ),
    (
        "[telemetry]\notlp_endpoint = \"https://u:geheim@c\"",
        "OTEL_EXPORTER_OTLP_HEADERS",
    ),
    ("[api]\nlisten = \"8480\"", "an IP address and a port"),
    ("[api]\nlisten = \"127.0.0.1:8481\"", "same port"),
    (
        "[worker]\nuser_budget = \"50s\"",
        "worker.user_budget must be below worker.batch_budget",
    ),
    ("[worker]\nuser_at_once = 3", "did you mean worker.users_at_once"),
    ("[worker]\nusers_at_once = 3.5", "whole number"),
    ("users_at_once = 3", "Write it below the line [worker]"),
    ("[worker", "line is not TOML"),
];

#[test]
fn the_check_and_the_start_refuse_the_same_with_the_same_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    for (text, expected) in WRONG {
        std::fs::write(&file, format!("{text}\n")).unwrap();
        let command = |arguments: &[&str]| {
            run(tasksync()
                .args(arguments)
                .arg(&file)
                .current_dir(folder.path())
                .env("TASKSYNC_TOKEN", TOKEN))
        };
        let checked = command(&["config", "check", "--role", "standalone"]);
        let started = command(&["standalone", "--config"]);
        assert_eq!(
            (checked.code, started.code),
            (2, 2),
            "{text}: {checked:?} {started:?}"
        );
        assert_eq!(checked.err, started.err, "{text}");
        assert!(checked.err.contains(expected), "{text}: {}", checked.err);
        let has_place = checked.err.contains("settings.toml:") || expected.contains("same port");
        assert!(has_place, "{text}: {}", checked.err);
        for hidden in ["geheim", "expected", "usize", "invalid", "panicked"] {
            assert!(!checked.err.contains(hidden), "{text}: {}", checked.err);
        }
    }
    // Nothing was created for a start that was refused.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn wrong_variables_and_tokens_are_refused_by_the_check_and_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    std::fs::write(&file, "").unwrap();
    for (name, value, expected) in [
        (
            "TASKSYNC_WORKER_USERS_AT_ONCE",
            "3",
            "did you mean worker.users_at_once (TASKSYNC_WORKER__USERS_AT_ONCE)?",
        ),
        (
            "TASKSYNC_WORKER__USERS_AT_ONCE",
            "geheim",
            "variable TASKSYNC_WORKER__USERS_AT_ONCE: ",
        ),
        ("TASKSYNC_TOKEN", "geheim", "TASKSYNC_TOKEN"),
        ("TASKSYNC_TOKEN_FILE", "/no/such/token", "/no/such/token"),
    ] {
        let command = |arguments: &[&str]| {
            run(tasksync()
                .args(arguments)
                .arg(&file)
                .current_dir(folder.path())
                .env(name, value))
        };
        let checked = command(&["config", "check", "--role", "standalone"]);
        let started = command(&["standalone", "--config"]);
        assert_eq!(
            (checked.code, started.code),
            (2, 2),
            "{name}: {checked:?} {started:?}"
        );
        assert_eq!(checked.err, started.err, "{name}");
        assert!(checked.err.contains(expected), "{name}: {}", checked.err);
    }
    let strange = run(tasksync()
        .args(["config", "check"])
        .arg(&file)
        .current_dir(folder.path())
        .env("TASKSYNC_IMAGE", "geheim")
        .env("TASKSYNC_PORT", "tcp://10.0.0.1:8480"));
    assert_eq!(strange.code, 0, "{strange:?}");
    assert_eq!(strange.err.lines().count(), 1, "{strange:?}");
    assert!(
        strange.err.contains("TASKSYNC_IMAGE") && !strange.err.contains("geheim"),
        "{strange:?}"
    );
}

#[test]
fn config_show_names_value_and_origin_and_hides_passwords() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    std::fs::write(
        &file,
        "[worker]\nusers_at_once = 7\n[queue]\nurl = \"amqp://u:geheim@broker\"\n",
    )
    .unwrap();
    let show = |arguments: &[&str]| {
        run(tasksync()
            .args(["config", "show"])
            .args(arguments)
            .env("TASKSYNC_CONFIG", &file)
            .env("TASKSYNC_SCHEDULE__URL", "redis://:geheim@cache")
            .env("TASKSYNC_LOG__FORMAT", "text"))
    };
    let changed = show(&["--changed"]);
    assert_eq!(changed.code, 0, "{changed:?}");
    let lines: Vec<String> = changed
        .out
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    let path = file.display();
    assert_eq!(
        lines,
        [
            "schedule.url = \"redis://:***@cache\" # variable TASKSYNC_SCHEDULE__URL".to_owned(),
            format!("queue.url = \"amqp://u:***@broker\" # {path}:4"),
            format!("worker.users_at_once = 7 # {path}:2"),
        ]
    );
    let all = show(&["--json"]);
    let json: Value = serde_json::from_str(&all.out).unwrap();
    let settings = json["settings"].as_array().unwrap();
    assert!(settings.len() > 50, "{}", settings.len());
    let of = |key: &str| settings.iter().find(|setting| setting["key"] == key).unwrap();
    assert_eq!(of("worker.users_at_once")["value"], 7);
    assert_eq!(of("worker.users_at_once")["default"], 10);
    assert_eq!(of("worker.users_at_once")["line"], 2);
    assert_eq!(of("log.format")["origin"], "variable");
    assert_eq!(of("log.format")["changed"], false);
    assert_eq!(of("worker.drain")["origin"], "default");
    assert!(!all.out.contains("geheim"), "{}", all.out);
}
