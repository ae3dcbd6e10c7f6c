//! The client's CPU time of a request that is signed in by its connection, beside one that is signed in by a Basic
//! header: on kept connections, as idle syncs use them, and with a new connection for each request. Apache, which ends
//! TLS and signs in, runs in processes of its own.

#[path = "idle/cpu.rs"]
mod cpu;
#[path = "../../common/benches/support/mod.rs"]
mod ending;
#[expect(
    clippy::expect_used,
    clippy::panic,
    reason = "the set-up of the tests, which fails loudly"
)]
#[path = "../../loadtest/tests/foreign/python.rs"]
mod python;
#[path = "support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ending::{end, say};
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use serde_json::{Value, json};
use support::{median, verdict};
use tasksync_common::clock::{ManualClock, monotonic};
use tasksync_common::metrics::record;
use tasksync_common::model::TenantId;
use tasksync_common::registry::Credentials;
use tasksync_common::settings::{OutboundSettings, SecretsSettings};
use tasksync_loadtest::services::on_premises::{OnPremises, PEOPLE, REALM};
use tasksync_loadtest::services::{Binaries, PrivateAuthority, ServiceFolder};
use tasksync_worker::auth::{Authenticator, SignIn};
use tasksync_worker::http::{Http, HttpRequest};

/// A debug build rehearses, as the gate does.
const REHEARSAL: bool = cfg!(debug_assertions);
const ROUNDS: usize = if REHEARSAL { 1 } else { 7 };
/// The aim: on a kept connection, a request costs at most this many times one with a Basic header.
const AIM: f64 = 1.1;
const ROUND: Duration = Duration::from_millis(if REHEARSAL { 20 } else { 1_000 });

fn main() -> ExitCode {
    let measured = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(run()));
    end("sign_in", measured)
}

/// One way to sign in.
struct Way {
    name: &'static str,
    credentials: Arc<Credentials>,
    url: String,
    kept: Vec<f64>,
    opened: Vec<f64>,
}

struct Client {
    http: Http,
    auth: Authenticator,
    clock: Arc<ManualClock>,
    tenant: TenantId,
}

async fn run() -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let python = tokio::task::spawn_blocking(python::interpreter)
        .await
        .map_err(|error| text(&error))?;
    let folder = Arc::new(ServiceFolder::new(None, Binaries::default()).map_err(|error| text(&error))?);
    let issuer = PrivateAuthority::generate().map_err(|error| text(&error))?;
    let (authority, password) = (
        folder.path().join("authority.pem"),
        folder.path().join("password"),
    );
    std::fs::write(&authority, issuer.pem()).map_err(|error| text(&error))?;
    std::fs::write(&password, PEOPLE[0].1).map_err(|error| text(&error))?;
    let servers = OnPremises::start(&folder, &python, &issuer, None)
        .await
        .map_err(|error| text(&error))?;
    let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).map_err(|error| text(&error))?);
    let outbound = OutboundSettings {
        allowed_networks: vec!["127.0.0.0/8".to_owned()],
        authorities: Some(authority),
        ..OutboundSettings::default()
    };
    let http = Http::new(outbound, clock.clone()).map_err(|error| text(&error))?;
    let secrets = SecretsSettings {
        folder: folder.path().to_owned(),
        ..SecretsSettings::default()
    };
    let client = Client {
        auth: Authenticator::new(http.clone(), secrets),
        http,
        clock,
        tenant: "contoso".parse().map_err(|_| "a tenant's id".to_owned())?,
    };
    let secret = json!(format!("file:{}", password.display()));
    let way = |name, value: Value, url| {
        Ok::<_, String>(Way {
            name,
            credentials: Arc::new(serde_json::from_value(value).map_err(|error| text(&error))?),
            url,
            kept: Vec::new(),
            opened: Vec::new(),
        })
    };
    let with_kind = |kind: &str| json!({ "kind": kind, "user": "svc", "password": secret, "realm": REALM, "kdc": [servers.kdc()] });
    let account = |kind: &str, user: &str| json!({ "kind": kind, "user": user, "password": secret });
    let mut ways = [
        way("basic", account("basic", "svc"), servers.basic())?,
        way("ntlm", account("ntlm", "CORP\\svc"), servers.ntlm())?,
        way("kerberos", with_kind("kerberos"), servers.negotiate())?,
        way("negotiate", with_kind("negotiate"), servers.negotiate())?,
    ];
    for round in 0..=ROUNDS {
        for way in &mut ways {
            let kept = timed(|| client.post(way)).await?;
            let opened = timed(|| client.post_on_new(way)).await?;
            // The first round opens connections and warms caches.
            if round > 0 {
                way.kept.push(kept);
                way.opened.push(opened);
            }
        }
    }
    say("Client CPU of one request, by sign-in, over TLS to Apache (median of alternating rounds)\n");
    say("              kept connection    as Basic      new connection    as Basic");
    let [basic, ..] = &ways;
    let base = (median(&basic.kept), median(&basic.opened));
    for way in &ways {
        let (kept, opened) = (median(&way.kept), median(&way.opened));
        say(&format!(
            "  {:<10} {:>13.1} µs {:>10.2}x {:>13.1} µs {:>10.2}x  ≤ {AIM}x kept: {}",
            way.name,
            kept * 1e6,
            kept / base.0,
            opened * 1e6,
            opened / base.1,
            verdict(kept / base.0 <= AIM),
        ));
    }
    Ok(())
}

impl Client {
    async fn post(&self, way: &Way) -> Result<(), String> {
        let url = way.url.parse().map_err(|_| way.url.clone())?;
        let server = record::Server::Ews;
        let sign_in = self
            .auth
            .sign_in(&self.tenant, &way.credentials, server, &url)
            .await
            .map_err(|failure| failure.to_string())?;
        let mut headers = HeaderMap::new();
        let sign_in = match sign_in {
            SignIn::Header(header) => {
                headers.insert(AUTHORIZATION, header);
                None
            }
            SignIn::Connection(sign_in) => Some(sign_in),
        };
        let call = HttpRequest {
            method: reqwest::Method::POST,
            url,
            server,
            payer: "contoso".into(),
            operation: "GetFolder",
            headers,
            body: Bytes::from_static(b"folders"),
            timeout: Duration::from_secs(20),
            sign_in,
        };
        match self.http.send(call).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("{}: HTTP {}", way.name, answer.status)),
            Err(error) => Err(format!("{}: {error}", way.name)),
        }
    }

    async fn post_on_new(&self, way: &Way) -> Result<(), String> {
        self.clock.advance(SignedDuration::from_secs(11));
        self.http.distrust();
        self.post(way).await
    }
}

/// Returns the CPU seconds of one call, over calls one after another for a round.
async fn timed<F: Future<Output = Result<(), String>>>(call: impl Fn() -> F) -> Result<f64, String> {
    let (started, cpu) = (monotonic(), cpu::seconds()?);
    let mut calls = 0_u32;
    while started.elapsed() < ROUND {
        call().await?;
        calls += 1;
    }
    Ok((cpu::seconds()? - cpu) / f64::from(calls.max(1)))
}
