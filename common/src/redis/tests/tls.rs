//! TLS against real servers, with certificates signed by an authority of the test.

use std::path::Path;

use super::*;
use crate::certificates::PrivateAuthority;
use crate::settings::ScheduleSettings;

/// Returns a store as the settings open it.
fn open_store(url: &str, authorities: Option<&Path>) -> Result<RedisStore, Failure> {
    let settings = ScheduleSettings {
        url: url.to_owned(),
        authorities: authorities.map(Path::to_path_buf),
        ..ScheduleSettings::default()
    };
    RedisStore::new("schedule.url", &settings.url, RedisOptions::of(&settings))
}

/// Returns the detail of the failure of a call that must fail.
async fn open_failure(url: &str, authorities: Option<&Path>) -> String {
    let failure = open_store(url, authorities).unwrap().ping().await.unwrap_err();
    assert_eq!(
        (failure.class, failure.code),
        (ErrorClass::Transient, Code::RedisUnavailable)
    );
    failure.detail
}

/// Returns why these settings cannot be used.
fn wrong(url: &str, authorities: &Path) -> String {
    let failure = open_store(url, Some(authorities)).unwrap_err();
    assert_eq!(failure.code, Code::SettingsWrong);
    failure.detail
}

#[tokio::test]
async fn a_server_of_a_private_authority_is_trusted_when_the_authority_is_named() {
    let authority = PrivateAuthority::new();
    let certificate = authority.issue_file(&["127.0.0.1"]);
    let Some(server) = PrivateRedis::start_tls(&certificate, &["--requirepass", "geheim"]) else {
        return;
    };
    let url = server.url().replace("://", "://:geheim@");
    let file = authority.file();
    let store = open_store(&url, Some(&file)).unwrap();
    assert_eq!(count(&store, "n", Repeat::No).await, Ok(1));

    let unknown = open_failure(&url, None).await;
    let other = open_failure(&url, Some(&PrivateAuthority::new().file())).await;
    for detail in [unknown, other] {
        assert!(
            detail.contains("not trusted") && detail.contains("schedule.authorities"),
            "{detail}"
        );
        assert!(!detail.contains("geheim"), "{detail}");
    }
    let name = open_failure(&url.replace("127.0.0.1", "localhost"), Some(&file)).await;
    assert!(
        name.contains("another host name") && name.contains("localhost"),
        "{name}"
    );
    let plain = open_failure(&url.replace("rediss:", "redis:"), None).await;
    assert!(plain.contains("rediss"), "{plain}");
}

#[tokio::test]
async fn a_port_without_tls_is_reported() {
    let Some(server) = PrivateRedis::start(&[]) else {
        return;
    };
    let url = server.url().replace("redis:", "rediss:");
    let authority = PrivateAuthority::new();
    let authority = authority.file();
    // To a server that expects commands, a TLS greeting looks random: it is refused, or the server waits for
    // more.
    let details = futures::future::join_all((0..10).map(|_| open_failure(&url, Some(&authority)))).await;
    for detail in details {
        assert!(
            detail.contains("no TLS") && detail.contains("on that port"),
            "{detail}"
        );
    }
}

#[tokio::test]
async fn a_server_that_requires_client_certificates_is_reported() {
    let authority = PrivateAuthority::new();
    let (certificate, file) = (authority.issue_file(&["127.0.0.1"]), authority.file());
    let arguments = [
        "--tls-auth-clients",
        "yes",
        "--tls-ca-cert-file",
        file.to_str().unwrap(),
    ];
    let Some(server) = PrivateRedis::start_tls(&certificate, &arguments) else {
        return;
    };
    let detail = open_failure(&server.url(), Some(&file)).await;
    assert!(detail.contains("tls-auth-clients"), "{detail}");
}

/// Asserts that a client that trusts the authority of this file gets an answer before long, and that a client
/// that trusts another one is refused.
async fn trusts_the_named_authority_only(url: &str, file: &Path) {
    let store = open_store(url, Some(file)).unwrap();
    let mut answer = count(&store, "n", Repeat::No).await;
    for _ in 0..200 {
        if answer.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        answer = count(&store, "n", Repeat::No).await;
    }
    assert_eq!(answer, Ok(1));
    let other = open_failure(url, Some(&PrivateAuthority::new().file())).await;
    assert!(other.contains("schedule.authorities"), "{other}");
}

#[tokio::test]
async fn sentinels_and_their_master_are_trusted_alike() {
    let authority = PrivateAuthority::new();
    let (certificate, file) = (authority.issue_file(&["127.0.0.1"]), authority.file());
    let Some(master) = PrivateRedis::start_tls(&certificate, &[]) else {
        return;
    };
    let Some(sentinel) = PrivateRedis::start_tls_sentinel(&certificate, &file, master.port()) else {
        return;
    };
    let url = format!("rediss+sentinel://127.0.0.1:{}/private", sentinel.port());
    // The Sentinel may not have found its master yet.
    trusts_the_named_authority_only(&url, &file).await;
}

#[tokio::test]
async fn the_nodes_of_a_cluster_are_trusted_alike() {
    let authority = PrivateAuthority::new();
    let (certificate, file) = (authority.issue_file(&["127.0.0.1"]), authority.file());
    let arguments = [
        "--cluster-enabled",
        "yes",
        "--tls-cluster",
        "yes",
        "--tls-ca-cert-file",
        file.to_str().unwrap(),
    ];
    let Some(node) = PrivateRedis::start_tls(&certificate, &arguments) else {
        return;
    };
    let mut slots = redis::cmd("CLUSTER");
    slots.arg("ADDSLOTSRANGE").arg(0).arg(16_383);
    let alone = open_store(&node.url(), Some(&file)).unwrap();
    alone.command::<()>("testing", slots, Repeat::No).await.unwrap();
    let url = node.url().replace("rediss:", "rediss+cluster:");
    trusts_the_named_authority_only(&url, &file).await;
}

#[tokio::test]
async fn unusable_authorities_are_reported_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("authorities.pem");
    let url = "rediss://:geheim@127.0.0.1:1";
    let missing = wrong(url, &file);
    std::fs::write(&file, "hello").unwrap();
    let empty = wrong(url, &file);
    std::fs::write(
        &file,
        "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    let nonsense = wrong(url, &file);
    for detail in [missing, empty, nonsense] {
        assert!(
            detail.contains("schedule.authorities") && detail.contains("authorities.pem"),
            "{detail}"
        );
        assert!(!detail.contains("geheim"), "{detail}");
    }
    let plain = wrong("redis://127.0.0.1:1", &PrivateAuthority::new().file());
    assert!(plain.contains("does not use TLS"), "{plain}");
}
