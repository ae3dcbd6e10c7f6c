use jiff::SignedDuration;
use tasksync_common::clock::{Clock as _, ManualClock};
use tasksync_common::tasks::spawn;

use super::*;

fn clock() -> Arc<ManualClock> {
    ManualClock::at(Timestamp::from_second(1_800_000_000).unwrap())
}

fn url(host: &str) -> Url {
    Url::parse(&format!("https://{host}/EWS/Exchange.asmx")).unwrap()
}

fn after(clock: &ManualClock, milliseconds: i64) -> Timestamp {
    clock.now() + SignedDuration::from_millis(milliseconds)
}

fn pause(server: &ServerLimits, until: Timestamp) {
    server.pause_until(until, Some(&"contoso".parse().unwrap()), "it is busy");
}

#[tokio::test]
async fn the_limit_of_a_server_is_kept_when_it_is_filled() {
    let clock = clock();
    let servers = Servers::new(2, clock.clone());
    let server = servers.limits_of(&url("mail.contoso.example"), Server::Ews, "");
    let acquire = |milliseconds| server.acquire(after(&clock, milliseconds));
    let first = acquire(0).await.unwrap();
    let _second = acquire(0).await.unwrap();
    let failure = acquire(20).await.map(|_| ()).unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::BudgetExhausted)
    );
    assert!(
        failure.detail.starts_with("mail.contoso.example:443"),
        "{}",
        failure.detail
    );
    assert_eq!(
        server.counts(),
        ServerCounts {
            requests: 2,
            throttled: 0,
            in_flight: 2
        }
    );
    // A waiting caller gets the permit that becomes free.
    let waiting = spawn({
        let (server, deadline) = (Arc::clone(&server), after(&clock, 60_000));
        async move {
            server
                .acquire(deadline)
                .await
                .map(|permit| permit.server().counts())
        }
    });
    tokio::task::yield_now().await;
    drop(first);
    assert_eq!(waiting.await.unwrap().unwrap().in_flight, 2);
    assert_eq!(server.counts().in_flight, 1);
    // Another port or another account is another server.
    assert!(
        servers
            .limits_of(&url("mail.contoso.example:8443"), Server::Ews, "")
            .acquire(clock.now())
            .await
            .is_ok()
    );
    assert!(!Arc::ptr_eq(
        &server,
        &servers.limits_of(&url("mail.contoso.example"), Server::Ews, "app")
    ));
    assert!(Arc::ptr_eq(
        &server,
        &servers.limits_of(&url("MAIL.contoso.example:443"), Server::Ews, "")
    ));
}

#[tokio::test]
async fn a_pause_is_shared_and_lasts_to_the_millisecond() {
    let clock = clock();
    let servers = Servers::new(1, clock.clone());
    let server = servers.limits_of(&url("sp.contoso.example"), Server::SharePoint, "");
    let permit = server.acquire(clock.now()).await.unwrap();
    let waiting = spawn({
        let (server, deadline) = (Arc::clone(&server), after(&clock, 60_000));
        async move { server.acquire(deadline).await.map(|_| ()) }
    });
    tokio::task::yield_now().await;
    pause(&server, after(&clock, 1_500));
    pause(&server, after(&clock, 300));
    drop(permit);
    // A caller that was waiting already gets the failure, too.
    let failure = waiting.await.unwrap().unwrap_err();
    let rest = |milliseconds| ErrorClass::Throttled {
        retry_after: Some(Duration::from_millis(milliseconds)),
    };
    assert_eq!((failure.class, failure.code), (rest(1_500), Code::SharePointBusy));
    clock.advance(SignedDuration::from_millis(1_499));
    let other = servers.limits_of(&url("sp.contoso.example"), Server::SharePoint, "");
    assert_eq!(other.check().unwrap_err().class, rest(1));
    clock.advance(SignedDuration::from_millis(1));
    assert!(other.check().is_ok());
    assert_eq!(
        server.counts(),
        ServerCounts {
            requests: 1,
            throttled: 2,
            in_flight: 0
        }
    );
}

#[tokio::test]
async fn the_number_of_servers_is_limited() {
    let clock = clock();
    let servers = Servers::with_maximum(1, clock.clone(), 3, None);
    let paused = servers.limits_of(&url("paused.example"), Server::Ews, "");
    pause(&paused, after(&clock, 10_000));
    drop(paused);
    let limits_in_use = servers.limits_of(&url("held.example"), Server::Ews, "");
    drop(servers.limits_of(&url("old.example"), Server::Ews, ""));
    // The idle entry is removed first, then the paused one; the one in use stays.
    let first = servers.limits_of(&url("a.example"), Server::Ews, "");
    assert!(
        servers
            .limits_of(&url("paused.example"), Server::Ews, "")
            .check()
            .is_err()
    );
    let second = servers.limits_of(&url("b.example"), Server::Ews, "");
    assert_eq!(servers.len(), 3);
    // No entry can be removed: further servers share one.
    let third = servers.limits_of(&url("c.example"), Server::Ews, "");
    assert!(Arc::ptr_eq(
        &third,
        &servers.limits_of(&url("d.example"), Server::Ews, "")
    ));
    assert!(Arc::ptr_eq(
        &limits_in_use,
        &servers.limits_of(&url("held.example"), Server::Ews, "")
    ));
    drop((first, second));
    assert!(!Arc::ptr_eq(
        &third,
        &servers.limits_of(&url("c.example"), Server::Ews, "")
    ));
    assert_eq!(servers.len(), 3);
}

/// Exchange and SharePoint behind one host name, called with one account.
#[tokio::test]
async fn a_pause_of_one_service_leaves_another_on_the_same_host_alone() {
    let clock = clock();
    let servers = Servers::new(1, clock.clone());
    let of = |kind| servers.limits_of(&url("office.contoso.example"), kind, "svc");
    for (paused, other) in [
        (Server::Ews, Server::SharePoint),
        (Server::SharePoint, Server::Ews),
    ] {
        pause(&of(paused), after(&clock, 60_000));
        assert!(of(paused).check().is_err(), "{paused:?}");
        assert!(of(paused).acquire(clock.now()).await.is_err(), "{paused:?}");
        assert!(of(other).check().is_ok(), "{other:?}");
        assert!(of(other).acquire(clock.now()).await.is_ok(), "{other:?}");
        clock.advance(SignedDuration::from_secs(61));
    }
}
