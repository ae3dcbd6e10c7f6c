//! Selects the item properties of an answer and writes them.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::error::EwsError;
use super::ids::{ObjectId, ObjectKind, change_key};
use super::mailbox::Mailbox;
use super::properties::{Properties, PropertyPath, PropertyValue, additional_properties, write_property};
use super::store::{Folder, Item};
use super::tasks::{TaskStatus, date_text};
use super::xml::{Element, escape_into, leaf};

/// The formatting rules for the values of one mailbox in one answer.
pub(crate) struct Style<'a> {
    pub(crate) mailbox: &'a Mailbox,
    /// Time zone of the request's `TimeZoneContext`.
    pub(crate) request_zone: Option<&'a TimeZone>,
    /// Time zone in which the store keeps a task's dates.
    pub(crate) date_zone: TimeZone,
    /// Whether `DateTimePrecision` is `Milliseconds`.
    pub(crate) precise: bool,
    /// Whether HTML bodies come back as whole documents.
    pub(crate) rewrite_html: bool,
    pub(crate) omit_probe_tags: bool,
}

impl Style<'_> {
    /// Formats a time with `Z`, to the second or the millisecond.
    pub(crate) fn instant(&self, at: Timestamp) -> String {
        let format = if self.precise {
            "%Y-%m-%dT%H:%M:%S.%3fZ"
        } else {
            "%Y-%m-%dT%H:%M:%SZ"
        };
        at.strftime(format).to_string()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyShape {
    Best,
    Html,
    Text,
}

/// The item properties that a request asks for.
#[derive(Debug)]
pub(crate) struct ItemShape {
    fields: u64,
    extended: Vec<PropertyPath>,
    body: BodyShape,
    maximum_body: Option<usize>,
}

/// Item properties that this server returns, in the order of the schema. `None` is the position of the extended
/// properties.
const ITEM_FIELDS: &[Option<&str>] = &[
    Some("item:ParentFolderId"),
    Some("item:ItemClass"),
    Some("item:Subject"),
    Some("item:Sensitivity"),
    Some("item:Body"),
    Some("item:DateTimeReceived"),
    Some("item:Size"),
    Some("item:Categories"),
    Some("item:Importance"),
    Some("item:InReplyTo"),
    Some("item:IsSubmitted"),
    Some("item:IsDraft"),
    Some("item:IsFromMe"),
    Some("item:IsResend"),
    Some("item:IsUnmodified"),
    Some("item:DateTimeSent"),
    Some("item:DateTimeCreated"),
    Some("item:ReminderDueBy"),
    Some("item:ReminderIsSet"),
    Some("item:ReminderMinutesBeforeStart"),
    Some("item:HasAttachments"),
    None,
    Some("item:Culture"),
    Some("item:EffectiveRights"),
    Some("item:LastModifiedName"),
    Some("item:LastModifiedTime"),
    Some("item:IsAssociated"),
    Some("item:TextBody"),
    Some("task:ActualWork"),
    Some("task:BillingInformation"),
    Some("task:ChangeCount"),
    Some("task:Companies"),
    Some("task:CompleteDate"),
    Some("task:Contacts"),
    Some("task:DelegationState"),
    Some("task:DueDate"),
    Some("task:IsAssignmentEditable"),
    Some("task:IsComplete"),
    Some("task:IsRecurring"),
    Some("task:IsTeamTask"),
    Some("task:Mileage"),
    Some("task:Owner"),
    Some("task:PercentComplete"),
    Some("task:StartDate"),
    Some("task:Status"),
    Some("task:StatusDescription"),
    Some("task:TotalWork"),
];

/// The properties of base shape `Default` for tasks.
const DEFAULT_ITEM_FIELDS: &[&str] = &[
    "item:Subject",
    "item:Sensitivity",
    "item:Importance",
    "item:HasAttachments",
    "item:Categories",
    "task:CompleteDate",
    "task:DueDate",
    "task:IsComplete",
    "task:PercentComplete",
    "task:StartDate",
    "task:Status",
];

fn bit(uri: &str) -> u64 {
    ITEM_FIELDS
        .iter()
        .position(|field| *field == Some(uri))
        .map_or(0, |index| 1 << index)
}

impl ItemShape {
    /// Parses an `ItemShape`. `bodies` is false for operations that never return bodies.
    ///
    /// # Errors
    /// `ErrorInvalidPropertyRequest` for a property of folders, `ErrorInternalServerError` for `UniqueBody` (which
    /// real servers cannot compute for tasks), or `ErrorInvalidExtendedProperty`.
    pub(crate) fn read(element: Option<&Element>, bodies: bool) -> Result<Self, EwsError> {
        let body = match element.and_then(|shape| shape.child_text("BodyType")) {
            Some("HTML") => BodyShape::Html,
            Some("Text") => BodyShape::Text,
            _ => BodyShape::Best,
        };
        let maximum_body = element
            .and_then(|shape| shape.child_text("MaximumBodySize"))
            .and_then(|size| size.trim().parse::<usize>().ok())
            .filter(|size| *size > 0);
        let mut shape = Self {
            fields: 0,
            extended: Vec::new(),
            body,
            maximum_body,
        };
        shape.fields = match element.and_then(|shape| shape.child_text("BaseShape")) {
            Some("AllProperties") => !bit("item:TextBody"),
            Some("Default") => DEFAULT_ITEM_FIELDS
                .iter()
                .fold(bit("item:Body"), |bits, uri| bits | bit(uri)),
            _ => 0,
        };
        for path in additional_properties(element) {
            match path.name.as_str() {
                "ExtendedFieldURI" => shape.extended.push(PropertyPath::read(path)?),
                "FieldURI" => {
                    let uri = path.attribute("FieldURI").unwrap_or_default();
                    if uri.starts_with("folder:") {
                        return Err(EwsError::invalid_property(uri));
                    }
                    if uri == "item:UniqueBody" {
                        let text = "An internal server error occurred. The operation failed.";
                        return Err(EwsError::new("ErrorInternalServerError", text));
                    }
                    shape.fields |= bit(uri);
                }
                _ => {}
            }
        }
        if !bodies {
            shape.fields &= !(bit("item:Body") | bit("item:TextBody"));
        }
        Ok(shape)
    }

    /// Writes `t:Task` with the requested properties.
    pub(crate) fn write(&self, out: &mut String, style: &Style<'_>, item: &Item) {
        out.push_str("<t:Task>");
        write_item_id(out, style.mailbox, item);
        for (index, field) in ITEM_FIELDS.iter().enumerate() {
            match field {
                Some(uri) if self.fields & (1 << index) != 0 => self.write_field(out, style, item, uri),
                Some(_) => {}
                None => write_extended(out, &self.extended, &item.properties, |_| None),
            }
        }
        out.push_str("</t:Task>");
    }

    fn write_field(&self, out: &mut String, style: &Style<'_>, item: &Item, uri: &str) {
        let name = uri.split_once(':').map_or(uri, |(_, name)| name);
        let text = |out: &mut String, value: Option<&str>| {
            if let Some(value) = value {
                leaf(out, name, value);
            }
        };
        match uri {
            "item:ParentFolderId" => write_id(
                out,
                "ParentFolderId",
                style.mailbox,
                ObjectKind::Folder,
                item.folder,
                None,
            ),
            "item:ItemClass" => leaf(out, name, &item.class),
            "item:Subject" => text(out, item.subject.as_deref()),
            "item:Sensitivity" => leaf(out, name, &item.sensitivity),
            "item:Body" => self.write_body(out, style, item),
            "item:TextBody" => {
                if let Some(body) = &item.body {
                    out.push_str("<t:TextBody BodyType=\"Text\">");
                    escape_into(
                        out,
                        &if body.html {
                            plain_text(&body.text)
                        } else {
                            body.text.clone()
                        },
                    );
                    out.push_str("</t:TextBody>");
                }
            }
            "item:DateTimeReceived" | "item:DateTimeSent" | "item:DateTimeCreated" => {
                leaf(out, name, &style.instant(item.created));
            }
            "item:Size" => {
                let size = 1500 + item.body.as_ref().map_or(0, |body| body.text.len());
                leaf(out, name, &size.to_string());
            }
            "item:Categories" => strings(out, name, &item.categories),
            "item:Importance" => leaf(out, name, &item.importance),
            "item:InReplyTo" => text(out, item.in_reply_to.as_deref()),
            "item:ReminderDueBy" => text(out, item.reminder_due.map(|due| style.instant(due)).as_deref()),
            "item:ReminderIsSet" => leaf(out, name, &item.reminder_is_set.to_string()),
            "item:ReminderMinutesBeforeStart" => leaf(out, name, &item.reminder_minutes.to_string()),
            "item:IsSubmitted"
            | "item:IsDraft"
            | "item:IsFromMe"
            | "item:IsResend"
            | "item:HasAttachments"
            | "item:IsAssociated"
            | "task:IsTeamTask" => leaf(out, name, "false"),
            "item:IsUnmodified" => leaf(out, name, &(item.change_count == 0).to_string()),
            "item:Culture" => leaf(out, name, item.culture.as_deref().unwrap_or("en-US")),
            "item:EffectiveRights" => effective_rights(out),
            "item:LastModifiedName" => leaf(out, name, &item.modified_by),
            "item:LastModifiedTime" => leaf(out, name, &style.instant(item.modified)),
            "task:ActualWork" => text(out, item.actual_work.map(|work| work.to_string()).as_deref()),
            "task:TotalWork" => text(out, item.total_work.map(|work| work.to_string()).as_deref()),
            "task:BillingInformation" => text(out, item.billing.as_deref()),
            "task:Mileage" => text(out, item.mileage.as_deref()),
            "task:ChangeCount" => leaf(out, name, &item.change_count.to_string()),
            "task:Companies" => strings(out, name, &item.companies),
            "task:Contacts" => strings(out, name, &item.contacts),
            "task:CompleteDate" => text(
                out,
                item.progress.completed.map(|at| style.instant(at)).as_deref(),
            ),
            "task:DelegationState" => leaf(out, name, "NoMatch"),
            "task:DueDate" | "task:StartDate" => {
                let date = if name == "DueDate" {
                    item.dates.due
                } else {
                    item.dates.start
                };
                text(
                    out,
                    date.map(|date| date_text(date, style.request_zone, &style.date_zone))
                        .as_deref(),
                );
            }
            "task:IsAssignmentEditable" => leaf(out, name, "1"),
            "task:IsComplete" => leaf(
                out,
                name,
                &(item.progress.status == TaskStatus::Completed).to_string(),
            ),
            "task:IsRecurring" => leaf(out, name, &item.is_recurring.to_string()),
            "task:Owner" => leaf(out, name, &style.mailbox.display_name),
            "task:PercentComplete" => leaf(out, name, &item.progress.percent.to_string()),
            "task:Status" => leaf(out, name, item.progress.status.name()),
            "task:StatusDescription" => leaf(out, name, status_description(item.progress.status)),
            _ => {}
        }
    }

    fn write_body(&self, out: &mut String, style: &Style<'_>, item: &Item) {
        let Some(body) = &item.body else {
            if self.body == BodyShape::Text {
                out.push_str("<t:Body BodyType=\"Text\"/>");
            }
            return;
        };
        let html = match self.body {
            BodyShape::Best => body.html,
            BodyShape::Html => true,
            BodyShape::Text => false,
        };
        let mut text = match (body.html, html) {
            (true, true) if style.rewrite_html => html_document(&body.text),
            (true, true) | (false, false) => body.text.clone(),
            (true, false) => plain_text(&body.text),
            (false, true) => {
                let mut inner = String::new();
                escape_into(&mut inner, &body.text);
                html_document(&inner.replace('\n', "<br>\n"))
            }
        };
        let kind = if html { "HTML" } else { "Text" };
        let mut truncated = "";
        if let Some(maximum) = self.maximum_body
            && text.len() > maximum
        {
            let end = (0..=maximum)
                .rev()
                .find(|end| text.is_char_boundary(*end))
                .unwrap_or(0);
            text.truncate(end);
            truncated = " IsTruncated=\"true\"";
        }
        let _ = write!(out, "<t:Body BodyType=\"{kind}\"{truncated}>");
        escape_into(out, &text);
        out.push_str("</t:Body>");
    }
}

fn status_description(status: TaskStatus) -> &'static str {
    match status {
        TaskStatus::NotStarted => "Not Started",
        TaskStatus::InProgress => "In Progress",
        TaskStatus::Completed => "Completed",
        TaskStatus::WaitingOnOthers => "Waiting on someone else",
        TaskStatus::Deferred => "Deferred",
    }
}

