//! A minimal EWS client for the tests of the simulated server. It sends handwritten envelopes over real HTTP.

use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use tasksync_loadtest::accounts::{AccountRights, MailboxScope, ServiceAccount};
use tasksync_loadtest::exchange::{Exchange, ExchangeSettings, MailboxSpec};
use tasksync_loadtest::sim::http::Listener;

pub(crate) const ANA: &str = "ana@contoso.example";
pub(crate) const BEN: &str = "ben@contoso.example";
pub(crate) const KEY: &str = "<t:ExtendedFieldURI PropertySetId=\"7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41\" PropertyName=\"SourceKey\" PropertyType=\"String\"/>";
pub(crate) const PROBE: &str = "<t:ExtendedFieldURI PropertyTag=\"0x670A\" PropertyType=\"SystemTime\"/><t:ExtendedFieldURI PropertyTag=\"0x670B\" PropertyType=\"Integer\"/>";
pub(crate) const TASKS: &str = "<t:DistinguishedFolderId Id=\"tasks\"/>";

/// An answer: status, headers and text.
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    /// Returns the text between the first `open` and the next `close`.
    pub(crate) fn between(&self, open: &str, close: &str) -> String {
        self.all(open, close)
            .into_iter()
            .next()
            .unwrap_or_else(|| panic!("no {open} in {}", self.text))
    }

    /// Returns every text between an `open` and the next `close`.
    pub(crate) fn all(&self, open: &str, close: &str) -> Vec<String> {
        self.text
            .split(open)
            .skip(1)
            .filter_map(|part| part.split(close).next())
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn codes(&self) -> Vec<String> {
        self.all("<m:ResponseCode>", "<")
    }

    pub(crate) fn code(&self) -> String {
        match self.status {
            200 => self.between("<m:ResponseCode>", "<"),
            _ => self.between("errors\">", "<"),
        }
    }

    pub(crate) fn element(&self, name: &str) -> String {
        self.between(&format!("<t:{name}>"), "<")
    }

    pub(crate) fn item_id(&self) -> String {
        self.between("<t:ItemId ", "/>")
    }

    pub(crate) fn id(&self) -> String {
        self.between("Id=\"", "\"")
    }

    pub(crate) fn sync_state(&self) -> String {
        self.between("<m:SyncState>", "<")
    }
}

/// A running server and a client for it. Call [`Bench::finish`] at the end: it validates every answer against the
/// schema.
pub(crate) struct Bench {
    pub(crate) exchange: Arc<Exchange>,
    listener: Listener,
    client: reqwest::Client,
    bodies: Mutex<Vec<String>>,
}

impl Bench {
    pub(crate) async fn start(settings: ExchangeSettings) -> Self {
        // Another test of the process may have installed it already.
        rustls::crypto::ring::default_provider().install_default().ok();
        let exchange = Exchange::new(settings);
        for (smtp, name, zone, server) in [
            (ANA, "Ana", "W. Europe Standard Time", "EX01"),
            (BEN, "Ben", "America/New_York", "EX01"),
            ("cem@contoso.example", "Cem", "UTC", "EX02"),
        ] {
            exchange.add_mailbox(MailboxSpec {
                aliases: vec![format!("alias-{smtp}")],
                time_zone: zone.to_owned(),
                server: server.to_owned(),
                ..MailboxSpec::new(smtp, name)
            });
        }
        let account = |user: &str, impersonate, full_access| ServiceAccount {
            user: user.to_owned(),
            password: "secret".to_owned(),
            rights: AccountRights {
                impersonate,
                full_access,
            },
        };
        exchange.add_account(account("svc", MailboxScope::All, MailboxScope::All));
        exchange.add_account(account(
            "half",
            MailboxScope::List(vec![ANA.to_owned()]),
            MailboxScope::List(vec![ANA.to_owned()]),
        ));
        exchange.add_account(account(ANA, MailboxScope::None, MailboxScope::None));
        let listener = Listener::start(Arc::clone(&exchange), None).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            exchange,
            listener,
            client,
            bodies: Mutex::default(),
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/EWS/Exchange.asmx", self.listener.base_url())
    }

    /// Builds a request with this text. A test may add headers.
    pub(crate) fn request(&self, user: &str, text: String) -> reqwest::RequestBuilder {
        self.client
            .post(self.url())
            .basic_auth(user, Some("secret"))
            .body(text)
    }

    /// Posts a text unchanged.
    #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
    pub(crate) async fn raw(&self, user: &str, text: String) -> Result<Reply, reqwest::Error> {
        let request = self.request(user, text);
        let response = request
            .header("content-type", "text/xml; charset=utf-8")
            .send()
            .await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let text = response.text().await?;
        if status == 200
            && let Some((body, _)) = text
                .split_once("<s:Body>")
                .and_then(|(_, rest)| rest.split_once("</s:Body>"))
        {
            self.bodies.lock().unwrap().push(body.to_owned());
        }
        Ok(Reply {
            status,
            headers,
            text,
        })
    }

    /// Sends an operation with SOAP headers.
    pub(crate) async fn send(&self, user: &str, header: &str, body: &str) -> Reply {
        self.raw(user, envelope(header, body)).await.unwrap()
    }

    /// Sends an operation as the service account that impersonates Ana.
    pub(crate) async fn ana(&self, body: &str) -> Reply {
        self.send("svc", &impersonating(ANA), body).await
    }

