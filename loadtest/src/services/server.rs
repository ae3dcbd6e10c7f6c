//! The life cycle that all private servers share.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::process::{Launch, ServerProcess, Signal, send};
use super::{ServiceError, ServiceFolder, net};
use crate::machine_clock::monotonic;

/// How many sets of ports a first start tries, and how often a restart tries its own ports.
const PORT_TRIES: usize = 5;

/// Time limit for a graceful stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Time limit for a stop without saving, before SIGKILL.
const DISCARD_LIMIT: Duration = Duration::from_secs(2);

/// Number of log lines shown with an error.
const LOG_LINES: usize = 25;

/// The differences between the kinds of servers.
pub trait Recipe: Send + Sync {
    /// Name shown to people.
    const NAME: &'static str;
    /// Signal that asks the main process to stop gracefully.
    const STOP: Signal;
    /// Signal that ends it without saving data but frees its system resources. SIGKILL if there are none to free.
    const DISCARD: Signal;
    /// Time limit from the start to the first answer, on a busy machine.
    const START_LIMIT: Duration;

    /// Prepares the data folder before a start, if that was not done yet.
    fn prepare(
        &self,
        home: &Home,
        folder: &Arc<ServiceFolder>,
    ) -> impl Future<Output = Result<(), ServiceError>> + Send;

    /// Returns the processes to start, the main one last.
    #[expect(private_interfaces, reason = "recipes are used in this module only")]
    fn launches(&self, home: &Home, folder: &ServiceFolder) -> Result<Vec<Launch>, ServiceError>;

    /// Checks once whether the main process `pid` answers as it should. Returns an error while it does not.
    fn ready(&self, home: &Home, pid: u32) -> impl Future<Output = Result<(), String>> + Send;

    /// Frees the system resources of a killed server.
    fn killed(&self, _home: &Home) {}
}

/// The folders of one server.
#[derive(Debug, Clone)]
pub struct Home {
    /// The server's own folder.
    pub path: PathBuf,
}

impl Home {
    /// Returns the folder that is deleted when the server is wiped.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Returns the file with the output of all its processes.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }
}

/// A private server.
///
/// All methods take `&self`, so that the server can be killed and started while others use it. Dropping it kills it.
pub struct Server<R: Recipe> {
    recipe: R,
    home: Home,
    processes: Mutex<Vec<ServerProcess>>,
    /// Held by a start, a stop or a wipe, of which only one may run at a time.
    change: tokio::sync::Mutex<()>,
    folder: Arc<ServiceFolder>,
}

