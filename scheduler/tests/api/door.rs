//! The API's door: wrong tokens, and connections without end.

use std::net::SocketAddr;
use std::time::Duration;

use tasksync_common::health::Health;
use tasksync_common::settings::Settings;
use tasksync_common::tasks::spawn;
use tasksync_scheduler::{Door, api};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::harness::{Service, TOKEN};

/// A client at another loopback address than the default one.
fn client_at(address: [u8; 4]) -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .local_address(std::net::IpAddr::from(address))
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
}

fn wrong(number: u32) -> String {
    format!("Bearer a-wrong-token-{number:08}")
}

async fn service_with(wrong_tokens: u32, connections_per_address: usize) -> Service {
    let mut settings = Settings::default();
    settings.api.wrong_tokens = wrong_tokens;
    settings.api.connections_per_address = connections_per_address;
    Service::start_as(Some(TOKEN), settings).await
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn too_many_wrong_tokens_slow_the_wrong_tokens_of_their_address_and_nothing_else() {
    let service = service_with(3, 64).await;
    let path = "/api/v1/tenants";
    for number in 0..3 {
        let request = service
            .request("GET", path)
            .header("authorization", wrong(number));
        assert_eq!(service.send(request).await.code(), "unauthorized");
    }
    let request = service.request("GET", path).header("authorization", wrong(4));
    let late = request.send().await.unwrap();
    assert_eq!(late.status().as_u16(), 429);
    let retry_after: u64 = late.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&retry_after), "{retry_after}");
    let text = late.text().await.unwrap();
    assert!(
        text.contains("too-many-wrong-tokens") && text.contains("127.0.0.1"),
        "{text}"
    );
    assert!(!text.contains("a-wrong-token"), "{text}");

    // The right token of the same address is answered at once, and a request without a token is no attempt.
    assert_eq!(service.get("/tenants").await.status, 200);
    assert_eq!(service.send(service.request("GET", path)).await.status, 401);
    // Another address has attempts of its own. A forged header does not move attempts to another address.
    let other = client_at([127, 0, 0, 2]);
    let request = other
        .get(format!("{}{path}", service.base))
        .header("x-forwarded-for", "127.0.0.1")
        .header("authorization", wrong(5));
    assert_eq!(request.send().await.unwrap().status().as_u16(), 401);
}

/// Opens connections and leaves them idle.
async fn open_idle(from: [u8; 4], to: SocketAddr, number: usize) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for _ in 0..number {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((from, 0))).unwrap();
        open.push(socket.connect(to).await.unwrap());
    }
    open
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn idle_connections_without_end_close_each_other_and_honest_clients_are_served() {
    let service = service_with(10, 64).await;
    let address: SocketAddr = service.base.trim_start_matches("http://").parse().unwrap();
    let honest = client_at([127, 0, 0, 9]);
    let mut held = Vec::new();
    for _ in 0..3 {
        held = open_idle([127, 0, 0, 3], address, 300).await;
        for path in ["/livez", "/readyz"] {
            let answer = honest
                .get(format!("{}{path}", service.base))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status().as_u16(), 200, "{path}");
        }
        let request = honest
            .get(format!("{}/api/v1/status", service.base))
            .bearer_auth(TOKEN);
        assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
        // The same address is served as well: the flood loses its oldest connections.
        let same = client_at([127, 0, 0, 3]);
        let request = same
            .get(format!("{}/api/v1/status", service.base))
            .bearer_auth(TOKEN);
        assert_eq!(request.send().await.unwrap().status().as_u16(), 200);
    }
    // The first of the last ones is closed by now, since an address has 64 at most.
    let mut first = held.swap_remove(0);
    let read = tokio::time::timeout(Duration::from_secs(30), first.read(&mut [0])).await;
    assert!(matches!(read.unwrap(), Ok(0) | Err(_)));
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn a_flood_of_the_api_takes_no_place_of_the_probes() {
    let mut settings = Settings::default();
    (settings.api.connections, settings.api.connections_per_address) = (8, 8);
    let service = Service::start_as(Some(TOKEN), settings).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let probes = listener.local_addr().unwrap();
    let health = Health::new(CancellationToken::new());
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let router = api::probes(health, api::Detail::Shown);
    let serving = api::serve(listener, router, Door::of_probes(), stop, Duration::from_secs(1));
    spawn(serving).detach();
    let address: SocketAddr = service.base.trim_start_matches("http://").parse().unwrap();
    let platform = client_at([127, 0, 0, 1]);
    // The flood comes from the address of the prober, and also reaches for the probes' own listener.
    for to in [address, probes, address] {
        let _held = open_idle([127, 0, 0, 1], to, 300).await;
        for path in ["livez", "readyz"] {
            let answer = platform
                .get(format!("http://{probes}/{path}"))
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status().as_u16(), 200, "{path}");
        }
    }
}