    /// Creates a task in Ana's Tasks. Returns `Id="…" ChangeKey="…"`.
    pub(crate) async fn create(&self, inner: &str) -> String {
        let reply = self.ana(&create_item("", inner)).await;
        assert_eq!(reply.codes(), ["NoError"], "{}", reply.text);
        reply.item_id()
    }

    /// Updates a task of Ana.
    pub(crate) async fn update(&self, id: &str, resolution: &str, updates: &str) -> Reply {
        self.ana(&format!("<m:UpdateItem ConflictResolution=\"{resolution}\" MessageDisposition=\"SaveOnly\"><m:ItemChanges><t:ItemChange><t:ItemId {id}/><t:Updates>{updates}</t:Updates></t:ItemChange></m:ItemChanges></m:UpdateItem>")).await
    }

    /// Reads tasks of Ana with some properties.
    pub(crate) async fn get(&self, ids: &[&str], properties: &str) -> Reply {
        let ids = ids.iter().map(|id| format!("<t:ItemId {id}/>"));
        let ids = ids.collect::<Vec<_>>().concat();
        self.ana(&format!("<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape>{properties}</m:ItemShape><m:ItemIds>{ids}</m:ItemIds></m:GetItem>")).await
    }

    /// Syncs the items of a folder of Ana.
    pub(crate) async fn sync(&self, folder: &str, state: Option<&str>, maximum: usize) -> Reply {
        let state = state
            .map(|state| format!("<m:SyncState>{state}</m:SyncState>"))
            .unwrap_or_default();
        self.ana(&format!("<m:SyncFolderItems><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties><t:FieldURI FieldURI=\"item:Subject\"/><t:FieldURI FieldURI=\"item:Body\"/></t:AdditionalProperties></m:ItemShape><m:SyncFolderId>{folder}</m:SyncFolderId>{state}<m:MaxChangesReturned>{maximum}</m:MaxChangesReturned></m:SyncFolderItems>")).await
    }

    /// Stops the server and validates every answer against the schema, if the schema is available.
    pub(crate) async fn finish(self) {
        self.listener.stop().await;
        let bodies = self.bodies.into_inner().unwrap();
        if bodies.is_empty() {
            return;
        }
        let Some(schema) = std::env::var_os("TASKSYNC_EWS_XSD")
            .map(PathBuf::from)
            .filter(|path| path.is_dir())
        else {
            println!("schema check skipped: TASKSYNC_EWS_XSD names no folder");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("xmllint");
        command
            .arg("--noout")
            .arg("--schema")
            .arg(schema.join("driver.xsd"));
        for (index, body) in bodies.iter().enumerate() {
            let path = folder.path().join(format!("{index}.xml"));
            std::fs::write(&path, body).unwrap();
            command.arg(path);
        }
        match command.output() {
            Ok(output) => {
                let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
                let wrong: Vec<&str> = complaints
                    .lines()
                    .filter(|line| !line.ends_with(" validates"))
                    .collect();
                assert!(output.status.success(), "{}", wrong.join("\n"));
            }
            Err(error) => println!("schema check skipped: xmllint: {error}"),
        }
    }
}

pub(crate) fn envelope(header: &str, body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" xmlns:t=\"http://schemas.microsoft.com/exchange/services/2006/types\" xmlns:m=\"http://schemas.microsoft.com/exchange/services/2006/messages\"><s:Header><t:RequestServerVersion Version=\"Exchange2013_SP1\"/>{header}</s:Header><s:Body>{body}</s:Body></s:Envelope>"
    )
}

pub(crate) fn impersonating(smtp: &str) -> String {
    format!(
        "<t:ExchangeImpersonation><t:ConnectingSID><t:PrimarySmtpAddress>{smtp}</t:PrimarySmtpAddress></t:ConnectingSID></t:ExchangeImpersonation>"
    )
}

pub(crate) fn create_item(folder: &str, inner: &str) -> String {
    let folder = if folder.is_empty() {
        String::new()
    } else {
        format!("<m:SavedItemFolderId>{folder}</m:SavedItemFolderId>")
    };
    format!(
        "<m:CreateItem MessageDisposition=\"SaveOnly\">{folder}<m:Items><t:Task>{inner}</t:Task></m:Items></m:CreateItem>"
    )
}

pub(crate) fn named(value: &str) -> String {
    format!("<t:ExtendedProperty>{KEY}<t:Value>{value}</t:Value></t:ExtendedProperty>")
}

pub(crate) fn set(uri: &str, inner: &str) -> String {
    format!("<t:SetItemField><t:FieldURI FieldURI=\"{uri}\"/><t:Task>{inner}</t:Task></t:SetItemField>")
}

pub(crate) fn fields(uris: &[&str]) -> String {
    let list = uris
        .iter()
        .map(|uri| format!("<t:FieldURI FieldURI=\"{uri}\"/>"))
        .collect::<Vec<_>>()
        .concat();
    format!("<t:AdditionalProperties>{list}</t:AdditionalProperties>")
}

pub(crate) fn folder_of(smtp: &str) -> String {
    format!(
        "<t:DistinguishedFolderId Id=\"tasks\"><t:Mailbox><t:EmailAddress>{smtp}</t:EmailAddress></t:Mailbox></t:DistinguishedFolderId>"
    )
}

pub(crate) fn get_folder(ids: &str) -> String {
    format!(
        "<m:GetFolder><m:FolderShape><t:BaseShape>AllProperties</t:BaseShape><t:AdditionalProperties>{PROBE}</t:AdditionalProperties></m:FolderShape><m:FolderIds>{ids}</m:FolderIds></m:GetFolder>"
    )
}
