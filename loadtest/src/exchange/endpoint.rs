//! The HTTP layer: paths, credentials, faults and SOAP envelopes.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, DATE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{HeaderMap, Method, Request, Response, StatusCode};

use super::Exchange;
use super::auth::{self, Session};
use super::context::{Context, ForcedErrors};
use super::error::EwsError;
use super::ids::ObjectId;
use super::mailbox::Mailbox;
use super::operations;
use super::schema::{Violation, check};
use super::schema_tables::ENVELOPE;
use super::xml::{self, Element, escape_into};
use crate::random::unique_id;
use crate::sim::answers::{Answer, Tamper};
use crate::sim::faults::{Fault, Rule};
use crate::sim::http::{Handler, Reply, ReplyFuture};

const CONTENT: &str = "text/xml; charset=utf-8";

impl Handler for Exchange {
    fn handle(self: Arc<Self>, request: Request<Bytes>) -> ReplyFuture {
        Box::pin(async move {
            self.stats.count_request();
            self.stats.enter();
            let (reply, tampers) = respond(&self, &request).await;
            self.stats.leave();
            finish(&self, &request, reply, &tampers)
        })
    }
}

/// Adds the headers of every answer, and lets the active fault rules change it.
fn finish(exchange: &Exchange, request: &Request<Bytes>, reply: Reply, tampers: &[Tamper]) -> Reply {
    let Reply::Answer(mut response) = reply else {
        return reply;
    };
    usual_headers(exchange, request, response.headers_mut());
    for tamper in tampers {
        let changed = tamper.apply(Answer::of(response));
        let bare = changed.bare;
        response = changed.into_response();
        if !bare {
            usual_headers(exchange, request, response.headers_mut());
        }
    }
    Reply::Answer(response)
}

async fn respond(exchange: &Exchange, request: &Request<Bytes>) -> (Reply, Vec<Tamper>) {
    let mut tampers = Vec::new();
    let reply = respond_to(exchange, request, &mut tampers).await;
    (reply, tampers)
}

async fn respond_to(exchange: &Exchange, request: &Request<Bytes>, tampers: &mut Vec<Tamper>) -> Reply {
    if !exchange.settings.latency.is_zero() {
        tokio::time::sleep(exchange.settings.latency).await;
    }
    if !request.uri().path().eq_ignore_ascii_case("/ews/exchange.asmx") {
        return plain(
            StatusCode::NOT_FOUND,
            "There is nothing here; the service is /EWS/Exchange.asmx.",
        );
    }
    if !exchange.settings.ews_enabled {
        return plain(StatusCode::FORBIDDEN, "EWS is disabled for this organization.");
    }
    if let Some(schemes) = exchange.schemes.only() {
        exchange.stats.count_refused();
        return challenged(&schemes);
    }
    let Some(account) = auth::authenticate(exchange, request.headers()) else {
        exchange.stats.count_refused();
        return unauthorized(exchange);
    };
    if request.method() != Method::POST {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "Requests are sent with POST.");
    }
    if request.body().len() > exchange.settings.maximum_request_bytes {
        let text = "The request is too big.";
        return soap_fault(exchange, &EwsError::new("ErrorRequestStreamTooBig", text));
    }
    let Ok(text) = std::str::from_utf8(request.body()) else {
        return plain(StatusCode::BAD_REQUEST, "The request is not UTF-8.");
    };
    let envelope = match xml::parse(text) {
        Ok(envelope) => envelope,
        Err(reason) => {
            return schema_fault(
                exchange,
                text,
                &Violation {
                    offset: text.len(),
                    text: reason,
                },
            );
        }
    };
    if (envelope.ns, envelope.name.as_str()) != (xml::Ns::Soap, "Envelope") {
        return schema_fault(
            exchange,
            text,
            &Violation {
                offset: envelope.offset,
                text: "The root element is no SOAP 1.1 envelope.".to_owned(),
            },
        );
    }
    if let Err(violation) = check(&envelope, &ENVELOPE) {
        return schema_fault(exchange, text, &violation);
    }
    let Some(operation) = envelope.child("Body").and_then(|body| body.children.first()) else {
        return plain(StatusCode::BAD_REQUEST, "The request has no body.");
    };
    exchange.stats.count_operation(&operation.name);
    let session = match auth::session(exchange, account, envelope.child("Header")) {
        Ok(session) => session,
        Err(error) => return soap_fault(exchange, &error),
    };
    let named = named_mailboxes(exchange, &session, operation);
    for mailbox in &named {
        exchange.stats.enter_mailbox(&mailbox.in_flight);
    }
    let faults = collect_faults(exchange, &session, operation, &named, text);
    tampers.clone_from(&faults.tampers);
    let reply = carry_out(exchange, &session, operation, faults).await;
    for mailbox in &named {
        mailbox.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
    reply
}

