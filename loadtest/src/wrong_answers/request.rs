//! Parses a request as far as the proxy has to understand it.

use bytes::Bytes;
use hyper::Request;

use crate::sharepoint::Operation;

/// The server that a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetServer {
    /// Exchange.
    Exchange,
    /// SharePoint.
    Sharepoint,
}

impl TargetServer {
    /// Returns the name used in the log.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exchange => "exchange",
            Self::Sharepoint => "sharepoint",
        }
    }
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    /// Reads objects by their ids.
    Read,
    /// Lists or searches.
    List,
    /// Writes.
    Write,
    /// Several SharePoint requests in one.
    Batch,
    /// Anything else, such as a form digest.
    Other,
}

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct ParsedRequest {
    pub(crate) server: TargetServer,
    /// The name that fault rules use: `SyncFolderItems`, `items.update`.
    pub(crate) operation: String,
    /// The mailbox's address, or the path of the web.
    pub(crate) subject: String,
    /// The list that a SharePoint request is about.
    pub(crate) list: Option<String>,
    pub(crate) kind: RequestKind,
    pub(crate) if_match: Option<String>,
    pub(crate) body: Bytes,
}

impl ParsedRequest {
    /// Parses a request. Returns `None` if its purpose is unclear.
    pub(crate) fn read(server: TargetServer, request: &Request<Bytes>) -> Option<Self> {
        match server {
            TargetServer::Exchange => Self::exchange(request),
            TargetServer::Sharepoint => Self::sharepoint(request),
        }
    }

    /// Returns the owner of the answer: the list if there is one, or else the mailbox or web. Answers of one owner
    /// count as answers to the same question.
    pub(crate) fn owner(&self) -> String {
        match &self.list {
            Some(list) => format!("{} {list}", self.subject),
            None => self.subject.clone(),
        }
    }

    fn exchange(request: &Request<Bytes>) -> Option<Self> {
        let text = std::str::from_utf8(request.body()).ok()?;
        let (_, body) = text.split_once("Body>")?;
        let (_, operation) = body.split_once('<')?;
        let operation = operation.split([' ', '>', '/']).next()?;
        let operation = operation.rsplit(':').next()?.to_owned();
        let anchor = request
            .headers()
            .get("x-anchormailbox")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let address = |mark: &str| {
            let (_, rest) = text.split_once(mark)?;
            rest.split('<').next().map(str::to_owned)
        };
        let subject = anchor
            .or_else(|| address("PrimarySmtpAddress>"))
            .or_else(|| address("EmailAddress>"))?;
        let action = match operation.as_str() {
            "GetItem" | "GetFolder" | "ResolveNames" => RequestKind::Read,
            "FindItem" | "FindFolder" | "SyncFolderItems" | "SyncFolderHierarchy" => RequestKind::List,
            "CreateItem" | "UpdateItem" | "DeleteItem" | "CreateFolder" | "UpdateFolder" | "DeleteFolder" => {
                RequestKind::Write
            }
            _ => RequestKind::Other,
        };
        Some(Self {
            server: TargetServer::Exchange,
            operation,
            subject: subject.to_lowercase(),
            list: None,
            kind: action,
            if_match: None,
            body: request.body().clone(),
        })
    }

    fn sharepoint(request: &Request<Bytes>) -> Option<Self> {
        let (operation, web, address) = crate::sharepoint::parse_operation(request)?;
        let header = |name: &str| {
            let value = request.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let action = match operation {
            Operation::ItemsUpdate | Operation::ItemsRecycle | Operation::ItemsCreate => RequestKind::Write,
            Operation::Batch => RequestKind::Batch,
            Operation::Lists if address.split('?').next().is_some_and(|path| path.contains('(')) => {
                RequestKind::Read
            }
            Operation::Lists
            | Operation::ItemsList
            | Operation::GetItems
            | Operation::GetChanges
            | Operation::Webs
            | Operation::Fields
            | Operation::ContentTypes => RequestKind::List,
            Operation::ItemsGet
            | Operation::Web
            | Operation::Site
            | Operation::TimeZone
            | Operation::CurrentUser
            | Operation::EnsureUser
            | Operation::SiteUsers
            | Operation::Permissions => RequestKind::Read,
            Operation::ContextInfo
            | Operation::ListsCreate
            | Operation::ListsUpdate
            | Operation::ListsDelete
            | Operation::Other => RequestKind::Other,
        };
        Some(Self {
            server: TargetServer::Sharepoint,
            operation: operation.name().to_owned(),
            subject: web,
            list: first_guid(&address),
            kind: action,
            if_match: header("if-match"),
            body: request.body().clone(),
        })
    }
}

/// Returns the first GUID in the text.
fn first_guid(text: &str) -> Option<String> {
    let fits = |part: &[u8]| {
        part.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    text.as_bytes()
        .windows(36)
        .find(|part| fits(part))
        .map(|part| String::from_utf8_lossy(part).to_lowercase())
}
