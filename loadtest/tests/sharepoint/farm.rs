//! A simulated farm with one site, and a client that supports both forms of JSON.

use std::sync::Arc;

use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tasksync_loadtest::sharepoint::people::{ListSpec, SiteSpec};
use tasksync_loadtest::sharepoint::{Language, Settings, SharePoint};
use tasksync_loadtest::sim::http::Listener;
use uuid::Uuid;

/// The site of the tests.
pub(crate) const SITE: &str = "/sites/contoso";

/// The form of JSON that a client requests and sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `odata=verbose`.
    Verbose,
    /// `odata=nometadata`.
    Light,
}

/// Both forms, for tests that must pass with each.
pub(crate) const SHAPES: [Shape; 2] = [Shape::Verbose, Shape::Light];

/// How a client identifies itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// User and password.
    Basic(String, String),
    /// A bearer token.
    Bearer(String),
    /// No credentials.
    Nobody,
}

/// A running farm.
pub(crate) struct Farm {
    /// The simulated server.
    pub(crate) sharepoint: Arc<SharePoint>,
    listener: Listener,
    client: reqwest::Client,
    /// A list created from template 171.
    pub(crate) list: Uuid,
    /// A person of the site.
    pub(crate) ana: i32,
    /// Another person of the site.
    pub(crate) ben: i32,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body as text.
    pub(crate) text: String,
    shape: Shape,
}

impl Answer {
    /// Returns the body without the wrapper of its form.
    pub(crate) fn value(&self) -> Value {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"));
        match self.shape {
            Shape::Verbose => body.get("d").unwrap_or_else(|| panic!("no d: {self:?}")).clone(),
            Shape::Light => {
                assert!(body.get("d").is_none(), "{self:?}");
                body
            }
        }
    }

    /// Returns the entries of a feed.
    pub(crate) fn entries(&self) -> Vec<Value> {
        let name = if self.shape == Shape::Verbose {
            "results"
        } else {
            "value"
        };
        self.value()[name]
            .as_array()
            .unwrap_or_else(|| panic!("no feed: {self:?}"))
            .clone()
    }

    /// Returns the address of the next page.
    pub(crate) fn next(&self) -> Option<String> {
        let name = if self.shape == Shape::Verbose {
            "__next"
        } else {
            "odata.nextLink"
        };
        self.value()[name].as_str().map(str::to_owned)
    }

    /// Returns the result of a method.
    pub(crate) fn result(&self, name: &str) -> Value {
        let value = self.value();
        match self.shape {
            Shape::Verbose => value[name].clone(),
            Shape::Light => value.get("value").cloned().unwrap_or(value),
        }
    }

    /// Returns the number at the beginning of an error's code, and the error's message.
    pub(crate) fn error(&self) -> (i64, String) {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"));
        let name = if self.shape == Shape::Verbose {
            "error"
        } else {
            "odata.error"
        };
        let error = body.get(name).unwrap_or_else(|| panic!("no {name}: {self:?}"));
        let code = error["code"]
            .as_str()
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        (code, error["message"]["value"].as_str().unwrap().to_owned())
    }

    /// Returns the `ETag` header.
    pub(crate) fn etag(&self) -> String {
        self.headers
            .get("etag")
            .unwrap_or_else(|| panic!("no etag: {self:?}"))
            .to_str()
            .unwrap()
            .to_owned()
    }
}

/// A request that is being built.
pub(crate) struct Ask<'a> {
    farm: &'a Farm,
    shape: Shape,
    credentials: Credentials,
    headers: Vec<(&'static str, String)>,
}

impl Farm {
    /// Starts a farm with an English site in Berlin's time zone.
    pub(crate) async fn start() -> Self {
        Self::with(Settings::default(), Language::English).await
    }