/// The combined effect of the fault rules on one request.
#[derive(Default)]
struct RequestFaults {
    wait: Duration,
    instead: Option<Reply>,
    lose_response: bool,
    hang: bool,
    tampers: Vec<Tamper>,
    forced: ForcedErrors,
}

async fn carry_out(
    exchange: &Exchange,
    session: &Session,
    operation: &Element,
    faults: RequestFaults,
) -> Reply {
    if faults.hang {
        return std::future::pending().await;
    }
    if !faults.wait.is_zero() {
        tokio::time::sleep(faults.wait).await;
    }
    if let Some(reply) = faults.instead {
        return reply;
    }
    let (answer, writes) = {
        let context = Context::new(exchange, session, faults.forced);
        let answer = operations::run(&context, operation);
        (answer, context.writes.get())
    };
    exchange.stats.count_writes(writes);
    if faults.lose_response {
        return Reply::Cut;
    }
    match answer {
        Ok(body) => envelope(exchange, StatusCode::OK, &body),
        Err(error) => soap_fault(exchange, &error),
    }
}

fn collect_faults(
    exchange: &Exchange,
    session: &Session,
    operation: &Element,
    named: &[Arc<Mailbox>],
    text: &str,
) -> RequestFaults {
    let mut faults = RequestFaults::default();
    let draw = exchange
        .groups
        .next_conditions(named.first().map_or(0, |mailbox| mailbox.group));
    faults.wait = draw.latency;
    let subject = named
        .first()
        .map_or(session.account.user.as_str(), |mailbox| &mailbox.smtp);
    if let Some(fault) = draw
        .fault
        .or_else(|| exchange.faults.take(&operation.name, subject, || text.to_owned()))
    {
        exchange.stats.count_fault();
        let several = named.len() > 1;
        apply_fault(
            exchange,
            &mut faults,
            operation,
            fault,
            None,
            several.then_some(subject),
        );
    }
    for mailbox in named.iter().skip(1) {
        let fault = exchange
            .faults
            .take_named(&operation.name, &mailbox.smtp, || text.to_owned());
        if let Some(fault) = fault {
            exchange.stats.count_fault();
            apply_fault(
                exchange,
                &mut faults,
                operation,
                fault,
                Some(mailbox.number),
                Some(&mailbox.smtp),
            );
        }
    }
    faults
}

