//! Wrong files, wrong settings and unknown people are refused at once, in one clear line.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tasksync_loadtest::population::PopulationSpec;
use tasksync_loadtest::sim::faults::Fault;
use tasksync_loadtest::trial::{Editor, Farm, FarmSpec, Ledger, Service};

use crate::canary::Canaries;
use crate::rig::{Ended, ask, eventually, farm, run, service, start, tasksync, wait_until_settled};

fn standalone(settings: &Path) -> Ended {
    run(tasksync()
        .args(["standalone", "--config"])
        .arg(settings)
        .env("TASKSYNC_TOKEN", "0123456789abcdef-token"))
}

#[test]
fn wrong_settings_end_it_with_2_and_one_line_that_names_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("settings.toml");
    for (text, expected) in [
        ("[worker]\nusers_at_onse = 3\n", "users_at_onse"),
        ("[wroker]\nusers_at_once = 3\n", "wroker"),
        ("[schedule]\nrun_interval = 60\n", "a unit in quotes"),
        ("[schedule]\nrun_interval = \"60\"\n", "unit"),
        ("[schedule]\nrun_interval = \"60 parsecs\"\n", "parsecs"),
        (
            "[worker]\nuser_budget = \"50s\"\n",
            "worker.user_budget must be below worker.batch_budget",
        ),
        (
            "[outbound]\nrequest_timeout = \"41s\"\n",
            "outbound.request_timeout must be below worker.user_budget",
        ),
        (
            "[worker]\ndrain = \"80s\"\n",
            "worker.drain must be below worker.grace_period",
        ),
        ("[worker\n", "settings.toml"),
        (
            "[outbound]\nauthorities = \"/no/such/file.pem\"\n",
            "/no/such/file.pem",
        ),
        (
            "[outbound]\nallowed_networks = [\"10.0.0.0/33\"]\n",
            "10.0.0.0/33",
        ),
    ] {
        // The registry must not be created in the tester's working folder.
        let registry = format!(
            "[registry]\nurl = \"sqlite:{}\"\n",
            folder.path().join("r.sqlite").display()
        );
        std::fs::write(&file, format!("{registry}{text}")).unwrap();
        let ended = standalone(&file);
        assert_eq!(ended.code, 2, "{text}: {ended:?}");
        let said: Vec<&str> = ended
            .err
            .lines()
            .filter(|line| line.starts_with("tasksync: "))
            .collect();
        assert_eq!(said.len(), 1, "{text}: {ended:?}");
        assert!(ended.err.contains(expected), "{text}: {ended:?}");
        assert!(!ended.err.contains("panicked"), "{ended:?}");
    }
    for (path, expected) in [
        (folder.path().join("missing.toml"), "missing.toml"),
        (folder.path().to_owned(), folder.path().to_str().unwrap()),
    ] {
        let ended = standalone(&path);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains(expected), "{ended:?}");
    }
    std::fs::write(&file, b"[worker]\n\xff\xfe\x00").unwrap();
    let ended = standalone(&file);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.err.contains("settings.toml"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_people_a_pause_of_weeks_and_servers_that_repeat_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(8, 1, 2, 2.0).await;
    let service = service(folder.path(), &farm, "").await;
    let tenant = &farm.population.tenants[0];
    let person = &tenant.people[0];
    let opt_in = |user: &str, login: &str, mailbox: &str| {
        ask(
            &service,
            &[
                "user",
                "opt-in",
                &tenant.slug,
                user,
                "--source-login",
                login,
                "--mailbox",
                mailbox,
            ],
        )
    };
    let unknown = opt_in("new", "i:0#.w|contoso\\nobody-here", &person.smtp);
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(
        unknown.err.contains("[sharepoint-user-unknown]") && unknown.err.contains("nobody-here"),
        "{unknown:?}"
    );
    let unknown = opt_in("new", &person.login, "nobody@nowhere.example");
    assert_eq!(unknown.code, 1, "{unknown:?}");
    assert!(
        unknown.err.contains("[exchange-mailbox-missing]") && unknown.err.contains("nobody@nowhere.example"),
        "{unknown:?}"
    );
    let taken = opt_in("new", &person.login, &person.smtp);
    assert_eq!(taken.code, 1, "{taken:?}");
    assert!(taken.err.contains("[mailbox-taken]"), "{taken:?}");
    let missing = ask(&service, &["user", "status", &tenant.slug, "new"]);
    assert_eq!(missing.code, 1, "{missing:?}");
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;

    a_pause_of_weeks_is_kept_for_a_day_at_most_shown_and_ended(&farm, &service).await;

    let mut canaries = Canaries::put_through(service.url(), service.token(), folder.path()).await;
    assert_eq!(service.terminate().await, Ok(Some(0)));
    canaries.hear_logs(folder.path());
    canaries.assert_no_secret_shown();
    farm.stop().await;
}

