//! A whole sync with servers that offer only NTLM and Kerberos: Apache signs the service account in, and passes its
//! requests on to the simulated servers.

use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tasksync_loadtest::accounts::{AccountRights, MailboxScope, ServiceAccount};
use tasksync_loadtest::services::on_premises::{Backends, OnPremises, PEOPLE, REALM};
use tasksync_loadtest::services::{
    Binaries, PrivateAuthority, ServiceError, ServiceFolder, started_or_skipped,
};
use tasksync_loadtest::trial::Farm;

use crate::python;
use crate::rig::{Rig, Spec};

/// Starts the servers in front of the farm, from code that cannot wait.
fn start_before(farm: &Farm, python: PathBuf) -> Result<OnPremises, ServiceError> {
    farm.exchange.add_account(ServiceAccount {
        user: "apache".to_owned(),
        password: "inner".to_owned(),
        rights: AccountRights {
            impersonate: MailboxScope::All,
            full_access: MailboxScope::All,
        },
    });
    farm.sharepoint.add_account("apache", "inner");
    let backends = Backends {
        exchange: farm.ews_url().trim_end_matches("/EWS/Exchange.asmx").to_owned(),
        sharepoint: farm
            .site_url(&farm.population.tenants[0])
            .trim_end_matches("/sites/contoso")
            .to_owned(),
        authorization: format!("Basic {}", BASE64_STANDARD.encode("apache:inner")),
    };
    let starting = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let folder = Arc::new(ServiceFolder::new(None, Binaries::default())?);
            OnPremises::start(&folder, &python, &PrivateAuthority::generate()?, Some(backends)).await
        })
    });
    starting.join().unwrap()
}

#[tokio::test]
async fn tasks_are_carried_with_ntlm_on_one_side_and_kerberos_on_the_other() {
    let python = tokio::task::spawn_blocking(python::interpreter).await.unwrap();
    let secrets = tempfile::tempdir().unwrap();
    let password = secrets.path().join("password");
    std::fs::write(&password, PEOPLE[0].1).unwrap();
    let password = format!("file:{}", password.display());
    let mut started = None;
    let mut rig = Rig::with_settings(Spec::default(), |farm, mut settings| {
        let Some(servers) = started_or_skipped(start_before(farm, python)) else {
            return settings;
        };
        farm.sharepoint.set_base_url(&servers.sharepoint());
        settings["mailbox"]["url"] = json!(format!("{}/EWS/Exchange.asmx", servers.exchange()));
        settings["mailbox"]["credentials"] =
            json!({ "kind": "ntlm", "user": "CORP\\svc", "password": password });
        settings["source"]["sites"] = json!([format!("{}/sites/contoso", servers.sharepoint())]);
        settings["source"]["credentials"] = json!({
            "kind": "kerberos", "user": "svc", "realm": REALM, "kdc": [servers.kdc()], "password": password,
        });
        started = Some(servers);
        settings
    })
    .await;
    let Some(servers) = started else { return };
    let list = rig.tasks_list("Plan");
    let item = rig.add_task(list, 0, "Report");
    rig.cycle(0).await.report();
    rig.assert_settled().await;
    rig.retitle_original(list, item, "By a colleague");
    rig.cycle(0).await.report();
    rig.assert_sides_agree();
    rig.retitle_copy(0, list, item, "By me");
    rig.cycle(0).await.report();
    rig.assert_settled().await;
    // Each side signed in on few connections, not with every request.
    for (address, at_most) in [(servers.exchange(), 10), (servers.sharepoint(), 10)] {
        let port = address.rsplit(':').next().unwrap().to_owned();
        let requests = servers.requests_at(&port);
        let opened = requests.iter().filter(|(number, _)| *number == 0).count();
        assert!(
            opened <= at_most && opened * 2 < requests.len(),
            "{opened} of {}",
            requests.len()
        );
    }
}