fn apply_fault(
    exchange: &Exchange,
    faults: &mut RequestFaults,
    operation: &Element,
    fault: Fault,
    mailbox: Option<u64>,
    subject: Option<&str>,
) {
    match fault {
        Fault::Busy {
            pause,
            inside,
            status: _,
        } => {
            let mut error = EwsError::new(
                "ErrorServerBusy",
                "The server cannot service this request right now. Try again later.",
            );
            if let Some(pause) = pause {
                error = error.value("BackOffMilliseconds", &pause.as_millis().to_string());
            }
            match (inside, mailbox) {
                (true, Some(number)) => faults.forced.mailboxes.push((number, error)),
                (true, None) => faults.forced.every = Some(error),
                (false, _) => faults.instead = Some(soap_fault(exchange, &error)),
            }
        }
        Fault::Error(code) => match (code.strip_prefix("soap:"), mailbox) {
            (Some(code), _) => {
                let error = EwsError::new(code.to_owned(), "The request failed on purpose.");
                faults.instead = Some(soap_fault(exchange, &error));
            }
            (None, Some(number)) => {
                faults
                    .forced
                    .mailboxes
                    .push((number, EwsError::new(code, "The entry failed on purpose.")));
            }
            (None, None) => faults.forced.first = Some(EwsError::new(code, "The entry failed on purpose.")),
        },
        Fault::LoseResponse => faults.lose_response = true,
        Fault::Cut => faults.instead = Some(Reply::Cut),
        Fault::Slow(pause) => faults.wait += pause,
        Fault::Hang => faults.hang = true,
        Fault::Instead(instead) => {
            faults.instead = Some(plain(StatusCode::OK, ""));
            faults.tampers.push(Tamper::new(move |_| instead.clone()));
        }
        Fault::Afterwards(instead) => faults.tampers.push(Tamper::new(move |_| instead.clone())),
        Fault::Tamper(tamper) => faults.tampers.push(tamper),
        Fault::IgnoreFields(fields) => faults.forced.ignored_fields = Some(fields),
        Fault::Status(status) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            faults.instead = Some(plain(status, "The service is unavailable."));
        }
        Fault::Garbage => {
            let bytes = b"<html>\x00\xff{\"neither\": 'XML' nor JSON".as_slice();
            faults.instead = Some(answer(StatusCode::OK, CONTENT, Bytes::from_static(bytes)));
        }
        Fault::Huge(length) => {
            let mut prefix = envelope_start(exchange);
            let _ = write!(
                prefix,
                "<m:{}Response xmlns:m=\"{}\">",
                operation.name,
                xml::Ns::Messages.uri()
            );
            faults.instead = Some(Reply::Huge {
                prefix: Bytes::from(prefix),
                length,
                content_type: CONTENT,
            });
        }
        Fault::ExpireCursor
            if operation
                .child("SyncState")
                .is_some_and(|state| !state.text.trim().is_empty()) =>
        {
            faults.forced.expire_cursor = true;
        }
        // This request sends no cursor, so the rule is kept for the next one that does.
        Fault::ExpireCursor => exchange.faults.add(Rule {
            operation: Some(operation.name.clone()),
            subject: subject.map(str::to_owned),
            fault: Fault::ExpireCursor,
            remaining: 1,
        }),
    }
}

/// Returns the mailboxes that a request concerns, each once, in the order in which they are named.
fn named_mailboxes(exchange: &Exchange, session: &Session, operation: &Element) -> Vec<Arc<Mailbox>> {
    let mut found: Vec<Arc<Mailbox>> = Vec::new();
    if let Some(mailbox) = &session.impersonated {
        found.push(Arc::clone(mailbox));
        return found;
    }
    let mut queue: Vec<&Element> = vec![operation];
    while let Some(element) = queue.pop() {
        let mailbox = match element.name.as_str() {
            "DistinguishedFolderId" => match element
                .child("Mailbox")
                .and_then(|mailbox| mailbox.child_text("EmailAddress"))
            {
                Some(address) => exchange.mailbox(address),
                None => session.own_mailbox.clone(),
            },
            "FolderId" | "ItemId" => element
                .attribute("Id")
                .and_then(|id| ObjectId::decode(id).ok())
                .and_then(|id| exchange.mailbox_by_number(id.mailbox)),
            // Nothing inside items and shapes names a mailbox.
            "Items" | "ItemShape" | "FolderShape" | "Restriction" | "Updates" => None,
            _ => {
                queue.extend(element.children.iter().rev());
                None
            }
        };
        if let Some(mailbox) = mailbox
            && !found.iter().any(|known| known.number == mailbox.number)
        {
            found.push(mailbox);
        }
    }
    if found.is_empty() {
        found.extend(session.own_mailbox.clone());
    }
    found
}

fn envelope_start(exchange: &Exchange) -> String {
    let version = &exchange.settings.version;
    let [major, minor, build_major, build_minor] = version.numbers;
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"{}\"><s:Header><h:ServerVersionInfo MajorVersion=\"{major}\" MinorVersion=\"{minor}\" MajorBuildNumber=\"{build_major}\" MinorBuildNumber=\"{build_minor}\" Version=\"{}\" xmlns:h=\"{}\"/></s:Header><s:Body>",
        xml::Ns::Soap.uri(),
        version.name,
        xml::Ns::Types.uri()
    )
}

