use super::*;
use crate::error::{Code, ErrorClass};
use crate::registry::SqlRegistry;
use crate::registry::topics::*;
use crate::schedule::History;
use crate::tasks::spawn;

const MINIMUM: Duration = Duration::from_mins(5);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_795_000_000 + second).unwrap()
}

fn stamp(user: &str, second: i64, success: Option<i64>) -> SavedStamp {
    SavedStamp {
        user: user.parse().unwrap(),
        stamp: at(second),
        last_success: success.map(at),
        failing: None,
    }
}

async fn saver(users: &[&str], batch: usize, most: usize) -> (Arc<SqlRegistry>, StampSaver, TenantId) {
    let registry = Arc::new(SqlRegistry::open_sqlite("sqlite::memory:").await.unwrap());
    let tenant: TenantId = "a".parse().unwrap();
    let document = r#"
        id = "a"
        display_name = "A"
        source = { kind = "sharepoint", sites = ["https://sp.example/a"], credentials = { kind = "basic", user = "s", password = "env:A" } }
        mailbox = { kind = "ews", url = "https://mail.example/EWS/Exchange.asmx", credentials = { kind = "basic", user = "s", password = "env:A" } }
    "#;
    registry
        .put_tenant(&toml::from_str(document).unwrap())
        .await
        .unwrap();
    for user in users {
        registry
            .enrol(&crate::registry::Enrolment {
                key: crate::model::UserKey::new(tenant.clone(), user.parse().unwrap()),
                source_login: (*user).to_owned(),
                mailbox: format!("{user}@a.example").parse().unwrap(),
                time_zone: None,
                opted_in_at: at(0),
                state: crate::registry::EnrolmentState::Enabled,
            })
            .await
            .unwrap();
    }
    let saver = StampSaver::new(registry.clone(), batch, most);
    (registry, saver, tenant)
}

fn finish(user: &str, ok: bool) -> FinishedAttempt {
    FinishedAttempt {
        user: user.parse().unwrap(),
        result: if ok {
            Ok(())
        } else {
            Err(Failure::new(ErrorClass::Transient, Code::ExchangeTimeout, "late"))
        },
        history: History::default(),
        due_after: Duration::from_mins(12),
    }
}

#[tokio::test]
async fn finished_users_stamps_reach_the_registry_and_lost_claims_do_not() {
    let (registry, saver, tenant) = saver(&["ana", "ben", "cem"], 100, 100).await;
    let results = [finish("ana", true), finish("ben", false), finish("cem", true)];
    let finished = ["ana", "ben"].map(|user| user.parse().unwrap());
    saver.finished(&tenant, at(1_000), MINIMUM, &results, &finished);
    assert_eq!(saver.flush().await.unwrap(), 2);
    assert_eq!(saver.flush().await.unwrap(), 0);
    let ben = SavedStamp {
        failing: results[1].result.clone().err().map(|failure| FailureStreak {
            since: at(1_000),
            attempts: 0,
            failure,
        }),
        ..stamp("ben", 1_420, None)
    };
    assert_eq!(
        registry.stamps(&tenant, None, 10).await.unwrap(),
        [stamp("ana", 1_420, Some(1_000)), ben, stamp("cem", 0, None)]
    );
}

#[tokio::test]
async fn newer_stamps_replace_older_ones_and_keep_the_success() {
    let (registry, saver, tenant) = saver(&["ana"], 100, 100).await;
    saver.note(&tenant, stamp("ana", 10, Some(9)));
    saver.note(&tenant, stamp("ana", 20, None));
    assert_eq!(saver.waiting_and_dropped(), (1, 0));
    saver.flush().await.unwrap();
    assert_eq!(
        registry.stamps(&tenant, None, 10).await.unwrap(),
        [stamp("ana", 20, Some(9))]
    );
}

#[tokio::test]
async fn when_the_registry_is_down_stamps_wait_inside_a_limit() {
    let (registry, saver, tenant) = saver(&["ana"], 1, 3).await;
    registry.close().await;
    for (second, user) in ["ana", "ben", "cem", "dora", "eve"].iter().enumerate() {
        saver.note(&tenant, stamp(user, i64::try_from(second).unwrap(), None));
    }
    assert_eq!(saver.waiting_and_dropped(), (3, 2));
    let failure = saver.flush().await.unwrap_err();
    assert_eq!(failure.code, Code::RegistryUnavailable);
    assert_eq!(saver.waiting_and_dropped(), (3, 2), "nothing is lost by trying");
    saver.note(&tenant, stamp("ana", 99, None));
    assert_eq!(
        saver.waiting_and_dropped(),
        (3, 2),
        "a user who waits is replaced"
    );
}

#[tokio::test]
async fn it_saves_when_enough_waits_and_once_more_at_the_end() {
    let (registry, saver, tenant) = saver(&["ana", "ben"], 1, 10).await;
    let saver = Arc::new(saver);
    let stop = CancellationToken::new();
    let running = {
        let (saver, stop) = (saver.clone(), stop.clone());
        spawn(async move { saver.run(Duration::from_hours(1), stop).await }).detach()
    };
    saver.note(&tenant, stamp("ana", 10, None));
    for _ in 0..2_000 {
        if registry.stamps(&tenant, None, 1).await.unwrap()[0].stamp == at(10) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    saver.note(&tenant, stamp("ben", 20, None));
    stop.cancel();
    running.await.unwrap();
    assert_eq!(
        registry.stamps(&tenant, None, 10).await.unwrap(),
        [stamp("ana", 10, None), stamp("ben", 20, None)]
    );
}
