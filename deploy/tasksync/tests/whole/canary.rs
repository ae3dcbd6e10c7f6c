//! Secrets are put through a running service: in files, in servers that repeat whatever they were sent, and in places
//! where secrets do not belong. None may appear in an answer, in a command's output, in a log, in a metric or in a
//! store.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{PATIENCE, run, tasksync};
use crate::support::unpacked;
use tasksync_common::clock::monotonic;
use tasksync_common::tasks::{AbortOnDropHandle, spawn};
use tasksync_loadtest::trial::secrets_folder;

const PASSWORD: &str = "Kanari-password-9c41e7";
const CLIENT_SECRET: &str = "Kanari-clientsecret-5d02b8";
const TOKEN: &str = "Kanari-token-71fe3a0c55";
const NTLM: &str = "TlRMTVNTUAACKanariNtlm83ab";
const COOKIE: &str = "Kanari-cookie-c0ffee12";
const USERINFO: &str = "Kanari-userinfo-77aa10";
const MISPLACED: &str = "Kanari-misplaced-31337a";

/// Shortest part of a secret, in characters, that counts as shown.
const SHOWN: usize = 12;

const TENANTS: [&str; 4] = ["canary-password", "canary-token", "canary-secret", "canary-key"];

/// The secrets that were put through a service, and everything that the service wrote or answered.
pub(crate) struct Canaries {
    secrets: Vec<(&'static str, String)>,
    outputs: Vec<(String, Vec<u8>)>,
    servers: [Repeater; 2],
}

impl Canaries {
    /// Puts the secrets through the service at `url`, whose processes run with these settings, and keeps its output.
    /// Returns when every tenant's sync has failed.
    pub(crate) async fn put_through(url: &str, token: &str, folder: &Path) -> Self {
        let folder = &secrets_folder(folder);
        let key = key_in(folder);
        let body: String = std::fs::read_to_string(&key)
            .unwrap()
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .collect();
        let secrets = vec![
            ("password", PASSWORD.to_owned()),
            ("client secret", CLIENT_SECRET.to_owned()),
            // The beginning names the kind of key and is the same in all keys.
            ("certificate's key", body[80..400].to_owned()),
            ("token", TOKEN.to_owned()),
            ("NTLM challenge", NTLM.to_owned()),
            ("cookie", COOKIE.to_owned()),
            ("password in a URL", USERINFO.to_owned()),
            ("password in the place of its name", MISPLACED.to_owned()),
        ];
        let servers = [Repeater::start(false).await, Repeater::start(true).await];
        let mut canaries = Self {
            secrets,
            outputs: Vec::new(),
            servers,
        };
        canaries.enrol(url, token, folder, &key).await;
        canaries.provoke(url, token).await;
        canaries
    }

    /// Keeps what a process reports to Prometheus.
    pub(crate) async fn hear_metrics(&mut self, probed: &str) {
        let answer = reqwest::get(format!("{probed}/metrics")).await.unwrap();
        assert_eq!(answer.status(), 200);
        self.record_output("metrics", answer.text().await.unwrap());
    }

    /// Keeps the logs and databases in the folder.
    pub(crate) fn hear_logs(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.contains(".log") || name.contains(".sqlite") {
                self.record_output(name, std::fs::read(&path).unwrap());
            }
        }
        assert!(self.outputs.iter().any(|(source, _)| {
            Path::new(source)
                .extension()
                .is_some_and(|extension| extension == "log")
        }));
    }

    /// Requests a sync of every tenant's user.
    pub(crate) async fn ask_for_syncs(&mut self, url: &str, token: &str) {
        for tenant in TENANTS {
            let path = format!("/tenants/{tenant}/users/ana/sync");
            let (status, said) = call(url, token, "POST", &path, None).await;
            assert_eq!(status, 202, "{said}");
            self.record_output("sync now", said.to_string());
        }
    }

    /// Keeps output, for [`Self::assert_no_secret_shown`].
    pub(crate) fn record_output(&mut self, source: impl Into<String>, content: impl Into<Vec<u8>>) {
        self.outputs.push((source.into(), content.into()));
    }

