//! A tenant's connections are tested between real servers before the tenant is stored, and nothing is written.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tasksync_loadtest::trial::secrets_folder;

use crate::rig::{ask, farm, start, writes};

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_stored_if_both_ends_pass_and_a_wrong_password_is_found_before_any_opt_in() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(21, 1, 1, 1.0).await;
    let service = start(folder.path(), &farm, Duration::from_hours(1), "").await;
    let (tenant, person) = (&farm.population.tenants[0], &farm.population.tenants[0].people[0]);
    let (_, password) = farm.write_secrets(folder.path()).unwrap();
    let settings = farm.tenant_settings(tenant, &password);
    let file = |name: &str, settings: &Value| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, toml::to_string(settings).unwrap()).unwrap();
        path
    };
    let add = |file: &PathBuf, more: &[&str]| {
        let arguments = [&["tenant", "add", file.to_str().unwrap()], more].concat();
        ask(&service, &arguments)
    };
    let before = writes(&farm);

    // The password of Exchange alone is wrong, and no person is opted in.
    let wrong_file = secrets_folder(folder.path()).join("wrong.password");
    std::fs::write(&wrong_file, "no such password").unwrap();
    let mut wrong = settings.clone();
    wrong["mailbox"]["credentials"]["password"] = json!("file:wrong.password");
    let wrong = file("wrong.toml", &wrong);
    for more in [[].as_slice(), &["--test-mailbox", person.smtp.as_str()]] {
        let refused = add(&wrong, more);
        assert_eq!(refused.code, 1, "{refused:?}");
        assert!(refused.out.contains("FAILED  Exchange answers"), "{refused:?}");
        assert!(refused.out.contains("exchange-sign-in-refused"), "{refused:?}");
        assert!(refused.out.contains("ok      Every site answers"), "{refused:?}");
    }
    assert_eq!(ask(&service, &["tenant", "show", &tenant.slug]).code, 1);

    // Without a mailbox the sign-in is proved, and the rest is said to be untested.
    let right = file("right.toml", &settings);
    let checked = add(&right, &["--check-only"]);
    assert_eq!(checked.code, 0, "{checked:?}");
    assert!(checked.out.contains("WARNING Exchange answers"), "{checked:?}");
    assert!(
        checked.out.contains("NOT tested") && checked.out.contains("--test-mailbox"),
        "{checked:?}"
    );
    assert_eq!(ask(&service, &["tenant", "show", &tenant.slug]).code, 1);

    let missing = add(&right, &["--test-mailbox", "nobody@nowhere.example"]);
    assert_eq!(missing.code, 1, "{missing:?}");
    assert!(missing.out.contains("exchange-mailbox-missing"), "{missing:?}");
    let stored = add(
        &right,
        &["--test-mailbox", &person.smtp, "--test-login", &person.login],
    );
    assert_eq!(stored.code, 0, "{stored:?}");
    for part in [
        "ok      Exchange answers",
        "ok      SharePoint knows",
        "was added",
    ] {
        assert!(stored.out.contains(part), "{part}: {stored:?}");
    }
    let doctor = ask(&service, &["doctor", "--tenant", &tenant.slug]);
    assert!(doctor.out.contains("ok      Exchange answers"), "{doctor:?}");
    assert_eq!(writes(&farm), before, "tests write nothing");
    farm.stop().await;
}
