//! Many reads at once, those of each web in batches of its own: a batch may ask about one web only.

use std::collections::BTreeMap;

use tasksync_common::error::{Code, ErrorClass, Failure, Scope};

use super::client::Client;
use super::wire::{Ask, Refusal, Reply};

impl Client {
    /// Sends reads together, as few requests as possible; the answers come in the order asked for. A web that refuses its
    /// batch refuses the reads about it alone.
    ///
    /// # Errors
    /// When the whole server or the account is the cause.
    pub(super) async fn send_all(&self, asks: Vec<Ask>) -> Result<Vec<Result<Reply, Refusal>>, Failure> {
        let mut webs: BTreeMap<String, Vec<(usize, Ask)>> = BTreeMap::new();
        let count = asks.len();
        for (at, ask) in asks.into_iter().enumerate() {
            webs.entry(ask.web.clone()).or_default().push((at, ask));
        }
        let mut replies: BTreeMap<usize, Result<Reply, Refusal>> = BTreeMap::new();
        for (web, asks) in webs {
            let (places, asks): (Vec<usize>, Vec<Ask>) = asks.into_iter().unzip();
            match self.send_to_web(&web, asks).await {
                Ok(answers) => replies.extend(places.into_iter().zip(answers)),
                Err(failure) if is_of_more(&failure) => return Err(failure),
                Err(failure) => {
                    let refusals = places
                        .into_iter()
                        .map(|at| (at, Err(Refusal::from(failure.clone()))));
                    replies.extend(refusals);
                }
            }
        }
        if replies.len() == count {
            return Ok(replies.into_values().collect());
        }
        Err(Failure::new(
            ErrorClass::Transient,
            Code::SharePointBadAnswer,
            format!("{} answers to {count} requests", replies.len()),
        ))
    }
}

/// Whether a failure is that of the whole server or the account, whatever was asked for.
pub(super) fn is_of_more(failure: &Failure) -> bool {
    matches!(
        failure.class,
        ErrorClass::Throttled { .. } | ErrorClass::CursorInvalid
    ) || failure.code.narrowest_scope() > Scope::Container
}