    async fn enrol(&mut self, url: &str, token: &str, folder: &Path, key: &Path) {
        let (repeater, granter) = (&self.servers[0], &self.servers[1]);
        let repeating = repeater.url.clone();
        let file = |name: &str, secret: &str| {
            let path = folder.join(name);
            std::fs::write(&path, secret).unwrap();
            format!("file:{}", path.display())
        };
        let oauth = |endpoint: &str| {
            json!({
                "kind": "oauth_secret", "token_url": format!("{endpoint}/token"), "client_id": "app", "scope": "all",
                "secret": file("client.secret", CLIENT_SECRET),
            })
        };
        let credentials = [
            json!({ "kind": "basic", "user": "svc", "password": file("canary.password", PASSWORD) }),
            oauth(&granter.url),
            oauth(&repeating),
            json!({
                "kind": "oauth_certificate", "token_url": format!("{repeating}/token"), "client_id": "app", "scope": "all",
                "private_key": format!("file:{}", key.display()),
                "certificate": format!("file:{}", folder.join("canary.crt").display()),
            }),
        ];
        let mut refused = Vec::new();
        for (tenant, credentials) in TENANTS.into_iter().zip(credentials) {
            let good = tenant_of(tenant, &repeating, &credentials);
            for (pointer, value) in [
                (
                    "/mailbox/url",
                    format!("http://svc:{USERINFO}@{}/EWS", &repeating[7..]),
                ),
                (
                    "/source/sites/0",
                    format!("http://svc:{USERINFO}@{}/a", &repeating[7..]),
                ),
                ("/mailbox/credentials/password", MISPLACED.to_owned()),
                ("/mailbox/credentials/secret", format!("env:{MISPLACED}")),
                ("/source/credentials/private_key", MISPLACED.to_owned()),
            ] {
                let mut wrong = good.clone();
                if let Some(setting) = wrong.pointer_mut(pointer) {
                    *setting = json!(value);
                    refused.push(
                        call(url, token, "PUT", &format!("/tenants/{tenant}"), Some(&wrong))
                            .await
                            .1,
                    );
                }
            }
            let (status, said) = call(url, token, "PUT", &format!("/tenants/{tenant}"), Some(&good)).await;
            assert_eq!(status, 201, "{said}");
            let opt_in = json!({ "source_login": "ana", "mailbox": format!("ana@{tenant}.example") });
            let path = format!("/tenants/{tenant}/users/ana");
            // This queries the servers, which refuse.
            refused.push(call(url, token, "PUT", &path, Some(&opt_in)).await.1);
            let path = format!("{path}?unchecked=true");
            let (status, said) = call(url, token, "PUT", &path, Some(&opt_in)).await;
            assert_eq!(status, 201, "{said}");
        }
        let refused: Vec<String> = refused.iter().map(Value::to_string).collect();
        self.record_output("refused requests", refused.join("\n"));
    }

