//! Opens the stores that the settings name. If a shared store does not answer, the process waits for it.

use std::sync::Arc;
use std::time::Duration;

use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::fleet::Fleet;
use tasksync_common::health::Health;
use tasksync_common::queue::{JobQueue, QueueName, open_queue};
use tasksync_common::registry::{Occupancy, Registry, RegistrySharing, occupy, open_registry};
use tasksync_common::schedule::{Schedule, open_schedule, rebuild};
use tasksync_common::seam::{Hook, Intercept, Measure};
use tasksync_scheduler::Stores;
use tokio_util::sync::CancellationToken;

use super::combination::is_embedded;
use super::{RoleProcess, ServiceRole};
use crate::exit::CommandError;

/// Timeout of one attempt.
const ATTEMPT: Duration = Duration::from_secs(30);
/// Timeout of one attempt at the registry. It is longer because opening migrates the tables, which has its own limit
/// of 10 minutes.
const REGISTRY_ATTEMPT: Duration = Duration::from_mins(12);
/// First and longest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Reports all stores of the role as missing, so that no probe finds the process ready before it has reached them.
pub(super) fn announce(role: ServiceRole, health: &Health) {
    let mut needs = vec![
        ("registry", Code::RegistryUnavailable),
        ("schedule", Code::ScheduleUnavailable),
        ("queue", Code::QueueUnavailable),
    ];
    if role.works() {
        needs.push(("consumer", Code::QueueUnavailable));
    }
    for (what, code) in needs {
        health.set(
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
    process: &RoleProcess,
    sharing: RegistrySharing,
    fleet: &Arc<dyn Fleet>,
) -> Result<Option<(Stores, Option<Occupancy>)>, CommandError> {
    let settings = &process.settings;
    let waiting = |what, code, url: &str| StoreWait {
        what,
        code,
        limit: ATTEMPT,
        retries: !is_embedded(url),
        health: &process.health,
        stop: process.lifecycle.soft(),
    };
    let wait_registry = StoreWait {
        limit: REGISTRY_ATTEMPT,
        ..waiting("registry", Code::RegistryUnavailable, &settings.registry.url)
    };
    let registry = wait_registry.wait_until_open(async || {
        let occupancy = occupy(&settings.registry, sharing, &settings.schedule.key_prefix).await?;
        let registry = open_registry(&settings.registry).await?;
        registry.check_writable().await?;
        Ok((registry, occupancy))
    });
    let schedule = waiting("schedule", Code::ScheduleUnavailable, &settings.schedule.url);
    let schedule = schedule.wait_until_open(async || {
        let schedule = open_schedule(&settings.schedule, Arc::clone(&process.clock)).await?;
        schedule.check_writable().await?;
        Ok(schedule)
    });
    let queue = waiting("queue", Code::QueueUnavailable, &settings.queue.url);
    let queue = queue.wait_until_open(async || {
        let queue = open_queue(&settings.queue, settings.schedule.claim_lifetime).await?;
        queue.depth(QueueName::Background).await?;
        Ok(queue)
    });
    let (Some((registry, occupancy)), Some(schedule), Some(queue)) =
        tokio::try_join!(registry, schedule, queue)?
    else {
        return Ok(None);
    };
    refuse_moved(&*registry).await?;
    if !is_embedded(&settings.schedule.url) {
        warn_if_only_the_registry_is_empty(&*registry, &*schedule).await;
    }
    let minimum = settings.schedule.minimum_time_between_user_syncs;
    let measure: Arc<dyn Hook> = Arc::new(Measure);
    let registry: Arc<dyn Registry> = Arc::new(Intercept::new(registry, Arc::clone(&measure)));
    let schedule: Arc<dyn Schedule> = Arc::new(Intercept::new(schedule, Arc::clone(&measure)));
    let queue: Arc<dyn JobQueue> = Arc::new(Intercept::new(queue, measure));
    if is_embedded(&settings.schedule.url) {
        let rebuilt = wait_registry
            .wait_until_open(async || rebuild::rebuild(&*registry, &*schedule, minimum).await)
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

/// Refuses a registry that was given up: the installation goes on in another one.
async fn refuse_moved(registry: &dyn Registry) -> Result<(), CommandError> {
    match registry.moved_away().await {
        Ok(None) => Ok(()),
        Ok(Some(at)) => Err(CommandError::settings(format!(
            "cannot start: the installation moved from this registry to another one at {at} (tasksync export --move). Let \
             registry.url name the new registry. If the file of the move was not imported anywhere, take the move back with \
             `tasksync export --cancel-move`"
        ))),
        Err(failure) => Err(start(&failure)),
    }
}

/// Logs a warning if the registry has no tenant while a shared schedule has: the registry was lost, or the settings
/// name another one than before.
async fn warn_if_only_the_registry_is_empty(registry: &dyn Registry, schedule: &dyn Schedule) {
    // If a store does not answer, the leader finds the same later, when it brings the schedule in step.
    if let Ok(true) = only_the_registry_is_empty(registry, schedule).await {
        tracing::warn!(
            "the registry is empty, but the schedule has users: the registry was lost, or registry.url names another one than \
             before. No user is synced until a backup is restored (tasksync restore FILE)"
        );
    }
}

async fn only_the_registry_is_empty(
    registry: &dyn Registry,
    schedule: &dyn Schedule,
) -> Result<bool, Failure> {
    Ok(registry.tenants(None, 1).await?.is_empty() && !schedule.tenants(None, 1).await?.names.is_empty())
}

/// How to wait for one store.
struct StoreWait<'a> {
    what: &'static str,
    /// The code to report when there is no answer in time.
    code: Code,
    /// Timeout of one attempt.
    limit: Duration,
    /// True to retry: a shared store may come later, an embedded one never does.
    retries: bool,
    health: &'a Health,
    stop: &'a CancellationToken,
}

impl StoreWait<'_> {
    /// Repeats the attempt with growing pauses until it succeeds. Returns `None` if the process is stopped.
    async fn wait_until_open<T>(
        &self,
        mut attempt: impl AsyncFnMut() -> Result<T, Failure>,
    ) -> Result<Option<T>, CommandError> {
        let mut reported: Option<Failure> = None;
        let mut wait = FIRST_PAUSE;
        loop {
            let tried = tokio::time::timeout(self.limit, attempt());
            let Some(tried) = self.stop.run_until_cancelled(tried).await else {
                return Ok(None);
            };
            let failure = match tried {
                Ok(Ok(there)) => {
                    if reported.is_some() {
                        tracing::info!(store = self.what, "the store answers now");
                    }
                    self.health.set(self.what, Ok(()));
                    return Ok(Some(there));
                }
                Ok(Err(failure)) if self.retries && is_temporary(failure.class) => failure,
                Ok(Err(failure)) => return Err(start(&failure)),
                Err(_) => self.failure(&format!("no answer within {} s", self.limit.as_secs())),
            };
            if reported.as_ref() != Some(&failure) {
                tracing::warn!(store = self.what, %failure, action = failure.code.action(), "cannot start yet, retrying");
            }
            self.health.set(self.what, Err(failure.clone()));
            reported = Some(failure);
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
fn is_temporary(class: ErrorClass) -> bool {
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

fn start(failure: &Failure) -> CommandError {
    CommandError::settings(format!(
        "cannot start: {failure}. What to do: {}",
        failure.code.action()
    ))
}

#[cfg(test)]
mod tests {
    use tasksync_common::clock::{Clock as _, SystemClock};
    use tasksync_common::model::UserKey;
    use tasksync_common::registry::SqlRegistry;
    use tasksync_common::registry::topics::*;
    use tasksync_common::schedule::MemorySchedule;
    use tasksync_common::schedule::topics::*;

    use super::*;

    fn waiting<'a>(retries: bool, health: &'a Health, stop: &'a CancellationToken) -> StoreWait<'a> {
        StoreWait {
            what: "registry",
            code: Code::RegistryUnavailable,
            limit: ATTEMPT,
            retries,
            health,
            stop,
        }
    }

    #[tokio::test]
    async fn an_empty_registry_beside_a_filled_schedule_is_noticed_and_no_other_pair() {
        let registry = SqlRegistry::open_sqlite("sqlite::memory:").await.unwrap();
        let schedule = MemorySchedule::new(Arc::new(SystemClock), Duration::from_mins(5));
        let ana = UserKey::new("contoso".parse().unwrap(), "ana".parse().unwrap());
        let tenant =
            crate::tenant_file::parse(include_str!("../../examples/tenant.toml"), "example").unwrap();
        let noticed = async || only_the_registry_is_empty(&registry, &schedule).await.unwrap();
        assert!(!noticed().await, "both are empty");
        schedule.enrol(&ana, SystemClock.now(), None).await.unwrap();
        assert!(noticed().await);
        registry.put_tenant(&tenant).await.unwrap();
        assert!(!noticed().await, "both have a tenant");
        schedule.withdraw(&ana).await.unwrap();
        assert!(!noticed().await, "only the schedule is empty");
    }

    fn refusal_failure() -> Failure {
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
            .wait_until_open(async || {
                if tries > 0 {
                    assert_eq!(health.unmet_requirements().await[0].why, Some(refusal_failure()));
                }
                tries += 1;
                if tries < 12 {
                    Err(refusal_failure())
                } else {
                    Ok(tries)
                }
            })
            .await;
        assert_eq!(opened, Ok(Some(12)));
        assert_eq!(health.unmet_requirements().await, []);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_answers_is_missing_until_the_process_is_stopped() {
        let stop = CancellationToken::new();
        let health = Health::new(CancellationToken::new());
        let check_and_stop = async {
            tokio::time::sleep(ATTEMPT * 20).await;
            let missing = health.unmet_requirements().await;
            assert!(
                missing[0].why.as_ref().unwrap().detail.contains("30 s"),
                "{missing:?}"
            );
            stop.cancel();
        };
        let waiting = waiting(true, &health, &stop);
        let (opened, ()) = tokio::join!(
            waiting.wait_until_open(async || std::future::pending::<Result<(), _>>().await),
            check_and_stop
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
        for (retries, failure) in [(true, wrong), (false, refusal_failure())] {
            let mut tries = 0;
            let ended = waiting(retries, &health, &stop)
                .wait_until_open(async || {
                    tries += 1;
                    Err::<(), _>(failure.clone())
                })
                .await;
            let Err(CommandError::Settings(text)) = ended else {
                panic!("{ended:?}")
            };
            assert!(text.contains(&failure.detail) && tries == 1, "{text}");
        }
    }
}
