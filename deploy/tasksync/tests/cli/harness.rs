//! Runs the executable.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub(crate) const TOKEN: &str = "0123456789abcdef-token";

/// Returns the executable's command with an empty environment, so that the tester's environment does not reach it.
pub(crate) fn tasksync() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tasksync"));
    command.env_clear().stdin(Stdio::null());
    command
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

/// Exit code and output of a command.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

pub(crate) fn run(command: &mut Command) -> Ended {
    command.output().unwrap().into()
}

/// A running role.
pub(crate) struct Running(Child);

impl Running {
    /// Starts a command that logs as JSON, and waits for a line with this message. Also returns that line.
    pub(crate) fn start(command: &mut Command, message: &str) -> (Self, Value) {
        Self::start_at(command, |logged| logged == message)
    }

    /// Does the same with the first line whose message is the expected one.
    pub(crate) fn start_at(command: &mut Command, is_expected: impl Fn(&str) -> bool) -> (Self, Value) {
        let mut process = command
            .env("TASKSYNC_LOG__FORMAT", "json")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        let found = loop {
            let Some(line) = lines.next() else {
                process.kill().ok();
                panic!("the process ended: {seen}")
            };
            let line = line.unwrap();
            let fields: Value = serde_json::from_str(&line).unwrap_or_default();
            if fields["message"].as_str().is_some_and(&is_expected) {
                break fields;
            }
            seen.push_str(&line);
        };
        // Keeps reading, because the process would block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        (Self(process), found)
    }

    /// Sends SIGTERM.
    pub(crate) fn begin_to_end(&self) {
        let pid = self.0.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends SIGTERM and waits. Returns the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        self.begin_to_end();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A running `tasksync standalone` with its registry in `folder`.
pub(crate) struct Standalone {
    process: Running,
    pub(crate) url: String,
    /// Address of its probes.
    pub(crate) health: String,
}

impl Standalone {
    /// Returns the command that starts one on free ports.
    pub(crate) fn start_command(folder: &Path) -> Command {
        let mut command = tasksync();
        command
            .arg("standalone")
            .env("TASKSYNC_TOKEN", TOKEN)
            .env("TASKSYNC_API__LISTEN", "127.0.0.1:0")
            .env("TASKSYNC_HEALTH__LISTEN", "127.0.0.1:0")
            .env(
                "TASKSYNC_REGISTRY__URL",
                format!("sqlite:{}/registry.sqlite", folder.display()),
            );
        command
    }

    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_by(&mut Self::start_command(folder))
    }

    pub(crate) fn start_by(command: &mut Command) -> Self {
        let (process, line) = Running::start(command, "tasksync runs");
        Self {
            process,
            url: format!("http://{}", line["listen"].as_str().unwrap()),
            health: line["health"].as_str().unwrap().to_owned(),
        }
    }

    /// Returns a command against this service.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tasksync();
        command
            .args(arguments)
            .env("TASKSYNC_URL", &self.url)
            .env("TASKSYNC_TOKEN", TOKEN);
        command
    }

    /// Runs a command against this service.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Ended {
        run(&mut self.command(arguments))
    }

    /// Starts one with the tenant `contoso` and its user `ana`.
    pub(crate) fn start_with_ana(folder: &Path) -> Self {
        let service = Self::start(folder);
        let tenant = example("tenant.toml");
        let added = service.ask(&["tenant", "add", "--no-test", tenant.to_str().unwrap()]);
        assert_eq!(added.code, 0, "{added:?}");
        let opted_in = service.opt_in_ana();
        assert_eq!(opted_in.code, 0, "{opted_in:?}");
        service
    }

    /// Waits until a leader is elected and the worker has reported itself.
    pub(crate) fn wait_until_well(&self) {
        while self.ask(&["status"]).code != 0 {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// Opts in the user `ana` of the tenant `contoso`, without querying the servers.
    pub(crate) fn opt_in_ana(&self) -> Ended {
        self.ask(&[
            "user",
            "opt-in",
            "contoso",
            "ana",
            "--source-login",
            "ana",
            "--mailbox",
            "ana@contoso.example",
            "--unchecked",
        ])
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.ask(&[arguments, &["--json"]].concat());
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    /// Sends SIGTERM.
    pub(crate) fn begin_to_end(&self) {
        self.process.begin_to_end();
    }

    /// Sends SIGTERM and waits. Returns the exit code.
    pub(crate) fn terminate(self) -> Option<i32> {
        self.process.terminate()
    }
}
