//! Builds answers that the server never gave: successes, refusals, denials and empty listings. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::request::{ParsedRequest, RequestKind, TargetServer};
use crate::sim::answers::Answer;
use crate::sim::dice::Dice;

const MESSAGES: &str = "http://schemas.microsoft.com/exchange/services/2006/messages";
const TYPES: &str = "http://schemas.microsoft.com/exchange/services/2006/types";

/// Returns a success for a write that is not carried out.
pub(super) fn success(request: &ParsedRequest, dice: &mut Dice) -> Option<Answer> {
    if request.kind != RequestKind::Write {
        return None;
    }
    match request.server {
        TargetServer::Exchange => exchange_success(request, dice),
        TargetServer::Sharepoint => Some(sharepoint_success(request, dice)),
    }
}

fn exchange_success(request: &ParsedRequest, dice: &mut Dice) -> Option<Answer> {
    let text = std::str::from_utf8(&request.body).ok()?;
    let mut id = || {
        let bytes: Vec<u8> = (0..48)
            .map(|_| u8::try_from(dice.below(256)).unwrap_or(0))
            .collect();
        STANDARD.encode(bytes)
    };
    let messages: Vec<String> = match request.operation.as_str() {
        "CreateItem" => text
            .matches("<t:Task>")
            .map(|_| format!("<m:Items><t:Task><t:ItemId Id=\"{}\" ChangeKey=\"{}\"/></t:Task></m:Items>", id(), id()))
            .collect(),
        "CreateFolder" => text
            .matches("<t:TasksFolder>")
            .map(|_| format!("<m:Folders><t:TasksFolder><t:FolderId Id=\"{}\" ChangeKey=\"{}\"/></t:TasksFolder></m:Folders>", id(), id()))
            .collect(),
        "UpdateItem" => elements(text, "<t:ItemId ")
            .map(|item| format!("<m:Items><t:Task>{item}</t:Task></m:Items><m:ConflictResults><t:Count>0</t:Count></m:ConflictResults>"))
            .collect(),
        "UpdateFolder" => elements(text, "<t:FolderId ")
            .map(|folder| format!("<m:Folders><t:TasksFolder>{folder}</t:TasksFolder></m:Folders>"))
            .collect(),
        "DeleteItem" => elements(text, "<t:ItemId ").map(|_| String::new()).collect(),
        _ => return None,
    };
    if messages.is_empty() {
        return None;
    }
    let operation = &request.operation;
    let messages = messages
        .iter()
        .map(|inner| format!("<m:{operation}ResponseMessage ResponseClass=\"Success\"><m:ResponseCode>NoError</m:ResponseCode>{inner}</m:{operation}ResponseMessage>"))
        .collect::<Vec<_>>()
        .concat();
    Some(soap(operation, &messages))
}

/// Returns every empty element whose text begins with `start`.
fn elements<'a>(text: &'a str, start: &'static str) -> impl Iterator<Item = &'a str> {
    text.match_indices(start).filter_map(move |(at, _)| {
        let rest = text.get(at..)?;
        let end = rest.find('>')?;
        rest.get(..=end).filter(|element| element.ends_with("/>"))
    })
}

fn soap(operation: &str, messages: &str) -> Answer {
    Answer::xml(
        200,
        &format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Header><h:ServerVersionInfo MajorVersion=\"15\" MinorVersion=\"2\" MajorBuildNumber=\"1544\" MinorBuildNumber=\"11\" Version=\"V2017_07_11\" xmlns:h=\"{TYPES}\"/></s:Header><s:Body><m:{operation}Response xmlns:m=\"{MESSAGES}\" xmlns:t=\"{TYPES}\"><m:ResponseMessages>{messages}</m:ResponseMessages></m:{operation}Response></s:Body></s:Envelope>"
        ),
    )
}

fn sharepoint_success(request: &ParsedRequest, dice: &mut Dice) -> Answer {
    if request.operation == "items.recycle" {
        let digits = |dice: &mut Dice| format!("{:04x}", dice.below(65_536));
        let id = format!(
            "{0}{0}-{1}-4{2}-8{2}-{0}{1}{0}",
            digits(dice),
            digits(dice),
            digits(dice).get(1..).unwrap_or("000")
        );
        return Answer::json(200, &json!({ "value": id }).to_string());
    }
    let version = request
        .if_match
        .as_deref()
        .and_then(|tag| tag.trim_matches('"').parse::<u64>().ok());
    match version {
        // Half of the gateways that swallow a write still send a version.
        Some(version) if dice.chance(50) => {
            Answer::new(204).with_header("ETag", &format!("\"{}\"", version + 1))
        }
        _ => Answer::new(200),
    }
}

