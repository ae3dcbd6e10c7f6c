//! `$batch`: several requests in one. Each gets its own answer.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

use super::SharePoint;
use super::auth::CallerIdentity;
use super::errors::SpError;
use super::operations::Operation;
use super::path::Address;
use super::server::{Incoming, Message, RequestResult, effective_method, error_message};
use super::shape::MetadataMode;

/// One request inside a batch.
#[derive(Debug)]
struct Part {
    method: String,
    /// Path and query, without scheme and host.
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
    in_changeset: bool,
}

impl SharePoint {
    /// Serves a `$batch`.
    pub(crate) async fn serve_batch(
        &self,
        incoming: &Incoming<'_>,
        address: &Address,
        identity: &CallerIdentity,
        host: &str,
    ) -> RequestResult {
        let mode = MetadataMode::accepted(incoming.header("accept")).unwrap_or(MetadataMode::Verbose);
        self.stats.count(Operation::Batch);
        let subject = self
            .site_of(&address.web)
            .map(|site| super::lock(&site).path().to_owned())
            .unwrap_or_default();
        let fault = self
            .faults
            .take(Operation::Batch.name(), &subject, || incoming.text());
        let handling = match self.apply_fault(fault, mode).await {
            Ok(handling) => handling,
            Err(result) => return result,
        };
        let parts = match self.read_batch(incoming, identity) {
            Ok(parts) => parts,
            Err(error) => return RequestResult::Answer(error_message(&error, mode)),
        };
        let boundary = format!("batchresponse_{}", self.new_id());
        let mut body = Vec::new();
        for part in &parts {
            match self.serve_batch_part(part, identity, address, host).await {
                RequestResult::Answer(message) => {
                    let headers = message
                        .headers
                        .iter()
                        .map(|(name, value)| (*name, value.as_str()));
                    push_part(&mut body, &boundary, message.status, headers, &message.body);
                }
                RequestResult::Sent(answer) => {
                    let headers = answer
                        .headers
                        .iter()
                        .map(|(name, value)| (name.as_str(), value.as_str()));
                    push_part(&mut body, &boundary, answer.status, headers, &answer.body);
                }
                result @ (RequestResult::Cut | RequestResult::Huge(_)) => return result,
            }
        }
        body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
        let headers = vec![(
            "Content-Type",
            format!("multipart/mixed; boundary=\"{boundary}\""),
        )];
        let result = RequestResult::Answer(Message {
            status: 200,
            headers,
            body: Bytes::from(body),
        });
        self.answered(handling, result, incoming)
    }

    fn read_batch(&self, incoming: &Incoming<'_>, identity: &CallerIdentity) -> Result<Vec<Part>, SpError> {
        if incoming.method != "POST" {
            return Err(SpError {
                status: 405,
                ..SpError::query("A batch is sent with POST.")
            });
        }
        if matches!(identity, CallerIdentity::Account(_)) {
            self.check_digest(
                incoming.header("x-requestdigest"),
                identity.name(),
                self.clock.now(),
            )?;
        }
        let boundary = boundary(incoming.header("content-type").unwrap_or_default()).ok_or_else(|| {
            SpError::query("The content type of a batch is multipart/mixed with a boundary.")
        })?;
        let mut parts = Vec::new();
        for section in sections(incoming.body, &boundary).ok_or_else(broken)? {
            let (headers, content) = head_and_body(section).ok_or_else(broken)?;
            let kind = headers
                .get("content-type")
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            if kind.to_ascii_lowercase().starts_with("multipart/mixed") {
                let inner = self::boundary(kind).ok_or_else(broken)?;
                for section in sections(content, &inner).ok_or_else(broken)? {
                    let (_, content) = head_and_body(section).ok_or_else(broken)?;
                    let part = read_part(content, true).ok_or_else(broken)?;
                    if part.method == "GET" {
                        return Err(SpError::query("A change set cannot contain GET requests."));
                    }
                    parts.push(part);
                }
            } else {
                parts.push(read_part(content, false).ok_or_else(broken)?);
            }
            if parts.len() > self.settings.batch_limit {
                return Err(SpError::query(format!(
                    "The batch request contains more than {} operations.",
                    self.settings.batch_limit
                )));
            }
        }
        if parts.is_empty() {
            Err(broken())
        } else {
            Ok(parts)
        }
    }

