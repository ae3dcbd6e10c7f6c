//! Counts events by client for a log line once a minute, so that a flood of events does not become a flood of lines.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::address::ClientNetwork;

/// Most clients that are counted by themselves between two lines.
const CLIENTS: usize = 1_024;
/// Most clients that one line names.
const NAMED: usize = 5;

/// What happened since the last line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TallyReport {
    /// Number of events.
    pub(super) events: u64,
    /// The clients with the most events and their numbers, such as `192.0.2.1: 300, 192.0.2.2: 4 and 7 others`.
    pub(super) clients: String,
}

/// Events by client since the last report.
#[derive(Debug, Default)]
pub(super) struct ClientTally {
    counts: HashMap<ClientNetwork, u64>,
    /// Events of clients beyond [`CLIENTS`].
    of_others: u64,
    /// Whether a report follows at the end of the present minute.
    reporting: bool,
}

impl ClientTally {
    /// Counts an event. Returns true if no report is to follow yet, so that the caller reports at once and begins a
    /// minute.
    pub(super) fn count(&mut self, client: ClientNetwork) -> bool {
        if self.counts.len() < CLIENTS || self.counts.contains_key(&client) {
            *self.counts.entry(client).or_default() += 1;
        } else {
            self.of_others += 1;
        }
        !std::mem::replace(&mut self.reporting, true)
    }

    /// Returns what happened since the last report and begins a new one. Returns `None` after a minute without an
    /// event; then the next event is reported at once.
    pub(super) fn take_report(&mut self) -> Option<TallyReport> {
        let counts = std::mem::take(&mut self.counts);
        let of_others = std::mem::take(&mut self.of_others);
        if counts.is_empty() {
            self.reporting = false;
            return None;
        }
        let events = counts.values().sum::<u64>() + of_others;
        let mut ordered: Vec<(ClientNetwork, u64)> = counts.into_iter().collect();
        ordered.sort_unstable_by(|(a, more), (b, less)| less.cmp(more).then(a.cmp(b)));
        let unnamed = ordered.len().saturating_sub(NAMED);
        let named: Vec<String> = ordered
            .iter()
            .take(NAMED)
            .map(|(client, count)| format!("{client}: {count}"))
            .collect();
        let mut clients = named.join(", ");
        if of_others > 0 {
            let _ = write!(clients, " and more than {unnamed} others");
        } else if unnamed > 0 {
            let _ = write!(clients, " and {unnamed} others");
        }
        Some(TallyReport { events, clients })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> ClientNetwork {
        ClientNetwork::of(std::net::Ipv4Addr::from_bits(0xc000_0200 + number).into())
    }

    #[test]
    fn the_first_event_is_reported_at_once_and_the_others_together() {
        let mut tally = ClientTally::default();
        assert!(tally.count(client(1)));
        assert_eq!(tally.take_report().unwrap().clients, "192.0.2.1: 1");
        for _ in 0..299 {
            assert!(!tally.count(client(1)));
        }
        assert!(!tally.count(client(2)));
        let report = tally.take_report().unwrap();
        assert_eq!(
            (report.events, report.clients.as_str()),
            (300, "192.0.2.1: 299, 192.0.2.2: 1")
        );
        assert_eq!(tally.take_report(), None);
        assert!(tally.count(client(1)));
    }

    #[test]
    fn a_report_names_few_clients_and_the_table_has_a_limit() {
        let mut tally = ClientTally::default();
        for number in 0..7 {
            tally.count(client(number));
        }
        assert!(
            tally
                .take_report()
                .unwrap()
                .clients
                .ends_with("192.0.2.4: 1 and 2 others")
        );
        for number in 0..5_000 {
            tally.count(client(number));
        }
        assert_eq!(tally.counts.len(), CLIENTS);
        let report = tally.take_report().unwrap();
        assert_eq!(report.events, 5_000);
        assert!(
            report.clients.ends_with(" and more than 1019 others"),
            "{}",
            report.clients
        );
    }
}
