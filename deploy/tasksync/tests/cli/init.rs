//! `tasksync init` by options, and at a terminal.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use rustix::pty::OpenptFlags;
use rustix::termios::{LocalModes, tcgetattr};

use crate::harness::{Ended, Standalone, run, tasksync};

const PASSWORD: &str = "Kanari-init-2c9a17";

fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener
        .local_addr()
        .map(|address: SocketAddr| address.to_string())
        .unwrap()
}

fn init(folder: &Path, more: &[&str]) -> Ended {
    let mut command = tasksync();
    command
        .args(["init", "--folder", folder.to_str().unwrap()])
        .args(more);
    run(command.env("PATH", std::env::var_os("PATH").unwrap()))
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_installation_is_made_and_kept_and_a_change_is_shown_and_needs_a_yes() {
    let outer = tempfile::tempdir().unwrap();
    // Signs that mean something else in the address of a registry.
    let folder = outer.path().join("task%20sync #1?");
    let (listen, health) = (free_address(), free_address());
    let options = ["--listen", &listen, "--health-listen", &health];
    let made = init(&folder, &options);
    assert_eq!(made.code, 0, "{made:?}");
    let (settings, token, secrets) = (
        folder.join("settings.toml"),
        folder.join("token"),
        folder.join("secrets"),
    );
    for path in [&settings, &token, &secrets] {
        assert!(
            made.out.contains(&format!("created    {}", path.display())),
            "{made:?}"
        );
    }
    assert_eq!(
        [&folder, &secrets, &settings, &token].map(|path| mode(path)),
        [0o700, 0o700, 0o600, 0o600]
    );
    assert!(
        made.out.contains("One process leads") && made.out.contains("tasksync standalone --config"),
        "it ends with the doctor and the next steps: {made:?}"
    );
    let (text, secret) = (
        std::fs::read_to_string(&settings).unwrap(),
        std::fs::read_to_string(&token).unwrap(),
    );
    assert!(
        !made.out.contains(secret.trim()) && secret.trim().len() == 64,
        "{made:?}"
    );

    assert!(folder.join("tasksync.sqlite").is_file(), "{text}");

    set_mode(&token, 0o644);
    let again = init(&folder, &options);
    assert!(again.code == 0 && !again.out.contains("created"), "{again:?}");
    let mended = format!(
        "(mode 0644); if that is not intended: chmod 600 '{}'",
        token.display()
    );
    assert!(
        again.err.contains(&mended) && !made.err.contains("chmod"),
        "{again:?}"
    );
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), text);
    assert_eq!(std::fs::read_to_string(&token).unwrap(), secret);

    std::fs::write(&settings, format!("# mine\n{text}\n[log]\nfilter = \"warn\"\n")).unwrap();
    let other = free_address();
    let change = ["--listen", other.as_str()];
    let refused = init(&folder, &change);
    assert!(
        refused.code == 2
            && refused
                .out
                .contains(&format!("~ api.listen: \"{listen}\" -> \"{other}\"")),
        "{refused:?}"
    );
    assert!(refused.err.contains("--yes"), "{refused:?}");
    assert!(std::fs::read_to_string(&settings).unwrap().contains(&listen));
    let changed = init(&folder, &["--listen", &other, "--yes"]);
    assert_eq!(changed.code, 0, "{changed:?}");
    let text = std::fs::read_to_string(&settings).unwrap();
    assert!(
        text.contains(&other) && text.contains("# mine") && text.contains("filter = \"warn\""),
        "{text}"
    );
}

