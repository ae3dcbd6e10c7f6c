//! Requests against Microsoft's schema, answers in the forms that servers use, and the request loop against a
//! prepared server.

mod answers;
mod bodies;
mod exchange;
mod fitting;
mod foreign;
mod optional;
mod probing;
mod rig;
mod robustness;
mod session;

use jiff::civil::date;
use tasksync_common::model::{
    Body, BodyKind, Importance, LocationKey, MailboxAddress, Percent, SourceKey, Status, Task,
};

use super::envelope::Header;

pub(super) const NASTY: &str = "a&b <c> \"d\" 'e' ]]> \u{1F600} é\r\n\t\u{0}\u{1}\u{b}\u{FFFE}z";

pub(super) fn ana() -> MailboxAddress {
    "ana@contoso.example".parse().unwrap()
}

pub(super) fn location() -> LocationKey {
    LocationKey::sharepoint_list("3f1c2f0e-0000-4000-8000-000000000001")
}

pub(super) fn key() -> SourceKey {
    location().task(17)
}

pub(super) fn rich_task() -> Task {
    Task {
        title: NASTY.to_owned(),
        body: Some(Body {
            kind: BodyKind::Html,
            content: format!("<p>{NASTY}</p>"),
        }),
        start: Some(date(2026, 12, 1)),
        due: Some(date(2026, 12, 4)),
        status: Status::WaitingOnOthers,
        percent: Percent::from_percent(33.33),
        completed_at: None,
        importance: Importance::High,
        actual_work: Some(60),
        total_work: Some(i32::MAX),
        categories: ["Red", NASTY].into_iter().map(str::to_owned).collect(),
    }
}

/// Returns the headers with which requests are written.
pub(super) fn headers(mailbox: &MailboxAddress) -> Vec<Header<'_>> {
    vec![
        Header::default(),
        Header {
            mailbox: Some(mailbox),
            impersonate: false,
            zone: Some("W. Europe Standard Time"),
        },
        Header {
            mailbox: Some(mailbox),
            impersonate: true,
            zone: Some("UTC"),
        },
    ]
}

/// Returns an envelope around a body, in the form that servers use.
pub(super) fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\">\
         <s:Header><h:ServerVersionInfo MajorVersion=\"15\" MinorVersion=\"2\" MajorBuildNumber=\"2562\" \
         MinorBuildNumber=\"17\" xmlns:h=\"http://schemas.microsoft.com/exchange/services/2006/types\"/></s:Header>\
         <s:Body>{body}</s:Body></s:Envelope>"
    )
}

/// Returns a response with these messages.
pub(super) fn response(operation: &str, messages: &[String]) -> String {
    envelope(&format!(
        "<m:{operation}Response xmlns:m=\"m\" xmlns:t=\"t\"><m:ResponseMessages>{}</m:ResponseMessages></m:{operation}Response>",
        messages.concat()
    ))
}

/// Returns a message of success.
pub(super) fn success(operation: &str, payload: &str) -> String {
    format!(
        "<m:{operation}ResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>{payload}</m:{operation}ResponseMessage>"
    )
}

/// Returns a message of an error.
pub(super) fn refusal(operation: &str, code: &str) -> String {
    let class = if code == "ErrorBatchProcessingStopped" {
        "Warning"
    } else {
        "Error"
    };
    format!(
        "<m:{operation}ResponseMessage ResponseClass=\"{class}\"><m:MessageText>words</m:MessageText>\
         <m:ResponseCode>{code}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey></m:{operation}ResponseMessage>"
    )
}

/// Returns a fault of the whole request.
pub(super) fn fault(code: &str, extra: &str) -> String {
    envelope(&format!(
        "<s:Fault><faultcode xmlns:a=\"t\">a:{code}</faultcode><faultstring xml:lang=\"en-US\">words</faultstring>\
         <detail><e:ResponseCode xmlns:e=\"e\">{code}</e:ResponseCode><e:Message xmlns:e=\"e\">words</e:Message>{extra}</detail></s:Fault>"
    ))
}

/// Returns a folder with signs of change.
pub(super) fn folder(id: &str, deletions: u32) -> String {
    format!(
        "<m:Folders><t:TasksFolder><t:FolderId Id=\"{id}\" ChangeKey=\"AQAA\"/>\
         <t:ExtendedProperty><t:ExtendedFieldURI PropertyTag=\"0x670a\" PropertyType=\"SystemTime\"/><t:Value>2026-11-22T14:00:00Z</t:Value></t:ExtendedProperty>\
         <t:ExtendedProperty><t:ExtendedFieldURI PropertyTag=\"0x670b\" PropertyType=\"Integer\"/><t:Value>{deletions}</t:Value></t:ExtendedProperty>\
         </t:TasksFolder></m:Folders>"
    )
}

/// Returns the answer to the request for the mailbox's own folders: `tasks` and `deleted`.
pub(super) fn own_folders() -> String {
    response(
        "GetFolder",
        &["tasks", "deleted"].map(|id| success("GetFolder", &folder(id, 0))),
    )
}

/// Returns a listing of the task folders: these below the top, beside the mailbox's own, and none below the
/// deleted items.
pub(super) fn listing(folders: &str, attributes: &str) -> String {
    let page = |folders: &str| {
        success(
            "FindFolder",
            &format!("<m:RootFolder {attributes}><t:Folders>{folders}</t:Folders></m:RootFolder>"),
        )
    };
    let tasks_folder = "<t:TasksFolder><t:FolderId Id=\"tasks\"/></t:TasksFolder>";
    response(
        "FindFolder",
        &[page(&format!("{tasks_folder}{folders}")), page("")],
    )
}
