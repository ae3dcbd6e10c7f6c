//! The broker for the tests, named by the environment. Each test has its own vhost, created and removed
//! through the management API.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};

use crate::queue::amqp::address::AmqpAddress;
use crate::random::unique_id;
use crate::settings::QueueSettings;

const PATIENCE: Duration = Duration::from_secs(30);

/// A vhost; it is removed on drop.
pub(super) struct Node {
    /// Scheme, user and hosts of the broker's URL.
    base: String,
    api: Api,
    pub(super) vhost: String,
}

struct Api {
    host: String,
    authorization: String,
}

impl Node {
    /// Returns a new vhost. If the environment names no broker, it prints so and returns `None`.
    pub(super) fn new() -> Option<Self> {
        let variable = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
        let (Some(url), Some(api)) = (
            variable("TASKSYNC_TEST_AMQP_URL"),
            variable("TASKSYNC_TEST_RABBITMQ_API_URL"),
        ) else {
            assert_ne!(
                variable("TASKSYNC_TEST_SERVICES").as_deref(),
                Some("required"),
                "TASKSYNC_TEST_AMQP_URL and TASKSYNC_TEST_RABBITMQ_API_URL are required"
            );
            println!(
                "skipped: set TASKSYNC_TEST_AMQP_URL and TASKSYNC_TEST_RABBITMQ_API_URL, or run make test"
            );
            return None;
        };
        let (scheme, rest) = url.split_once("://").unwrap();
        let authority = rest.split('/').next().unwrap();
        let node = Self {
            base: format!("{scheme}://{authority}"),
            api: Api::new(&api),
            vhost: format!("tasksync-test-{}", unique_id()),
        };
        node.api.call("PUT", &format!("/api/vhosts/{}", node.vhost), None);
        let user = AmqpAddress::parse(&url).unwrap().user;
        node.allow(&user, ".*");
        Some(node)
    }

    /// Allows a user to configure queues that match the pattern, and to read and write all.
    pub(super) fn allow(&self, user: &str, configure: &str) {
        self.api.call(
            "PUT",
            &format!("/api/permissions/{}/{user}", self.vhost),
            Some(json!({ "configure": configure, "write": ".*", "read": ".*" })),
        );
    }

    pub(super) fn url(&self) -> String {
        format!("{}/{}", self.base, self.vhost)
    }

    /// Returns the URL with another user.
    pub(super) fn url_of(&self, user: &str, password: &str) -> String {
        let (scheme, rest) = self.base.split_once("://").unwrap();
        let hosts = rest.rsplit('@').next().unwrap();
        format!("{scheme}://{user}:{password}@{hosts}/{}", self.vhost)
    }

    /// Returns these settings with the URL of this vhost.
    pub(super) fn settings(&self, settings: QueueSettings) -> QueueSettings {
        QueueSettings {
            url: self.url(),
            // Long, because no test depends on them and the machine is busy while it tests.
            request_timeout: PATIENCE,
            connect_timeout: PATIENCE,
            ..settings
        }
    }

    pub(super) fn queue(&self, name: &str) -> Value {
        self.api.call(
            "GET",
            &format!("/api/queues/{}/tasksync.tasks.{name}", self.vhost),
            None,
        )
    }

    pub(super) fn delete_queue(&self, name: &str) {
        self.api.call(
            "DELETE",
            &format!("/api/queues/{}/tasksync.tasks.{name}", self.vhost),
            None,
        );
    }

    pub(super) fn import(&self, definitions: Value) {
        self.api.call("POST", "/api/definitions", Some(definitions));
    }

    pub(super) fn add_user(&self, user: &str, password: &str) {
        self.api.call(
            "PUT",
            &format!("/api/users/{user}"),
            Some(json!({ "password": password, "tags": "" })),
        );
    }

    pub(super) fn remove_user(&self, user: &str) {
        self.api.call("DELETE", &format!("/api/users/{user}"), None);
    }

    /// Ends all connections into this vhost from the broker's side, and returns how many there were.
    pub(super) fn close_connections(&self) -> usize {
        let connections = self
            .api
            .call("GET", &format!("/api/vhosts/{}/connections", self.vhost), None);
        let names: Vec<String> = connections
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|connection| connection["name"].as_str().map(str::to_owned))
            .collect();
        for name in &names {
            let name = name.replace(' ', "%20").replace('>', "%3E");
            self.api.call("DELETE", &format!("/api/connections/{name}"), None);
        }
        names.len()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.api
            .call("DELETE", &format!("/api/vhosts/{}", self.vhost), None);
    }
}

impl Api {
    fn new(url: &str) -> Self {
        let rest = url
            .strip_prefix("http://")
            .expect("http:// to the management API");
        let rest = rest.trim_end_matches('/');
        let (account, host) = rest.rsplit_once('@').unwrap_or(("guest:guest", rest));
        Self {
            host: host.to_owned(),
            authorization: base64::engine::general_purpose::STANDARD.encode(account),
        }
    }

    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let mut stream = TcpStream::connect(&self.host).expect("the management API");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nAuthorization: Basic {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.authorization,
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status: u16 = head.split(' ').nth(1).unwrap_or("0").parse().unwrap_or(0);
        if !(200..300).contains(&status) && !std::thread::panicking() {
            // A connection that ended meanwhile cannot be closed.
            assert!(
                status == 404 && method == "DELETE",
                "{method} {path}: {head}\n{body}"
            );
        }
        serde_json::from_str(body).unwrap_or(Value::Null)
    }
}
