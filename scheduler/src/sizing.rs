//! How many workers an installation needs: the formula of `docs/size.md`.

use tasksync_common::settings::{ScheduleSettings, WorkerSettings};

/// Share of the people whose sync finds a change, on a busy day.
const WORKING: f64 = 0.1;
/// Response time of the tenants' servers, in seconds.
const RESPONSE: f64 = 0.2;
/// Response times for which an idle and a working person take a place.
const IDLE_TIMES: f64 = 2.0;
const WORKING_TIMES: f64 = 8.0;
/// Reserve for uneven load.
const RESERVE: f64 = 2.0;

/// What the figures rest on, as a sentence.
pub(crate) const ASSUMPTIONS: &str = "A tenth of the people has changes, and the tenants' servers answer in 0.2 s; docs/size.md has the formula.";

/// Returns how many workers this number of people needs; at least 1.
pub(crate) fn workers(worker: &WorkerSettings, schedule: &ScheduleSettings, people: u64) -> u64 {
    let places = places(schedule, people);
    let of_one = (worker.batches_at_once * worker.users_at_once).max(1);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an estimate; far below the limits of the types"
    )]
    let workers = (RESERVE * places / of_one as f64).ceil() as u64;
    workers.max(1)
}

fn places(schedule: &ScheduleSettings, people: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let people = people as f64;
    let idle = people * (1.0 - WORKING) / schedule.maximum_time_between_user_syncs.as_secs_f64().max(1.0);
    let working = people * WORKING / schedule.minimum_time_between_user_syncs.as_secs_f64().max(1.0);
    idle * IDLE_TIMES * RESPONSE + working * WORKING_TIMES * RESPONSE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_gives_the_examples_of_the_page() {
        let (worker, schedule) = (WorkerSettings::default(), ScheduleSettings::default());
        for (people, expected) in [(0, 1), (1_000, 1), (10_000, 1), (100_000, 2), (1_000_000, 13)] {
            assert_eq!(workers(&worker, &schedule, people), expected, "{people}");
        }
    }
}