impl<R: Recipe> Server<R> {
    /// Starts a server in `folder/name`. If another process has taken one of its ports, tries other ports.
    pub(super) async fn start_new(
        folder: &Arc<ServiceFolder>,
        name: &str,
        recipe: impl Fn() -> Result<R, ServiceError> + Send,
    ) -> Result<Self, ServiceError> {
        let mut tries = 1;
        loop {
            let server = Self::new(folder, name, recipe()?)?;
            match server.restart().await {
                Ok(()) => return Ok(server),
                Err(ServiceError::PortTaken { .. }) if tries < PORT_TRIES => {
                    tries += 1;
                    server.delete_data().await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn new(folder: &Arc<ServiceFolder>, name: &str, recipe: R) -> Result<Self, ServiceError> {
        let home = Home {
            path: folder.path().join(name),
        };
        std::fs::create_dir_all(&home.path).map_err(ServiceError::system(home.path.display().to_string()))?;
        Ok(Self {
            recipe,
            home,
            processes: Mutex::new(Vec::new()),
            change: tokio::sync::Mutex::new(()),
            folder: Arc::clone(folder),
        })
    }

    /// Kills every process of the server at once (SIGKILL). Its data stays.
    pub fn kill(&self) {
        let processes = std::mem::take(&mut *self.processes());
        if processes.is_empty() {
            return;
        }
        drop(processes);
        self.recipe.killed(&self.home);
    }

    /// Stops the server gracefully and waits for its end. Its data stays. Does nothing if it does not run.
    ///
    /// # Errors
    /// If it has to be killed after 30 seconds.
    pub async fn stop(&self) -> Result<(), ServiceError> {
        let _alone = self.change.lock().await;
        self.stop_now().await
    }

    async fn stop_now(&self) -> Result<(), ServiceError> {
        let mut processes = std::mem::take(&mut *self.processes());
        let Some(main) = processes.last_mut() else {
            return Ok(());
        };
        // A paused server cannot handle the signal.
        send(Signal::Continue, &main.tree());
        main.send(R::STOP);
        let ended = main.wait(STOP_LIMIT).await.is_some();
        drop(processes);
        if ended {
            return Ok(());
        }
        self.recipe.killed(&self.home);
        Err(self.failed(format!("did not end within {} s", STOP_LIMIT.as_secs())))
    }

    /// Starts the server on the same ports with the same data and waits until it answers. A running server is stopped
    /// first.
    ///
    /// # Errors
    /// Reports why it does not start, with the last lines of its log.
    pub async fn restart(&self) -> Result<(), ServiceError> {
        let _alone = self.change.lock().await;
        self.stop_now().await?;
        self.start_now().await
    }

    /// Kills the server, deletes all its data and starts it empty on the same ports.
    ///
    /// # Errors
    /// Names what could not be deleted, or reports why it does not start.
    pub async fn wipe(&self) -> Result<(), ServiceError> {
        let _alone = self.change.lock().await;
        self.kill();
        self.delete_data().await?;
        self.start_now().await
    }

    /// Freezes every process of the server (SIGSTOP). Connections stay open, and nothing answers.
    pub fn pause(&self) {
        for process in self.processes().iter() {
            process.send(Signal::Stop);
            send(Signal::Stop, &process.tree());
        }
    }

    /// Resumes the server after [`Server::pause`].
    pub fn resume(&self) {
        for process in self.processes().iter() {
            send(Signal::Continue, &process.tree());
        }
    }

    /// Returns the process id of the main process while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        let mut processes = self.processes();
        let main = processes.last_mut()?;
        main.status().is_none().then(|| main.pid())
    }

    /// Returns the ids of all processes of this server (PostgreSQL has one per connection).
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        self.processes().iter().flat_map(ServerProcess::tree).collect()
    }

    /// Returns the last lines of the server's log.
    #[must_use]
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log_from(0), lines)
    }

