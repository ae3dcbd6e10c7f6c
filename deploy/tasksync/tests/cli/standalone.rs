//! Start and end of the standalone service.

use crate::harness::{Running, Standalone, TOKEN, run};

#[test]
fn it_ends_in_order_and_remembers_everything_when_it_starts_again() {
    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start_with_ana(folder.path());
    assert_eq!(service.terminate(), Some(0));
    let service = Standalone::start(folder.path());
    assert_eq!(service.json(&["status"])["summary"]["users"], 1);
    assert_eq!(service.terminate(), Some(0));
}

#[cfg(unix)]
#[test]
fn the_registry_is_private_and_wider_permissions_are_reported_with_the_command_that_mends_them() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = tempfile::tempdir().unwrap();
    let service = Standalone::start(folder.path());
    let file = folder.path().join("registry.sqlite");
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }
    assert_eq!(service.terminate(), Some(0));
    let set = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    set(&file, 0o644);
    let warned = |message: &str| {
        let (process, _) = Running::start(&mut Standalone::start_command(folder.path()), message);
        assert_eq!(process.terminate(), Some(0));
    };
    warned(&format!(
        "the registry holds people's tasks, and other users of this machine may read or change {0} (mode 0644); if that is \
         not intended: chmod 600 {0}",
        file.display()
    ));
    set(&file, 0o600);
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).unwrap();
    set(&token, 0o644);
    let message = format!(
        "other users of this machine may read or change {0} (mode 0644); if that is not intended: chmod o-rwx,g-w {0}",
        token.display()
    );
    let mut command = Standalone::start_command(folder.path());
    command
        .env_remove("TASKSYNC_TOKEN")
        .env("TASKSYNC_TOKEN_FILE", &token);
    // Signals are not handled yet when this line is written, so the process is only killed.
    drop(Running::start(&mut command, &message));
}

#[test]
fn after_a_clean_end_the_registry_s_file_alone_is_complete() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [old, new] = [folders[0].path(), folders[1].path()];
    let service = Standalone::start_with_ana(old);
    assert!(std::fs::metadata(old.join("registry.sqlite-wal")).unwrap().len() > 0);
    assert_eq!(service.terminate(), Some(0));
    // SQLite removes the log if its last connection is closed before the process ends.
    let log = std::fs::metadata(old.join("registry.sqlite-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "the log was not written into the file");
    std::fs::copy(old.join("registry.sqlite"), new.join("registry.sqlite")).unwrap();
    let service = Standalone::start(new);
    assert_eq!(service.json(&["status"])["summary"]["users"], 1);
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn a_file_that_was_copied_without_its_log_is_reported() {
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let [old, new] = [folders[0].path(), folders[1].path()];
    let service = Standalone::start(old);
    std::fs::copy(old.join("registry.sqlite"), new.join("registry.sqlite")).unwrap();
    assert_eq!(service.terminate(), Some(0));
    let command = &mut Standalone::start_command(new);
    let line = "the registry file existed and has no tables";
    let (service, line) = Running::start_at(command, |message| message.starts_with(line));
    assert!(
        line["message"].as_str().unwrap().contains("tasksync restore"),
        "{line}"
    );
    drop(service);
}

#[test]
fn a_second_one_on_the_same_registry_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Standalone::start(folder.path());
    let second = run(&mut Standalone::start_command(folder.path()));
    assert_eq!(second.code, 2);
    let last = second.err.lines().last().unwrap();
    assert!(last.contains("runs with this registry already"), "{last}");
}

#[test]
fn what_keeps_it_from_starting_is_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let missing = folder.path().join("missing");
    let registry = format!("sqlite:{}/registry.sqlite", missing.display());
    let address = taken.local_addr().unwrap().to_string();
    for (name, value, expected) in [
        ("TASKSYNC_HEALTH__LISTEN", address.clone(), "health.listen"),
        ("TASKSYNC_API__LISTEN", address, "is in use"),
        (
            "TASKSYNC_WORKER__NONSENSE",
            "1".to_owned(),
            "TASKSYNC_WORKER__NONSENSE",
        ),
        ("TASKSYNC_REGISTRY__URL", registry, "missing/registry.sqlite"),
        (
            "TASKSYNC_SCHEDULE__URL",
            "etcd://127.0.0.1".to_owned(),
            "schedule.url",
        ),
        ("TASKSYNC_TOKEN", "short".to_owned(), "16"),
        ("TASKSYNC_LOG__FILTER", "x=loud".to_owned(), "log.filter"),
    ] {
        let ended = run(Standalone::start_command(folder.path()).env(name, value));
        assert_eq!(ended.code, 2, "{name}: {ended:?}");
        let complaint = ended.err.lines().find(|line| line.starts_with("tasksync: "));
        assert!(
            complaint.is_some_and(|line| line.contains(expected)),
            "{name}: {ended:?}"
        );
    }
}

#[test]
fn the_api_answers_while_load_balancers_learn_that_the_process_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Standalone::start_command(folder.path());
    let service = Standalone::start_by(command.env("TASKSYNC_API__LINGER", "1min"));
    let is_ready = || {
        let mut command = service.command(&["health"]);
        command.env("TASKSYNC_HEALTH__LISTEN", &service.health);
        run(&mut command).code == 0
    };
    while !is_ready() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    service.begin_to_end();
    while is_ready() {
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let shown = service.ask(&["tenant", "list"]);
    assert_eq!(shown.code, 0, "{shown:?}");
    // The second signal ends it at once.
    assert_eq!(service.terminate(), Some(1));
}
