//! The spans of one trace, from the leader's run to a request at a tenant's server, and how they cross processes.
//!
//! Spans of the trace carry the target [`TARGET`]. Without a receiver nobody is interested in that target, so such a span
//! costs one look at a cached flag. Spans name tenants and users as logs do; titles, addresses and query strings never.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::trace::TraceContext;

/// Target of every span that belongs to the trace; log lines do not show them.
pub const TARGET: &str = "tasksync::trace";

/// Returns the context of a span for the message it sends; empty when nobody traces.
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

/// Makes the span that created a message the parent of `span`, so that all is one trace, and links to it, as the
/// OpenTelemetry conventions for messaging ask. To be called before `span` is entered.
pub fn continue_from(span: &Span, created: &TraceContext) {
    if span.is_disabled() {
        return;
    }
    if let Some(remote) = remote(created) {
        let parent = opentelemetry::Context::new().with_remote_span_context(remote.clone());
        // Refused only when nobody traces.
        span.set_parent(parent).ok();
        span.add_link(remote);
    }
}

/// Marks a span that has the fields `otel.status_code` and `error.type` as failed. `kind` is a stable code, never a text
/// from outside.
pub fn failed(span: &Span, kind: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", kind);
}

/// Returns a number as a span's field: traces know signed numbers only, and show others as text.
#[must_use]
pub fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Returns the fields are at fixed places: [`TraceContext`] holds valid ones only.
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