    async fn serve_batch_part(
        &self,
        part: &Part,
        identity: &CallerIdentity,
        outer: &Address,
        host: &str,
    ) -> RequestResult {
        let (path, query) = match part.target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (part.target.as_str(), None),
        };
        let incoming = Incoming {
            method: part.method.clone(),
            path,
            query,
            headers: &part.headers,
            body: &part.body,
        };
        let mode = MetadataMode::accepted(incoming.header("accept")).unwrap_or(MetadataMode::Minimal);
        let problem = match Address::parse(path, query) {
            Ok(address) if !address.web.eq_ignore_ascii_case(&outer.web) => {
                SpError::query("Every operation of a batch must be in the site the batch was sent to.")
            }
            Ok(address) if Operation::of(&address, &part.method) == Operation::Batch => {
                SpError::query("A batch cannot contain a batch.")
            }
            Ok(_) if part.method != "GET" && !part.in_changeset => {
                SpError::query("Operations that change something must be in a change set.")
            }
            // The digest was already checked on the batch itself.
            Ok(address) => return self.serve_part(&incoming, &address, identity, host, false).await,
            Err(error) => error,
        };
        RequestResult::Answer(error_message(&problem, mode))
    }
}

fn broken() -> SpError {
    SpError::query("The batch request is not well formed.")
}

fn boundary(content_type: &str) -> Option<String> {
    let at = content_type.to_ascii_lowercase().find("boundary=")?;
    let text = content_type
        .get(at + 9..)?
        .split(';')
        .next()?
        .trim()
        .trim_matches('"');
    (!text.is_empty() && text.len() <= 200).then(|| text.to_owned())
}

/// Returns the sections between the boundaries, or `None` if the last boundary is missing.
fn sections<'a>(body: &'a [u8], boundary: &str) -> Option<Vec<&'a [u8]>> {
    let opening = format!("--{boundary}");
    let mut sections = Vec::new();
    let mut start: Option<usize> = None;
    let mut at = 0;
    while at < body.len() {
        let rest = body.get(at..)?;
        let line_end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(rest.len(), |end| end + 1);
        let line = rest.get(..line_end)?.trim_ascii_end();
        if let Some(tail) = line.strip_prefix(opening.as_bytes())
            && (tail.is_empty() || tail == b"--")
        {
            if let Some(start) = start {
                sections.push(body.get(start..at)?);
            }
            if tail == b"--" {
                return Some(sections);
            }
            start = Some(at + line_end);
        }
        at += line_end;
    }
    None
}

/// Returns the headers, and the content after the first empty line.
fn head_and_body(section: &[u8]) -> Option<(HeaderMap, &[u8])> {
    let mut headers = HeaderMap::new();
    let mut rest = section;
    while !rest.is_empty() {
        let line_end = rest
            .iter()
            .position(|byte| *byte == b'\n')
            .map_or(rest.len(), |end| end + 1);
        let (line, tail) = rest.split_at_checked(line_end)?;
        rest = tail;
        let line = std::str::from_utf8(line).ok()?.trim();
        if line.is_empty() {
            return Some((headers, rest));
        }
        let (name, value) = line.split_once(':')?;
        headers.append(
            name.trim().parse::<HeaderName>().ok()?,
            HeaderValue::from_str(value.trim()).ok()?,
        );
    }
    Some((headers, rest))
}

fn read_part(content: &[u8], in_changeset: bool) -> Option<Part> {
    // Empty lines before the request line are allowed.
    let content = content.trim_ascii_start();
    let line_end = content
        .iter()
        .position(|byte| *byte == b'\n')
        .map_or(content.len(), |end| end + 1);
    let (line, rest) = content.split_at_checked(line_end)?;
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    let (method, target) = (words.next()?, words.next()?);
    let (headers, body) = head_and_body(rest)?;
    let target = match target.split_once("://") {
        Some((_, rest)) => rest.get(rest.find('/')?..)?,
        None => target,
    };
    Some(Part {
        method: effective_method(method, &headers),
        target: target.to_owned(),
        headers,
        body: body.trim_ascii_end().to_vec(),
        in_changeset,
    })
}

fn push_part<'a>(
    out: &mut Vec<u8>,
    boundary: &str,
    status: u16,
    headers: impl Iterator<Item = (&'a str, &'a str)>,
    body: &[u8],
) {
    let reason = hyper::StatusCode::from_u16(status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let head = format!(
        "--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 {} {}\r\n",
        status,
        reason.unwrap_or("Unknown")
    );
    out.extend_from_slice(head.as_bytes());
    for (name, value) in headers {
        out.extend_from_slice(format!("{}: {value}\r\n", name.to_ascii_uppercase()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_with_either_line_end() {
        for end in ["\r\n", "\n"] {
            let body = ["--b", "A: 1", "", "one", "--b", "", "two", "--b--", ""].join(end);
            let sections = sections(body.as_bytes(), "b").unwrap();
            assert_eq!(sections.len(), 2);
            let (headers, content) = head_and_body(sections[0]).unwrap();
            assert_eq!(headers.get("a").unwrap(), "1");
            assert_eq!(content.trim_ascii(), b"one");
        }
        assert!(sections(b"--b\r\n\r\none\r\n", "b").is_none());
    }
}
