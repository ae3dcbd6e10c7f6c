//! Wrong tokens by client: which are answered at once, and which late.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::address::ClientNetwork;

/// Most clients that are remembered.
const CLIENTS: usize = 4_096;
/// Time after which a client may send one more wrong token.
const RECOVERY: Duration = Duration::from_secs(6);
/// Most wrong tokens beyond the allowed ones that are remembered of a client. So an honest client waits at most
/// `RECOVERY` times this number, a minute, until its next wrong token is answered at once.
const REMEMBERED: u32 = 10;

/// How a wrong token is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WrongTokenAnswer {
    /// At once.
    AtOnce,
    /// Late, because the client sent too many.
    Late {
        /// Time until its wrong tokens are answered at once again.
        retry_after: Duration,
    },
}

/// What is remembered of the clients' wrong tokens. A right token is never looked up here.
#[derive(Debug)]
pub(super) struct WrongTokens {
    /// Wrong tokens that a client may send at once.
    allowed: u32,
    /// When everything that a client sent will be forgotten: each wrong token adds [`RECOVERY`].
    forgotten_at: HashMap<ClientNetwork, Instant>,
}

impl WrongTokens {
    pub(super) fn new(allowed: u32) -> Self {
        Self {
            allowed,
            forgotten_at: HashMap::new(),
        }
    }

    /// Notes a wrong token of a client, and returns how to answer it.
    pub(super) fn note(&mut self, client: ClientNetwork, now: Instant) -> WrongTokenAnswer {
        let free = RECOVERY.saturating_mul(self.allowed);
        let longest = free.saturating_add(RECOVERY.saturating_mul(REMEMBERED));
        let known = self.forgotten_at.get(&client).copied();
        if known.is_none() {
            self.make_room(now);
        }
        let remembered = known.map_or(Duration::ZERO, |at| at.saturating_duration_since(now));
        let remembered = remembered.saturating_add(RECOVERY).min(longest);
        self.forgotten_at.insert(client, now + remembered);
        match remembered.checked_sub(free) {
            Some(excess) if !excess.is_zero() => WrongTokenAnswer::Late { retry_after: excess },
            Some(_) | None => WrongTokenAnswer::AtOnce,
        }
    }

    /// Forgets who may be forgotten, and at the limit half of the clients: those with the fewest wrong tokens.
    fn make_room(&mut self, now: Instant) {
        if self.forgotten_at.len() < CLIENTS {
            return;
        }
        self.forgotten_at.retain(|_, at| *at > now);
        if self.forgotten_at.len() >= CLIENTS {
            let mut clients: Vec<_> = self.forgotten_at.drain().collect();
            clients.sort_unstable_by_key(|(_, at)| *at);
            self.forgotten_at.extend(clients.into_iter().skip(CLIENTS / 2));
        }
    }
}

#[cfg(test)]
mod tests {
    use tasksync_common::clock::monotonic;

    use super::*;

    fn client(number: u32) -> ClientNetwork {
        ClientNetwork::of(std::net::Ipv4Addr::from_bits(number).into())
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_allowed_ones_wrong_tokens_are_answered_late_until_time_has_passed() {
        let mut wrong = WrongTokens::new(3);
        let now = monotonic();
        for _ in 0..3 {
            assert_eq!(wrong.note(client(1), now), WrongTokenAnswer::AtOnce);
        }
        let late = |retry_after| WrongTokenAnswer::Late { retry_after };
        assert_eq!(wrong.note(client(1), now), late(RECOVERY));
        // Other clients are not slowed.
        assert_eq!(wrong.note(client(2), now), WrongTokenAnswer::AtOnce);
        // However many follow, the wait does not grow beyond a minute.
        for _ in 0..1_000 {
            wrong.note(client(1), now);
        }
        assert_eq!(wrong.note(client(1), now), late(Duration::from_mins(1)));
        let later = now + Duration::from_mins(1) + RECOVERY;
        assert_eq!(wrong.note(client(1), later), WrongTokenAnswer::AtOnce);
        assert_eq!(wrong.note(client(1), later), late(RECOVERY));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_of_clients_has_a_limit() {
        let mut wrong = WrongTokens::new(1);
        let now = monotonic();
        let busy = client(0);
        for _ in 0..5 {
            wrong.note(busy, now);
        }
        for number in 1..20_000 {
            wrong.note(client(number), now);
            assert!(wrong.forgotten_at.len() <= CLIENTS);
        }
        // The client with the most wrong tokens is not the one that is forgotten.
        assert!(wrong.forgotten_at.contains_key(&busy));
        wrong.note(client(1), now + Duration::from_hours(1));
        assert!(wrong.forgotten_at.len() <= CLIENTS);
    }
}
