//! TLS to PostgreSQL against real servers, with certificates signed by an authority of the test.

use std::path::Path;
use std::time::Duration;

use url::Url;

use super::server::{OwnServer, settings};
use crate::certificates::PrivateAuthority;
use crate::error::{Code, Failure};
use crate::registry::SqlRegistry;
use crate::registry::topics::*;

/// Returns the server's URL with these parameters.
fn with(server: &OwnServer, parameters: &[(&str, &str)]) -> Url {
    let mut url = server.url();
    url.query_pairs_mut().extend_pairs(parameters);
    url
}

fn verifying_url(server: &OwnServer, authority: &Path) -> Url {
    let authority = authority.to_str().unwrap();
    with(server, &[("sslmode", "verify-full"), ("sslrootcert", authority)])
}

async fn open(url: &Url) -> Result<SqlRegistry, Failure> {
    let mut settings = settings(url);
    settings.acquire_timeout = Duration::from_secs(5);
    SqlRegistry::open_postgres(&settings).await
}

async fn open_failure(url: &Url) -> String {
    let failure = open(url).await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryUnavailable, "{failure}");
    assert!(!failure.detail.contains("geheim"), "{failure}");
    failure.detail
}

/// Returns whether the server reports the registry's sessions as encrypted.
async fn is_encrypted(registry: &SqlRegistry) -> bool {
    let mut connection = registry.single("testing").await.unwrap();
    let rows = connection
        .query("SELECT 1 FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND ssl")
        .execute()
        .await
        .unwrap();
    rows == 1
}

#[tokio::test]
async fn a_server_of_a_private_authority_is_trusted_when_the_url_names_the_authority() {
    let authority = PrivateAuthority::new();
    let Some(server) = OwnServer::start_tls(&authority.issue(&["127.0.0.1"])) else {
        return;
    };
    let url = verifying_url(&server, &authority.file());
    let registry = open(&url).await.unwrap();
    registry.check_writable().await.unwrap();
    assert!(is_encrypted(&registry).await);

    let other = open_failure(&verifying_url(&server, &PrivateAuthority::new().file())).await;
    let unknown = open_failure(&with(&server, &[("sslmode", "verify-full")])).await;
    for detail in [other, unknown] {
        assert!(
            detail.contains("not trusted") && detail.contains("sslrootcert"),
            "{detail}"
        );
    }
    let mut named = url.clone();
    named.set_host(Some("localhost")).unwrap();
    let name = open_failure(&named).await;
    assert!(
        name.contains("another host name") && name.contains("localhost"),
        "{name}"
    );
    // A named authority is checked even where no proof would be required otherwise.
    let authority = authority.file();
    let alone = [("sslrootcert", authority.to_str().unwrap())];
    assert!(is_encrypted(&open(&with(&server, &alone)).await.unwrap()).await);
    let mut named = with(&server, &alone);
    named.set_host(Some("localhost")).unwrap();
    assert!(open_failure(&named).await.contains("another host name"));
}

#[tokio::test]
async fn what_asks_for_a_proof_never_goes_on_without() {
    let Some(server) = OwnServer::start_new() else {
        return;
    };
    for mode in ["require", "verify-ca", "verify-full"] {
        let detail = open_failure(&with(&server, &[("sslmode", mode)])).await;
        assert!(
            detail.contains("sslmode") && detail.contains("no TLS"),
            "{mode}: {detail}"
        );
    }
    // With a weaker requirement the same server is used, so only the proof was missing.
    let registry = open(&with(&server, &[("sslmode", "prefer")])).await.unwrap();
    assert!(!is_encrypted(&registry).await);
}

#[tokio::test]
async fn a_parameter_that_would_not_be_obeyed_is_refused() {
    for (query, named) in [
        ("sslMode=verify-full", "sslMode"),
        ("ssl_mode=verify-full", "ssl_mode"),
        ("tls=verify-full", "tls"),
        ("sslmode=verify-full&sslmode=disable", "sslmode"),
        ("sslmode=verify-full&ssl-mode=disable", "sslmode"),
        ("passwort=geheim", "passwort"),
        ("sslmode=require&sslrootcert=/etc/hosts", "sslmode=verify-full"),
        (
            "sslmode=verify-full&sslrootcert=/nowhere/authority.pem",
            "sslrootcert",
        ),
        ("sslcert=/nowhere/client.pem", "sslcert"),
    ] {
        let url: Url = format!("postgres://u:geheim@127.0.0.1:1/x?{query}")
            .parse()
            .unwrap();
        let failure = open(&url).await.unwrap_err();
        assert_eq!(failure.code, Code::SettingsWrong, "{query}: {failure}");
        assert!(failure.detail.contains(named), "{query}: {failure}");
        assert!(!failure.detail.contains("geheim"), "{failure}");
    }
}
