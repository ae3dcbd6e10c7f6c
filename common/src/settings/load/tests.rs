//! What is read, refused and shown.

use std::time::Duration;

use super::*;

fn read_all(text: &str, environment: &[(&str, &str)]) -> Result<LoadedSettings, String> {
    parse(
        text,
        "test.toml",
        environment
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
    )
    .map_err(|error| error.to_string())
}

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
    read_all(text, environment).map(|loaded| loaded.settings)
}

#[test]
fn defaults_hold_and_agree_with_each_other() {
    assert_eq!(read("", &[]).unwrap(), Settings::default());
    check(&Settings::default()).unwrap();
}

#[test]
fn unknown_keys_and_missing_units_are_refused_by_name() {
    let error = read("[worker]\nuser_at_once = 3\n", &[]).unwrap_err();
    assert!(
        error.contains("test.toml:2: worker.user_at_once")
            && error.contains("did you mean worker.users_at_once (TASKSYNC_WORKER__USERS_AT_ONCE)?"),
        "{error}"
    );
    let error = read("[worker]\nbatch_budget = \"45\"\n", &[]).unwrap_err();
    assert!(error.contains("unit"), "{error}");
    let error = read("", &[("TASKSYNC_WORKER__NONSENSE", "1")]).unwrap_err();
    assert!(error.contains("TASKSYNC_WORKER__NONSENSE"), "{error}");
}

#[test]
fn a_misspelt_variable_is_refused_and_a_strange_one_reported() {
    let error = read("", &[("TASKSYNC_WORKER_USERS_AT_ONCE", "3")]).unwrap_err();
    assert!(
        error.contains(
            "variable TASKSYNC_WORKER_USERS_AT_ONCE: no such setting; did you mean worker.users_at_once \
             (TASKSYNC_WORKER__USERS_AT_ONCE)?"
        ),
        "{error}"
    );
    let loaded = read_all(
        "",
        &[("TASKSYNC_IMAGE", "geheim"), ("TASKSYNC_SECRET_A", "geheim")],
    )
    .unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(
        loaded.warnings[0].contains("TASKSYNC_IMAGE") && !loaded.warnings[0].contains("geheim"),
        "{:?}",
        loaded.warnings
    );
}

