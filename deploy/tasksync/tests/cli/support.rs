//! Support bundles that lack parts.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::harness::{Ended, Standalone, TOKEN, run, tasksync};

fn contents(bundle: &Path, file: &str) -> String {
    let unpacked = std::process::Command::new("tar")
        .args([
            "-xOzf",
            bundle.to_str().unwrap(),
            "--wildcards",
            &format!("*/{file}"),
        ])
        .output()
        .unwrap();
    String::from_utf8(unpacked.stdout).unwrap()
}

fn bundle(file: &Path, url: &str, health: &str) -> Ended {
    run(tasksync()
        .args(["support-bundle", file.to_str().unwrap()])
        .env("TASKSYNC_URL", url)
        .env("TASKSYNC_TOKEN", TOKEN)
        .env("TASKSYNC_HEALTH__LISTEN", health.trim_start_matches("http://")))
}

#[test]
fn a_bundle_is_private_and_replaces_no_file_and_without_a_service_it_says_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start(folder.path());
    service.wait_until_well();
    let (whole, partial) = (
        folder.path().join("whole.tar.gz"),
        folder.path().join("partial.tar.gz"),
    );
    let (url, health) = (service.url.clone(), service.health.clone());
    let written = bundle(&whole, &url, &health);
    assert!(
        written.code == 0 && written.out.contains("Look through it"),
        "{written:?}"
    );
    let mode = std::fs::metadata(&whole).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(contents(&whole, "metrics.txt").contains("tasksync_leader"));
    assert!(contents(&whole, "doctor.txt").contains("not applicable"));
    let again = bundle(&whole, &url, &health);
    assert!(again.code == 2 && again.err.contains("--overwrite"), "{again:?}");

    assert_eq!(service.terminate(), Some(0));
    let written = bundle(&partial, &url, &health);
    assert!(
        written.code == 1 && written.out.contains("missing: status.json: no service answers"),
        "{written:?}"
    );
    let readme = contents(&partial, "README.txt");
    assert!(
        readme.contains("Missing:") && readme.contains("- metrics.txt: nothing answers"),
        "{readme}"
    );
    assert!(contents(&partial, "settings.txt").contains("registry.url = "));
    assert_eq!(unfinished(folder.path()), 0);
}

/// Returns how many unfinished files are in the folder.
fn unfinished(folder: &Path) -> usize {
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with(".tasksync-new"))
        .count()
}

#[test]
fn a_command_that_a_signal_ends_leaves_no_unfinished_file() {
    let folder = tempfile::tempdir().unwrap();
    // A service that accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    for signal in ["-INT", "-TERM"] {
        let mut process = tasksync()
            .args(["support-bundle", "bundle.tar.gz"])
            .current_dir(folder.path())
            .env("TASKSYNC_URL", &url)
            .env("TASKSYNC_TOKEN", TOKEN)
            .env("TASKSYNC_HEALTH__LISTEN", "127.0.0.1:9")
            .spawn()
            .unwrap();
        let _asked = silent.accept().unwrap();
        assert_eq!(unfinished(folder.path()), 1);
        let id = process.id().to_string();
        let sent = std::process::Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
        assert!(!process.wait().unwrap().success(), "{signal}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "{signal}");
    }
}
