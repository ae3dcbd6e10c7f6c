//! Sending many reads together, those of each web in batches of their own, because a batch may concern only
//! one web.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures::StreamExt as _;
use jiff::Timestamp;
use tasksync_common::error::{self, Code, ErrorClass, Failure};
use tasksync_common::metrics::record::Server;
use tasksync_common::random::ordered_id;

use super::batch::{self, BatchRequest, PartAnswer};
use super::client::{Outgoing, RestJudge, SharePointClient, words_of};
use super::errors::RequestSubject;
use super::odata;
use super::wire::{
    RestAnswer, RestRequest, SharePointRefusal, Verb, accept, json_body, json_type, refuse, reply,
};
use crate::http::header::{self, HeaderMap, HeaderValue};
use crate::http::service::{Intent, busy_failure};
use crate::http::{HttpAnswer, Method, named_pause};
use crate::session::{Judge, Judgement, ServerCondition};

/// Single requests in flight if a batch is not possible.
const SINGLES_AT_ONCE: usize = 6;

impl SharePointClient {
    /// Sends reads together, in as few requests as possible. Returns the answers in the order of `asks`. A
    /// web that refuses its batch fails only the reads of that web.
    ///
    /// # Errors
    /// The whole server or the account is the cause.
    pub(super) async fn send_all(
        &self,
        requests: Vec<RestRequest>,
    ) -> Result<Vec<Result<RestAnswer, SharePointRefusal>>, Failure> {
        let mut webs: BTreeMap<String, Vec<(usize, RestRequest)>> = BTreeMap::new();
        let count = requests.len();
        for (at, ask) in requests.into_iter().enumerate() {
            webs.entry(ask.web.clone()).or_default().push((at, ask));
        }
        let mut replies: BTreeMap<usize, Result<RestAnswer, SharePointRefusal>> = BTreeMap::new();
        for (web, asks) in webs {
            let (positions, asks): (Vec<usize>, Vec<RestRequest>) = asks.into_iter().unzip();
            match self.send_to_web(&web, asks).await {
                Ok(answers) => replies.extend(positions.into_iter().zip(answers)),
                Err(failure) if concerns_server_or_account(&failure) => return Err(failure),
                Err(failure) => {
                    let refusals = positions
                        .into_iter()
                        .map(|at| (at, Err(SharePointRefusal::from(failure.clone()))));
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
        requests: Vec<RestRequest>,
    ) -> Result<Vec<Result<RestAnswer, SharePointRefusal>>, Failure> {
        let mut replies = Vec::with_capacity(requests.len());
        for chunk in requests.chunks(self.batch_size.max(1)) {
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

    async fn send_batch(
        &self,
        site: &str,
        requests: &[RestRequest],
    ) -> Result<Vec<Result<RestAnswer, SharePointRefusal>>, SharePointRefusal> {
        let name = format!("POST {site}/_api/$batch");
        let boundary = format!("batch_{}", ordered_id().simple());
        let parts: Vec<BatchRequest> = requests
            .iter()
            .map(|ask| BatchRequest {
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
        self.deliver(&outgoing, || BatchJudge {
            name: name.clone(),
            parts: requests
                .iter()
                .map(|ask| RestJudge {
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
struct BatchJudge {
    name: String,
    parts: Vec<RestJudge>,
}

impl Judge for BatchJudge {
    type Value = Vec<Result<RestAnswer, SharePointRefusal>>;
    type Refusal = SharePointRefusal;

    fn judge(self, answer: &HttpAnswer, server_now: Timestamp) -> Judgement<Self::Value, SharePointRefusal> {
        if !(200..300).contains(&answer.status) {
            let refusal = refuse(
                &self.name,
                answer.status,
                &answer.body,
                RequestSubject::Site,
                Intent::Read,
            );
            return Judgement::refused(refusal, ServerCondition::Served);
        }
        let bad = |reason: String| {
            let detail = format!("{}: {reason}", self.name);
            let failure = Failure::new(ErrorClass::Transient, Code::SharePointBadAnswer, detail);
            Judgement::refused(failure, ServerCondition::Unreadable)
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
        let mut finding = ServerCondition::Served;
        let replies = self
            .parts
            .iter()
            .zip(answers)
            .map(|(ask, answer)| {
                let condition = condition_of(&answer, server_now);
                if let ServerCondition::Busy(named) = condition {
                    finding = condition;
                    let detail = format!("{}: the server asks for a pause", ask.name);
                    return Err(busy_failure(Server::SharePoint, named, detail).into());
                }
                judge_part(ask, &answer)
            })
            .collect();
        Judgement {
            result: Ok(replies),
            condition: finding,
        }
    }

    fn texts(result: &mut Result<Self::Value, SharePointRefusal>) -> Vec<&mut String> {
        match result {
            Ok(replies) => replies
                .iter_mut()
                .filter_map(|reply| reply.as_mut().err().map(words_of))
                .collect(),
            Err(refusal) => vec![words_of(refusal)],
        }
    }
}

/// Returns [`ServerCondition::Busy`] if a part of a batch asks for a pause, with its length if it names one.
fn condition_of(answer: &PartAnswer, server_now: Timestamp) -> ServerCondition {
    if !matches!(answer.status, 429 | 503) {
        return ServerCondition::Served;
    }
    let pause = answer
        .header("retry-after")
        .and_then(|text| named_pause(text, server_now));
    ServerCondition::Busy(pause)
}

fn judge_part(judge: &RestJudge, answer: &PartAnswer) -> Result<RestAnswer, SharePointRefusal> {
    if !(200..300).contains(&answer.status) {
        return Err(refuse(
            &judge.name,
            answer.status,
            &answer.body,
            judge.scope,
            judge.intent,
        ));
    }
    let version = answer.header("etag").and_then(odata::version_of);
    let content_type = answer.header("content-type");
    reply(&judge.name, content_type, &answer.body, version, judge.intent).map_err(Into::into)
}

/// Returns whether a failure concerns the whole server or the account, whatever was requested.
pub(super) fn concerns_server_or_account(failure: &Failure) -> bool {
    matches!(
        failure.class,
        ErrorClass::Throttled { .. } | ErrorClass::CursorInvalid
    ) || failure.code.narrowest_scope() > error::Scope::Container
}
