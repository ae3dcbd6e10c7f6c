//! A job as a message. Headers are for people and tools that look at the broker; the job itself is the body.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::model::digest;
use crate::queue::dead_letter::bounded_reason;
use crate::queue::{JobError, SyncJob};
use crate::trace::TraceContext;

/// Makes the broker write the message to disk before it confirms (AMQP 0-9-1, basic properties,
/// delivery-mode).
const PERSISTENT: u8 = 2;
const CONTENT_TYPE: &str = "application/msgpack";
const KIND: &str = "tasksync.sync-job";

const TENANT: &str = "tasksync-tenant";
const WORKLOAD: &str = "tasksync-workload";
const REASON: &str = "tasksync-reason";
const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";
/// Set by tasksync: why a worker gave the job up, and the queue it came from.
const REJECTED: &str = "tasksync-rejected";
const REJECTED_FROM: &str = "tasksync-rejected-from";

/// Set by the broker: number of returns, and why and from which queue the message was given up.
const DELIVERY_COUNT: &str = "x-delivery-count";
const DEATH_REASON: &str = "x-first-death-reason";
const DEATH_QUEUE: &str = "x-first-death-queue";

/// Returns the properties of a job's message.
pub(super) fn properties(job: &SyncJob, trace: &TraceContext) -> BasicProperties {
    let mut headers = FieldTable::default();
    let mut put = |name: &str, value: &str| {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    };
    put(TENANT, job.tenant.as_str());
    put(WORKLOAD, job.workload.name());
    put(REASON, job.reason.name());
    if let Some(parent) = trace.traceparent() {
        put(TRACE_PARENT, parent);
    }
    if let Some(state) = trace.tracestate() {
        put(TRACE_STATE, state);
    }
    let issued = u64::try_from(job.issued_at.as_second()).unwrap_or(0);
    BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type(CONTENT_TYPE.into())
        .with_type(KIND.into())
        .with_app_id("tasksync".into())
        .with_message_id(job.id.to_string().into())
        .with_timestamp(issued)
        .with_headers(headers)
}

/// Returns the properties of the same message as a dead letter, with the reason and the queue it came from.
pub(super) fn rejected_properties(properties: &BasicProperties, from: &str, reason: &str) -> BasicProperties {
    let mut headers = job_headers(properties);
    headers.insert(
        REJECTED.into(),
        AMQPValue::LongString(bounded_reason(reason).into()),
    );
    headers.insert(REJECTED_FROM.into(), AMQPValue::LongString(from.into()));
    copy_properties(properties, headers)
}

/// Returns the properties of the same message as a new one, without traces of earlier deliveries.
pub(super) fn replayed_properties(properties: &BasicProperties) -> BasicProperties {
    copy_properties(properties, job_headers(properties))
}

fn copy_properties(properties: &BasicProperties, headers: FieldTable) -> BasicProperties {
    // Other properties, such as a lifetime or a reply address, are not tasksync's and are dropped.
    let mut new = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers);
    let short = |value: &Option<ShortString>| value.clone();
    if let Some(value) = short(properties.content_type()) {
        new = new.with_content_type(value);
    }
    if let Some(value) = short(properties.kind()) {
        new = new.with_type(value);
    }
    if let Some(value) = short(properties.app_id()) {
        new = new.with_app_id(value);
    }
    if let Some(value) = short(properties.message_id()) {
        new = new.with_message_id(value);
    }
    if let Some(value) = properties.timestamp() {
        new = new.with_timestamp(*value);
    }
    new
}

/// Returns the headers that belong to the job, without those of the broker and of an earlier rejection.
fn job_headers(properties: &BasicProperties) -> FieldTable {
    let mut headers = FieldTable::default();
    for (name, value) in properties.headers().iter().flat_map(FieldTable::inner) {
        let kept = [TENANT, WORKLOAD, REASON, TRACE_PARENT, TRACE_STATE];
        if kept.contains(&name.as_str()) {
            headers.insert(name.clone(), value.clone());
        }
    }
    headers
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties
        .headers()
        .as_ref()
        .and_then(|table| table.inner().get(name))
}

fn text(properties: &BasicProperties, name: &str) -> Option<String> {
    match header(properties, name) {
        Some(AMQPValue::LongString(text)) => String::from_utf8(text.as_bytes().to_vec()).ok(),
        Some(AMQPValue::ShortString(text)) => Some(text.to_string()),
        _ => None,
    }
}

