//! Expands the kill plan and the fault windows into a timeline. Pure.

use std::time::Duration;

use super::file::{Kill, Method, TenantGroup, Victim};

/// Largest number of events of a plan.
const MAXIMUM_EVENTS: usize = 10_000;

/// An event of the measured phase.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// A kill; the victim is started again after `down`.
    Hit {
        what: Victim,
        how: Method,
        /// Number of earlier kills of this kind of victim; selects the worker.
        turn: usize,
        down: Duration,
    },
    /// A change in the behaviour of a group's servers. `open` holds the positions of the fault windows that are open.
    Conditions { group: usize, open: Vec<usize> },
}

/// Returns the events in order of time since the beginning of the measured phase. No event begins after its end.
pub(crate) fn timeline(kills: &[Kill], groups: &[TenantGroup], length: Duration) -> Vec<(Duration, Event)> {
    let mut hits: Vec<(Duration, Victim, Method, Duration)> = Vec::new();
    for kill in kills {
        let mut at = kill.at.0;
        let times = match (kill.every, kill.times) {
            (None, _) => 1,
            (Some(_), Some(times)) => usize::try_from(times).unwrap_or(MAXIMUM_EVENTS),
            (Some(_), None) => MAXIMUM_EVENTS,
        };
        for _ in 0..times.min(MAXIMUM_EVENTS) {
            if at >= length {
                break;
            }
            hits.push((at, kill.what, kill.how, kill.down.0));
            at += kill.every.map_or(Duration::ZERO, |every| every.0);
        }
    }
    hits.sort_by_key(|(at, ..)| *at);
    let mut events: Vec<(Duration, Event)> = hits
        .iter()
        .enumerate()
        .map(|(position, (at, what, how, down))| {
            let turn = hits
                .iter()
                .take(position)
                .filter(|(_, other, ..)| other == what)
                .count();
            (
                *at,
                Event::Hit {
                    what: *what,
                    how: *how,
                    turn,
                    down: *down,
                },
            )
        })
        .collect();
    for (group, spec) in groups.iter().enumerate() {
        let mut edges: Vec<Duration> = spec
            .faults
            .iter()
            .flat_map(|fault| [fault.at.0, fault.at.0.saturating_add(fault.lasts.0)])
            .filter(|at| *at < length)
            .collect();
        edges.sort_unstable();
        edges.dedup();
        for at in edges {
            let open = (0..)
                .zip(&spec.faults)
                .filter(|(_, fault)| fault.at.0 <= at && at < fault.at.0.saturating_add(fault.lasts.0))
                .map(|(position, _)| position)
                .collect();
            events.push((at, Event::Conditions { group, open }));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events
}

#[cfg(test)]
mod tests {
    use super::super::Scenario;
    use super::*;

    fn plan(more: &str, length: u64) -> Vec<(u64, Event)> {
        let text = format!(
            "name = \"a\"\nabout = \"b\"\nmode = \"distributed\"\nworkers = 2\n[[tenants]]\nname = \"all\"\nusers = 1\n{more}"
        );
        let scenario = Scenario::parse(&text).unwrap();
        timeline(&scenario.kills, &scenario.tenants, Duration::from_secs(length))
            .into_iter()
            .map(|(at, event)| (at.as_secs(), event))
            .collect()
    }

    fn hit(what: Victim, how: Method, turn: usize, down: u64) -> Event {
        Event::Hit {
            what,
            how,
            turn,
            down: Duration::from_secs(down),
        }
    }

    #[test]
    fn kills_repeat_in_order_and_the_victims_take_turns() {
        let plan = plan(
            "[[kills]]\nwhat = \"worker\"\nat = \"10s\"\nevery = \"20s\"\ntimes = 2\ndown = \"5s\"\n\
             [[kills]]\nwhat = \"leader\"\nhow = \"terminate\"\nat = \"15s\"\n\
             [[kills]]\nwhat = \"worker\"\nhow = \"pause\"\nat = \"20s\"\n",
            60,
        );
        assert_eq!(
            plan,
            [
                (10, hit(Victim::Worker, Method::Kill, 0, 5)),
                (15, hit(Victim::Leader, Method::Terminate, 0, 0)),
                (20, hit(Victim::Worker, Method::Pause, 1, 0)),
                (30, hit(Victim::Worker, Method::Kill, 2, 5)),
            ]
        );
    }

    #[test]
    fn nothing_begins_after_the_end() {
        let kills = "[[kills]]\nwhat = \"redis\"\nhow = \"wipe\"\nat = \"0s\"\nevery = \"10s\"\n";
        assert_eq!(plan(kills, 30).len(), 3);
        assert_eq!(plan(kills, 0), []);
    }

    #[test]
    fn fault_windows_open_and_close() {
        let faults = "[[tenants.faults]]\nserver = \"both\"\nkind = \"down\"\nat = \"5s\"\nlasts = \"10s\"\n\
                      [[tenants.faults]]\nserver = \"exchange\"\nkind = \"slow\"\nat = \"10s\"\nlasts = \"1h\"\n";
        let conditions = |open: &[usize]| Event::Conditions {
            group: 0,
            open: open.to_vec(),
        };
        assert_eq!(
            plan(faults, 60),
            [
                (5, conditions(&[0])),
                (10, conditions(&[0, 1])),
                (15, conditions(&[1]))
            ]
        );
    }
}
