//! Commands that need no running service: JSON, explanations, completions, man pages.

use serde_json::Value;

use crate::harness::{example, run, tasksync};

#[test]
fn local_commands_print_json_too() {
    let folder = tempfile::tempdir().unwrap();
    let man = folder.path().join("man1");
    let settings = example("settings.toml");
    for (arguments, member) in [
        (vec!["docs", "errors"], "markdown"),
        (vec!["docs", "man", man.to_str().unwrap()], "pages"),
        (vec!["explain", "exchange-busy"], "who_acts"),
        (vec!["completions", "bash"], "script"),
        (
            vec!["config", "check", "--skip-files", settings.to_str().unwrap()],
            "warnings",
        ),
        (vec!["health"], "ready"),
        (vec!["health", "--live"], "alive"),
    ] {
        let ended = run(tasksync()
            .args(&arguments)
            .arg("--json")
            .env("TASKSYNC_HEALTH__LISTEN", "127.0.0.1:1"));
        let answer: Value = serde_json::from_str(&ended.out).unwrap_or_default();
        assert!(!answer[member].is_null(), "{arguments:?}: {ended:?}");
    }
    assert!(man.join("tasksync-sync-now.1").is_file());
}

#[test]
fn a_wrong_code_is_wrong_usage_and_names_the_nearest_one() {
    let ended = run(tasksync().args(["explain", "mailbox-takn"]));
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("Did you mean mailbox-taken?"), "{ended:?}");
    let ended = run(tasksync().args(["explain", "mailbox-taken"]));
    assert!(ended.out.contains("Who acts:   the operator"), "{ended:?}");
    let all = run(tasksync().arg("explain"));
    assert!(all.out.lines().count() > 60, "{all:?}");
}
