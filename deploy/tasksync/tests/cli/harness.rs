//! Runs the executable.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub(crate) const TOKEN: &str = "0123456789abcdef-token";

/// The executable with a clean environment: nothing of whoever runs the tests reaches it.
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

/// How a command ended.
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

/// A running `tasksync standalone` with its registry in `folder`.
pub(crate) struct Standalone {
    process: Child,
    pub(crate) url: String,
}

impl Standalone {
    /// The command that starts one on a free port, logging as JSON.
    pub(crate) fn command(folder: &Path) -> Command {
        let mut command = tasksync();
        command
            .arg("standalone")
            .env("TASKSYNC_TOKEN", TOKEN)
            .env("TASKSYNC_LOG__FORMAT", "json")
            .env("TASKSYNC_API__LISTEN", "127.0.0.1:0")
            .env(
                "TASKSYNC_REGISTRY__URL",
                format!("sqlite:{}/registry.sqlite", folder.display()),
            );
        command
    }

    pub(crate) fn start(folder: &Path) -> Self {
        let mut process = Self::command(folder).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut seen = String::new();
        let address = loop {
            let Some(line) = lines.next() else {
                process.kill().ok();
                panic!("the service ended: {seen}")
            };
            let line = line.unwrap();
            let fields: Value = serde_json::from_str(&line).unwrap_or_default();
            if fields["message"] == "tasksync runs" {
                break fields["listen"].as_str().unwrap().to_owned();
            }
            seen.push_str(&line);
        };
        // Read on, or the service would stop at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            url: format!("http://{address}"),
        }
    }

    /// A command against this service.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Ended {
        run(tasksync()
            .args(arguments)
            .env("TASKSYNC_URL", &self.url)
            .env("TASKSYNC_TOKEN", TOKEN))
    }

    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let ended = self.ask(&[arguments, &["--json"]].concat());
        serde_json::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
    }

    /// Sends SIGTERM and waits; the exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        let pid = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
        self.process.wait().unwrap().code()
    }
}

impl Drop for Standalone {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
