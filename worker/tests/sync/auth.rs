//! Sign-in with tokens on both sides.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use tasksync_loadtest::accounts::{AccountRights, MailboxScope, ServiceAccount};
use tasksync_loadtest::sim::http::Listener;
use tasksync_loadtest::sim::token::TokenServer;
use tasksync_loadtest::trial::Farm;

use crate::rig::{Rig, Spec};

const CLIENT: &str = "11111111-2222-4333-8444-555555555555";
const EXCHANGE: &str = "https://outlook.example";
const SHAREPOINT: &str = "https://contoso.sharepoint.example";

/// Gives a client access to both servers, with a token for each audience and no other credentials.
fn admit(farm: &Farm, tokens: &Arc<TokenServer>, certificate_only: bool) {
    farm.exchange.add_account(ServiceAccount {
        user: CLIENT.to_owned(),
        password: String::new(),
        rights: AccountRights {
            impersonate: MailboxScope::All,
            full_access: MailboxScope::None,
        },
    });
    farm.exchange.accept_tokens(tokens.validator_for(EXCHANGE, false));
    farm.sharepoint
        .accept_tokens(tokens.validator_for(SHAREPOINT, certificate_only));
}

fn with_credentials(mut settings: Value, credentials: impl Fn(&str) -> Value) -> Value {
    settings["source"]["credentials"] = credentials(SHAREPOINT);
    settings["mailbox"]["credentials"] = credentials(EXCHANGE);
    settings
}

async fn assert_works(rig: &mut Rig, tokens: &TokenServer) {
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await.report();
    rig.assert_settled().await;
    assert_eq!(tokens.issued(), 2, "one token for each side, kept");
    // Revoke all tokens: the servers refuse the old ones, and new ones are fetched without a failure. A token that is
    // refused within a minute is not renewed again, which protects the token endpoint from a flood of requests.
    rig.pass_time(jiff::SignedDuration::from_mins(2));
    tokens.revoke_all();
    rig.retitle_original(list, item, "By a colleague");
    rig.cycle(0).await.report();
    rig.assert_sides_agree();
    rig.pass_time(jiff::SignedDuration::from_mins(2));
    tokens.revoke_all();
    rig.retitle_copy(0, list, item, "By me");
    rig.cycle(0).await.report();
    rig.assert_settled().await;
    assert_eq!(tokens.issued(), 6);
}

/// A secret is enough to get tokens for both sides. Revoked tokens are renewed at once.
#[tokio::test]
async fn a_secret_signs_in_on_both_sides() {
    let tokens = TokenServer::new();
    let listener = Listener::start(Arc::clone(&tokens), None).await.unwrap();
    tokens.add_secret(CLIENT, "s3cret");
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("secret");
    std::fs::write(&secret, "s3cret").unwrap();
    let url = format!("{}/contoso.example/oauth2/v2.0/token", listener.base_url());
    let mut rig = Rig::with_settings(Spec::default(), |farm, settings| {
        admit(farm, &tokens, false);
        with_credentials(settings, |audience| {
            json!({
                "kind": "oauth_secret", "token_url": url, "client_id": CLIENT,
                "scope": format!("{audience}/.default"), "secret": reference(&secret),
            })
        })
    })
    .await;
    assert_works(&mut rig, &tokens).await;
}

/// SharePoint Online accepts only tokens that were issued for a certificate.
#[tokio::test]
async fn a_certificate_signs_in_on_both_sides() {
    let tokens = TokenServer::new();
    let listener = Listener::start(Arc::clone(&tokens), None).await.unwrap();
    let pem = include_str!("../../src/auth/fixtures/test-key.pem");
    let key = rcgen::KeyPair::from_pem_and_sign_algo(pem, &rcgen::PKCS_RSA_SHA256).unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["tasksync.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap()
        .pem();
    tokens.add_certificate(CLIENT, &certificate).unwrap();
    let secrets = tempfile::tempdir().unwrap();
    let (key_file, certificate_file) = (
        secrets.path().join("key.pem"),
        secrets.path().join("certificate.pem"),
    );
    std::fs::write(&key_file, pem).unwrap();
    std::fs::write(&certificate_file, certificate).unwrap();
    let url = format!("{}/contoso.example/oauth2/v2.0/token", listener.base_url());
    let mut rig = Rig::with_settings(Spec::default(), |farm, settings| {
        admit(farm, &tokens, true);
        with_credentials(settings, |audience| {
            json!({
                "kind": "oauth_certificate", "token_url": url, "client_id": CLIENT,
                "scope": format!("{audience}/.default"), "private_key": reference(&key_file),
                "certificate": reference(&certificate_file),
            })
        })
    })
    .await;
    assert_works(&mut rig, &tokens).await;
}

fn reference(path: &Path) -> String {
    format!("file:{}", path.display())
}