/// Returns a refusal of a request, whether it was carried out or not, and its error code.
pub(super) fn refusal(request: &ParsedRequest, true_answer: &Answer, dice: &mut Dice) -> (Answer, String) {
    match request.server {
        TargetServer::Exchange => {
            let code = dice.word(&[
                "ErrorInternalServerError",
                "ErrorAccessDenied",
                "ErrorMailboxStoreUnavailable",
                "ErrorItemNotFound",
                "ErrorIrresolvableConflict",
                "ErrorServerBusy",
                "ErrorTimeoutExpired",
            ]);
            (exchange_error(request, true_answer, code), code.to_owned())
        }
        TargetServer::Sharepoint => {
            let (status, code) = dice
                .pick(&[
                    (
                        500,
                        "-2130575162, Microsoft.SharePoint.SPListDataValidationException",
                    ),
                    (500, "-2147467259, System.Runtime.InteropServices.COMException"),
                    (403, "-2147024891, System.UnauthorizedAccessException"),
                    (412, "-1, Microsoft.SharePoint.Client.ClientServiceException"),
                    (503, "-2147429894, Microsoft.SharePoint.SPException"),
                ])
                .unwrap_or((500, "-1"));
            (sharepoint_error(status, code), format!("{status} {code}"))
        }
    }
}

/// Returns "not found" for an object that exists, and the error code.
pub(super) fn not_found(request: &ParsedRequest, true_answer: &Answer, dice: &mut Dice) -> (Answer, String) {
    match request.server {
        TargetServer::Exchange => {
            let code = match request.operation.as_str() {
                "GetItem" | "UpdateItem" | "DeleteItem" => "ErrorItemNotFound",
                _ => dice.word(&["ErrorFolderNotFound", "ErrorNonExistentMailbox"]),
            };
            (exchange_error(request, true_answer, code), code.to_owned())
        }
        TargetServer::Sharepoint => {
            let code = match request.operation.as_str() {
                "items.get" | "items.update" | "items.recycle" => "-2130575338, System.ArgumentException",
                _ => dice.word(&[
                    "-2130575322, Microsoft.SharePoint.SPException",
                    "-1, Microsoft.SharePoint.Client.ResourceNotFoundException",
                ]),
            };
            (sharepoint_error(404, code), code.to_owned())
        }
    }
}

/// Returns an answer with as many messages as the honest one, each of them with this error.
fn exchange_error(request: &ParsedRequest, true_answer: &Answer, code: &str) -> Answer {
    let operation = &request.operation;
    let count = true_answer
        .text()
        .matches("ResponseMessage ResponseClass=")
        .count()
        .max(1);
    let message = format!(
        "<m:{operation}ResponseMessage ResponseClass=\"Error\"><m:MessageText>It cannot be done.</m:MessageText><m:ResponseCode>{code}</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey></m:{operation}ResponseMessage>"
    );
    soap(operation, &message.repeat(count))
}

fn sharepoint_error(status: u16, code: &str) -> Answer {
    let body = json!({ "odata.error": { "code": code, "message": { "lang": "en-US", "value": "It cannot be done." } } });
    Answer::json(status, &body.to_string())
}

/// Returns the listing without its entries; `None` if it has none.
pub(super) fn without_entries(server: TargetServer, text: &str) -> Option<String> {
    match server {
        TargetServer::Exchange => {
            let text = without_inside(text, "m:Changes")
                .or_else(|| without_inside(text, "t:Items"))
                .or_else(|| without_inside(text, "t:Folders"))?;
            Some(number(&number(&text, "TotalItemsInView"), "IndexedPagingOffset"))
        }
        TargetServer::Sharepoint => {
            let mut root: Value = serde_json::from_str(text).ok()?;
            for path in ["/value", "/d/results"] {
                if let Some(Value::Array(entries)) = root.pointer_mut(path)
                    && !entries.is_empty()
                {
                    entries.clear();
                    return Some(root.to_string());
                }
            }
            None
        }
    }
}

/// Empties every element of this name. Returns `None` if all of them were empty already.
fn without_inside(text: &str, name: &str) -> Option<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let mut parts = text.split(&open);
    let mut out = parts.next()?.to_owned();
    let mut emptied = false;
    for part in parts {
        let (inside, rest) = part.split_once(&close)?;
        emptied |= !inside.is_empty();
        out.push_str(&open);
        out.push_str(&close);
        out.push_str(rest);
    }
    emptied.then_some(out)
}

/// Sets the value of every attribute of this name to 0.
fn number(text: &str, name: &str) -> String {
    let mark = format!("{name}=\"");
    let mut parts = text.split(&mark);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.split_once('"').map_or(part, |(_, rest)| rest);
        out.push_str(&mark);
        out.push_str("0\"");
        out.push_str(rest);
    }
    out
}