    /// Waits until every sync has failed with text that a server repeated, then requests everything the service
    /// shows.
    async fn provoke(&mut self, url: &str, token: &str) {
        for tenant in TENANTS {
            let started = monotonic();
            let path = format!("/tenants/{tenant}/users/ana");
            loop {
                let (_, said) = call(url, token, "GET", &path, None).await;
                if !said["schedule"]["last_failure"].is_null() {
                    break;
                }
                assert!(started.elapsed() < PATIENCE, "{said}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        for command in [
            vec!["status"],
            vec!["doctor"],
            vec!["alerts"],
            vec!["tenant", "list"],
            vec!["dead-letters", "list"],
            vec!["installation", "show"],
        ] {
            self.ask(url, token, &command);
        }
        for tenant in TENANTS {
            for command in [
                vec!["tenant", "show", tenant],
                vec!["tenant", "pauses", tenant],
                vec!["doctor", "--tenant", tenant],
                vec!["alerts", "--tenant", tenant],
                vec!["user", "list", tenant],
                vec!["user", "status", tenant, "ana"],
                vec!["user", "plan", tenant, "ana"],
                vec!["user", "journal", tenant, "ana"],
                vec!["sync-now", tenant, "ana"],
            ] {
                self.ask(url, token, &command);
            }
        }
        self.make_bundle(url, token);
        let repeated = self
            .outputs
            .iter()
            .any(|(_, said)| String::from_utf8_lossy(said).contains("you sent"));
        assert!(
            repeated,
            "no text of a server arrived anywhere, so nothing was tried"
        );
    }

    /// Makes a support bundle on a machine whose settings have passwords, and keeps its files.
    fn make_bundle(&mut self, url: &str, token: &str) {
        let folder = tempfile::tempdir().unwrap();
        let bundle = folder.path().join("bundle.tar.gz");
        let ended = run(tasksync()
            .args(["support-bundle", "--with-names", bundle.to_str().unwrap()])
            .env("TASKSYNC_URL", url)
            .env("TASKSYNC_TOKEN", token)
            .env(
                "TASKSYNC_REGISTRY__URL",
                format!("postgres://tasksync:{USERINFO}@db.example/tasksync"),
            )
            .env(
                "TASKSYNC_SCHEDULE__URL",
                format!("redis://:{USERINFO}@redis.example:6379/0"),
            )
            .env(
                "TASKSYNC_QUEUE__URL",
                format!("amqp://tasksync:{USERINFO}@broker.example/tasksync"),
            ));
        for (name, content) in unpacked(&bundle) {
            if name == "settings.txt" {
                assert!(String::from_utf8_lossy(&content).contains("db.example"));
            }
            self.record_output(format!("{name} of the support bundle"), content);
        }
        self.record_output("tasksync support-bundle", ended.out + &ended.err);
    }

    /// Keeps what a command prints, as text and as JSON.
    fn ask(&mut self, url: &str, token: &str, arguments: &[&str]) {
        for more in [None, Some("--json")] {
            let mut command = tasksync();
            command
                .args(arguments)
                .args(more)
                .env("TASKSYNC_URL", url)
                .env("TASKSYNC_TOKEN", token);
            let ended = run(&mut command);
            self.record_output(
                format!("tasksync {}", arguments.join(" ")),
                ended.out + &ended.err,
            );
        }
    }

    /// Fails if a secret appears in anything that was kept.
    pub(crate) fn assert_no_secret_shown(&self) {
        let forms = Forms::of(&self.secrets);
        for (source, content) in &self.outputs {
            if let Some((name, found)) = forms.find(content) {
                let (from, to) = (found.saturating_sub(300), content.len().min(found + 300));
                let around = String::from_utf8_lossy(&content[from..to]);
                panic!("{source} shows a part of the {name}:\n{around}");
            }
        }
    }
}

/// Every part of a secret that is long enough to count as shown: as it is, in base64 (wherever it begins in the
/// encoded text) and in hexadecimal.
#[derive(Default)]
struct Forms {
    parts: HashMap<Vec<u8>, &'static str>,
    lengths: BTreeSet<usize>,
    /// The first two bytes of all parts: most positions of a text need no further check.
    beginnings: HashSet<[u8; 2]>,
}

impl Forms {
    fn of(secrets: &[(&'static str, String)]) -> Self {
        let mut forms = Self::default();
        for (name, secret) in secrets {
            for part in secret.as_bytes().windows(SHOWN) {
                let digits: Vec<_> = part.iter().map(|byte| format!("{byte:02x}")).collect();
                let hexadecimal = digits.concat();
                forms.add(name, hexadecimal.to_uppercase().into_bytes());
                forms.add(name, hexadecimal.into_bytes());
                // Of three consecutive parts, one begins where a group of the encoding begins.
                forms.add(name, base64(part).into_bytes());
                forms.add(name, part.to_vec());
            }
        }
        forms
    }

    fn add(&mut self, name: &'static str, part: Vec<u8>) {
        self.lengths.insert(part.len());
        self.beginnings.insert([part[0], part[1]]);
        self.parts.insert(part, name);
    }

    /// Returns the name of a secret that appears in the text, and where.
    fn find(&self, text: &[u8]) -> Option<(&'static str, usize)> {
        text.windows(2).enumerate().find_map(|(at, two)| {
            if !self.beginnings.contains(two) {
                return None;
            }
            let lengths = self.lengths.iter();
            lengths
                .filter_map(|length| self.parts.get(text.get(at..at + length)?))
                .map(|name| (*name, at))
                .next()
        })
    }
}

#[test]
fn a_part_of_a_secret_is_found_in_every_form() {
    let forms = Forms::of(&[("password", PASSWORD.to_owned())]);
    let part = &PASSWORD[3..18];
    for before in ["", "a", "ab"] {
        let plain = format!("{before}{part}");
        let padded = format!("{plain}{}", "x".repeat((3 - plain.len() % 3) % 3));
        for text in [plain, base64(padded.as_bytes())] {
            assert!(forms.find(text.as_bytes()).is_some(), "{text}");
        }
    }
    assert_eq!(forms.find(b"Kanari-pass and word"), None);
}

/// Encodes bytes whose number is a multiple of three, so that no padding is needed.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks_exact(3)
        .flat_map(|three| {
            let number = three
                .iter()
                .fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
            [18, 12, 6, 0].map(|shift| char::from(LETTERS[number >> shift & 63]))
        })
        .collect()
}

fn tenant_of(name: &str, server: &str, credentials: &Value) -> Value {
    json!({
        "id": name,
        "display_name": name,
        "source": { "kind": "sharepoint", "sites": [format!("{server}/sites/{name}")], "credentials": credentials },
        "mailbox": { "kind": "ews", "url": format!("{server}/EWS/Exchange.asmx"), "credentials": credentials },
    })
}

/// Creates a private key with its certificate. Returns the key's path.
fn key_in(folder: &Path) -> PathBuf {
    let key = folder.join("canary.key");
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-subj",
            "/CN=canary",
            "-days",
            "2",
            "-keyout",
        ])
        .arg(&key)
        .arg("-out")
        .arg(folder.join("canary.crt"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    key
}

#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn call(url: &str, token: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut request = client
        .request(method.parse().unwrap(), format!("{url}/api/v1{path}"))
        .bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

/// A server that repeats what it was sent, in every form an answer can have, or that grants a token to every client.
struct Repeater {
    url: String,
    task: AbortOnDropHandle<()>,
}

impl Repeater {
    async fn start(grants: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                number += 1;
                spawn(serve(stream, grants, number)).detach();
            }
        });
        Self { url, task }
    }
}