    /// Starts a farm with these settings and this language.
    pub(crate) async fn with(settings: Settings, language: Language) -> Self {
        // A second installation in one process fails; that does no harm.
        rustls::crypto::ring::default_provider().install_default().ok();
        let sharepoint = SharePoint::new(settings);
        let spec = SiteSpec {
            path: SITE.to_owned(),
            title: "Contoso".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            language,
        };
        sharepoint.add_site(&spec).unwrap();
        sharepoint.add_account("svc", "pass");
        sharepoint.accept_tokens(Arc::new(|token| (token == "good").then(|| "app".to_owned())));
        let ana = sharepoint
            .add_user(SITE, "i:0#.w|contoso\\ana", "Ana", "ana@contoso.example")
            .unwrap();
        let ben = sharepoint.add_user(
            SITE,
            "i:0#.f|membership|ben@contoso.example",
            "Ben",
            "ben@contoso.example",
        );
        let ben = ben.unwrap();
        let list = sharepoint.add_list(SITE, &ListSpec::new("Tasks", 171)).unwrap();
        let listener = sharepoint.serve(None).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            sharepoint,
            listener,
            client,
            list,
            ana,
            ben,
        }
    }

    /// Returns a request with a valid token.
    pub(crate) fn ask(&self, shape: Shape) -> Ask<'_> {
        Ask {
            farm: self,
            shape,
            credentials: Credentials::Bearer("good".to_owned()),
            headers: Vec::new(),
        }
    }

    /// Returns the address of the site's `_api`.
    pub(crate) fn api(&self) -> String {
        format!("{}{SITE}/_api", self.listener.base_url())
    }

    /// Returns the path of the list below `_api`, followed by `rest`.
    pub(crate) fn list_path(&self, rest: &str) -> String {
        format!("web/lists(guid'{}'){rest}", self.list)
    }
}

impl Ask<'_> {
    /// Uses other credentials.
    pub(crate) fn credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Uses an account with a password.
    pub(crate) fn account(self, user: &str) -> Self {
        self.credentials(Credentials::Basic(user.to_owned(), "pass".to_owned()))
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// Sends a GET.
    pub(crate) async fn get(self, path: &str) -> Answer {
        self.try_send("GET", path, None).await.unwrap()
    }

    /// Posts a value. In the verbose form, the caller provides the type members.
    pub(crate) async fn post(self, path: &str, body: Value) -> Answer {
        self.try_send("POST", path, Some(body.to_string())).await.unwrap()
    }

    /// Posts an item. In the verbose form, the type name is added.
    pub(crate) async fn post_item(self, path: &str, body: Value) -> Answer {
        let body = typed(self.shape, body);
        self.post(path, body).await
    }

    /// Updates an item if it has this version.
    pub(crate) async fn merge(self, path: &str, version: &str, body: Value) -> Answer {
        self.header("X-HTTP-Method", "MERGE")
            .header("IF-MATCH", version)
            .post_item(path, body)
            .await
    }

    /// Sends the request. Returns `Err` if no answer came.
    #[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
    pub(crate) async fn try_send(
        self,
        method: &str,
        path: &str,
        body: Option<String>,
    ) -> Result<Answer, reqwest::Error> {
        let url = if path.starts_with("http") {
            path.to_owned()
        } else {
            format!("{}/{path}", self.farm.api())
        };
        let kind = match self.shape {
            Shape::Verbose => "application/json;odata=verbose",
            Shape::Light => "application/json;odata=nometadata",
        };
        let mut request = self.farm.client.request(method.parse().unwrap(), url);
        request = match self.credentials {
            Credentials::Basic(user, password) => request.basic_auth(user, Some(password)),
            Credentials::Bearer(token) => request.bearer_auth(token),
            Credentials::Nobody => request,
        };
        if !self.headers.iter().any(|(name, _)| *name == "Accept") {
            request = request.header("Accept", kind);
        }
        if !self.headers.iter().any(|(name, _)| *name == "Content-Type") {
            request = request.header("Content-Type", kind);
        }
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        // A POST without a body still has a `Content-Length`.
        request = request.body(body.unwrap_or_default());
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer {
            status,
            headers,
            text: response.text().await?,
            shape: self.shape,
        })
    }
}

/// Returns an item's values in the given form: the verbose form has a type name and wraps arrays.
pub(crate) fn typed(shape: Shape, mut body: Value) -> Value {
    if shape == Shape::Verbose {
        if let Some(ids) = body.get("AssignedToId").filter(|ids| ids.is_array()).cloned() {
            body["AssignedToId"] = json!({ "results": ids });
        }
        body["__metadata"] = json!({ "type": "SP.Data.TasksListItem" });
    }
    body
}