#[test]
fn a_tenant_whose_servers_do_not_answer_is_not_stored_and_its_files_stay() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path();
    let password = folder.join("password.txt");
    std::fs::write(&password, format!("{PASSWORD}\n")).unwrap();
    let (listen, health, nobody) = (free_address(), free_address(), free_address());
    let (site, ews) = (
        format!("https://{nobody}/sites/a"),
        format!("https://{nobody}/EWS/Exchange.asmx"),
    );
    let options = [
        "--listen",
        &listen,
        "--health-listen",
        &health,
        "--allow-network",
        "127.0.0.0/8",
        "--tenant",
        "contoso",
        "--time-zone",
        "Europe/Berlin",
        "--site",
        &site,
        "--ews-url",
        &ews,
        "--account",
        r"contoso\svc",
    ];
    let missing = init(folder, &options);
    assert!(
        missing.code == 2 && missing.err.contains("missing: --password-file"),
        "{missing:?}"
    );
    assert!(!folder.join("settings.toml").exists(), "nothing is written");
    let with_password = [&options[..], &["--password-file", password.to_str().unwrap()]].concat();
    let secret = folder.join("secrets/contoso");
    // The second run keeps the password, whose file is open to others by then.
    for (options, remark) in [(&with_password[..], None), (&options[..], Some("chmod 600 "))] {
        let refused = init(folder, options);
        assert_eq!(refused.code, 1, "{refused:?}");
        for part in ["contoso was not stored", "run the command again"] {
            assert!(refused.err.contains(part), "{part}: {refused:?}");
        }
        assert!(refused.out.contains("exchange-unreachable"), "{refused:?}");
        assert!(!format!("{refused:?}").contains("Kanari"), "{refused:?}");
        let mended = remark.map(|command| format!("{command}{}", secret.display()));
        assert_eq!(
            mended.map(|command| refused.err.contains(&command)),
            remark.map(|_| true),
            "{refused:?}"
        );
        assert_eq!(refused.err.contains("chmod"), remark.is_some(), "{refused:?}");
        set_mode(&secret, 0o640);
    }
    set_mode(&secret, 0o600);
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), PASSWORD);
    let tenant = folder.join("contoso.toml");
    assert_eq!([mode(&secret), mode(&tenant)], [0o600, 0o600]);
    let text = std::fs::read_to_string(&tenant).unwrap();
    assert!(
        text.contains("password = \"file:contoso\"") && !text.contains("Kanari"),
        "{text}"
    );
    // Nothing was left behind.
    let names = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        names
            .into_iter()
            .all(|name| !name.to_string_lossy().starts_with('.'))
    );
}

#[test]
fn a_signal_ends_the_service_that_the_command_started() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path();
    let password = folder.join("password.txt");
    std::fs::write(&password, PASSWORD).unwrap();
    // A server that accepts connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = silent.local_addr().unwrap();
    let (listen, health) = (free_address(), free_address());
    let mut command = tasksync();
    command
        .args(["init", "--folder", folder.to_str().unwrap()])
        .args(["--listen", &listen, "--health-listen", &health])
        .args([
            "--allow-network",
            "127.0.0.0/8",
            "--tenant",
            "contoso",
            "--time-zone",
            "UTC",
        ])
        .args(["--site", &format!("https://{server}/sites/a")])
        .args(["--ews-url", &format!("https://{server}/EWS/Exchange.asmx")])
        .args(["--account", "svc", "--password-file", password.to_str().unwrap()])
        .env("PATH", std::env::var_os("PATH").unwrap())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut process = command.spawn().unwrap();
    // The test of the tenant has begun.
    let _asked = silent.accept().unwrap();
    let id = process.id().to_string();
    assert!(
        std::process::Command::new("kill")
            .args(["-INT", &id])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(process.wait().unwrap().code(), Some(2));
    assert!(
        std::net::TcpStream::connect(&health).is_err(),
        "the service still runs"
    );
    assert!(folder.join("settings.toml").is_file());
}