impl Drop for Repeater {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request. The next one comes over another connection and gets another form of answer.
async fn serve(mut stream: TcpStream, grants: bool, number: usize) {
    let mut heard = Vec::new();
    let mut chunk = [0_u8; 16 * 1024];
    loop {
        let text = String::from_utf8_lossy(&heard);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase()
                        .strip_prefix("content-length:")?
                        .trim()
                        .parse()
                        .ok()
                })
                .unwrap_or(0);
            if body.len() >= length {
                break;
            }
        }
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => heard.extend_from_slice(&chunk[..read]),
            _ => return,
        }
    }
    let answer = if grants {
        let granted = json!({ "token_type": "Bearer", "expires_in": 3600, "access_token": TOKEN });
        answer(200, "application/json", &granted.to_string())
    } else {
        repeat_secret(&String::from_utf8_lossy(&heard), number)
    };
    stream.write_all(answer.as_bytes()).await.ok();
}

fn answer(status: u16, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\
         Set-Cookie: session={COOKIE}; HttpOnly\r\nWWW-Authenticate: NTLM {NTLM}\r\n\r\n{body}",
        body.len()
    )
}

fn repeat_secret(request: &str, number: usize) -> String {
    let (head, body) = request.split_once("\r\n\r\n").unwrap_or_default();
    let authorization = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with("authorization"))
        .unwrap_or_default();
    let form: String = body.chars().take(1_500).collect();
    let text = if body.starts_with("grant_type") {
        format!("you sent {form}")
    } else {
        // A server that knows a secret may also repeat it in its own words.
        let secret = if authorization.contains("Basic") {
            PASSWORD
        } else {
            TOKEN
        };
        format!("you sent {authorization}, which is {secret}")
    };
    let error = json!({ "error": "invalid_client", "error_description": text });
    if body.starts_with("grant_type") {
        return answer(401, "application/json", &error.to_string());
    }
    let odata = json!({ "odata.error": { "code": "-1, X", "message": { "value": text } } });
    let fault = format!(
        "<s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Body><s:Fault><faultstring>{text}</faultstring>\
         <detail><ResponseCode>{text}</ResponseCode></detail></s:Fault></s:Body></s:Envelope>"
    );
    match number % 5 {
        0 => answer(500, "text/html", &text),
        1 => answer(200, "text/html", &format!("<html>{text}")),
        2 => answer(400, "application/json", &odata.to_string()),
        3 => answer(403, "text/plain", &text),
        _ => answer(500, "text/xml", &fault),
    }
}