/// Wraps a fragment into the document that a real server returns. A document stays as it is.
fn html_document(fragment: &str) -> String {
    if fragment
        .trim_start()
        .get(..5)
        .is_some_and(|start| start.eq_ignore_ascii_case("<html"))
    {
        return fragment.to_owned();
    }
    format!(
        "<html>\r\n<head>\r\n<meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\">\r\n</head>\r\n<body>\r\n{fragment}\r\n</body>\r\n</html>\r\n"
    )
}

/// Returns the text of an HTML fragment. Tags are dropped; the five XML entities and `&nbsp;` are resolved.
fn plain_text(html: &str) -> String {
    let mut out = String::with_capacity(html.len());
    let mut rest = html;
    while let Some(start) = rest.find('<') {
        out.push_str(&rest[..start]);
        let Some(length) = rest[start..].find('>') else {
            rest = "";
            break;
        };
        let tag = rest[start + 1..start + length].to_ascii_lowercase();
        if tag.starts_with("br") || tag.starts_with("/p") || tag.starts_with("/div") {
            out.push_str("\r\n");
        }
        rest = &rest[start + length + 1..];
    }
    out.push_str(rest);
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&nbsp;", "\u{a0}"),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(out, |text, (entity, character)| text.replace(entity, character))
}

fn strings(out: &mut String, name: &str, values: &[String]) {
    if values.is_empty() {
        return;
    }
    let _ = write!(out, "<t:{name}>");
    for value in values {
        leaf(out, "String", value);
    }
    let _ = write!(out, "</t:{name}>");
}

