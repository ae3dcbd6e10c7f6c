//! Exchange and SharePoint behind one host name, as behind a shared reverse proxy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::SignedDuration;
use serde_json::{Value, json};
use tasksync_common::error::{Code, ErrorClass};
use tasksync_common::tasks::spawn;
use tasksync_loadtest::trial::Farm;
use tasksync_worker::source::{Person, TaskPresence};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::rig::{Rig, Spec};

/// The state of Exchange in the proxy.
#[derive(Default)]
struct Exchange {
    /// Whether every request is answered with 503 and a pause of ten minutes.
    busy: AtomicBool,
    requests: AtomicUsize,
}

fn authority(url: &str) -> String {
    url.split('/').nth(2).unwrap().to_owned()
}

/// Puts one listener in front of both servers. Returns the tenant's settings with its address.
fn behind_one_host(exchange: &Arc<Exchange>, farm: &Farm, mut settings: Value) -> Value {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let host = listener.local_addr().unwrap();
    let tenant = &farm.population.tenants[0];
    let (ews, sharepoint) = (authority(&farm.ews_url()), authority(&farm.site_url(tenant)));
    settings["mailbox"]["url"] = json!(format!("http://{host}/EWS/Exchange.asmx"));
    settings["source"]["sites"] = json!([format!("http://{host}{}", tenant.site)]);
    let exchange = Arc::clone(exchange);
    spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        while let Ok((client, _)) = listener.accept().await {
            let (exchange, ews, sharepoint) = (Arc::clone(&exchange), ews.clone(), sharepoint.clone());
            spawn(async move { one_request(client, &exchange, &ews, &sharepoint).await }).detach();
        }
    })
    .detach();
    settings
}

/// Serves one request and closes the connection.
async fn one_request(mut client: TcpStream, exchange: &Exchange, ews: &str, sharepoint: &str) {
    let Some(request) = read_request(&mut client).await else {
        return;
    };
    let is_ews = request.starts_with(b"POST /EWS/");
    if is_ews {
        exchange.requests.fetch_add(1, Ordering::SeqCst);
    }
    let answer = if is_ews && exchange.busy.load(Ordering::SeqCst) {
        b"HTTP/1.1 503 Busy\r\nRetry-After: 600\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_vec()
    } else {
        let mut server = TcpStream::connect(if is_ews { ews } else { sharepoint })
            .await
            .unwrap();
        let end_of_line = request.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
        let (line, rest) = request.split_at(end_of_line);
        let closing = [line, b"Connection: close\r\n", rest].concat();
        server.write_all(&closing).await.unwrap();
        let mut answer = Vec::new();
        server.read_to_end(&mut answer).await.unwrap();
        answer
    };
    client.write_all(&answer).await.ok();
    client.shutdown().await.ok();
}

async fn read_request(client: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        if client.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
            .unwrap_or(0);
        if bytes.len() >= end + 4 + length {
            return Some(bytes);
        }
    }
}

#[tokio::test]
async fn a_pause_that_exchange_asks_for_leaves_sharepoint_on_the_same_host_alone() {
    let exchange = Arc::new(Exchange::default());
    let mut rig = Rig::with_settings(Spec::default(), |farm, settings| {
        behind_one_host(&exchange, farm, settings)
    })
    .await;
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await;
    rig.assert_settled().await;

    exchange.busy.store(true, Ordering::SeqCst);
    rig.retitle_original(list, item, "Report of May");
    let failure = rig.try_cycle(0).await.unwrap_err();
    assert_eq!(failure.code, Code::ExchangeBusy, "{failure}");
    assert!(
        matches!(failure.class, ErrorClass::Throttled { .. }),
        "{failure:?}"
    );
    let asked = exchange.requests.load(Ordering::SeqCst);
    let context = rig.tenants.get(&rig.tenant_id()).await.unwrap();
    let person = Person::new(rig.person(0).login.clone());
    let read = context.connections.source.everything(&person).await.unwrap();
    let titles: Vec<&str> = read
        .tasks
        .iter()
        .map(|(_, presence)| {
            let TaskPresence::Present(task) = presence else {
                panic!("{presence:?}");
            };
            task.task.title.as_str()
        })
        .collect();
    assert_eq!(titles, ["Report of May"]);
    // No request is sent to Exchange in the meantime.
    rig.try_cycle(0).await.unwrap_err();
    assert_eq!(exchange.requests.load(Ordering::SeqCst), asked);

    exchange.busy.store(false, Ordering::SeqCst);
    rig.pass_time(SignedDuration::from_mins(11));
    rig.cycle(0).await.report();
    assert_eq!(rig.copy(0, list, item).subject, "Report of May");
    rig.assert_settled().await;
}
