//! Backups, restores and moves of a registry in a file, by hand.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Ended, Standalone, run, tasksync};

/// Returns a command that works on the registry in the folder itself.
fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = tasksync();
    command.args(arguments).env(
        "TASKSYNC_REGISTRY__URL",
        format!("sqlite:{}/registry.sqlite", folder.display()),
    );
    command
}

fn local(folder: &Path, arguments: &[&str]) -> Ended {
    run(&mut command(folder, arguments))
}

fn json(ended: &Ended) -> Value {
    assert_eq!(ended.code, 0, "{ended:?}");
    serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn installation(service: &Standalone) -> Value {
    service.json(&["installation", "show"])["id"].clone()
}

#[test]
fn a_backup_of_a_running_service_is_restored_whole() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [old, new] = [folders[0].path(), folders[1].path()];
    let service = Standalone::start_with_ana(old);
    let file = old.join("backup.jsonl");
    let name = file.to_str().unwrap();
    let written = json(&local(old, &["backup", name, "--json"]));
    assert_eq!(written["records"]["person"], 1);
    assert_eq!(written["installation"], installation(&service));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(
        text.contains("env:") || text.contains("file:"),
        "secrets are named"
    );

    let again = local(old, &["backup", name]);
    assert!(again.code == 2 && again.err.contains("--overwrite"), "{again:?}");
    assert_eq!(local(old, &["backup", name, "--overwrite"]).code, 0);
    let names: Vec<_> = std::fs::read_dir(old)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        names
            .iter()
            .all(|name| !name.to_string_lossy().starts_with(".tasksync")),
        "{names:?}"
    );

    let checked = local(new, &["restore", "--check", name]);
    assert!(
        checked.code == 0 && checked.out.contains("complete and unchanged"),
        "{checked:?}"
    );
    let undecided = local(new, &["restore", name]);
    assert!(
        undecided.code == 2 && undecided.err.contains("--takes-over") && undecided.err.contains("--as-copy"),
        "{undecided:?}"
    );
    let running = local(old, &["restore", "--replace", name]);
    assert!(
        running.code == 2 && running.err.contains("runs with this registry"),
        "{running:?}"
    );
    let id = installation(&service);
    assert_eq!(service.terminate(), Some(0));

    let restored = local(new, &["restore", "--takes-over", name]);
    assert!(
        restored.code == 0 && restored.out.contains("tenants: 1, people: 1"),
        "{restored:?}"
    );
    let not_empty = local(new, &["restore", "--takes-over", name]);
    assert!(
        not_empty.code == 2 && not_empty.err.contains("1 people"),
        "{not_empty:?}"
    );
    // A backup of the registry itself needs no word about the installation.
    let replaced = local(new, &["restore", "--replace", name]);
    assert!(
        replaced.code == 0 && replaced.out.contains("Removed what was there"),
        "{replaced:?}"
    );
    let service = Standalone::start(new);
    assert_eq!(installation(&service), id);
    assert_eq!(service.json(&["status"])["summary"]["users"], 1);
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn a_damaged_backup_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start_with_ana(folder.path());
    let file = folder.path().join("backup.jsonl");
    let name = file.to_str().unwrap();
    assert_eq!(local(folder.path(), &["backup", name]).code, 0);
    assert_eq!(service.terminate(), Some(0));
    let whole = std::fs::read(&file).unwrap();
    for (damaged, expected) in [
        (whole[..whole.len() / 2].to_vec(), "cut off"),
        ([&whole[..], b"\n"].concat(), "follows its last line"),
        (b"SQLite format 3\0".to_vec(), "tasksync backup"),
    ] {
        std::fs::write(&file, damaged).unwrap();
        let refused = local(folder.path(), &["restore", "--replace", "--takes-over", name]);
        assert!(refused.code == 1 && refused.err.contains(expected), "{refused:?}");
    }
    let service = Standalone::start(folder.path());
    assert_eq!(service.json(&["status"])["summary"]["users"], 1);
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn a_copy_has_an_id_of_its_own_and_its_tenants_are_disabled() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [old, new] = [folders[0].path(), folders[1].path()];
    let service = Standalone::start_with_ana(old);
    // A pipe, as between two machines.
    let mut export = command(old, &["export", "-"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut import = command(new, &["import", "--as-copy", "--json", "-"]);
    import.stdin(export.stdout.take().unwrap());
    let imported = json(&run(&mut import));
    assert!(export.wait().unwrap().success());
    let id = installation(&service);
    assert_eq!(imported["copy_of"], id);
    let copy = Standalone::start(new);
    assert_eq!(installation(&copy), imported["installation"]);
    assert_ne!(installation(&copy), id);
    assert_eq!(copy.json(&["tenant", "show", "contoso"])["enabled"], false);
    assert_eq!(copy.json(&["user", "list", "contoso"])["users"][0]["user"], "ana");
    assert_eq!(service.json(&["tenant", "show", "contoso"])["enabled"], true);
    assert_eq!(copy.terminate(), Some(0));
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn a_registry_that_moved_away_starts_no_service() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [old, new] = [folders[0].path(), folders[1].path()];
    let service = Standalone::start_with_ana(old);
    let file = old.join("move.jsonl");
    let name = file.to_str().unwrap();
    let running = local(old, &["export", "--move", name]);
    assert!(
        running.code == 2 && running.err.contains("runs with this registry"),
        "{running:?}"
    );
    assert_eq!(service.terminate(), Some(0));
    let stream = local(old, &["export", "--move", "-"]);
    assert!(
        stream.code == 2 && stream.err.contains("needs a file"),
        "{stream:?}"
    );
    assert_eq!(local(old, &["export", "--move", name]).code, 0);
    let refused = run(&mut Standalone::start_command(old));
    assert!(
        refused.code == 2 && refused.err.contains("moved from this registry"),
        "{refused:?}"
    );
    // The installation goes on: nothing has to be said about the original.
    assert_eq!(local(new, &["import", name]).code, 0);
    let service = Standalone::start(new);
    assert_eq!(service.json(&["status"])["summary"]["users"], 1);
    assert_eq!(service.terminate(), Some(0));
    let cancelled = local(old, &["export", "--cancel-move"]);
    assert!(
        cancelled.code == 0 && cancelled.out.contains("taken back"),
        "{cancelled:?}"
    );
    assert_eq!(Standalone::start(old).terminate(), Some(0));
}

#[test]
fn a_registry_that_does_not_exist_is_not_created_by_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let ended = local(
        folder.path(),
        &["backup", folder.path().join("x").to_str().unwrap()],
    );
    assert!(
        ended.code == 3 && ended.err.contains("registry.sqlite"),
        "{ended:?}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
