//! `ResolveNames`: looks an address up in the directory, which has every mailbox.

use crate::exchange::context::{Context, OperationResponse};
use crate::exchange::error::EwsError;
use crate::exchange::xml::{Element, escape_into};

pub(super) fn run(context: &Context<'_>, request: &Element) -> String {
    let mut answer = OperationResponse::new(context, "ResolveNames", "");
    answer.entry(|out| {
        let entry = request.child_text("UnresolvedEntry").unwrap_or_default();
        let address = entry.strip_prefix("smtp:").unwrap_or(entry);
        let mailbox = context.exchange.mailbox(address).ok_or_else(|| {
            EwsError::new("ErrorNameResolutionNoResults", "No results were found.")
        })?;
        out.push_str("<m:ResolutionSet TotalItemsInView=\"1\" IncludesLastItemInRange=\"true\"><t:Resolution><t:Mailbox><t:Name>");
        escape_into(out, &mailbox.display_name);
        out.push_str("</t:Name><t:EmailAddress>");
        escape_into(out, &mailbox.smtp);
        out.push_str("</t:EmailAddress><t:RoutingType>SMTP</t:RoutingType><t:MailboxType>Mailbox</t:MailboxType></t:Mailbox></t:Resolution></m:ResolutionSet>");
        Ok(())
    });
    answer.finish()
}