fn envelope(exchange: &Exchange, status: StatusCode, body: &str) -> Reply {
    let mut text = envelope_start(exchange);
    text.push_str(body);
    text.push_str("</s:Body></s:Envelope>");
    answer(status, CONTENT, Bytes::from(text))
}

fn soap_fault(exchange: &Exchange, error: &EwsError) -> Reply {
    let errors = "http://schemas.microsoft.com/exchange/services/2006/errors";
    let types = xml::Ns::Types.uri();
    let mut code = String::new();
    escape_into(&mut code, &error.code);
    let mut text = String::new();
    escape_into(&mut text, &error.text);
    let mut body = format!(
        "<s:Fault><faultcode xmlns:a=\"{types}\">a:{code}</faultcode><faultstring xml:lang=\"en-US\">{text}</faultstring><detail><e:ResponseCode xmlns:e=\"{errors}\">{code}</e:ResponseCode><e:Message xmlns:e=\"{errors}\">{text}</e:Message>"
    );
    if !error.detail.is_empty() {
        let _ = write!(
            body,
            "<t:MessageXml xmlns:t=\"{types}\">{}</t:MessageXml>",
            error.detail
        );
    }
    body.push_str("</detail></s:Fault>");
    envelope(exchange, StatusCode::INTERNAL_SERVER_ERROR, &body)
}

fn schema_fault(exchange: &Exchange, request: &str, violation: &Violation) -> Reply {
    let (line, column) = xml::position(request, violation.offset);
    let error = EwsError::new(
        "ErrorSchemaValidation",
        "The request failed schema validation: ".to_owned() + &violation.text,
    )
    .value("LineNumber", &line.to_string())
    .value("LinePosition", &column.to_string())
    .value("Violation", &violation.text);
    soap_fault(exchange, &error)
}

fn unauthorized(exchange: &Exchange) -> Reply {
    let mut reply = answer(StatusCode::UNAUTHORIZED, "text/plain", Bytes::new());
    if let Reply::Answer(response) = &mut reply {
        if exchange.settings.basic_enabled {
            response.headers_mut().append(
                WWW_AUTHENTICATE,
                HeaderValue::from_static("Basic realm=\"localhost\""),
            );
        }
        if exchange.takes_tokens() {
            let value = "Bearer client_id=\"00000002-0000-0ff1-ce00-000000000000\", trusted_issuers=\"00000001-0000-0000-c000-000000000000@*\"";
            response
                .headers_mut()
                .append(WWW_AUTHENTICATE, HeaderValue::from_static(value));
        }
    }
    reply
}

/// Returns a refusal that offers these schemes.
fn challenged(schemes: &[String]) -> Reply {
    let mut reply = answer(StatusCode::UNAUTHORIZED, "text/plain", Bytes::new());
    if let Reply::Answer(response) = &mut reply {
        for scheme in schemes {
            if let Ok(value) = HeaderValue::from_str(scheme) {
                response.headers_mut().append(WWW_AUTHENTICATE, value);
            }
        }
    }
    reply
}

fn plain(status: StatusCode, text: &'static str) -> Reply {
    answer(
        status,
        "text/plain; charset=utf-8",
        Bytes::from_static(text.as_bytes()),
    )
}

fn answer(status: StatusCode, content: &'static str, body: Bytes) -> Reply {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    Reply::Answer(response)
}

/// Adds the headers that every answer has.
fn usual_headers(exchange: &Exchange, request: &Request<Bytes>, headers: &mut HeaderMap) {
    if let Some(date) = exchange.clock.header() {
        headers.insert(DATE, date);
    }
    if let Ok(value) = HeaderValue::from_str(&unique_id().to_string()) {
        headers.insert("request-id", value);
    }
    headers.insert("x-feserver", HeaderValue::from_static("SIM01"));
    // The client's id is returned only if the client asks for it.
    let wanted = request.headers().get("return-client-request-id");
    let id = request.headers().get("client-request-id");
    if let (Some(wanted), Some(id)) = (wanted, id)
        && wanted.as_bytes().eq_ignore_ascii_case(b"true")
    {
        headers.insert("client-request-id", id.clone());
    }
}
