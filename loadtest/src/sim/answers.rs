//! An answer as a value that a test or a proxy can change before it is sent.

use std::fmt;
use std::io::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::Response;
use hyper::header::{HeaderName, HeaderValue};

/// Largest gzip bomb, in bytes after inflating.
const MAXIMUM_BOMB: usize = 1 << 30;

/// One answer: status, headers and body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers in order; names in any case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// Whether the answer lacks the headers that the simulated server adds to each of its answers (`Date`,
    /// `MicrosoftSharePointTeamServices`, `request-id`, …). The answers of an intermediate proxy lack them.
    pub bare: bool,
}

impl Answer {
    /// Returns an answer without a body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// Returns a page of HTML.
    #[must_use]
    pub fn html(status: u16, text: &str) -> Self {
        Self::new(status)
            .with_header("Content-Type", "text/html; charset=utf-8")
            .with_body(format!("<!DOCTYPE html><html><body>{text}</body></html>"))
    }

    /// Returns an answer with the content type that SharePoint uses for JSON. `text` is sent as it is, unchecked.
    #[must_use]
    pub fn json(status: u16, text: &str) -> Self {
        Self::new(status)
            .with_header(
                "Content-Type",
                "application/json;odata=minimalmetadata;streaming=true;charset=utf-8",
            )
            .with_body(text.to_owned())
    }

    /// Returns an answer with the content type that Exchange uses for XML. `text` is sent as it is, unchecked.
    #[must_use]
    pub fn xml(status: u16, text: &str) -> Self {
        Self::new(status)
            .with_header("Content-Type", "text/xml; charset=utf-8")
            .with_body(text.to_owned())
    }

    /// Returns an answer whose body is small on the wire and `inflated` bytes long when it is unpacked: `start`, then
    /// `repeated` again and again, then `end`. `repeated` fills at most 1 GiB.
    #[must_use]
    pub fn gzip_bomb(content_type: &str, start: &str, repeated: &str, end: &str, inflated: usize) -> Self {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        let times = inflated.min(MAXIMUM_BOMB) / repeated.len().max(1);
        let block = repeated.repeat(1024.min(times.max(1)));
        // Writing into memory does not fail.
        packed.write_all(start.as_bytes()).ok();
        for _ in 0..times / 1024 {
            packed.write_all(block.as_bytes()).ok();
        }
        packed.write_all(repeated.repeat(times % 1024).as_bytes()).ok();
        packed.write_all(end.as_bytes()).ok();
        Self::new(200)
            .with_header("Content-Type", content_type)
            .with_header("Content-Encoding", "gzip")
            .with_body(packed.finish().unwrap_or_default())
    }

    /// Marks the answer as one without the headers that the server adds to each answer.
    #[must_use]
    pub fn bare(self) -> Self {
        Self { bare: true, ..self }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Removes the headers of this name.
    #[must_use]
    pub fn without_header(mut self, name: &str) -> Self {
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Returns the body as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Converts a response. Header values that are not text are left out.
    pub(crate) fn of(response: Response<Bytes>) -> Self {
        let (parts, body) = response.into_parts();
        let headers = parts
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        Self {
            status: parts.status.as_u16(),
            headers,
            body,
            bare: true,
        }
    }

    /// Converts the answer to a response. Headers that HTTP does not allow are left out, and so are those of length
    /// and connection, which belong to the HTTP library.
    pub(crate) fn into_response(self) -> Response<Bytes> {
        let mut response = Response::new(self.body);
        *response.status_mut() = hyper::StatusCode::from_u16(self.status).unwrap_or(hyper::StatusCode::OK);
        for (name, value) in &self.headers {
            let connection_headers = ["content-length", "transfer-encoding", "connection"];
            if connection_headers
                .iter()
                .any(|header| name.eq_ignore_ascii_case(header))
            {
                continue;
            }
            if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
                response.headers_mut().append(name, value);
            }
        }
        response
    }
}

/// A change made to an answer before it is sent.
#[derive(Clone)]
pub struct Tamper(Arc<dyn Fn(Answer) -> Answer + Send + Sync>);

impl Tamper {
    /// Returns a change that sends `change(answer)` in place of the answer.
    pub fn new(change: impl Fn(Answer) -> Answer + Send + Sync + 'static) -> Self {
        Self(Arc::new(change))
    }

    /// Returns a change that removes the headers of this name.
    #[must_use]
    pub fn without_header(name: &'static str) -> Self {
        Self::new(move |answer| answer.without_header(name))
    }

    /// Returns a change that replaces every `from` in the body with `to`.
    #[must_use]
    pub fn replace(from: &str, to: &str) -> Self {
        let (from, to) = (from.to_owned(), to.to_owned());
        Self::new(move |answer| {
            let text = answer.text().replace(&from, &to);
            answer.with_body(text)
        })
    }

    pub(crate) fn apply(&self, answer: Answer) -> Answer {
        (self.0)(answer)
    }
}

impl fmt::Debug for Tamper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Tamper")
    }
}

impl PartialEq for Tamper {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Tamper {}

/// Keeps the last answer it recorded, to be sent again to a later request: another person's answer, or an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Tape(Arc<Mutex<Option<Answer>>>);

impl Tape {
    /// Returns a change that keeps the answer and sends it unchanged.
    #[must_use]
    pub fn record(&self) -> Tamper {
        let tape = self.clone();
        Tamper::new(move |answer| {
            *tape.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer.clone());
            answer
        })
    }

    /// Returns a change that sends the kept answer in place of the real one, or the real one while no answer is kept.
    #[must_use]
    pub fn replay(&self) -> Tamper {
        let tape = self.clone();
        Tamper::new(move |answer| tape.answer().unwrap_or(answer))
    }

    /// Returns the kept answer.
    #[must_use]
    pub fn answer(&self) -> Option<Answer> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bomb_is_small_on_the_wire() {
        let bomb = Answer::gzip_bomb("application/json", "{\"value\":[", "{\"\":0},", "{}]}", 16 << 20);
        assert!(bomb.body.len() < 64 << 10, "{} bytes", bomb.body.len());
        let mut inflated = String::new();
        let mut reader = flate2::read::GzDecoder::new(bomb.body.as_ref());
        std::io::Read::read_to_string(&mut reader, &mut inflated).unwrap();
        assert!(inflated.len() > (16 << 20) - 16 && inflated.ends_with("{\"\":0},{}]}"));
    }

    #[test]
    fn a_tape_gives_an_answer_again() {
        let tape = Tape::default();
        let (record, replay) = (tape.record(), tape.replay());
        let (first, second) = (Answer::html(200, "first"), Answer::html(200, "second"));
        assert_eq!(replay.apply(second.clone()), second, "nothing was kept yet");
        assert_eq!(record.apply(first.clone()), first);
        assert_eq!(replay.apply(second), first);
    }
}
