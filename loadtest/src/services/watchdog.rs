//! A separate shell process that cleans up when this program ends in any way: processes and files do not outlive the
//! program.

use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::process::Signal;

/// The shell script of the watchdog. It reads from its standard input which processes live. When that closes, because
/// the owner ended in whatever way, the script ends these processes and all their descendants, and removes the folder
/// if there is one. It has its own process group and ignores the signals that a terminal sends.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP QUIT
folder=$1 living=
while read -r verb pid signal; do
    case $verb in
        add) living="$living $pid:$signal" ;;
        ended)
            rest=
            for one in $living; do [ "${one%%:*}" = "$pid" ] || rest="$rest $one"; done
            living=$rest ;;
    esac
done
descendants() {
    for child in $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        echo "$child"
        descendants "$child"
    done
}
lives() { # zombies do not count
    read -r _ _ state _ 2>/dev/null </proc/"$1"/stat && [ "$state" != Z ]
}
# Some servers clean up system resources at once when asked.
asked=
for one in $living; do
    [ "${one##*:}" = KILL ] && continue
    kill -s "${one##*:}" "${one%%:*}" 2>/dev/null && kill -s CONT "${one%%:*}" 2>/dev/null
    asked="$asked ${one%%:*}"
done
rounds=0
while [ -n "$asked" ] && [ $rounds -lt 20 ]; do
    rest=
    for pid in $asked; do lives "$pid" && rest="$rest $pid"; done
    asked=$rest rounds=$((rounds + 1))
    [ -z "$asked" ] || sleep 0.1
done
for one in $living; do
    pid=${one%%:*}
    kill -s STOP "$pid" 2>/dev/null
    kill -s KILL $(descendants "$pid") "$pid" 2>/dev/null
    kill -s KILL -- "-$pid" 2>/dev/null
done
rounds=0
while [ -n "$folder" ] && [ -e "$folder" ] && [ $rounds -lt 50 ]; do
    rm -rf -- "$folder" 2>/dev/null || sleep 0.1
    rounds=$((rounds + 1))
done
"#;

/// A watchdog process. Dropping this value makes it clean up, and waits for that.
#[derive(Debug)]
pub(crate) struct Watchdog(Mutex<Option<(Child, ChildStdin)>>);

impl Watchdog {
    /// Starts a watchdog. It also removes `folder`, if given.
    ///
    /// # Errors
    /// The operating system's error.
    pub(super) fn new(folder: Option<&Path>) -> io::Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", WATCHDOG, "tasksync-services-watchdog"])
            .args(folder)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()?;
        let stdin = child.stdin.take();
        Ok(Self(Mutex::new(stdin.map(|stdin| (child, stdin)))))
    }

    /// Returns the watchdog of this program, for processes that have no folder of servers. It is never dropped, and
    /// cleans up when the program has ended.
    ///
    /// # Errors
    /// The operating system's error if it could not be started.
    pub(crate) fn of_this_program() -> Result<&'static Self, String> {
        static OWN: OnceLock<Result<Watchdog, String>> = OnceLock::new();
        OWN.get_or_init(|| Self::new(None).map_err(|error| format!("no watchdog: sh: {error}")))
            .as_ref()
            .map_err(Clone::clone)
    }

    /// Registers `pid`. When the owner is gone, the watchdog sends `signal` first, and KILL at the end.
    ///
    /// # Errors
    /// If the watchdog itself is gone.
    pub(crate) fn guard(&self, pid: u32, signal: Signal) -> io::Result<()> {
        self.send_line(&format!("add {pid} {}\n", signal.name()))
    }

    /// Unregisters `pid`, which has ended: another process may get its number.
    pub(crate) fn ended(&self, pid: u32) {
        self.send_line(&format!("ended {pid}\n")).ok();
    }

    fn send_line(&self, line: &str) -> io::Result<()> {
        let mut process = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match process.as_mut() {
            Some((_, stdin)) => stdin.write_all(line.as_bytes()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        let process = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut child, stdin)) = process {
            drop(stdin);
            child.wait().ok();
        }
    }
}
