//! `$batch`: writing the multipart request and reading the multipart answer. Pure.
//!
//! Reads by GET are direct parts. A read that needs POST (`getitems`) is wrapped in a change set of its own,
//! because SharePoint accepts POST only there. The answer's parts come in the order of the requests, flat or
//! nested.

use std::fmt::Write as _;

use bytes::Bytes;

/// One request of a batch.
#[derive(Debug, Clone)]
pub(super) struct BatchRequest {
    /// `GET` or `POST`.
    pub(super) method: &'static str,
    /// Absolute address.
    pub(super) url: String,
    pub(super) accept: &'static str,
    /// The body and its content type, for POST.
    pub(super) body: Option<(String, &'static str)>,
}

/// One answer of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartAnswer {
    pub(super) status: u16,
    /// Header lines, names in lower case.
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Bytes,
}

impl PartAnswer {
    /// Returns a header by its lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The nesting of change sets that is accepted in an answer.
const DEPTH: usize = 3;
/// The number of parts that are accepted in one answer.
const PARTS: usize = 1_000;

/// Returns the body of a batch request. Its content type is `multipart/mixed; boundary="{boundary}"`.
pub(super) fn write(boundary: &str, parts: &[BatchRequest]) -> String {
    let mut out = String::new();
    for (index, part) in parts.iter().enumerate() {
        if part.body.is_none() {
            let _ = write!(out, "--{boundary}\r\n");
            request(&mut out, part);
        } else {
            let inner = format!("{boundary}_set_{index}");
            let _ = write!(
                out,
                "--{boundary}\r\nContent-Type: multipart/mixed; boundary=\"{inner}\"\r\n\r\n--{inner}\r\n"
            );
            request(&mut out, part);
            let _ = write!(out, "--{inner}--\r\n\r\n");
        }
    }
    let _ = write!(out, "--{boundary}--\r\n");
    out
}

fn request(out: &mut String, part: &BatchRequest) {
    let _ = write!(
        out,
        "Content-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n{} {} HTTP/1.1\r\nAccept: {}\r\n",
        part.method, part.url, part.accept
    );
    match &part.body {
        Some((body, content_type)) => {
            let _ = write!(
                out,
                "Content-Type: {content_type}\r\nContent-Length: {}\r\n\r\n{body}\r\n\r\n",
                body.len()
            );
        }
        None => out.push_str("\r\n"),
    }
}

/// Returns the answers inside a batch answer, in their order.
///
/// # Errors
/// A text that says what is wrong.
pub(super) fn parse(content_type: &str, body: &Bytes) -> Result<Vec<PartAnswer>, String> {
    let mut answers = Vec::new();
    collect(content_type, body, body, DEPTH, &mut answers)?;
    Ok(answers)
}

fn collect(
    content_type: &str,
    whole_answer: &Bytes,
    body: &[u8],
    depth: usize,
    answers: &mut Vec<PartAnswer>,
) -> Result<(), String> {
    let boundary = boundary_of(content_type).ok_or("the batch answer names no boundary")?;
    if depth == 0 {
        return Err("the batch answer is nested too deep".to_owned());
    }
    for part in split(body, &boundary)? {
        if answers.len() >= PARTS {
            return Err("the batch answer has too many parts".to_owned());
        }
        let (headers, inner) = header_block(part)?;
        let kind = header(&headers, "content-type").unwrap_or_default();
        if kind.to_ascii_lowercase().starts_with("multipart/") {
            collect(kind, whole_answer, inner, depth - 1, answers)?;
        } else {
            answers.push(http_answer(whole_answer, inner)?);
        }
    }
    Ok(())
}

fn header<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|(header, _)| header == name)
        .map(|(_, value)| value.as_str())
}

/// Returns the boundary that a content type names, quoted or not.
fn boundary_of(content_type: &str) -> Option<String> {
    let at = content_type.to_ascii_lowercase().find("boundary=")?;
    let rest = content_type.get(at + "boundary=".len()..)?.trim_start();
    let boundary = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split([';', ' ']).next(),
    }?;
    (!boundary.is_empty() && boundary.len() <= 200).then(|| boundary.to_owned())
}