#[test]
fn a_tenant_with_other_credentials_than_the_questions_describe_is_left_alone() {
    let outer = tempfile::tempdir().unwrap();
    let file = outer.path().join("contoso.toml");
    let text = std::fs::read_to_string(crate::harness::example("tenant.toml")).unwrap();
    std::fs::write(&file, &text).unwrap();
    let password = outer.path().join("password.txt");
    std::fs::write(&password, PASSWORD).unwrap();
    let refused = init(
        outer.path(),
        &[
            "--tenant",
            "contoso",
            "--password-file",
            password.to_str().unwrap(),
            "--yes",
        ],
    );
    assert!(
        refused.code == 2 && refused.err.contains("--tenant-file"),
        "{refused:?}"
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    assert!(!outer.path().join("settings.toml").exists(), "nothing is written");
}

#[test]
fn a_program_that_is_not_this_installation_s_service_is_not_taken_for_it() {
    let outer = tempfile::tempdir().unwrap();
    let folder = outer.path().join("new");
    // Another program, which answers everything with success.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let other_address = other.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in other.incoming() {
            let mut stream = stream.unwrap();
            let head = BufReader::new(&stream).lines().map_while(Result::ok);
            head.take_while(|line| !line.is_empty()).for_each(drop);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
                .ok();
        }
    });
    let refused = init(
        &folder,
        &["--listen", &free_address(), "--health-listen", &other_address],
    );
    let expected = format!("{other_address} (health.listen), but not tasksync");
    assert!(
        refused.code == 2 && refused.err.contains(&expected),
        "{refused:?}"
    );
    assert!(refused.err.contains("--health-listen"), "{refused:?}");

    // The service of another installation, with a token of its own.
    let place = outer.path().join("other");
    std::fs::create_dir(&place).unwrap();
    let service = Standalone::start(&place);
    let (listen, health) = (
        service.url.trim_start_matches("http://"),
        service.health.trim_start_matches("http://"),
    );
    let refused = init(&folder, &["--listen", listen, "--health-listen", health, "--yes"]);
    let token = folder.join("token");
    let secret = std::fs::read_to_string(&token).unwrap();
    assert_eq!(refused.code, 2, "{refused:?}");
    for part in [
        &format!("refuses the token of {}", token.display()),
        "--health-listen",
        "run the command again",
    ] {
        assert!(refused.err.contains(part), "{part}: {refused:?}");
    }
    assert!(!refused.err.contains(secret.trim()), "{refused:?}");
    assert_eq!(service.terminate(), Some(0));
}

#[test]
fn a_signal_at_the_question_for_the_password_gives_the_terminal_its_settings_back() {
    for signal in ["-INT", "-TERM"] {
        let outer = tempfile::tempdir().unwrap();
        let (mut terminal, of_process) = pseudo_terminal();
        let shows_input = || {
            let modes = tcgetattr(&of_process).unwrap().local_modes;
            modes.contains(LocalModes::ECHO)
        };
        assert!(shows_input());
        let mut command = tasksync();
        command
            .args(["init", "--folder", outer.path().to_str().unwrap()])
            .args(["--tenant", "contoso", "--name", "Contoso", "--time-zone", "UTC"])
            .args(["--site", "https://sp.example/sites/a"])
            .args(["--ews-url", "https://mail.example/EWS/Exchange.asmx"])
            .args([
                "--account",
                "svc",
                "--mailbox",
                "a@b.example",
                "--source-login",
                "a",
            ])
            .stdin(of_process.try_clone().unwrap())
            .stdout(of_process.try_clone().unwrap())
            .stderr(of_process.try_clone().unwrap());
        let mut process = command.spawn().unwrap();
        let (mut shown, mut part) = (String::new(), [0; 256]);
        while !shown.contains("Password of svc") {
            let length = terminal.read(&mut part).unwrap();
            shown.push_str(&String::from_utf8_lossy(&part[..length]));
        }
        while shows_input() {
            std::thread::yield_now();
        }
        let id = process.id().to_string();
        let sent = std::process::Command::new("kill").args([signal, &id]).status();
        assert!(sent.unwrap().success());
        assert!(!process.wait().unwrap().success(), "{signal}");
        assert!(shows_input(), "{signal}: the terminal shows no input");
        assert_eq!(std::fs::read_dir(outer.path()).unwrap().count(), 0);
    }
}

/// Returns both ends of a new pseudo-terminal: the person's, and the one for a process.
fn pseudo_terminal() -> (File, File) {
    let person = rustix::pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    rustix::pty::grantpt(&person).unwrap();
    rustix::pty::unlockpt(&person).unwrap();
    let name = rustix::pty::ptsname(&person, Vec::new()).unwrap();
    let process = File::options()
        .read(true)
        .write(true)
        .custom_flags(OpenptFlags::NOCTTY.bits().cast_signed())
        .open(name.to_str().unwrap())
        .unwrap();
    (person.into(), process)
}
