//! `tasksync init` between real servers: from an empty folder to the first synced person with one command.

use std::net::TcpListener;

use tasksync_loadtest::population::PopulationSpec;
use tasksync_loadtest::trial::{Farm, FarmSpec, Oracle};

use crate::rig::{run, tasksync};

#[tokio::test(flavor = "multi_thread")]
async fn one_command_leads_from_an_empty_folder_to_the_first_synced_person() {
    let outer = tempfile::tempdir().unwrap();
    let spec = FarmSpec {
        population: PopulationSpec {
            tenants: 1,
            users_per_tenant: 1,
            tasks_per_user: 4.0,
            seed: 31,
            ..PopulationSpec::default()
        },
        tls: true,
        ..FarmSpec::default()
    };
    let farm = Farm::start(spec).await.unwrap();
    let (tenant, person) = (&farm.population.tenants[0], &farm.population.tenants[0].people[0]);
    let (authority, password) = farm.write_secrets(outer.path()).unwrap();
    let settings = farm.tenant_settings(tenant, &password);
    let of = |pointer: &str| settings.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let free = || {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .to_string()
    };
    let folder = outer.path().join("new");
    let user = Farm::user_name(person);
    let path = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    let mut arguments: Vec<String> = vec!["init".to_owned()];
    for (option, value) in [
        ("--folder", path(&folder)),
        ("--listen", free()),
        ("--health-listen", free()),
        ("--allow-network", "127.0.0.0/8".to_owned()),
        ("--tenant", tenant.slug.clone()),
        ("--time-zone", person.time_zone.to_owned()),
        ("--site", of("/source/sites/0")),
        ("--ews-url", of("/mailbox/url")),
        ("--account", of("/mailbox/credentials/user")),
        ("--password-file", path(&password)),
        ("--person", user.clone()),
        ("--mailbox", person.smtp.clone()),
        ("--source-login", person.login.clone()),
    ] {
        arguments.extend([option.to_owned(), value]);
    }
    arguments.extend(["--authorities".to_owned(), path(&authority.unwrap())]);
    let mut command = tasksync();
    command
        .env_remove("TASKSYNC_API__LISTEN")
        .env_remove("TASKSYNC_HEALTH__LISTEN");
    let ended = run(command
        .args(&arguments)
        .env("PATH", std::env::var_os("PATH").unwrap()));
    assert_eq!(ended.code, 0, "{ended:?}");
    for part in [
        "was added",
        &format!("{user} was added"),
        "ok      Exchange answers",
    ] {
        assert!(ended.out.contains(part), "{part}: {ended:?}");
    }
    let verdict = Oracle::new(&farm).compare_sides();
    assert!(verdict.agrees(), "{}\n{ended:?}", verdict.lines(20).join("\n"));
    farm.stop().await;
}
