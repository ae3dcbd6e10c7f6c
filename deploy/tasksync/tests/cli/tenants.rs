//! Tenants that are tested, compared, edited and refused by the commands. The servers of the example do not exist.

use std::io::Write as _;
use std::process::Stdio;

use crate::harness::{Ended, Standalone, TOKEN, example, run, tasksync};

fn example_text() -> String {
    std::fs::read_to_string(example("tenant.toml")).unwrap()
}

/// Runs a command with this text on standard input.
fn ask_with_input(service: &Standalone, arguments: &[&str], input: &str) -> Ended {
    let mut child = tasksync()
        .args(arguments)
        .env("TASKSYNC_URL", &service.url)
        .env("TASKSYNC_TOKEN", TOKEN)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap().into()
}

/// Runs `tenant edit` with a shell command as the editor, in which `$1` is the file.
fn edit(service: &Standalone, editor: &str, arguments: &[&str]) -> Ended {
    run(tasksync()
        .args([&["tenant", "edit", "contoso"], arguments].concat())
        .env("TASKSYNC_URL", &service.url)
        .env("TASKSYNC_TOKEN", TOKEN)
        .env("PATH", "/usr/bin:/bin")
        .env("EDITOR", format!("sh -c '{editor}' sh")))
}

#[test]
fn a_tenant_is_stored_only_after_a_test_that_does_not_fail_or_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start(folder.path());
    let text = example_text();
    for arguments in [
        ["tenant", "add", "-"].as_slice(),
        &["tenant", "add", "--check-only", "-"],
    ] {
        let failed = ask_with_input(&service, arguments, &text);
        assert_eq!(failed.code, 1, "{failed:?}");
        for part in [
            "contoso is new.",
            "FAILED  Every site answers",
            "FAILED  Exchange answers",
        ] {
            assert!(failed.out.contains(part), "{part}: {failed:?}");
        }
        assert!(failed.err.contains("--no-test"), "{failed:?}");
        assert_eq!(service.ask(&["tenant", "show", "contoso"]).code, 1);
    }
    let json = ask_with_input(&service, &["tenant", "add", "-", "--json"], &text);
    let said: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!(
        (&said["result"], &said["test"]["result"]),
        (&"refused".into(), &"failed".into())
    );
    let stored = ask_with_input(
        &service,
        &[
            "tenant",
            "add",
            "--no-test",
            "--test-mailbox",
            "test@contoso.example",
            "-",
        ],
        &text,
    );
    assert_eq!(stored.code, 0, "{stored:?}");
    assert!(
        stored.out.contains("contoso was added. It was not tested."),
        "{stored:?}"
    );
    let shown = service.json(&["tenant", "show", "contoso"]);
    assert_eq!(shown["test"]["mailbox"], "test@contoso.example");
    // Put again, the difference is shown key by key, with names of secrets.
    let changed = text.replace("file:contoso-exchange", "file:contoso-exchange-2");
    let again = ask_with_input(&service, &["tenant", "add", "--no-test", "-"], &changed);
    for part in [
        "contoso changes:",
        "~ mailbox.credentials.password: file:contoso-exchange -> file:contoso-exchange-2",
        "- test.mailbox: test@contoso.example",
        "contoso was updated",
    ] {
        assert!(again.out.contains(part), "{part}: {again:?}");
    }
    let same = ask_with_input(&service, &["tenant", "add", "--no-test", "-"], &changed);
    assert!(same.out.contains("stored in this form already"), "{same:?}");
}

#[test]
fn a_misplaced_secret_and_one_outside_are_refused_without_a_word_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start(folder.path());
    let text = example_text();
    let plain = text.replace("file:contoso-exchange", "hunter2-Correct");
    let refused = ask_with_input(&service, &["tenant", "add", "-"], &plain);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(
        refused.err.contains("mailbox.credentials.password"),
        "{refused:?}"
    );
    assert!(
        !refused.err.contains("hunter2") && !refused.err.contains("Correct"),
        "{refused:?}"
    );
    let outside = text.replace("file:contoso-exchange", "file:/etc/shadow");
    let refused = ask_with_input(&service, &["tenant", "add", "--no-test", "-"], &outside);
    assert_eq!(refused.code, 1, "{refused:?}");
    for part in [
        "[secret-not-allowed]",
        "mailbox.credentials.password",
        "/run/secrets/tenants",
    ] {
        assert!(refused.err.contains(part), "{part}: {refused:?}");
    }
}

#[test]
fn an_edit_is_shown_tested_and_stored_and_a_wrong_one_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start(folder.path());
    let added = ask_with_input(&service, &["tenant", "add", "--no-test", "-"], &example_text());
    assert_eq!(added.code, 0, "{added:?}");
    let unchanged = edit(&service, "true", &[]);
    assert_eq!(
        (unchanged.code, unchanged.out.as_str()),
        (0, "Nothing was changed in contoso.\n")
    );
    let rename = "sed -i s/Ltd/Inc/ \"$1\"";
    let stored = edit(&service, rename, &["--yes", "--no-test"]);
    assert_eq!(stored.code, 0, "{stored:?}");
    assert!(
        stored
            .out
            .contains("~ display_name: Contoso Ltd. -> Contoso Inc."),
        "{stored:?}"
    );
    assert_eq!(
        service.json(&["tenant", "show", "contoso"])["display_name"],
        "Contoso Inc."
    );
    // The text of each refused edit is kept where the message says.
    for (editor, arguments, code, reason) in [
        (
            "echo nonsense >> \"$1\"",
            ["--yes", "--no-test"].as_slice(),
            2,
            "line ",
        ),
        (
            "sed -i s/contoso/fabrikam/ \"$1\"",
            &["--yes", "--no-test"],
            2,
            "an id cannot be changed",
        ),
        ("sed -i s/Inc/Ltd/ \"$1\"", &["--yes"], 1, "a test failed"),
        ("sed -i s/Inc/Ltd/ \"$1\"", &["--no-test"], 2, "--yes"),
        ("exit 3", &["--yes"], 2, "the editor"),
    ] {
        let refused = edit(&service, editor, arguments);
        assert_eq!(refused.code, code, "{refused:?}");
        assert!(refused.err.contains(reason), "{reason}: {refused:?}");
        let (_, kept) = refused.err.split_once("The text is kept in ").unwrap();
        let (path, _) = kept.split_once(';').unwrap();
        assert!(
            std::fs::read_to_string(path).unwrap().contains("display_name"),
            "{path}"
        );
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(
        service.json(&["tenant", "show", "contoso"])["display_name"],
        "Contoso Inc."
    );
}