/// Writes the rights. A caller that may open the mailbox has all of them.
pub(crate) fn effective_rights(out: &mut String) {
    out.push_str("<t:EffectiveRights><t:CreateAssociated>true</t:CreateAssociated><t:CreateContents>true</t:CreateContents><t:CreateHierarchy>true</t:CreateHierarchy><t:Delete>true</t:Delete><t:Modify>true</t:Modify><t:Read>true</t:Read><t:ViewPrivateItems>true</t:ViewPrivateItems></t:EffectiveRights>");
}

/// Writes an identifier, with a change key if one is given.
pub(crate) fn write_id(
    out: &mut String,
    name: &str,
    mailbox: &Mailbox,
    kind: ObjectKind,
    number: u64,
    change: Option<u64>,
) {
    let id = ObjectId {
        mailbox: mailbox.number,
        kind,
        number,
    }
    .encode();
    let _ = write!(out, "<t:{name} Id=\"{id}\"");
    if let Some(change) = change {
        let _ = write!(out, " ChangeKey=\"{}\"", change_key(kind, change));
    }
    out.push_str("/>");
}

/// Writes `t:ItemId` with the current change key.
pub(crate) fn write_item_id(out: &mut String, mailbox: &Mailbox, item: &Item) {
    write_id(
        out,
        "ItemId",
        mailbox,
        ObjectKind::Item,
        item.number,
        Some(item.change),
    );
}

