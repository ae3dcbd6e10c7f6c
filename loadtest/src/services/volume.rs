//! A volume that can be made to look full, without privileges: a small library refuses those writes of a server that
//! would make a file longer.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::ServiceError;

const SOURCE: &str = include_str!("full_volume.c");

/// Builds the library for a server whose files are below `home`. Needs a C compiler, as Rust's linker does.
pub(super) fn make_library(home: &Path) -> Result<(), ServiceError> {
    let (source, library) = (home.join("full_volume.c"), library(home));
    std::fs::write(&source, SOURCE).map_err(ServiceError::system(source.display().to_string()))?;
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1"])
        .arg(format!("-DFLAG=\"{}\"", flag(home).display()))
        .arg("-o")
        .args([&library, &source])
        .arg("-ldl")
        .output()
        .map_err(ServiceError::system("cc"))?;
    if made.status.success() {
        return Ok(());
    }
    Err(ServiceError::Failed {
        service: "a full volume".to_owned(),
        problem: "the library cannot be built".to_owned(),
        log: String::from_utf8_lossy(&made.stderr).into_owned(),
    })
}

/// Returns the path of the library. A server loads it through `LD_PRELOAD`.
pub(super) fn library(home: &Path) -> PathBuf {
    home.join("full_volume.so")
}

/// Makes the server's volume look full from now on, or no longer full.
pub(super) fn set_full(home: &Path, full: bool) -> Result<(), ServiceError> {
    let flag = flag(home);
    let done = if full {
        std::fs::write(&flag, "")
    } else {
        std::fs::remove_file(&flag)
    };
    done.map_err(ServiceError::system(flag.display().to_string()))
}

fn flag(home: &Path) -> PathBuf {
    home.join("full")
}
