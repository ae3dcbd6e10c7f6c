//! The spans of a trace, from the leader's run to a request at a tenant's server, and how they cross
//! processes.
//!
//! Spans of the trace have the target [`TARGET`]. Without a receiver that target is disabled, and such a span
//! costs one check of a cached flag. Like logs, spans name tenants and users; they never contain titles,
//! addresses or query strings.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::trace::TraceContext;

/// Target of every span that belongs to the trace. Log lines do not show these spans.
pub const TARGET: &str = "tasksync::trace";

/// Returns the context of a span for the message that it sends; empty without a tracer.
#[must_use]
pub fn context_of(span: &Span) -> TraceContext {
    if span.is_disabled() {
        return TraceContext::default();
    }
    let context = span.context();
    let span = context.span();
    let context = span.span_context();
    if !context.is_valid() {
        return TraceContext::default();
    }
    let traceparent = format!(
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        context.trace_flags() & TraceFlags::SAMPLED
    );
    TraceContext::from_headers(Some(&traceparent), Some(&context.trace_state().header()))
}

/// Makes the span that created a message the parent of `span`, so that both are in one trace, and links to
/// it, as the OpenTelemetry conventions for messaging require. Call it before `span` is entered.
pub fn continue_from(span: &Span, created: &TraceContext) {
    if span.is_disabled() {
        return;
    }
    if let Some(remote) = remote(created) {
        let parent = opentelemetry::Context::new().with_remote_span_context(remote.clone());
        // Refused only without a tracer.
        span.set_parent(parent).ok();
        span.add_link(remote);
    }
}

/// Marks a span with the fields `otel.status_code` and `error.type` as failed. `kind` is a stable code, never
/// text from outside.
pub fn mark_failed(span: &Span, kind: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", kind);
}

/// Returns a number as a field of a span. Traces have signed numbers only; unsigned ones would become text.
#[must_use]
pub fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Returns the span that a context names. Its fields are at fixed places, because a [`TraceContext`] is
/// always valid.
fn remote(context: &TraceContext) -> Option<SpanContext> {
    let mut parts = context.traceparent()?.split('-').skip(1);
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    Some(SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        context
            .tracestate()
            .and_then(|state| state.parse().ok())
            .unwrap_or_default(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_from_outside_becomes_a_remote_parent() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let found = remote(&TraceContext::from_headers(Some(parent), Some("vendor=1"))).unwrap();
        assert!(found.is_remote() && found.is_sampled());
        assert_eq!(found.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(found.span_id().to_string(), "b7ad6b7169203331");
        assert_eq!(found.trace_state().header(), "vendor=1");
        assert_eq!(remote(&TraceContext::default()), None);
    }

    #[test]
    fn without_a_tracer_there_is_no_context() {
        let span = tracing::info_span!(target: TARGET, "tick");
        assert!(context_of(&span).is_empty());
    }
}
