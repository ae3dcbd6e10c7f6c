//! Sending many reads together, those of each web in batches of their own, because a batch may concern only
//! one web.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use tasksync_common::error::{self, Code, ErrorClass, Failure};
use tasksync_common::metrics::record::Server;

use super::batch::{self, Part, PartAnswer};
use super::client::{Client, Outgoing, Single, words_of};
use super::errors::Scope;
use super::odata;
use super::wire::{Ask, Refusal, Reply, Verb, accept, json_body, json_type, refuse, reply};
use crate::http::header::{self, HeaderMap, HeaderValue};
use crate::http::service::{Intent, busy};
use crate::http::{Answer, Method, named_pause};
use crate::session::{Finding, Judge, Judgement};

/// Single requests in flight if a batch is not possible.
const SINGLES_AT_ONCE: usize = 6;

impl Client {
    /// Sends reads together, in as few requests as possible. Returns the answers in the order of `asks`. A
    /// web that refuses its batch fails only the reads of that web.
    ///
    /// # Errors
    /// The whole server or the account is the cause.
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

    /// Sends reads of one web together, in as few requests as possible. Returns the answers in the order of
    /// `asks`.
    pub(super) async fn send_to_web(
        &self,
        site: &str,
        asks: Vec<Ask>,
    ) -> Result<Vec<Result<Reply, Refusal>>, Failure> {
        let mut replies = Vec::with_capacity(asks.len());
        for chunk in asks.chunks(self.batch_size.max(1)) {
            let together = chunk.len() > 1
                && self.batch_size > 1
                && !self.is_verbose()
                && !self.batch_refused.load(Ordering::Relaxed);
            if together {
                match self.send_batch(site, chunk).await {
                    Ok(answers) => {
                        replies.extend(answers);
                        continue;
                    }
                    Err(refusal)
                        if refusal.is_unsupported() || refusal.failure.code == Code::SharePointBadAnswer =>
                    {
                        tracing::debug!(site, failure = %refusal.failure, "the batch was refused; single requests are sent instead");
                        self.batch_refused.store(true, Ordering::Relaxed);
                    }
                    // The answer is too large in a batch, but perhaps not in single requests.
                    Err(refusal) if refusal.failure.code == Code::SharePointAnswerTooLarge => {}
                    Err(refusal) => return Err(refusal.failure),
                }
            }
            let singles: Vec<_> = chunk.iter().map(|ask| self.send(ask)).collect();
            let singles = futures::stream::iter(singles).buffered(SINGLES_AT_ONCE);
            replies.extend(singles.collect::<Vec<_>>().await);
        }
        Ok(replies)
    }

    async fn send_batch(&self, site: &str, asks: &[Ask]) -> Result<Vec<Result<Reply, Refusal>>, Refusal> {
        let name = format!("POST {site}/_api/$batch");
        let boundary = format!("batch_{}", uuid::Uuid::now_v7().simple());
        let parts: Vec<Part> = asks
            .iter()
            .map(|ask| Part {
                method: if ask.verb == Verb::Get { "GET" } else { "POST" },
                url: format!("{}/_api/{}", ask.web, ask.path),
                accept: accept(ask.metadata, false),
                body: match &ask.verb {
                    Verb::Get => None,
                    Verb::Post(value) | Verb::Merge(value, _) => {
                        Some((json_body(value, false), json_type(false)))
                    }
                },
            })
            .collect();
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("multipart/mixed"));
        let content_type = HeaderValue::from_str(&format!("multipart/mixed; boundary=\"{boundary}\""));
        headers.insert(
            header::CONTENT_TYPE,
            content_type.map_err(|error| {
                Failure::new(
                    ErrorClass::Transient,
                    Code::SharePointError,
                    format!("{name}: {error}"),
                )
            })?,
        );
        let outgoing = Outgoing {
            web: site,
            path: "$batch",
            name: &name,
            intent: Intent::Read,
            method: Method::POST,
            headers,
            body: Bytes::from(batch::write(&boundary, &parts)),
        };
        self.deliver(&outgoing, || Together {
            name: name.clone(),
            parts: asks
                .iter()
                .map(|ask| Single {
                    name: format!("{} (in a batch)", ask.name()),
                    scope: ask.scope,
                    intent: ask.intent,
                })
                .collect(),
        })
        .await
    }
}

/// Judges the answer to a batch.
struct Together {
    name: String,
    parts: Vec<Single>,
}

impl Judge for Together {
    type Value = Vec<Result<Reply, Refusal>>;
    type Refusal = Refusal;

    fn judge(self, answer: &Answer, server_now: Timestamp) -> Judgement<Self::Value, Refusal> {
        if !(200..300).contains(&answer.status) {
            let refusal = refuse(&self.name, answer.status, &answer.body, Scope::Site, Intent::Read);
            return Judgement::refused(refusal, Finding::Served);
        }
        let bad = |reason: String| {
            let detail = format!("{}: {reason}", self.name);
            let failure = Failure::new(ErrorClass::Transient, Code::SharePointBadAnswer, detail);
            Judgement::refused(failure, Finding::Unreadable)
        };
        let content_type = answer.header(header::CONTENT_TYPE).unwrap_or_default();
        let answers = match batch::parse(content_type, &answer.body) {
            Ok(answers) => answers,
            Err(reason) => return bad(reason),
        };
        if answers.len() != self.parts.len() {
            return bad(format!(
                "{} answers to {} requests",
                answers.len(),
                self.parts.len()
            ));
        }
        let mut finding = Finding::Served;
        let replies = self
            .parts
            .iter()
            .zip(answers)
            .map(|(ask, answer)| {
                if let Some(named) = busy_part(&answer, server_now) {
                    finding = Finding::Busy(named);
                    let detail = format!("{}: the server asks for a pause", ask.name);
                    return Err(busy(Server::SharePoint, named, detail).into());
                }
                part(ask, &answer)
            })
            .collect();
        Judgement {
            result: Ok(replies),
            finding,
        }
    }

    fn words(result: &mut Result<Self::Value, Refusal>) -> Vec<&mut String> {
        match result {
            Ok(replies) => replies
                .iter_mut()
                .filter_map(|reply| reply.as_mut().err().map(words_of))
                .collect(),
            Err(refusal) => vec![words_of(refusal)],
        }
    }
}

/// Returns the pause that a part of a batch asks for, with its length if it names one.
fn busy_part(answer: &PartAnswer, server_now: Timestamp) -> Option<Option<Duration>> {
    matches!(answer.status, 429 | 503).then(|| {
        answer
            .header("retry-after")
            .and_then(|text| named_pause(text, server_now))
    })
}

fn part(ask: &Single, answer: &PartAnswer) -> Result<Reply, Refusal> {
    if !(200..300).contains(&answer.status) {
        return Err(refuse(
            &ask.name,
            answer.status,
            &answer.body,
            ask.scope,
            ask.intent,
        ));
    }
    let version = answer.header("etag").and_then(odata::version_of);
    let content_type = answer.header("content-type");
    reply(&ask.name, content_type, &answer.body, version, ask.intent).map_err(Into::into)
}

/// Returns whether a failure concerns the whole server or the account, whatever was requested.
pub(super) fn is_of_more(failure: &Failure) -> bool {
    matches!(
        failure.class,
        ErrorClass::Throttled { .. } | ErrorClass::CursorInvalid
    ) || failure.code.narrowest_scope() > error::Scope::Container
}
