//! Support bundles that lack parts.

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
    // Nothing is left beside the archives.
    let beside = std::fs::read_dir(folder.path()).unwrap().filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with(".tasksync-new")
    });
    assert_eq!(beside.count(), 0);
}
