//! Connections that are signed in themselves, with a sign-in and servers of these tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::HeaderMap;
use tasksync_common::clock::ManualClock;
use tasksync_common::error::Failure;
use tasksync_common::metrics::record;
use tasksync_worker::http::{
    CallError, ConnectionSignIn, Handshake, Http, HttpAnswer, HttpRequest, SignInToken,
};
use url::Url;

use crate::server::{Reply, Server, settings};

/// A sign-in in two steps: `NTLM first`, then `NTLM second` with the request.
#[derive(Default)]
struct TwoSteps {
    accepted: AtomicUsize,
    refused: AtomicUsize,
}

struct TwoStepHandshake(Arc<TwoSteps>);

struct Account(Arc<TwoSteps>);

#[async_trait]
impl ConnectionSignIn for Account {
    fn identity(&self) -> &'static str {
        "contoso svc"
    }

    async fn begin(&self) -> Result<Box<dyn Handshake>, Failure> {
        Ok(Box::new(TwoStepHandshake(Arc::clone(&self.0))))
    }
}

#[async_trait]
impl Handshake for TwoStepHandshake {
    fn scheme(&self) -> &'static str {
        "NTLM"
    }

    async fn step(&mut self, given: Option<String>, _: Option<Vec<u8>>) -> Result<SignInToken, Failure> {
        let may_complete = given.is_some();
        Ok(SignInToken {
            value: if may_complete { "second" } else { "first" }.to_owned(),
            may_complete,
        })
    }

    fn end(self: Box<Self>, accepted: bool) {
        let counter = if accepted {
            &self.0.accepted
        } else {
            &self.0.refused
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

struct Client {
    http: Http,
    clock: Arc<ManualClock>,
    steps: Arc<TwoSteps>,
}

impl Client {
    fn new() -> Self {
        let clock = ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap());
        Self {
            http: Http::new(settings(), clock.clone()).unwrap(),
            clock,
            steps: Arc::default(),
        }
    }

    async fn post(&self, url: Url) -> Result<HttpAnswer, CallError> {
        self.http
            .send(HttpRequest {
                method: reqwest::Method::POST,
                url,
                server: record::Server::Ews,
                payer: "contoso".into(),
                operation: "CreateItem",
                headers: HeaderMap::new(),
                body: Bytes::from_static(b"a task"),
                timeout: Duration::from_secs(5),
                sign_in: Some(Arc::new(Account(Arc::clone(&self.steps)))),
            })
            .await
    }

    fn ended(&self) -> (usize, usize) {
        let read = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        (read(&self.steps.accepted), read(&self.steps.refused))
    }
}

const CHALLENGE: &str = "WWW-Authenticate: Negotiate\r\nWWW-Authenticate: NTLM challenge\r\n";

/// Answers the first step with a challenge, and everything else with 201.
fn signing_in(request: &str) -> Reply {
    if request.contains("NTLM first") {
        Reply::answer(401, CHALLENGE, "<html>")
    } else {
        Reply::answer(201, "", "created")
    }
}

#[tokio::test]
async fn the_request_goes_with_the_token_that_proves_the_password_and_later_ones_bare() {
    let server = Server::plain(|_, request| signing_in(request)).await;
    let client = Client::new();
    for _ in 0..3 {
        let answer = client.post(server.url("/a?b=c")).await.unwrap();
        assert_eq!((answer.status, &*answer.body), (201, b"created".as_slice()));
    }
    let requests = server.requests();
    let bodies: Vec<_> = requests
        .iter()
        .map(|request| request.contains("a task"))
        .collect();
    assert_eq!(bodies, [false, true, true, true]);
    let signed: Vec<_> = requests
        .iter()
        .map(|request| request.to_ascii_lowercase().contains("authorization: ntlm"))
        .collect();
    assert_eq!(signed, [true, true, false, false]);
    assert!(
        requests
            .iter()
            .all(|request| request.starts_with("POST /a?b=c HTTP/1.1\r\n"))
    );
    assert_eq!((server.connections(), client.ended()), (1, (1, 0)));
}

#[tokio::test]
async fn a_connection_on_which_the_server_asks_again_is_given_up_for_a_new_one() {
    // The third request is the first on the kept connection.
    let server = Server::plain(|number, request| match number {
        2 => Reply::answer(401, "WWW-Authenticate: NTLM\r\n", ""),
        _ => signing_in(request),
    })
    .await;
    let client = Client::new();
    for _ in 0..2 {
        assert_eq!(client.post(server.url("/")).await.unwrap().status, 201);
    }
    assert_eq!((server.connections(), server.requests().len()), (2, 5));
    assert_eq!(client.ended(), (2, 0));
}

#[tokio::test]
async fn a_connection_that_the_server_closed_is_not_used_and_nothing_is_sent_twice() {
    let server = Server::plain(|_, request| {
        if request.contains("NTLM first") {
            return Reply::answer(401, CHALLENGE, "");
        }
        Reply::SendAndClose(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n".to_vec())
    })
    .await;
    let client = Client::new();
    for _ in 0..3 {
        assert_eq!(client.post(server.url("/")).await.unwrap().status, 201);
    }
    let whole = server
        .requests()
        .iter()
        .filter(|request| request.contains("a task"))
        .count();
    assert_eq!((whole, server.connections()), (3, 3));
}

#[tokio::test]
async fn a_write_without_an_answer_may_have_happened_and_a_refused_sign_in_did_not() {
    let server = Server::plain(|_, request| {
        if request.contains("NTLM first") {
            Reply::answer(401, CHALLENGE, "")
        } else {
            Reply::SendAndClose(Vec::new())
        }
    })
    .await;
    let client = Client::new();
    let error = client.post(server.url("/")).await.unwrap_err();
    assert!(error.may_have_happened(), "{error:?}");
    assert_eq!(client.ended(), (0, 0), "nothing is known of the password");
    // The server refuses the password: the answer is the call's.
    let refusing = Server::plain(|_, request| {
        let challenge = if request.contains("NTLM first") {
            CHALLENGE
        } else {
            "WWW-Authenticate: NTLM\r\n"
        };
        Reply::answer(401, challenge, "who are you?")
    })
    .await;
    let answer = client.post(refusing.url("/")).await.unwrap();
    assert_eq!((answer.status, &*answer.body), (401, b"who are you?".as_slice()));
    assert_eq!((client.ended(), refusing.connections()), ((0, 1), 1));
}

#[tokio::test]
async fn a_server_with_other_schemes_refuses_before_it_saw_a_password_and_a_strange_one_is_not_believed() {
    let basic = Server::plain(|_, _| Reply::answer(401, "WWW-Authenticate: Basic realm=\"x\"\r\n", "")).await;
    let client = Client::new();
    assert_eq!(client.post(basic.url("/")).await.unwrap().status, 401);
    assert_eq!((basic.requests().len(), client.ended()), (1, (0, 0)));
    let busy = Server::plain(|_, _| Reply::answer(503, "Retry-After: 9\r\n", "")).await;
    assert_eq!(client.post(busy.url("/")).await.unwrap().status, 503);
    // The request without its body is "not found": this says nothing about what was asked.
    for status in [200, 204, 404, 500] {
        let strange = Server::plain(move |_, _| Reply::answer(status, "", "")).await;
        let error = client.post(strange.url("/")).await.unwrap_err();
        assert!(matches!(error, CallError::NotSignedIn { .. }), "{error:?}");
        assert!(error.to_string().contains(&status.to_string()), "{error}");
    }
    let cut = Server::plain(|_, _| Reply::SendAndClose(Vec::new())).await;
    assert!(!client.post(cut.url("/")).await.unwrap_err().may_have_happened());
    let endless = Server::plain(|_, _| Reply::answer(401, CHALLENGE, "")).await;
    assert!(
        !client
            .post(endless.url("/"))
            .await
            .unwrap_err()
            .may_have_happened()
    );
    assert_eq!(endless.requests().len(), 5);
}

#[tokio::test]
async fn distrusted_connections_serve_no_further_request() {
    let server = Server::plain(|_, request| signing_in(request)).await;
    let client = Client::new();
    client.post(server.url("/")).await.unwrap();
    client.clock.advance(SignedDuration::from_secs(11));
    assert!(client.http.distrust());
    client.post(server.url("/")).await.unwrap();
    assert_eq!((server.connections(), client.ended()), (2, (2, 0)));
}
