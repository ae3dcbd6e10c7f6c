//! A Python environment with the foreign clients. It is created once in the user's cache folder and shared by all test
//! runs.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;

/// Returns the interpreter of the environment. Creates the environment if it is missing or the pinned versions have
/// changed.
///
/// # Panics
/// If the environment cannot be created. The message names the cause.
pub(crate) fn interpreter() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .expect("neither XDG_CACHE_HOME nor HOME is set");
    let home = cache.join("tasksync/python");
    fs::create_dir_all(&home).unwrap_or_else(|error| panic!("{}: {error}", home.display()));
    let lock = File::create(home.join("lock")).unwrap_or_else(|error| panic!("{}: {error}", home.display()));
    // Held until it is dropped, because test processes run in parallel.
    lock.lock()
        .unwrap_or_else(|error| panic!("the lock of {}: {error}", home.display()));
    // Relative to this file, whichever crate's tests include it.
    let wanted = include_str!("requirements.txt");
    let list = home.join("requirements.txt");
    fs::write(&list, wanted).unwrap_or_else(|error| panic!("{}: {error}", list.display()));
    let environment = home.join("venv");
    let interpreter = environment.join("bin/python");
    let stamp = environment.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) && interpreter.exists() {
        return interpreter;
    }
    if environment.exists() {
        fs::remove_dir_all(&environment).unwrap_or_else(|error| panic!("{}: {error}", environment.display()));
    }
    run(
        Command::new("python3").args(["-m", "venv"]).arg(&environment),
        "python3 with its venv module is needed (package python3-venv)",
    );
    run(
        Command::new(&interpreter)
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
            ])
            .arg(&list),
        "the foreign clients could not be installed; a Python package registry must be reachable",
    );
    fs::write(&stamp, wanted).unwrap_or_else(|error| panic!("{}: {error}", stamp.display()));
    interpreter
}

fn run(command: &mut Command, hint: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{hint}: {error}"));
    assert!(
        output.status.success(),
        "{hint}:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
