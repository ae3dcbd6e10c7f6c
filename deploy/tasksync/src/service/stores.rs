//! Opens the stores that the settings name. If a shared store does not answer, the process waits for it.

use std::sync::Arc;
use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::fleet::Fleet;
use tasksync_common::health::Health;
use tasksync_common::queue::{JobQueue, QueueName, open_queue};
use tasksync_common::registry::{Company, Occupancy, Registry, occupy, open_registry};
use tasksync_common::schedule::{Schedule, open_schedule, rebuild};
use tasksync_common::seam::{Hook, Intercept, Measure};
use tasksync_scheduler::Stores;
use tokio_util::sync::CancellationToken;

use super::combination::embedded;
use super::{Process, Role};
use crate::exit::Stop;

/// Timeout of one attempt.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Timeout of one attempt at the registry. It is longer because opening migrates the tables, which has its own limit
/// of 10 minutes.
const REGISTRY_ATTEMPT: Duration = Duration::from_secs(12 * 60);
/// First and longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Reports all stores of the role as missing, so that no probe finds the process ready before it has reached them.
pub(super) fn announce(role: Role, health: &Health) {
    let mut needs = vec![
        ("registry", Code::RegistryUnavailable),
        ("schedule", Code::ScheduleUnavailable),
        ("queue", Code::QueueUnavailable),
    ];
    if role.works() {
        needs.push(("consumer", Code::QueueUnavailable));
    }
    for (what, code) in needs {
        health.tell(
            what,
            Err(Failure::new(ErrorClass::Transient, code, "not asked yet")),
        );
    }
}

/// Takes the place on the registry, opens all three stores concurrently and calls each once. Rebuilds a schedule in
/// memory. Returns `None` if the process was stopped before the stores were open.
///
/// # Errors
/// A setting is wrong, or an embedded store cannot be used.
pub(super) async fn open(
    process: &Process,
    company: Company,
    fleet: &Arc<dyn Fleet>,
) -> Result<Option<(Stores, Option<Occupancy>)>, Stop> {
    let settings = &process.settings;
    let waiting = |what, code, url: &str| Waiting {
        what,
        code,
        limit: ATTEMPT,
        patient: !embedded(url),
        health: &process.health,
        stop: process.lifecycle.soft(),
    };
    let wait_registry = Waiting {
        limit: REGISTRY_ATTEMPT,
        ..waiting("registry", Code::RegistryUnavailable, &settings.registry.url)
    };
    let registry = wait_registry.until_there(async || {
        let occupancy = occupy(&settings.registry, company).await?;
        let registry = open_registry(&settings.registry).await?;
        registry.check_writable().await?;
        Ok((registry, occupancy))
    });
    let schedule = waiting("schedule", Code::ScheduleUnavailable, &settings.schedule.url);
    let schedule = schedule.until_there(async || {
        let schedule = open_schedule(&settings.schedule, Arc::clone(&process.clock)).await?;
        schedule.check_writable().await?;
        Ok(schedule)
    });
    let queue = waiting("queue", Code::QueueUnavailable, &settings.queue.url);
    let queue = queue.until_there(async || {
        let queue = open_queue(&settings.queue, settings.schedule.claim_lifetime).await?;
        queue.depth(QueueName::Background).await?;
        Ok(queue)
    });
    let (Some((registry, occupancy)), Some(schedule), Some(queue)) =
        tokio::try_join!(registry, schedule, queue)?
    else {
        return Ok(None);
    };
    let minimum = settings.schedule.minimum_time_between_user_syncs;
    let measure: Arc<dyn Hook> = Arc::new(Measure);
    let registry: Arc<dyn Registry> = Arc::new(Intercept::new(registry, Arc::clone(&measure)));
    let schedule: Arc<dyn Schedule> = Arc::new(Intercept::new(schedule, Arc::clone(&measure)));
    let queue: Arc<dyn JobQueue> = Arc::new(Intercept::new(queue, measure));
    if embedded(&settings.schedule.url) {
        let rebuilt = wait_registry
            .until_there(async || rebuild::rebuild(&*registry, &*schedule, minimum).await)
            .await?;
        let Some(rebuilt) = rebuilt else {
            return Ok(None);
        };
        tracing::info!(
            tenants = rebuilt.tenants,
            users = rebuilt.added,
            "the schedule was rebuilt from the registry"
        );
    }
    let stores = Stores {
        schedule,
        queue,
        registry,
        fleet: Arc::clone(fleet),
        clock: Arc::clone(&process.clock),
    };
    Ok(Some((stores, occupancy)))
}

