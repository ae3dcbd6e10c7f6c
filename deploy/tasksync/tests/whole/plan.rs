//! The dry run: the plan is what the next sync does, and computing it writes nothing.

use std::time::Duration;

use serde_json::Value;
use tasksync_loadtest::exchange::MailboxItemEdit as CopyEdit;
use tasksync_loadtest::sharepoint::Operation;
use tasksync_loadtest::sharepoint::people::ListItemEdit;
use tasksync_loadtest::trial::{Farm, Ledger, Oracle, Service};

use crate::rig::{PATIENCE, ask, farm, start, wait_until_settled, writes};
use crate::support;
use tasksync_common::clock::monotonic;

fn plan(service: &Service, tenant: &str, user: &str) -> Value {
    let ended = ask(service, &["user", "plan", tenant, user, "--json"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    serde_json::from_str(&ended.out).unwrap()
}

/// Returns the steps that write something, as action and task.
fn writing(plan: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let steps = plan["steps"].as_array().unwrap().iter();
    steps
        .filter(|step| step["step"] != "agreed")
        .map(|step| (text(&step["action"]), text(&step["key"])))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_is_what_the_next_sync_does_and_asking_for_it_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let farm = farm(4, 1, 1, 6.0).await;
    // No user is synced twice during the test unless the test asks for it.
    let service = start(folder.path(), &farm, Duration::from_hours(1), "").await;
    service.enrol(&farm).await.unwrap();
    let (tenant, applied) = (&farm.population.tenants[0], &farm.applied[0]);
    let (person, user, list) = (&tenant.people[0], applied.users[0], applied.lists[0].0);
    let name = Farm::user_name(person);
    wait_until_settled(&farm, &service, &mut Ledger::default()).await;

    // One task of each kind: created, edited here, edited there, deleted here, deleted there.
    let create = |title: &str| {
        let edit = ListItemEdit {
            title: Some(title.to_owned()),
            assigned_to: Some(vec![user]),
            ..ListItemEdit::default()
        };
        farm.sharepoint
            .person_creates(&tenant.site, list, edit, user)
            .unwrap()
    };
    let items: Vec<i32> = ["one", "two", "three", "four"].into_iter().map(create).collect();
    sync(&farm, &service, &tenant.slug, &name).await;
    let copy = |item: i32| {
        let copies = farm.exchange.items(&person.smtp);
        copies.into_iter().find(|copy| {
            !copy.in_deleted_items && copy.named.get("TaskSyncSourceKey") == Some(&Farm::key(list, item))
        })
    };
    let title = |title: &str| ListItemEdit {
        title: Some(title.to_owned()),
        ..ListItemEdit::default()
    };
    farm.sharepoint
        .person_edits(&tenant.site, list, items[0], title("one, edited"), user)
        .unwrap();
    let edit = CopyEdit {
        subject: Some("two, edited".to_owned()),
        ..CopyEdit::default()
    };
    farm.exchange
        .person_edits(&person.smtp, &copy(items[1]).unwrap().id, edit)
        .unwrap();
    farm.sharepoint
        .person_deletes(&tenant.site, list, items[2])
        .unwrap();
    farm.exchange
        .person_deletes(&person.smtp, &copy(items[3]).unwrap().id, true)
        .unwrap();
    let fifth = create("five");

    let before = writes(&farm);
    let first = plan(&service, &tenant.slug, &name);
    let mut expected: Vec<(String, String)> = [
        ("update_mailbox", items[0]),
        ("update_source", items[1]),
        ("remove_from_mailbox", items[2]),
        ("delete_at_source", items[3]),
        ("create_in_mailbox", fifth),
    ]
    .into_iter()
    .map(|(action, item)| (action.to_owned(), Farm::key(list, item)))
    .collect();
    expected.sort();
    let mut planned = writing(&first);
    planned.sort();
    assert_eq!(planned, expected, "{first:#}");
    let shown = ask(&service, &["user", "plan", &tenant.slug, &name]);
    for part in [
        "    title: one, edited  (was: one)\n",
        "    title: two, edited  (was: two)\n",
        "\"five\"",
        "write to the mailbox",
    ] {
        assert!(shown.out.contains(part), "{part:?} in:\n{}", shown.out);
    }
    // A second request returns the same plan, and nothing was written on either side.
    assert_eq!(writing(&plan(&service, &tenant.slug, &name)), writing(&first));
    assert_eq!(writes(&farm), before);

    sync(&farm, &service, &tenant.slug, &name).await;
    assert_eq!(
        writes(&farm) - before,
        5,
        "the sync does what was planned, and no more"
    );
    let after = plan(&service, &tenant.slug, &name);
    assert_eq!(
        (&after["writes_nothing"], writing(&after)),
        (&Value::Bool(true), Vec::new()),
        "{after:#}"
    );

    the_doctor_only_reads(&farm, &service, &tenant.slug);
    support::a_bundle_has_no_task_and_names_people_only_if_asked(
        &service,
        &tenant.slug,
        folder.path(),
        &["one, edited", "two, edited"],
    );

    let missing = ask(&service, &["user", "plan", &tenant.slug, "nobody"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("not-found"), "{missing:?}");
    assert_eq!(service.terminate().await, Ok(Some(0)));
    farm.stop().await;
}

/// Runs the doctor and compares what the simulated servers were asked before and after. Reading by POST is reading.
fn the_doctor_only_reads(farm: &Farm, service: &Service, tenant: &str) {
    let reads = [
        "GetFolder",
        "FindFolder",
        "SyncFolderHierarchy",
        "SyncFolderItems",
        "GetItem",
        "FindItem",
        "ResolveNames",
    ];
    let of_sharepoint = [
        Operation::ContextInfo,
        Operation::Web,
        Operation::Webs,
        Operation::Site,
        Operation::TimeZone,
        Operation::CurrentUser,
        Operation::SiteUsers,
        Operation::Permissions,
        Operation::Lists,
        Operation::ContentTypes,
        Operation::Fields,
        Operation::ItemsList,
        Operation::ItemsGet,
        Operation::GetItems,
        Operation::GetChanges,
    ];
    let of_sharepoint = of_sharepoint.map(Operation::name);
    let asked = || {
        let exchange = farm.exchange.stats.snapshot().operations;
        let others = exchange.into_iter().filter(|(name, _)| !reads.contains(name));
        let sharepoint = farm.sharepoint.stats.all().into_iter();
        // A batch is counted by its parts, too.
        let sharepoint = sharepoint.filter(|(name, _)| !of_sharepoint.contains(name) && *name != "batch");
        let people = farm.sharepoint.stats.operations(Operation::SiteUsers);
        let rights = farm.sharepoint.stats.operations(Operation::CurrentUser);
        let without_sign_in = farm.exchange.stats.snapshot().refused;
        let unwritten = [people, rights, without_sign_in];
        (others.chain(sharepoint).collect::<Vec<_>>(), unwritten)
    };
    let (writing, before) = asked();
    let ended = ask(service, &["doctor", "--tenant", tenant]);
    assert!(
        ended.out.contains("SharePoint knows the people of the sample"),
        "{ended:?}"
    );
    assert!(ended.out.contains("1 people are known"), "{ended:?}");
    let after = asked();
    assert_eq!(after.0, writing, "the doctor wrote");
    let [people, rights, without_sign_in] = std::array::from_fn(|at| after.1[at] - before[at]);
    assert!(people > 0, "the doctor asked for no person");
    assert!(rights > 0, "the doctor did not ask for the account's rights");
    assert!(
        without_sign_in > 0,
        "the doctor looked at no certificate and scheme"
    );
}

/// Requests syncs until both sides agree. One request may be too early, because the source's feed is read at most
/// every two seconds.
async fn sync(farm: &Farm, service: &Service, tenant: &str, user: &str) {
    let path = format!("/api/v1/tenants/{tenant}/users/{user}/sync");
    let started = monotonic();
    while !Oracle::new(farm).compare_sides().agrees() {
        assert!(started.elapsed() < PATIENCE, "{}", service.log_tail(20));
        service.call(reqwest::Method::POST, &path, None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
}
