//! `ResolveNames`: what the directory says about an address, for the doctor.

use bytes::Bytes;
use tasksync_common::error::Failure;
use tasksync_common::facts::MailboxKind;
use tasksync_common::model::MailboxAddress;

use super::EwsMailbox;
use super::access::{self, AccessMode};
use super::envelope::Header;
use super::operation::{self, Operation, operation};
use super::request::{operation_refused, unclear_success};
use super::response_messages::{self, EwsError, ResponseMessage};
use super::xml::{Parsed, Xml, element};
use crate::mailbox::Owner;

pub(super) const OPERATION: Operation = operation!("ResolveNames", writes: false);

/// The code of an address that the directory does not have.
const NO_RESULTS: &str = "ErrorNameResolutionNoResults";

/// An entry of the directory: address and kind, as the server names them.
pub(super) type Resolution = (String, String);

/// Returns the request for the entry of an address.
pub(super) fn request(header: &Header<'_>, address: &MailboxAddress) -> Bytes {
    header.envelope(300, |out| {
        out.push_str("<m:ResolveNames ReturnFullContactData=\"false\" SearchScope=\"ActiveDirectory\">");
        element(out, "m:UnresolvedEntry", &format!("smtp:{address}"));
        out.push_str("</m:ResolveNames>");
    })
}

/// Reads the one response message.
pub(super) fn read(xml: &mut Xml<'_>) -> Parsed<Vec<ResponseMessage<Vec<Resolution>>>> {
    response_messages::read(
        xml,
        OPERATION.message,
        1,
        |part, xml, found: &mut Vec<Resolution>| {
            if part.name() != "ResolutionSet" {
                return xml.skip();
            }
            while let Some(resolution) = xml.child()? {
                if resolution.name() != "Resolution" {
                    xml.skip()?;
                    continue;
                }
                while let Some(entry) = xml.child()? {
                    if entry.name() == "Mailbox" {
                        found.push(mailbox(xml)?);
                    } else {
                        xml.skip()?;
                    }
                }
            }
            Ok(())
        },
    )
}

fn mailbox(xml: &mut Xml<'_>) -> Parsed<Resolution> {
    let (mut address, mut kind) = (String::new(), String::new());
    while let Some(part) = xml.child()? {
        match part.name() {
            "EmailAddress" => address = xml.text()?.into_owned(),
            "MailboxType" => kind = xml.text()?.into_owned(),
            _ => xml.skip()?,
        }
    }
    Ok((address, kind))
}

/// Returns what a kind means. A server that leaves it out means a mailbox.
fn kind_of(kind: &str) -> MailboxKind {
    match kind.trim() {
        "" | "Mailbox" => MailboxKind::Mailbox,
        "PublicDL" | "PrivateDL" => MailboxKind::DistributionList,
        "Contact" | "OneOff" => MailboxKind::Contact,
        "PublicFolder" => MailboxKind::PublicFolder,
        "GroupMailbox" => MailboxKind::Group,
        _ => MailboxKind::Unknown,
    }
}

impl EwsMailbox {
    /// Returns what the directory says about the owner's address. Learns nothing about access to the mailbox, because
    /// the directory answers without it.
    pub(super) async fn resolve(&self, owner: &Owner) -> Result<MailboxKind, EwsError> {
        let (first, second) = self.access.order(&owner.mailbox);
        let mut refused = None;
        for mode in [Some(first), second].into_iter().flatten() {
            let header = Header {
                mailbox: Some(&owner.mailbox),
                impersonate: mode == AccessMode::Impersonation,
                zone: None,
            };
            let body = request(&header, &owner.mailbox);
            let answer = self
                .client
                .send(&OPERATION, &[&owner.mailbox], body, read)
                .await?;
            let message =
                operation::only(answer.messages).map_err(|reason| unclear_success(&OPERATION, &reason.0))?;
            let error = match message {
                Ok(found) => return Ok(Self::kind_among(&owner.mailbox, &found)),
                Err(error) if error.code == NO_RESULTS => return Ok(MailboxKind::NotListed),
                Err(error) => error,
            };
            let may_pass = access::is_refusal(&error.code, false);
            let error = operation_refused(&OPERATION, error);
            if !may_pass {
                return Err(error);
            }
            refused = Some(error);
        }
        Err(refused.unwrap_or_else(|| unclear_success(&OPERATION, "no answer")))
    }

    /// Returns the kind of the entry with this address. The directory may show another address of the same entry, so a
    /// single entry counts whatever its address.
    fn kind_among(address: &MailboxAddress, found: &[Resolution]) -> MailboxKind {
        let named = found
            .iter()
            .find(|(entry, _)| entry.trim().eq_ignore_ascii_case(address.as_str()));
        match (named, found) {
            (Some((_, kind)), _) | (None, [(_, kind)]) => kind_of(kind),
            (None, _) => MailboxKind::Unknown,
        }
    }

    /// Does the same as [`Self::resolve`], with the mailbox in the failure.
    pub(super) async fn kind_of_mailbox(&self, owner: &Owner) -> Result<MailboxKind, Failure> {
        super::within_mailbox(owner, self.resolve(owner).await)
    }
}

#[cfg(test)]
mod tests {
    use super::super::envelope;
    use super::*;

    #[test]
    fn the_entry_of_an_address_is_read() {
        let answer = "<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:m=\"m\" xmlns:t=\"t\"><s:Body>\
            <m:ResolveNamesResponse><m:ResponseMessages><m:ResolveNamesResponseMessage ResponseClass=\"Success\">\
            <m:ResponseCode>NoError</m:ResponseCode><m:ResolutionSet TotalItemsInView=\"1\" IncludesLastItemInRange=\"true\">\
            <t:Resolution><t:Mailbox><t:Name>All</t:Name><t:EmailAddress>all@contoso.example</t:EmailAddress>\
            <t:RoutingType>SMTP</t:RoutingType><t:MailboxType>PublicDL</t:MailboxType></t:Mailbox></t:Resolution>\
            </m:ResolutionSet></m:ResolveNamesResponseMessage></m:ResponseMessages></m:ResolveNamesResponse></s:Body></s:Envelope>";
        let reply = envelope::read(answer.as_bytes(), OPERATION.response, read).unwrap();
        let messages = reply.outcome.unwrap();
        let found = operation::only(messages).unwrap().unwrap();
        assert_eq!(found, [("all@contoso.example".to_owned(), "PublicDL".to_owned())]);
        assert_eq!(kind_of("PublicDL"), MailboxKind::DistributionList);
        assert_eq!(kind_of(""), MailboxKind::Mailbox);
        assert_eq!(kind_of("Robot"), MailboxKind::Unknown);
    }
}