async fn a_pause_of_weeks_is_kept_for_a_day_at_most_shown_and_ended(farm: &Farm, service: &Service) {
    let tenant = &farm.population.tenants[0];
    let user = Farm::user_name(&tenant.people[0]);
    let busy = Fault::Busy {
        pause: Some(Duration::from_millis(2_147_483_647)),
        inside: false,
        status: 503,
    };
    farm.exchange.faults.next(None, 1, busy);
    let paused = eventually("the pause", || {
        let shown = ask(service, &["tenant", "pauses", &tenant.slug]);
        shown.out.contains("named 86400 s").then_some(shown)
    })
    .await;
    assert!(
        paused.out.contains("ews") && !paused.out.contains("sharepoint"),
        "{paused:?}"
    );
    let doctor = ask(service, &["doctor", "--tenant", &tenant.slug]);
    assert!(
        doctor.out.contains("1 servers of the tenant are paused"),
        "{doctor:?}"
    );
    let waits = ask(service, &["sync-now", &tenant.slug, &user]);
    assert!(
        waits.out.contains("is paused until") && waits.out.contains("The sync waits until"),
        "{waits:?}"
    );
    let (mut editor, mut ledger) = (Editor::resting(8, Duration::ZERO), Ledger::default());
    editor.act(farm, &mut ledger).unwrap();
    let ended = ask(service, &["tenant", "end-pauses", &tenant.slug]);
    assert!(ended.out.starts_with("1 pauses were ended"), "{ended:?}");
    wait_until_settled(farm, service, &mut ledger).await;
    let none = ask(service, &["tenant", "pauses", &tenant.slug]);
    assert_eq!(none.out, "No server of the tenant is paused.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_needs_the_operators_permission() {
    let folder = tempfile::tempdir().unwrap();
    let spec = FarmSpec {
        population: PopulationSpec {
            tenants: 1,
            users_per_tenant: 1,
            ..PopulationSpec::default()
        },
        tls: true,
        ..FarmSpec::default()
    };
    let farm = Farm::start(spec).await.unwrap();
    let service = start(folder.path(), &farm, Duration::from_secs(1), "").await;
    service.enrol(&farm).await.unwrap();
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;
    let tenant = &farm.population.tenants[0];
    let (_, password) = farm.write_secrets(folder.path()).unwrap();
    let mut settings = farm.tenant_settings(tenant, &password);
    settings["mailbox"]["url"] = json!(farm.ews_url().replace("https://", "http://"));
    let path = format!("/api/v1/tenants/{}", tenant.slug);
    service
        .call(reqwest::Method::PUT, &path, Some(settings))
        .await
        .unwrap();
    let person = &tenant.people[0];
    let refused = ask(
        &service,
        &[
            "user",
            "opt-in",
            &tenant.slug,
            "x",
            "--source-login",
            &person.login,
            "--mailbox",
            "x@contoso.example",
        ],
    );
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(
        refused.err.contains("[address-refused]") && refused.err.contains("allow_plain_http"),
        "{refused:?}"
    );
    farm.stop().await;
}