/// Returns the trace of the publisher.
pub(super) fn trace(properties: &BasicProperties) -> TraceContext {
    TraceContext::from_headers(
        text(properties, TRACE_PARENT).as_deref(),
        text(properties, TRACE_STATE).as_deref(),
    )
}

/// Returns how often the message was delivered before. Quorum queues count; without a count, the broker's
/// flag shows whether it was delivered at all.
pub(super) fn redelivery_count(properties: &BasicProperties, flag: bool) -> u32 {
    let count = match header(properties, DELIVERY_COUNT) {
        Some(AMQPValue::LongLongInt(count)) => u32::try_from(*count).ok(),
        Some(AMQPValue::LongInt(count)) => u32::try_from(*count).ok(),
        Some(AMQPValue::LongUInt(count)) => Some(*count),
        Some(AMQPValue::ShortInt(count)) => u32::try_from(*count).ok(),
        Some(AMQPValue::ShortUInt(count)) => Some(u32::from(*count)),
        Some(AMQPValue::ShortShortInt(count)) => u32::try_from(*count).ok(),
        Some(AMQPValue::ShortShortUInt(count)) => Some(u32::from(*count)),
        _ => None,
    };
    count.unwrap_or_else(|| u32::from(flag))
}

/// Returns the id of a dead letter: the job's id, else the message's id, else a digest of its body.
pub(super) fn letter_id(
    job: &Result<SyncJob, JobError>,
    properties: &BasicProperties,
    body: &[u8],
) -> String {
    match (job, properties.message_id()) {
        (Ok(job), _) => job.id.to_string(),
        (Err(_), Some(id)) if !id.as_str().is_empty() => id.to_string(),
        (Err(_), _) => format!("body-{:016x}", digest(body.iter().copied())),
    }
}

/// Returns in words why a dead letter was given up.
pub(super) fn letter_reason(properties: &BasicProperties) -> String {
    if let Some(reason) = text(properties, REJECTED) {
        return bounded_reason(&reason);
    }
    match text(properties, DEATH_REASON).as_deref() {
        Some("delivery_limit") => "delivered too often and never finished".to_owned(),
        Some("expired") => "no worker took it before its claim expired".to_owned(),
        Some("maxlen") => "its queue was full".to_owned(),
        Some(other) => format!("given up by the broker: {}", bounded_reason(other)),
        None => "added to the dead letters by another program".to_owned(),
    }
}

/// Returns the broker's name of the queue a dead letter came from.
pub(super) fn letter_queue(properties: &BasicProperties) -> Option<String> {
    text(properties, REJECTED_FROM).or_else(|| text(properties, DEATH_QUEUE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_kind_are_read_and_the_flag_is_the_fallback() {
        let counted = |value| {
            let mut headers = FieldTable::default();
            headers.insert(DELIVERY_COUNT.into(), value);
            redelivery_count(&BasicProperties::default().with_headers(headers), true)
        };
        assert_eq!(counted(AMQPValue::LongLongInt(3)), 3);
        assert_eq!(counted(AMQPValue::LongInt(3)), 3);
        assert_eq!(counted(AMQPValue::ShortShortUInt(3)), 3);
        assert_eq!(counted(AMQPValue::LongLongInt(0)), 0);
        assert_eq!(counted(AMQPValue::LongLongInt(-1)), 1);
        assert_eq!(counted(AMQPValue::LongString("3".into())), 1);
        assert_eq!(redelivery_count(&BasicProperties::default(), false), 0);
        assert_eq!(redelivery_count(&BasicProperties::default(), true), 1);
    }

    #[test]
    fn foreign_messages_have_stable_ids_and_reasons() {
        let properties = BasicProperties::default();
        let job = SyncJob::decode(b"hello");
        assert_eq!(
            letter_id(&job, &properties, b"hello"),
            letter_id(&job, &properties, b"hello")
        );
        assert_ne!(
            letter_id(&job, &properties, b"hello"),
            letter_id(&job, &properties, b"hellp")
        );
        assert!(!letter_reason(&properties).is_empty());
        assert_eq!(letter_queue(&properties), None);
        let long = rejected_properties(&properties, "q", &"x".repeat(100_000));
        assert!(letter_reason(&long).len() <= 500);
        assert_eq!(letter_queue(&long).as_deref(), Some("q"));
        assert_eq!(
            letter_queue(&replayed_properties(&long)),
            None,
            "a replayed job forgets its death"
        );
    }
}
