//! Starts a simulated Exchange with a few mailboxes, and prints its address and accounts as one line of JSON.
//!
//! `simulate_exchange` serves plain HTTP. `simulate_exchange ca.pem` serves TLS and writes the certificate of the
//! authority that a client has to trust to that file. It runs until it is interrupted.

use std::error::Error;
use std::io::Write as _;
use std::sync::Arc;

use tasksync_loadtest::accounts::{AccountRights, MailboxScope, ServiceAccount};
use tasksync_loadtest::exchange::{Exchange, ExchangeSettings, MailboxSpec};
use tasksync_loadtest::sim::http::Listener;
use tasksync_loadtest::sim::tls::SimTls;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let exchange = Exchange::new(ExchangeSettings::default());
    let mailboxes = ["ana", "ben", "cem"].map(|name| format!("{name}@contoso.example"));
    for smtp in &mailboxes {
        exchange.add_mailbox(MailboxSpec::new(smtp, smtp));
    }
    let (user, password) = ("svc-tasksync", "simulated");
    exchange.add_account(ServiceAccount {
        user: user.to_owned(),
        password: password.to_owned(),
        rights: AccountRights {
            impersonate: MailboxScope::All,
            full_access: MailboxScope::All,
        },
    });
    let authority = std::env::args_os().nth(1);
    let tls = match &authority {
        Some(path) => {
            let tls = SimTls::generate()?;
            std::fs::write(path, &tls.identity.authority)?;
            Some(tls)
        }
        None => None,
    };
    let listener = Listener::start(Arc::clone(&exchange), tls.as_ref()).await?;
    let hello = serde_json::json!({
        "url": format!("{}/EWS/Exchange.asmx", listener.base_url()),
        "user": user,
        "password": password,
        "mailboxes": mailboxes,
        "ca": authority.map(|path| path.to_string_lossy().into_owned()),
    });
    writeln!(std::io::stdout(), "{hello}")?;
    tokio::signal::ctrl_c().await?;
    listener.stop().await;
    Ok(())
}
