//! A SharePoint site with canned answers: one list, a few items, a change feed.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::{columns, odata};
use tasksync_common::tasks::spawn;

pub(super) const LIST: &str = "3f1c2f0e-0000-4000-8000-000000000001";
pub(super) const SITE: &str = "00000000-0000-4000-8000-000000000001";

#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
    pub(super) body: String,
}

pub(super) enum Answer {
    Json(u16, Value),
    With(u16, &'static str, &'static str, String),
    Cut,
}

pub(super) type Handler = dyn Fn(&Request) -> Option<Answer> + Send + Sync;

/// A site with one list and a few items. `special` is asked for an answer first.
pub(super) struct Fake {
    pub(super) requests: Mutex<Vec<Request>>,
    pub(super) items: Mutex<HashMap<i64, Value>>,
    pub(super) changes: Mutex<Vec<Value>>,
    pub(super) permissions: Mutex<HashMap<String, i64>>,
    pub(super) special: Mutex<Option<Box<Handler>>>,
    pub(super) batches: bool,
    pub(super) digests: AtomicUsize,
    /// Whether the server supports only `odata=verbose`.
    pub(super) verbose: AtomicBool,
}

impl Fake {
    pub(super) fn change(&self, kind: i64, item: Option<i64>) {
        let mut changes = self.changes.lock().unwrap();
        let number = changes.len() + 1;
        let mut change = json!({
            "ChangeToken": {"StringValue": token(number)}, "ChangeType": kind, "WebId": SITE, "ListId": LIST,
        });
        if let Some(item) = item {
            change["ItemId"] = json!(item);
        }
        changes.push(change);
    }

    pub(super) fn put(&self, id: i64, version: i64, assigned: &[i64], title: &str) {
        let item = json!({
            "Id": id, "odata.etag": format!("\"{version}\""), "Title": title, "Modified": "2026-11-22T13:00:00Z",
            "AssignedToId": assigned, "Status": "In Progress", "PercentComplete": 0.5,
            "DueDate": "2026-12-03T23:00:00Z", "HasUniqueRoleAssignments": false, "Body": null, "StartDate": null,
            "Priority": "(2) Normal", "OData__DateCompleted": null, "ActualWork": null,
        });
        self.items.lock().unwrap().insert(id, item);
    }

    /// Sets fields of an item that exists.
    pub(super) fn set(&self, id: i64, fields: &[(&str, Value)]) {
        let mut items = self.items.lock().unwrap();
        let item = items.get_mut(&id).unwrap();
        for (name, value) in fields {
            item[*name] = value.clone();
        }
    }

    pub(super) fn count(&self, part: &str) -> usize {
        self.requests
            .lock()
            .unwrap()
            .iter()
            .filter(|request| request.path.contains(part))
            .count()
    }

