//! A registry that is full, damaged, or has states that cannot be read.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use tasksync_loadtest::trial::{Ledger, Service};

use crate::rig::{
    PATIENCE, People, ask, assert_no_writes, farm, run, service, start_as, tasksync, wait_until_settled,
};

use tasksync_common::clock::monotonic;

async fn open(folder: &Path) -> SqliteConnection {
    let file = SqliteConnectOptions::new().filename(folder.join("registry.sqlite"));
    SqliteConnection::connect_with(&file).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn states_that_cannot_be_read_are_reported_and_double_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(9, 1, 4, 5.0).await;
    let service = service(folder.path(), &farm, "").await;
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    let before = farm.exchange.stats.snapshot().writes;
    service.kill().await;
    let mut registry = open(folder.path()).await;
    let changed = sqlx::query("UPDATE sync_states SET state = $1, fingerprint = $1")
        .bind(&b"\xc1 no state at all"[..])
        .execute(&mut registry)
        .await
        .unwrap();
    assert_eq!(changed.rows_affected(), 4);
    registry.close().await.unwrap();
    service.restart().await.unwrap();
    let started = monotonic();
    while service.log_tail(10_000).matches("state-unreadable").count() < 4 {
        assert!(started.elapsed() < PATIENCE, "{}", service.log_tail(20));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    assert_no_writes(&farm).await;
    assert_eq!(
        farm.exchange.stats.snapshot().writes,
        before,
        "the copies were found again, none was written"
    );
    farm.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_or_foreign_file_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(10, 1, 2, 2.0).await;
    let service = service(folder.path(), &farm, "").await;
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    assert_eq!(service.terminate().await, Ok(Some(0)));
    let file = folder.path().join("registry.sqlite");
    // Writes everything into the one file, so that damaging it damages everything.
    let mut registry = open(folder.path()).await;
    sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .execute(&mut registry)
        .await
        .unwrap();
    registry.close().await.unwrap();
    let good = std::fs::read(&file).unwrap();
    let mut torn = good.clone();
    // The header stays, and everything after it is overwritten.
    for byte in torn.iter_mut().skip(100) {
        *byte ^= 0x5a;
    }
    for (bytes, expected) in [
        (b"This is a letter.".repeat(100), "not an SQLite database"),
        (torn, "damaged"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        for more in ["registry.sqlite-wal", "registry.sqlite-shm"] {
            std::fs::remove_file(folder.path().join(more)).ok();
        }
        let ended = run(tasksync()
            .args(["standalone", "--config"])
            .arg(folder.path().join("settings.toml"))
            .env("TASKSYNC_TOKEN", service.token()));
        assert_eq!(ended.code, 2, "{ended:?}");
        let line = ended
            .err
            .lines()
            .find(|line| line.starts_with("tasksync: "))
            .unwrap_or_default();
        assert!(
            line.contains("registry.sqlite")
                && line.contains(expected)
                && line.contains("[registry-unavailable]"),
            "{ended:?}"
        );
    }
    // After the backup is restored, everything works.
    std::fs::write(&file, good).unwrap();
    service.restart().await.unwrap();
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    farm.stop().await;
}

/// A folder whose disk can be filled: a small file system of its own if that is permitted (root), or else a limit on
/// the size of files that the process writes.
struct Disk {
    folder: tempfile::TempDir,
    is_mounted: bool,
}

const DISK_BYTES: usize = 24 * 1024 * 1024;

impl Disk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "tmpfs"])
            .arg(folder.path());
        let is_mounted = mount.output().is_ok_and(|ended| ended.status.success());
        Self { folder, is_mounted }
    }

    /// Returns a script that runs the executable: at the limit, the process must get an error, as from a full disk,
    /// and not a signal.
    fn executable(&self) -> PathBuf {
        let script = self.folder.path().join("tasksync.sh");
        let text = format!(
            "#!/bin/sh\ntrap '' XFSZ\nexec {} \"$@\"\n",
            env!("CARGO_BIN_EXE_tasksync")
        );
        std::fs::write(&script, text).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        script
    }

    /// Fills the disk. Returns false if that is not possible here.
    fn fill(&self, service: &Service) -> bool {
        if !self.is_mounted {
            return limit_file_size(service, "4096");
        }
        let mut file = std::fs::File::create(self.folder.path().join("filler")).unwrap();
        let chunk = [0_u8; 4_096];
        let written = (0..=DISK_BYTES / chunk.len()).take_while(|_| file.write_all(&chunk).is_ok());
        assert!(
            written.count() <= DISK_BYTES / chunk.len(),
            "more than {DISK_BYTES} bytes fit into the disk"
        );
        true
    }

    fn make_room(&self, service: &Service) {
        if self.is_mounted {
            std::fs::remove_file(self.folder.path().join("filler")).unwrap();
        } else {
            assert!(limit_file_size(service, "unlimited"));
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.is_mounted {
            Command::new("umount")
                .arg("-l")
                .arg(self.folder.path())
                .status()
                .ok();
        }
    }
}

/// Sets the soft limit of the running process, which can be raised again without privileges.
fn limit_file_size(service: &Service, bytes: &str) -> bool {
    let pid = service.process_id().unwrap().to_string();
    let mut prlimit = Command::new("prlimit");
    prlimit.args(["--pid", &pid, &format!("--fsize={bytes}:")]);
    prlimit.output().is_ok_and(|ended| ended.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_reported_and_both_sides_agree_once_there_is_space() {
    let disk = Disk::new();
    let farm = farm(11, 1, 4, 4.0).await;
    let second = Duration::from_secs(1);
    let service = start_as(disk.executable(), disk.folder.path(), &farm, second, "").await;
    service.enrol(&farm).await.unwrap();
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    if !disk.fill(&service) {
        println!("SKIPPED: neither a small file system nor a limit on files is permitted here");
        return;
    }
    let people = People::start(&farm, 11);
    let started = monotonic();
    loop {
        let doctor = ask(&service, &["doctor"]);
        let registry = doctor
            .out
            .lines()
            .find(|line| line.contains("FAILED") && line.contains("registry.sqlite"));
        if let Some(line) = registry {
            let reason = if disk.is_mounted {
                "the disk is full; free disk space"
            } else {
                "the disk reports"
            };
            assert!(line.contains(reason), "{line}");
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{doctor:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // People go on editing while nothing can be saved.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let mut ledger = people.stop();
    disk.make_room(&service);
    wait_until_settled(&farm, &service, &mut ledger).await;
    assert_no_writes(&farm).await;
    assert_eq!(ask(&service, &["alerts"]).out, "No alert is open.\n");
    assert_eq!(service.terminate().await, Ok(Some(0)));
    farm.stop().await;
}