    /// Returns the server's own folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.home.path
    }

    pub(super) fn folder(&self) -> &ServiceFolder {
        &self.folder
    }

    pub(super) fn recipe(&self) -> &R {
        &self.recipe
    }

    async fn start_now(&self) -> Result<(), ServiceError> {
        let mut tries = 1;
        loop {
            match self.launch().await {
                // The last client's connection may still occupy the port, or another start was faster. Try again.
                Err(ServiceError::PortTaken { .. }) if tries < PORT_TRIES => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                result => return result,
            }
        }
    }

    async fn launch(&self) -> Result<(), ServiceError> {
        let log_start = std::fs::metadata(self.home.log()).map_or(0, |data| data.len());
        self.recipe.prepare(&self.home, &self.folder).await?;
        let deadline = monotonic() + R::START_LIMIT;
        let mut processes = Vec::new();
        for launch in self.recipe.launches(&self.home, &self.folder)? {
            let mut process = ServerProcess::start(&self.folder, &launch)?;
            while let Some(port) = launch.listens {
                if net::is_open(port).await {
                    break;
                }
                self.still_starting(&mut process, deadline, log_start, "its port does not open")?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            processes.push(process);
        }
        if let Some(main) = processes.last_mut() {
            while let Err(problem) = self.recipe.ready(&self.home, main.pid()).await {
                self.still_starting(main, deadline, log_start, &problem)?;
                tokio::time::sleep(Duration::from_millis(25)).await;
            }
        }
        *self.processes() = processes;
        Ok(())
    }

    fn still_starting(
        &self,
        process: &mut ServerProcess,
        deadline: Instant,
        log_start: u64,
        problem: &str,
    ) -> Result<(), ServiceError> {
        if let Some(status) = process.status() {
            let log = self.log_from(log_start);
            if port_taken(&log) {
                return Err(ServiceError::PortTaken {
                    service: R::NAME.to_owned(),
                    log: tail(&log, LOG_LINES),
                });
            }
            return Err(self.failed(format!("ended at start with {status}")));
        }
        if monotonic() > deadline {
            return Err(self.failed(format!(
                "does not answer after {} s: {problem}",
                R::START_LIMIT.as_secs()
            )));
        }
        Ok(())
    }

    async fn delete_data(&self) -> Result<(), ServiceError> {
        let data = self.home.data();
        match tokio::fs::remove_dir_all(&data).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(ServiceError::System {
                what: data.display().to_string(),
                source: error,
            }),
            _ => Ok(()),
        }
    }

    fn processes(&self) -> MutexGuard<'_, Vec<ServerProcess>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, problem: String) -> ServiceError {
        ServiceError::Failed {
            service: R::NAME.to_owned(),
            problem,
            log: self.log_tail(LOG_LINES),
        }
    }

    fn log_from(&self, start: u64) -> String {
        let bytes = std::fs::read(self.home.log()).unwrap_or_default();
        let start = usize::try_from(start).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
    }
}

impl<R: Recipe> Drop for Server<R> {
    fn drop(&mut self) {
        if R::DISCARD != Signal::Kill
            && let Some(main) = self.processes().last_mut()
        {
            send(Signal::Continue, &main.tree());
            main.send(R::DISCARD);
            main.wait_blocking(DISCARD_LIMIT);
        }
        self.kill();
    }
}

impl<R: Recipe> std::fmt::Debug for Server<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct(R::NAME)
            .field("pid", &self.pid())
            .field("home", &self.home.path)
            .finish_non_exhaustive()
    }
}

/// Returns whether a log reports that a port was taken, in the words of the system, of Erlang or of `epmd`'s clients.
fn port_taken(log: &str) -> bool {
    let log = log.to_ascii_lowercase();
    ["address already in use", "eaddrinuse", "address in use"]
        .iter()
        .any(|words| log.contains(words))
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..)
        .unwrap_or_default()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::redis::RedisRecipe;
    use crate::services::{Persistence, Redis};

    #[test]
    fn servers_say_in_their_own_words_that_a_port_is_taken() {
        assert!(port_taken(
            "Could not create server TCP listening socket 127.0.0.1:6379: bind: Address already in use"
        ));
        assert!(port_taken(
            "{listen_error,{acceptor,{127,0,0,1},5672},eaddrinuse}"
        ));
        assert!(!port_taken("Ready to accept connections"));
    }

    #[tokio::test]
    async fn another_port_is_used_if_the_first_one_is_taken() {
        let binaries = crate::services::Binaries::default();
        if binaries.redis_server().is_err() {
            println!("skipped: Redis is not installed; run make test");
            return;
        }
        let folder = Arc::new(ServiceFolder::new(None, binaries).unwrap());
        let first = Redis::start(&folder, Persistence::None).await.unwrap();
        let ports = Mutex::new(vec![crate::services::ports::free_port().unwrap(), first.port()]);
        let second = Redis::start_new(&folder, "second", || {
            Ok(RedisRecipe::new(
                ports.lock().unwrap().pop().unwrap(),
                None,
                Persistence::None,
            ))
        })
        .await
        .unwrap();
        assert_ne!(second.port(), first.port());
        assert!(ports.lock().unwrap().is_empty());
    }

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("", 2), "");
    }
}
