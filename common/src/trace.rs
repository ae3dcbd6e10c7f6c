//! The trace context of a piece of work, as it travels between processes (W3C Trace Context).
//!
//! It is a plain value: nothing here knows how traces are made or sent. Values from outside are validated and
//! bounded; invalid ones are dropped, because a broken trace must never stop the work.

use std::fmt;

/// Longest `tracestate` kept, in bytes. The recommendation asks for at least 512.
const MAXIMUM_STATE: usize = 512;
/// Most entries of a `tracestate` (W3C Trace Context, section 3.3.1.1).
const MAXIMUM_STATE_ENTRIES: usize = 32;
/// Length of version 00 of `traceparent`: version, trace id, parent id and flags, with three dashes.
const PARENT_LENGTH: usize = 55;

/// The trace a piece of work belongs to. The default belongs to none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TraceContext {
    parent: Option<String>,
    state: Option<String>,
}

impl TraceContext {
    /// Returns the context of these two headers. An invalid `traceparent` gives the default; an invalid
    /// `tracestate` is dropped.
    #[must_use]
    pub fn from_headers(traceparent: Option<&str>, tracestate: Option<&str>) -> Self {
        let Some(parent) = traceparent.filter(|parent| is_parent(parent)) else {
            return Self::default();
        };
        Self {
            parent: Some(parent.to_owned()),
            state: tracestate
                .map(str::trim)
                .filter(|state| is_state(state))
                .map(str::to_owned),
        }
    }

    /// Returns the `traceparent` header: version, trace id, parent id, flags.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        self.parent.as_deref()
    }

    /// Returns the `tracestate` header; never without a `traceparent`.
    #[must_use]
    pub fn tracestate(&self) -> Option<&str> {
        self.state.as_deref()
    }

    /// Returns whether the work belongs to no trace.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parent.is_none()
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.parent.as_deref().unwrap_or("no trace"))
    }
}

/// Returns whether the text is a valid `traceparent`: of version 00 exactly, or of a later version that
/// begins like it (section 4.3 of the recommendation).
fn is_parent(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.len() < PARENT_LENGTH || bytes.len() > 2 * PARENT_LENGTH || !text.is_ascii() {
        return false;
    }
    let mut fields = text.split('-');
    let mut field = |length: usize| {
        fields
            .next()
            .filter(|field| field.len() == length && field.bytes().all(is_lower_hexadecimal))
    };
    let (Some(version), Some(trace), Some(parent), Some(_flags)) = (field(2), field(32), field(16), field(2))
    else {
        return false;
    };
    let zero = |field: &str| field.bytes().all(|byte| byte == b'0');
    version != "ff"
        && !zero(trace)
        && !zero(parent)
        && (bytes.len() == PARENT_LENGTH || (version != "00" && bytes.get(PARENT_LENGTH) == Some(&b'-')))
}

fn is_lower_hexadecimal(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn is_state(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAXIMUM_STATE
        && text.split(',').count() <= MAXIMUM_STATE_ENTRIES
        && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        && text
            .split(',')
            .all(|entry| entry.trim().is_empty() || entry.contains('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn valid_headers_are_kept_as_they_are() {
        let context = TraceContext::from_headers(Some(PARENT), Some("congo=t61rcWkgMzE,rojo=1"));
        assert_eq!(context.traceparent(), Some(PARENT));
        assert_eq!(context.tracestate(), Some("congo=t61rcWkgMzE,rojo=1"));
        let later = "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(
            TraceContext::from_headers(Some(later), None).traceparent(),
            Some(later)
        );
    }

    #[test]
    fn what_is_invalid_or_too_long_is_left_out() {
        for wrong in [
            "",
            "hello",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0é",
        ] {
            assert!(
                TraceContext::from_headers(Some(wrong), Some("a=1")).is_empty(),
                "{wrong}"
            );
        }
        let long = format!("a={}", "x".repeat(MAXIMUM_STATE));
        let many = vec!["a=1"; MAXIMUM_STATE_ENTRIES + 1].join(",");
        for wrong in [long.as_str(), many.as_str(), "a=\u{7f}", "nothing", ""] {
            let context = TraceContext::from_headers(Some(PARENT), Some(wrong));
            assert_eq!((context.is_empty(), context.tracestate()), (false, None));
        }
    }
}