#[test]
fn everything_that_is_wrong_is_named_with_line_value_and_an_example() {
    let text = "\
[worker]
users_at_once = 0
batches_at_once = \"many\"
drain = \"80s\"
[workers]
users_at_once = 1
[queue]
url = \"amqp://tasksync:geheim@broker:0\"
declare = \"make\"
passwort = \"geheim\"
[api]
listen = \"localhost:8480\"
[outbound]
allowed_networks = [\"10.0.0.0/33\"]
allow_plain_http = \"yes\"
[log]
filter = \"\"
";
    let error = read(text, &[("TASKSYNC_TELEMETRY__TRACE_RATIO", "2")]).unwrap_err();
    for expected in [
        "for 12 reasons",
        "test.toml:2: worker.users_at_once = 0 is out of bounds. Allowed: a whole number from 1 to 100. Example: \
         users_at_once = 10",
        "test.toml:3: worker.batches_at_once = \"many\" is not a whole number.",
        "test.toml:5: workers: no such section; did you mean [worker]?",
        "test.toml:8: queue.url = \"amqp://tasksync:***@broker:0\" has a port that is not a number",
        "test.toml:9: queue.declare = \"make\" is not one of the choices. Allowed: \"create\" or \"check\"",
        "test.toml:10: queue.passwort: no such setting",
        "test.toml:12: api.listen = \"localhost:8480\" is not an IP address with a port.",
        "test.toml:14: outbound.allowed_networks = [\"10.0.0.0/33\"] has a wrong entry",
        "test.toml:15: outbound.allow_plain_http = \"yes\" is neither true nor false.",
        "test.toml:17: log.filter = \"\" is empty.",
        "variable TASKSYNC_TELEMETRY__TRACE_RATIO: telemetry.trace_ratio = 2 is not a share.",
        "worker.drain = \"80s\" (test.toml:4)",
    ] {
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    for parser_word in ["expected", "usize", "invalid", "contradict", "geheim"] {
        assert!(!error.contains(parser_word), "{parser_word}\n{error}");
    }
}

#[test]
fn a_line_that_is_not_toml_is_named_and_not_repeated() {
    let error = read("[queue]\nurl = geheim\n\n[worker\n", &[]).unwrap_err();
    assert!(
        error.contains("test.toml:2: this line is not TOML") && error.contains("test.toml:4: "),
        "{error}"
    );
    assert!(!error.contains("geheim"), "{error}");
}

#[test]
fn no_error_shows_a_value_of_a_masked_or_unknown_key() {
    const CANARY: &str = "hunter2-geheim";
    let written = [
        format!("\"{CANARY}\""),
        format!("\"redis://u:{CANARY}@h:x\""),
        format!("\"amqp://{CANARY}@h\""),
        format!("\"amqp://u:{CANARY}\""),
        format!("\"postgres:u:{CANARY}@h/x\""),
        format!("\"https://u:{CANARY}@h\""),
        format!("[\"{CANARY}\"]"),
        format!("{{ password = \"{CANARY}\" }}"),
        CANARY.to_owned(),
        format!("\"{CANARY}"),
    ];
    for key in [
        "registry.url",
        "schedule.url",
        "queue.url",
        "telemetry.otlp_endpoint",
        "queue.password",
        "secrets.all",
    ] {
        let (section, name) = key.split_once('.').unwrap();
        for value in &written {
            // A value that is accepted is in no debug output either.
            let shown = match read(&format!("[{section}]\n{name} = {value}\n"), &[]) {
                Ok(settings) => format!("{settings:?}"),
                Err(error) => error,
            };
            assert!(!shown.contains("hunter2"), "{key} = {value}\n{shown}");
        }
        for value in &written {
            let variable = variable_of(key);
            if let Err(error) = read("", &[(&variable, value.trim_matches('"'))]) {
                assert!(!error.contains("hunter2"), "{key} = {value}\n{error}");
            }
        }
    }
}

#[test]
fn a_zero_duration_needs_neither_unit_nor_quotes_and_other_numbers_do() {
    let variable = "TASKSYNC_SCHEDULE__TOP_UP_INTERVAL";
    let file = |value: &str| read(&format!("[schedule]\ntop_up_interval = {value}\n"), &[]);
    for zero in ["0", "\"0\"", "\"0s\""] {
        for settings in [file(zero), read("", &[(variable, zero)])] {
            assert_eq!(
                settings.unwrap().schedule.top_up_interval,
                Duration::ZERO,
                "{zero}"
            );
        }
    }
    for wrong in ["5", "-1"] {
        for settings in [file(wrong), read("", &[(variable, wrong)])] {
            let error = settings.unwrap_err();
            assert!(error.contains("a unit in quotes"), "{error}");
        }
    }
}

#[test]
fn the_environment_wins_over_the_file_and_each_value_has_its_origin() {
    let loaded = read_all(
        "[worker]\n# a remark\nusers_at_once = 3\nbatches_at_once = 4\n",
        &[
            ("TASKSYNC_WORKER__USERS_AT_ONCE", "7"),
            ("TASKSYNC_SCHEDULE__TOP_UP_INTERVAL", "500ms"),
            ("TASKSYNC_SCHEDULE__KEY_PREFIX", "123"),
            ("TASKSYNC_SCHEDULE__URL", "redis://:geheim@cache"),
            ("TASKSYNC_OUTBOUND__ALLOW_PLAIN_HTTP", "true"),
            ("TASKSYNC_API__LISTEN", "127.0.0.1:1"),
            ("TASKSYNC_OUTBOUND__ALLOWED_NETWORKS", "[\"127.0.0.0/8\"]"),
            ("TASKSYNC_TOKEN", "not a setting"),
        ],
    )
    .unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.worker.users_at_once, 7);
    assert_eq!(settings.schedule.top_up_interval, Duration::from_millis(500));
    assert_eq!(settings.schedule.key_prefix, "123");
    assert!(settings.outbound.allow_plain_http);
    assert_eq!(settings.outbound.allowed_networks, ["127.0.0.0/8"]);
    let shown = |key: &str| {
        let all = loaded.effective();
        let setting = all.iter().find(|setting| setting.key == key).unwrap();
        format!("{} # {}", setting.value_text(), setting.origin)
    };
    assert_eq!(
        shown("worker.users_at_once"),
        "7 # variable TASKSYNC_WORKER__USERS_AT_ONCE"
    );
    assert_eq!(shown("worker.batches_at_once"), "4 # test.toml:4");
    assert_eq!(shown("worker.drain"), "\"50s\" # default");
    assert_eq!(shown("queue.authorities"), "not set # default");
    assert_eq!(
        shown("schedule.url"),
        "\"redis://:***@cache\" # variable TASKSYNC_SCHEDULE__URL"
    );
}

#[test]
fn deadlines_must_nest() {
    let error = read("[worker]\nuser_budget = \"45s\"\n", &[]).unwrap_err();
    assert!(
        error.contains("worker.user_budget must be below worker.batch_budget")
            && error.contains("worker.user_budget = \"45s\" (test.toml:2)")
            && error.contains("worker.batch_budget = \"45s\" (default)"),
        "{error}"
    );
    let error = read("[queue]\nconsumer_timeout = \"165s\"\n", &[]).unwrap_err();
    assert!(error.contains("must be below queue.consumer_timeout"), "{error}");
    assert!(read("[queue]\nconsumer_timeout = \"166s\"\n", &[]).is_ok());
    let error = read("[schedule]\nusers_per_batch = 101\n", &[]).unwrap_err();
    assert!(error.contains("users_per_batch"), "{error}");
}

#[test]
fn authorities_need_a_url_with_tls() {
    for (section, plain, tls) in [
        ("schedule", "redis://cache", "rediss://cache"),
        ("queue", "amqp://broker", "amqps://broker"),
    ] {
        let text = |url: &str| format!("[{section}]\nurl = \"{url}\"\nauthorities = \"/ca.pem\"\n");
        let error = read(&text(plain), &[]).unwrap_err();
        assert!(error.contains("is for TLS"), "{error}");
        assert!(read(&text(tls), &[]).is_ok());
    }
}

#[test]
fn missing_files_and_folders_are_refused_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("key.pem"), "-----BEGIN PRIVATE KEY-----\ngeheim\n").unwrap();
    let text = format!(
        "[registry]\nurl = \"sqlite:{}\"\n[queue]\nurl = \"amqps://broker\"\nauthorities = \"{}\"\n[outbound]\n\
         authorities = \"{}\"\n",
        at("none/registry.sqlite"),
        at("none.pem"),
        at("key.pem")
    );
    let error = read_all(&text, &[])
        .unwrap()
        .check_files()
        .unwrap_err()
        .to_string();
    for expected in [
        "for 3 reasons",
        "test.toml:2: registry.url",
        "create it",
        "test.toml:5: queue.authorities",
        "No such file",
        "test.toml:7: outbound.authorities",
        "PEM",
    ] {
        assert!(error.contains(expected), "{expected}\n{error}");
    }
    assert!(!error.contains("geheim"), "{error}");
    let right = format!("[registry]\nurl = \"sqlite:{}\"\n", at("registry.sqlite"));
    read_all(&right, &[]).unwrap().check_files().unwrap();
}
