//! The SOAP envelope: writes the header of requests, reads the header and faults of answers.

use bytes::Bytes;
use tasksync_common::model::MailboxAddress;
use tasksync_common::versions::ExchangeBuild;

use super::response_messages::ServerError;
use super::xml::{BadAnswer, Parsed, Xml, element, escape};

/// Bytes reserved for the envelope itself; bodies add their own estimate.
const ENVELOPE_BYTES: usize = 900;

/// The identity and the time zone of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Header<'a> {
    /// The mailbox of the request, if it concerns one mailbox.
    pub(super) mailbox: Option<&'a MailboxAddress>,
    /// Whether to act as that mailbox's owner.
    pub(super) impersonate: bool,
    /// The Windows id of the zone of dates without a zone.
    pub(super) zone: Option<&'a str>,
}

impl<'a> Header<'a> {
    /// Returns the mailbox that a distinguished folder id must name: with delegate access it is not the
    /// caller's own.
    pub(super) fn named_mailbox(&self) -> Option<&'a MailboxAddress> {
        if self.impersonate { None } else { self.mailbox }
    }

    /// Returns a whole envelope around what `body` writes. `capacity` is an estimate of the body's bytes.
    pub(super) fn envelope(&self, capacity: usize, body: impl FnOnce(&mut String)) -> Bytes {
        let mut out = String::with_capacity(ENVELOPE_BYTES + capacity);
        out.push_str(concat!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?>",
            "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"",
            " xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\"",
            " xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\">",
            "<s:Header><t:RequestServerVersion Version=\"Exchange2013_SP1\"/>",
        ));
        if let (true, Some(mailbox)) = (self.impersonate, self.mailbox) {
            out.push_str("<t:ExchangeImpersonation><t:ConnectingSID>");
            element(&mut out, "t:PrimarySmtpAddress", mailbox.as_str());
            out.push_str("</t:ConnectingSID></t:ExchangeImpersonation>");
        }
        if let Some(zone) = self.zone {
            out.push_str("<t:TimeZoneContext><t:TimeZoneDefinition Id=\"");
            escape(&mut out, zone);
            out.push_str("\"/></t:TimeZoneContext>");
        }
        // Without this header times are cut to whole seconds, and two changes within one second would look
        // like one.
        out.push_str("<t:DateTimePrecision>Milliseconds</t:DateTimePrecision></s:Header><s:Body>");
        body(&mut out);
        out.push_str("</s:Body></s:Envelope>");
        Bytes::from(out)
    }
}

/// An answer with a SOAP envelope.
#[derive(Debug)]
pub(super) struct SoapReply<T> {
    /// The server's build, if the answer names it.
    pub(super) version: Option<ExchangeBuild>,
    /// The body, or the fault that refuses the whole request.
    pub(super) outcome: Result<T, ServerError>,
}

/// Reads an envelope whose body must be the element `response`, read by `body`, or a fault.
pub(super) fn read<'a, T>(
    bytes: &'a [u8],
    response: &str,
    body: impl FnOnce(&mut Xml<'a>) -> Parsed<T>,
) -> Parsed<SoapReply<T>> {
    let mut xml = Xml::new(bytes)?;
    let root = xml.root()?;
    if root.name() != "Envelope" {
        return Err(BadAnswer(format!(
            "\"{}\" instead of a SOAP envelope",
            root.name()
        )));
    }
    let mut body = Some(body);
    let mut version = None;
    let mut outcome = None;
    while let Some(part) = xml.child()? {
        match part.name() {
            "Header" => version = header(&mut xml)?,
            "Body" => {
                let Some(body) = body.take() else {
                    return Err(BadAnswer("two SOAP bodies".to_owned()));
                };
                let Some(content) = xml.child()? else {
                    return Err(BadAnswer("an empty SOAP body".to_owned()));
                };
                outcome = Some(match content.name() {
                    "Fault" => Err(fault(&mut xml)?),
                    name if name == response => Ok(body(&mut xml)?),
                    name => return Err(BadAnswer(format!("{name} where {response} was expected"))),
                });
                xml.skip()?;
            }
            _ => xml.skip()?,
        }
    }
    let outcome = outcome.ok_or_else(|| BadAnswer("an envelope without body".to_owned()))?;
    Ok(SoapReply { version, outcome })
}

fn header(xml: &mut Xml<'_>) -> Parsed<Option<ExchangeBuild>> {
    let mut version = None;
    while let Some(element) = xml.child()? {
        if element.name() == "ServerVersionInfo" {
            let parts = element.attributes([
                "MajorVersion",
                "MinorVersion",
                "MajorBuildNumber",
                "MinorBuildNumber",
            ])?;
            let [major, minor, build, revision] =
                parts.map(|text| text.and_then(|text| text.parse().ok()).unwrap_or(0));
            version = Some(ExchangeBuild {
                major,
                minor,
                build,
                revision,
            });
        }
        xml.skip()?;
    }
    Ok(version)
}

/// Reads a SOAP 1.1 fault, or the parts of a 1.2 fault that have the same meaning.
fn fault(xml: &mut Xml<'_>) -> Parsed<ServerError> {
    let mut error = ServerError::default();
    let mut fault_code = String::new();
    while let Some(part) = xml.child()? {
        match part.name() {
            "faultcode" => {
                let text = xml.text()?;
                let text = text.trim();
                text.rsplit_once(':')
                    .map_or(text, |(_, local)| local)
                    .clone_into(&mut fault_code);
            }
            "faultstring" | "Reason" => {
                let text = xml.text()?;
                if error.text.is_empty() {
                    error.text = text.into_owned();
                }
            }
            "detail" | "Detail" => {
                while let Some(detail) = xml.child()? {
                    match detail.name() {
                        "ResponseCode" => xml.text()?.trim().clone_into(&mut error.code),
                        "Message" => error.text = xml.text()?.into_owned(),
                        "MessageXml" => error.message_xml(xml)?,
                        _ => xml.skip()?,
                    }
                }
            }
            _ => xml.skip()?,
        }
    }
    if error.code.is_empty() {
        error.code = if fault_code.is_empty() {
            "Fault".to_owned()
        } else {
            fault_code
        };
    }
    Ok(error)
}