    pub(super) fn total(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub(super) fn last(&self, part: &str) -> Request {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .rev()
            .find(|request| request.path.contains(part))
            .cloned()
            .unwrap()
    }

    /// Returns the last write to a path that contains `part`.
    pub(super) fn last_write(&self, part: &str) -> Request {
        let requests = self.requests.lock().unwrap();
        requests
            .iter()
            .rev()
            .find(|request| request.path.contains(part) && request.headers.contains_key("if-match"))
            .cloned()
            .unwrap()
    }

    pub(super) fn special(&self, handler: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) {
        *self.special.lock().unwrap() = Some(Box::new(handler));
    }

    pub(super) fn normal(&self) {
        *self.special.lock().unwrap() = None;
    }

    fn answer(&self, request: &Request) -> Answer {
        if let Some(answer) = self
            .special
            .lock()
            .unwrap()
            .as_ref()
            .and_then(|special| special(request))
        {
            return answer;
        }
        let ok = |value: Value| Answer::Json(200, value);
        let path = request.path.split_once("/_api/").map_or("", |(_, path)| path);
        let bare = path.split('?').next().unwrap_or_default();
        let list = format!("web/lists(guid'{LIST}')");
        if let Some(rest) = bare.strip_prefix(list.as_str()) {
            return self.list_answer(rest.trim_start_matches('/'), request);
        }
        match bare {
            "contextinfo" => {
                let number = self.digests.fetch_add(1, Ordering::SeqCst);
                ok(json!({"FormDigestValue": format!("digest-{number}"), "FormDigestTimeoutSeconds": 1800}))
            }
            "site" => ok(
                json!({"Id": SITE, "CurrentChangeToken": {"StringValue": token(self.changes.lock().unwrap().len())}}),
            ),
            "site/getchanges" => {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                let start = body["query"]["ChangeTokenStart"]["StringValue"].as_str().unwrap();
                let number: usize = start.rsplit(';').next().unwrap().parse().unwrap();
                let changes = self.changes.lock().unwrap();
                ok(json!({"value": changes.iter().skip(number).take(1_000).collect::<Vec<_>>()}))
            }
            "web" => ok(json!({
                "Id": SITE, "Title": "Projects", "EffectiveBasePermissions": {"High": "432", "Low": "1011030767"},
            })),
            "web/regionalsettings/timezone" => {
                ok(json!({"Id": 4, "Information": {"Bias": -60, "StandardBias": 0, "DaylightBias": -60}}))
            }
            "web/lists" => ok(json!({"value": [
                {"Id": LIST, "Title": "Tasks", "BaseTemplate": 171, "Hidden": false,
                 "ListItemEntityTypeFullName": "SP.Data.TasksListItem", "DefaultViewUrl": "/sites/p/Lists/T/All.aspx"},
                {"Id": "00000000-0000-4000-8000-0000000000ff", "Title": "Other", "BaseTemplate": 100, "Hidden": false},
            ]})),
            "web/webs" => ok(json!({"value": []})),
            "web/siteusers(@v)" if request.path.contains("ana") => {
                ok(json!({"Id": 12, "LoginName": "i:0#.w|ana"}))
            }
            "web/siteusers(@v)" => error(
                404,
                "-2146232832, Microsoft.SharePoint.SPException",
                "User cannot be found.",
            ),
            "web/ensureuser" => {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                match body["logonName"].as_str().unwrap() {
                    "ana" => ok(json!({"Id": 12, "LoginName": "i:0#.w|ana"})),
                    "bo" => ok(json!({"Id": 13, "LoginName": "i:0#.w|bo"})),
                    _ => error(
                        500,
                        "-2146232832, Microsoft.SharePoint.SPException",
                        "The specified user could not be found.",
                    ),
                }
            }
            _ if bare.ends_with("contenttypes") => ok(json!({"value": [{"StringId": "0x01"}]})),
            "$batch" if self.batches => self.batch_answer(request),
            _ => error(
                404,
                "-1, Microsoft.SharePoint.Client.ResourceNotFoundException",
                "Cannot find resource.",
            ),
        }
    }

    fn list_answer(&self, rest: &str, request: &Request) -> Answer {
        let mut items = self.items.lock().unwrap();
        match rest {
            "" => Answer::Json(200, json!({"Id": LIST})),
            "fields" => Answer::Json(200, columns::tests::columns(false)),
            "getusereffectivepermissions(@u)" => {
                let permissions = self.permissions.lock().unwrap();
                let low = permissions
                    .iter()
                    .find(|(login, _)| request.path.contains(login.as_str()))
                    .map_or(0, |(_, low)| *low);
                Answer::Json(200, json!({"High": "0", "Low": low.to_string()}))
            }
            "getitems" => {
                let body: Value = serde_json::from_str(&request.body).unwrap();
                let view = body["query"]["ViewXml"].as_str().unwrap();
                let numbers: Vec<i64> = view
                    .split("Value Type='")
                    .skip(1)
                    .filter_map(|rest| rest.split_once('>')?.1.split('<').next()?.parse().ok())
                    .collect();
                let after = if view.contains("<Gt>") { numbers[0] } else { 0 };
                let rows: usize = view
                    .split("<RowLimit")
                    .nth(1)
                    .unwrap()
                    .split_once('>')
                    .unwrap()
                    .1
                    .split('<')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                let mut found: Vec<&Value> = items
                    .values()
                    .filter(|item| {
                        let id = item["Id"].as_i64().unwrap();
                        if view.contains("<In>") {
                            return numbers.contains(&id);
                        }
                        let user = numbers.last().unwrap();
                        id > after && item["AssignedToId"].as_array().unwrap().contains(&json!(user))
                    })
                    .collect();
                found.sort_by_key(|item| item["Id"].as_i64());
                found.truncate(rows);
                if request.path.ends_with("$select=Id,AssignedToId") {
                    let short =
                        |item: &&Value| json!({"Id": item["Id"], "AssignedToId": item["AssignedToId"]});
                    return Answer::Json(200, json!({"value": found.iter().map(short).collect::<Vec<_>>()}));
                }
                Answer::Json(200, json!({"value": found}))
            }
            _ => {
                let id: i64 = rest
                    .trim_start_matches("items(")
                    .split(')')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap();
                match items.get(&id) {
                    None => error(
                        404,
                        "-2130575338, Microsoft.SharePoint.SPException",
                        "Item does not exist.",
                    ),
                    Some(_) if rest.ends_with("recycle()") => {
                        items.remove(&id);
                        Answer::Json(200, json!({"value": SITE}))
                    }
                    Some(item) if request.method == "POST" => {
                        if request.headers.get("if-match").map(String::as_str) == item["odata.etag"].as_str()
                        {
                            merge(items.get_mut(&id).unwrap(), &request.body);
                            Answer::With(204, "ETag", "\"77\"", String::new())
                        } else {
                            error(412, "-2130575305, Microsoft.SharePoint.SPException", "Conflict.")
                        }
                    }
                    Some(item) => Answer::Json(200, item.clone()),
                }
            }
        }
    }

    /// Answers each request line of a batch separately.
    fn batch_answer(&self, request: &Request) -> Answer {
        let mut inner: Vec<Request> = Vec::new();
        for line in request.body.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                [method @ ("GET" | "POST"), path, "HTTP/1.1"] => inner.push(Request {
                    method: (*method).to_owned(),
                    path: (*path).to_owned(),
                    headers: HashMap::new(),
                    body: String::new(),
                }),
                _ if line.starts_with('{') => inner.last_mut().unwrap().body = line.to_owned(),
                _ => {}
            }
        }
        let mut body = String::new();
        for request in inner {
            let (status, text) = match self.answer(&request) {
                Answer::Json(status, value) => (status, value.to_string()),
                Answer::With(status, _, _, text) => (status, text),
                Answer::Cut => (500, String::new()),
            };
            write!(
                body,
                "--r\r\nContent-Type: application/http\r\n\r\nHTTP/1.1 {status} X\r\nContent-Type: application/json\r\n\r\n{text}\r\n"
            )
            .unwrap();
        }
        body.push_str("--r--\r\n");
        Answer::With(200, "Content-Type", "multipart/mixed; boundary=r", body)
    }
}