/// How to wait for one store.
struct Waiting<'a> {
    what: &'static str,
    /// The code to report when there is no answer in time.
    code: Code,
    /// Timeout of one attempt.
    limit: Duration,
    /// True to retry: a shared store may come later, an embedded one never does.
    patient: bool,
    health: &'a Health,
    stop: &'a CancellationToken,
}

impl Waiting<'_> {
    /// Repeats the attempt with growing pauses until it succeeds. Returns `None` if the process is stopped.
    async fn until_there<T>(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<Option<T>, Stop> {
        let mut said: Option<Failure> = None;
        let mut wait = FIRST_PAUSE;
        loop {
            let tried = tokio::time::timeout(self.limit, attempt());
            let Some(tried) = self.stop.run_until_cancelled(tried).await else {
                return Ok(None);
            };
            let failure = match tried {
                Ok(Ok(there)) => {
                    if said.is_some() {
                        tracing::info!(store = self.what, "the store answers now");
                    }
                    self.health.tell(self.what, Ok(()));
                    return Ok(Some(there));
                }
                Ok(Err(failure)) if self.patient && may_pass(failure.class) => failure,
                Ok(Err(failure)) => return Err(start(&failure)),
                Err(_) => self.failure(&format!("no answer within {} s", self.limit.as_secs())),
            };
            if said.as_ref() != Some(&failure) {
                tracing::warn!(store = self.what, %failure, action = failure.code.action(), "cannot start yet, retrying");
            }
            self.health.tell(self.what, Err(failure.clone()));
            said = Some(failure);
            if self
                .stop
                .run_until_cancelled(tokio::time::sleep(wait))
                .await
                .is_none()
            {
                return Ok(None);
            }
            wait = (wait * 2).min(LONGEST_PAUSE);
        }
    }

    fn failure(&self, detail: &str) -> Failure {
        Failure::new(ErrorClass::Transient, self.code, detail)
    }
}

/// Returns true if a failure to open a store may pass without a change of settings.
fn may_pass(class: ErrorClass) -> bool {
    match class {
        ErrorClass::Transient
        | ErrorClass::Throttled { .. }
        | ErrorClass::Conflict
        | ErrorClass::Gone
        | ErrorClass::CursorInvalid
        | ErrorClass::OutcomeUnknown => true,
        ErrorClass::Refused => false,
    }
}

fn start(failure: &Failure) -> Stop {
    Stop::settings(format!(
        "cannot start: {failure}. What to do: {}",
        failure.code.action()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting<'a>(patient: bool, health: &'a Health, stop: &'a CancellationToken) -> Waiting<'a> {
        Waiting {
            what: "registry",
            code: Code::RegistryUnavailable,
            limit: ATTEMPT,
            patient,
            health,
            stop,
        }
    }

    fn refused() -> Failure {
        Failure::new(
            ErrorClass::Transient,
            Code::RegistryUnavailable,
            "db:5432 refuses connections",
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_shared_store_that_comes_later_is_waited_for_and_named_meanwhile() {
        let stop = CancellationToken::new();
        let health = Health::new(stop.clone());
        let mut tries = 0;
        let opened = waiting(true, &health, &stop)
            .until_there(async || {
                if tries > 0 {
                    assert_eq!(health.missing().await[0].why, Some(refused()));
                }
                tries += 1;
                if tries < 12 { Err(refused()) } else { Ok(tries) }
            })
            .await;
        assert_eq!(opened, Ok(Some(12)));
        assert_eq!(health.missing().await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_answers_is_missing_until_the_process_is_stopped() {
        let stop = CancellationToken::new();
        let health = Health::new(CancellationToken::new());
        let told = async {
            tokio::time::sleep(ATTEMPT * 20).await;
            let missing = health.missing().await;
            assert!(
                missing[0].why.as_ref().unwrap().detail.contains("30 s"),
                "{missing:?}"
            );
            stop.cancel();
        };
        let waiting = waiting(true, &health, &stop);
        let (opened, ()) = tokio::join!(
            waiting.until_there(async || std::future::pending::<Result<(), _>>().await),
            told
        );
        assert_eq!(opened, Ok(None));
    }

    #[tokio::test]
    async fn wrong_settings_and_embedded_stores_end_at_once() {
        let stop = CancellationToken::new();
        let health = Health::new(stop.clone());
        let wrong = Failure::new(
            ErrorClass::Refused,
            Code::SettingsWrong,
            "registry.url has a wrong password",
        );
        for (patient, failure) in [(true, wrong), (false, refused())] {
            let mut tries = 0;
            let ended = waiting(patient, &health, &stop)
                .until_there(async || {
                    tries += 1;
                    Err::<(), _>(failure.clone())
                })
                .await;
            let Err(Stop::Settings(text)) = ended else {
                panic!("{ended:?}")
            };
            assert!(text.contains(&failure.detail) && tries == 1, "{text}");
        }
    }
}