/// Returns the parts between the boundary lines. A missing closing boundary means that the answer was cut.
fn split<'a>(body: &'a [u8], boundary: &str) -> Result<Vec<&'a [u8]>, String> {
    let marker = format!("--{boundary}");
    let marker = marker.as_bytes();
    let mut parts = Vec::new();
    let mut start: Option<usize> = None;
    let mut at = 0;
    while at < body.len() {
        let end = find(body, b"\n", at).map_or(body.len(), |newline| newline + 1);
        let line = body.get(at..end).unwrap_or_default();
        if let Some(rest) = line.strip_prefix(marker) {
            let rest = rest.trim_ascii();
            if rest.is_empty() || rest == b"--" {
                if let Some(start) = start {
                    parts.push(body.get(start..at).unwrap_or_default());
                }
                if rest == b"--" {
                    return Ok(parts);
                }
                start = Some(end);
            }
        }
        at = end;
    }
    Err("the batch answer ends before its last boundary".to_owned())
}

fn find(body: &[u8], what: &[u8], from: usize) -> Option<usize> {
    body.get(from..)?
        .windows(what.len())
        .position(|window| window == what)
        .map(|at| from + at)
}

type Headers = Vec<(String, String)>;

fn header_block(part: &[u8]) -> Result<(Headers, &[u8]), String> {
    let mut headers = Vec::new();
    let mut at = 0;
    loop {
        let end = find(part, b"\n", at).map_or(part.len(), |newline| newline + 1);
        let line = String::from_utf8_lossy(part.get(at..end).unwrap_or_default());
        let line = line.trim();
        at = end;
        if line.is_empty() {
            return Ok((headers, part.get(at..).unwrap_or_default()));
        }
        if headers.len() >= 100 {
            return Err("a part of the batch answer has too many header lines".to_owned());
        }
        if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
}

fn http_answer(whole_answer: &Bytes, inner: &[u8]) -> Result<PartAnswer, String> {
    let inner = inner.trim_ascii_start();
    let end = find(inner, b"\n", 0).map_or(inner.len(), |newline| newline + 1);
    let line = String::from_utf8_lossy(inner.get(..end).unwrap_or_default()).into_owned();
    let mut words = line.split_ascii_whitespace();
    let status = match (
        words.next(),
        words.next().and_then(|word| word.parse::<u16>().ok()),
    ) {
        (Some(version), Some(status)) if version.starts_with("HTTP/") && (100..600).contains(&status) => {
            status
        }
        _ => return Err("a part of the batch answer has no status line".to_owned()),
    };
    let (headers, body) = header_block(inner.get(end..).unwrap_or_default())?;
    Ok(PartAnswer {
        status,
        headers,
        body: whole_answer.slice_ref(body.trim_ascii()),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(text: &str) -> Bytes {
        Bytes::copy_from_slice(text.as_bytes())
    }

    const FLAT: &str = "--r_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nHTTP/1.1 200 OK\r\nCONTENT-TYPE: application/json\r\nETAG: \"5\"\r\n\r\n{\"Id\":1}\r\n--r_1\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n\r\n--r_1--\r\n";

    #[test]
    fn a_flat_answer() {
        let answers = parse("multipart/mixed; boundary=\"r_1\"", &bytes(FLAT)).unwrap();
        assert_eq!(answers.len(), 2);
        assert_eq!(
            (answers[0].status, answers[0].header("etag")),
            (200, Some("\"5\""))
        );
        assert_eq!(answers[0].body.as_ref(), b"{\"Id\":1}");
        assert_eq!((answers[1].status, answers[1].body.len()), (404, 0));
    }

    #[test]
    fn nested_answers_line_feeds_only_and_preambles() {
        let nested = "preamble\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: application/http\n\nHTTP/1.1 200 OK\n\n{}\n--b--\n\n--a\nContent-Type: application/http\n\nHTTP/1.1 204\n\n--a--";
        let answers = parse("multipart/mixed;boundary=a", &bytes(nested)).unwrap();
        let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 204]);
    }

    #[test]
    fn a_cut_answer_is_an_error_not_a_shorter_answer() {
        for end in [10, 120, FLAT.len() - 6] {
            assert!(
                parse("multipart/mixed; boundary=r_1", &bytes(&FLAT[..end])).is_err(),
                "{end}"
            );
        }
        assert!(parse("text/html", &bytes("<html>")).is_err());
        assert!(
            parse(
                "multipart/mixed; boundary=r_1",
                &bytes("--r_1\r\n\r\nno status\r\n--r_1--")
            )
            .is_err()
        );
    }

    #[test]
    fn an_answer_with_too_many_parts_or_levels_is_refused() {
        let part = "--a\nContent-Type: application/http\n\nHTTP/1.1 204\n\n";
        let of = |parts: usize| format!("{}--a--", part.repeat(parts));
        let flat = |parts: usize| parse("multipart/mixed; boundary=a", &bytes(&of(parts)));
        assert_eq!(flat(PARTS).unwrap().len(), PARTS);
        assert!(flat(PARTS + 1).unwrap_err().contains("too many parts"));
        let nested = |levels: usize| {
            let innermost = "HTTP/1.1 204\n\n".to_owned();
            let inside = (1..=levels).fold(
                (innermost, "application/http".to_owned()),
                |(inner, kind), level| {
                    let body = format!("--b{level}\nContent-Type: {kind}\n\n{inner}\n--b{level}--\n");
                    (body, format!("multipart/mixed; boundary=b{level}"))
                },
            );
            parse(&inside.1, &bytes(&inside.0))
        };
        assert_eq!(nested(DEPTH).unwrap().len(), 1);
        assert!(nested(DEPTH + 1).unwrap_err().contains("too deep"));
    }

    #[test]
    fn a_body_may_hold_the_boundary_inside_a_line() {
        let body = "--x\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 200 OK\r\n\r\n{\"Title\":\"--x--\"}\r\n--x--\r\n";
        let answers = parse("multipart/mixed; boundary=x", &bytes(body)).unwrap();
        assert_eq!(answers[0].body.as_ref(), b"{\"Title\":\"--x--\"}");
    }

    #[test]
    fn requests_are_written_as_the_product_wants_them() {
        let text = write(
            "b1",
            &[
                BatchRequest {
                    method: "GET",
                    url: "https://h/_api/web".into(),
                    accept: "application/json",
                    body: None,
                },
                BatchRequest {
                    method: "POST",
                    url: "https://h/_api/x".into(),
                    accept: "application/json",
                    body: Some(("{}".into(), "application/json")),
                },
            ],
        );
        assert!(text.starts_with("--b1\r\nContent-Type: application/http\r\n"));
        assert!(
            text.contains(
                "\r\n\r\nGET https://h/_api/web HTTP/1.1\r\nAccept: application/json\r\n\r\n--b1\r\n"
            )
        );
        assert!(text.contains("Content-Type: multipart/mixed; boundary=\"b1_set_1\"\r\n\r\n--b1_set_1\r\n"));
        assert!(text.ends_with("--b1_set_1--\r\n\r\n--b1--\r\n"));
    }

    proptest! {
        #[test]
        fn no_answer_panics(kind in "multipart/mixed; boundary=.{0,5}", body in proptest::collection::vec(any::<u8>(), 0..400), text in "(--a\r?\n|--a--\r?\n|Content-Type: multipart/mixed; boundary=a\n|HTTP/1.1 200\n|\n|x){0,20}") {
            let _ = parse(&kind, &Bytes::from(body));
            let _ = parse("multipart/mixed; boundary=a", &bytes(&text));
        }
    }
}
