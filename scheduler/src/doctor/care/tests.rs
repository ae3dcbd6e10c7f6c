use std::time::Duration;

use super::*;

fn now() -> Timestamp {
    "2026-12-01T00:00:00Z".parse().unwrap()
}

/// The check that must name the seed, what its text must hold, and how it is seeded.
type Seed = (&'static str, &'static str, fn(&mut Settings));

/// Returns what the check with this id finds.
fn of(id: &str, settings: &Settings) -> DoctorFinding {
    let found = judge_settings(settings, now());
    found.into_iter().find(|finding| finding.id == id).unwrap()
}

#[test]
fn each_setting_that_takes_a_protection_away_is_named_by_its_check() {
    let well = judge_settings(&Settings::default(), now());
    assert!(
        well.iter().all(|finding| finding.result <= CheckResult::Ok),
        "{well:?}"
    );
    let seeds: [Seed; 13] = [
        ("stores-encrypted", "schedule.url", |settings| {
            settings.schedule.url = "redis://:p@redis.example:6379/0".to_owned();
        }),
        ("stores-encrypted", "registry.url", |settings| {
            settings.registry.url = "postgres://t:p@db.example/t?sslmode=prefer".to_owned();
        }),
        ("stores-encrypted", "queue.url", |settings| {
            settings.queue.url = "amqp://t:p@mq.example/t".to_owned();
        }),
        ("stores-passwords", "schedule.url has no password", |settings| {
            settings.schedule.url = "rediss://redis.example:6379/0".to_owned();
        }),
        ("stores-passwords", "every RabbitMQ", |settings| {
            settings.queue.url = "amqps://guest:guest@mq.example/t".to_owned();
        }),
        ("outbound-networks", "0.0.0.0/0", |settings| {
            settings.outbound.allowed_networks = vec!["0.0.0.0/0".to_owned()];
        }),
        ("outbound-networks", "this machine", |settings| {
            settings.outbound.allowed_networks = vec!["10.0.0.0/8".to_owned(), "127.0.0.0/8".to_owned()];
        }),
        ("guard", "guard.deletions is 5000", |settings| {
            settings.guard.deletions = 5_000;
        }),
        ("guard", "100", |settings| settings.guard.deletions_percent = 100),
        ("journal-lifetime", "24 h", |settings| {
            settings.registry.journal_lifetime = Duration::from_hours(24);
        }),
        ("log-filter", "trace", |settings| {
            settings.log.filter = "trace".to_owned();
        }),
        ("log-filter", "off", |settings| {
            settings.log.filter = "tasksync_worker=info,off".to_owned();
        }),
        ("private-authorities", "/nowhere", |settings| {
            settings.outbound.authorities = Some("/nowhere/ca.pem".into());
        }),
    ];
    for (id, named, change) in seeds {
        let mut settings = Settings::default();
        change(&mut settings);
        let finding = of(id, &settings);
        assert!(finding.result > CheckResult::Ok, "{named}: {finding:?}");
        let text = format!("{} {:?}", finding.explanation, finding.additional_information);
        assert!(
            text.contains(named) && !finding.solution.is_empty(),
            "{named}: {text}"
        );
    }
}

#[test]
fn stores_of_this_machine_need_neither_tls_nor_password() {
    let mut settings = Settings::default();
    settings.schedule.url = "redis://[::1]".to_owned();
    settings.queue.url = "amqp://guest:guest@localhost:5672/%2f".to_owned();
    settings.registry.url = "postgres:///tasksync".to_owned();
    for id in ["stores-encrypted", "stores-passwords"] {
        assert_eq!(of(id, &settings).result, CheckResult::NotApplicable, "{id}");
    }
    settings.registry.url = "postgres://t:p@db.example/t?sslmode=verify-full".to_owned();
    settings.schedule.url = "rediss+sentinel://:p@a.example:1,b.example:2/m".to_owned();
    for id in ["stores-encrypted", "stores-passwords"] {
        assert_eq!(of(id, &settings).result, CheckResult::Ok, "{id}");
    }
}

#[cfg(unix)]
#[test]
fn a_folder_of_secrets_that_others_may_read_is_named_with_the_command_that_mends_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let folder = std::env::temp_dir().join(format!(
        "tasksync-doctor-{}",
        tasksync_common::random::unique_id()
    ));
    std::fs::create_dir(&folder).unwrap();
    let with_mode = |mode| {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        secrets_folder(&folder)
    };
    let (open, private) = (with_mode(0o755), with_mode(0o750));
    std::fs::remove_dir(&folder).unwrap();
    assert_eq!(open.result, CheckResult::Warning);
    assert!(open.explanation.contains("chmod"), "{open:?}");
    assert_eq!(private.result, CheckResult::Ok);
    assert_eq!(secrets_folder(&folder).result, CheckResult::NotApplicable);
}

#[test]
fn backups_moves_and_disabled_people_are_judged() {
    let at = |hours: i64| {
        Ok(Some(
            now().checked_sub(SignedDuration::from_hours(hours)).unwrap(),
        ))
    };
    for (last, people, expected) in [
        (Ok(None), Some(0), CheckResult::NotApplicable),
        (Ok(None), Some(1), CheckResult::Warning),
        (Ok(None), None, CheckResult::Warning),
        (at(47), Some(1), CheckResult::Ok),
        (at(49), Some(1), CheckResult::Warning),
    ] {
        assert_eq!(judge_backup(last, people, now()).result, expected);
    }
    assert_eq!(judge_move(Ok(None)).result, CheckResult::Ok);
    assert_eq!(judge_move(Ok(Some(now()))).result, CheckResult::Failed);
    for (enabled, disabled, expected) in [
        (0, 0, CheckResult::NotApplicable),
        (90, 10, CheckResult::Ok),
        (89, 11, CheckResult::Warning),
    ] {
        let counts = EnrolmentCounts { enabled, disabled };
        assert_eq!(judge_people(Ok(counts)).result, expected);
    }
}