/// Writes `t:ItemId` of a deleted item.
pub(crate) fn write_gone_item_id(out: &mut String, mailbox: &Mailbox, number: u64, change: u64) {
    write_id(out, "ItemId", mailbox, ObjectKind::Item, number, Some(change));
}

/// Writes `t:FolderId`. The change key covers the folder and its contents.
pub(crate) fn write_folder_id(out: &mut String, mailbox: &Mailbox, folder: &Folder) {
    let change = folder.change.max(folder.contents_change);
    write_id(
        out,
        "FolderId",
        mailbox,
        ObjectKind::Folder,
        folder.number,
        Some(change),
    );
}

/// Writes those requested extended properties that have a value of the requested type, computed or stored.
pub(crate) fn write_extended(
    out: &mut String,
    wanted: &[PropertyPath],
    properties: &Properties,
    computed: impl Fn(&PropertyPath) -> Option<String>,
) {
    for path in wanted {
        if let Some(value) = computed(path) {
            write_property(out, path, &[value]);
        } else if let Some(PropertyValue { kind, values }) = properties.get(&path.key)
            && *kind == path.kind
        {
            write_property(out, path, values);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_becomes_text_and_fragments_become_documents() {
        assert_eq!(plain_text("<p>a &amp; <b>b</b></p>c<"), "a & b\r\nc");
        assert!(html_document("<p>a</p>").starts_with("<html>"));
        assert_eq!(html_document("<HTML>x"), "<HTML>x");
    }
}