pub(super) fn token(number: usize) -> String {
    let instant: Timestamp = "2026-11-22T13:00:00Z".parse().unwrap();
    let ticks = odata::ticks_of(instant) + i64::try_from(number).unwrap();
    format!("1;1;{SITE};{ticks};{number}")
}

pub(super) fn error(status: u16, code: &str, message: &str) -> Answer {
    Answer::Json(
        status,
        json!({"odata.error": {"code": code, "message": {"lang": "en-US", "value": message}}}),
    )
}

pub(super) async fn serve(fake: Arc<Fake>, listener: tokio::net::TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let fake = Arc::clone(&fake);
        spawn(async move {
            let mut buffer = Vec::new();
            loop {
                let Some(request) = read_request(&mut stream, &mut buffer).await else {
                    return;
                };
                fake.requests.lock().unwrap().push(request.clone());
                let answer = match fake.verbose.load(Ordering::SeqCst) {
                    true if !request.headers["accept"].ends_with("odata=verbose") => error(406, "-1", "no"),
                    true => verbose(fake.answer(&request)),
                    false => fake.answer(&request),
                };
                let (status, header, body) = match answer {
                    Answer::Json(status, value) => (
                        status,
                        "Content-Type: application/json".to_owned(),
                        value.to_string(),
                    ),
                    Answer::With(status, name, value, body) => (status, format!("{name}: {value}"), body),
                    Answer::Cut => return,
                };
                let length = if status == 204 {
                    String::new()
                } else {
                    format!("Content-Length: {}\r\n", body.len())
                };
                let text = format!("HTTP/1.1 {status} X\r\n{header}\r\n{length}\r\n{body}");
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .detach();
    }
}

pub(super) async fn read_request(
    stream: &mut tokio::net::TcpStream,
    buffer: &mut Vec<u8>,
) -> Option<Request> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let mut lines = head.lines();
            let mut first = lines.next()?.split(' ');
            let headers: HashMap<String, String> = lines
                .filter_map(|line| line.split_once(": "))
                .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
                .collect();
            let length: usize = headers
                .get("content-length")
                .map_or(0, |length| length.parse().unwrap());
            if rest.len() >= length {
                let request = Request {
                    method: first.next()?.to_owned(),
                    path: first.next()?.to_owned(),
                    headers,
                    body: rest[..length].to_owned(),
                };
                buffer.drain(..head.len() + 4 + length);
                return Some(request);
            }
        }
        let mut chunk = [0; 8192];
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => return None,
            Ok(count) => buffer.extend_from_slice(&chunk[..count]),
        }
    }
}

/// Writes the columns of a `MERGE` into an item.
fn merge(item: &mut Value, body: &str) {
    let written: Value = serde_json::from_str(body).unwrap();
    for (name, value) in written.as_object().unwrap() {
        if name != "__metadata" {
            item[name] = value.clone();
        }
    }
    item["odata.etag"] = json!("\"77\"");
}

/// Converts an answer to the form of servers that support only `odata=verbose`.
fn verbose(answer: Answer) -> Answer {
    match answer {
        Answer::Json(200, value) => {
            let mut inner = match value.get("value") {
                Some(list) if list.is_array() => json!({"results": list}),
                _ => value,
            };
            let tagged = |item: &mut Value| {
                if let Some(etag) = item.get("odata.etag").cloned() {
                    item["__metadata"] = json!({"etag": etag});
                    item.as_object_mut().unwrap().remove("odata.etag");
                }
            };
            tagged(&mut inner);
            inner
                .get_mut("results")
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
                .for_each(tagged);
            Answer::Json(200, json!({"d": inner}))
        }
        other @ (Answer::Json(..) | Answer::With(..) | Answer::Cut) => other,
    }
}
