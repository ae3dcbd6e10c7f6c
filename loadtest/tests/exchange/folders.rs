//! Folders, rights, faults and envelopes of the simulated Exchange, over HTTP.

use std::sync::Arc;
use std::time::Duration;

use crate::client::{
    ANA, BEN, Bench, PROBE, TASKS, create_item, envelope, folder_of, get_folder, impersonating, named,
};
use tasksync_loadtest::exchange::{ExchangeSettings, MailboxItemEdit};
use tasksync_loadtest::sim::faults::{Fault, Rule};

fn create_folder(parent: &str, name: &str) -> String {
    format!(
        "<m:CreateFolder><m:ParentFolderId>{parent}</m:ParentFolderId><m:Folders><t:TasksFolder><t:DisplayName>{name}</t:DisplayName>{}</t:TasksFolder></m:Folders></m:CreateFolder>",
        named("place")
    )
}

fn hierarchy(state: &str) -> String {
    let state = if state.is_empty() {
        String::new()
    } else {
        format!("<m:SyncState>{state}</m:SyncState>")
    };
    format!(
        "<m:SyncFolderHierarchy><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape><m:SyncFolderId>{TASKS}</m:SyncFolderId>{state}</m:SyncFolderHierarchy>"
    )
}

#[tokio::test]
async fn a_folder_lives_from_creation_to_the_bin() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let start = bench.ana(&hierarchy("")).await;
    let created = bench.ana(&create_folder(TASKS, "Team")).await;
    assert_eq!(created.code(), "NoError", "{}", created.text);
    let folder = format!("<t:FolderId Id=\"{}\"/>", created.id());
    assert_eq!(
        bench.ana(&create_folder(TASKS, "team")).await.code(),
        "ErrorFolderExists"
    );
    assert_eq!(
        bench
            .ana(&create_folder("<t:DistinguishedFolderId Id=\"voicemail\"/>", "x"))
            .await
            .code(),
        "ErrorParentFolderNotFound"
    );
    let seen = bench.ana(&hierarchy(&start.sync_state())).await;
    assert!(seen.between("<t:Create>", "</t:Create>").contains("Team"));

    let find = format!(
        "<m:FindFolder Traversal=\"Deep\"><m:FolderShape><t:BaseShape>AllProperties</t:BaseShape><t:AdditionalProperties>{}</t:AdditionalProperties></m:FolderShape><m:IndexedPageFolderView MaxEntriesReturned=\"100\" Offset=\"0\" BasePoint=\"Beginning\"/><m:Restriction><t:Exists>{}</t:Exists></m:Restriction><m:ParentFolderIds><t:DistinguishedFolderId Id=\"msgfolderroot\"/></m:ParentFolderIds></m:FindFolder>",
        crate::client::KEY,
        crate::client::KEY
    );
    let found = bench.ana(&find).await;
    assert_eq!(found.all("<t:DisplayName>", "<"), ["Team"]);
    assert!(found.text.contains("<t:Value>place</t:Value>"));

    let rename = |uri: &str, inner: &str| {
        format!(
            "<m:UpdateFolder><m:FolderChanges><t:FolderChange>{folder}<t:Updates><t:SetFolderField><t:FieldURI FieldURI=\"{uri}\"/><t:TasksFolder>{inner}</t:TasksFolder></t:SetFolderField></t:Updates></t:FolderChange></m:FolderChanges></m:UpdateFolder>"
        )
    };
    let name = "<t:DisplayName>Crew</t:DisplayName>";
    assert_eq!(
        bench.ana(&rename("folder:DisplayName", name)).await.code(),
        "NoError"
    );
    assert_eq!(
        bench.ana(&rename("folder:FolderClass", name)).await.code(),
        "ErrorUpdatePropertyMismatch"
    );
    let renamed = bench.ana(&hierarchy(&seen.sync_state())).await;
    assert!(renamed.between("<t:Update>", "</t:Update>").contains("Crew"));

    bench
        .ana(&create_item(&folder, "<t:Subject>inside</t:Subject>"))
        .await;
    let delete = |id: &str| {
        format!(
            "<m:DeleteFolder DeleteType=\"MoveToDeletedItems\"><m:FolderIds>{id}</m:FolderIds></m:DeleteFolder>"
        )
    };
    assert_eq!(
        bench.ana(&delete(TASKS)).await.code(),
        "ErrorDeleteDistinguishedFolder"
    );
    assert_eq!(bench.ana(&delete(&folder)).await.code(), "NoError");
    let gone = bench.ana(&hierarchy(&renamed.sync_state())).await;
    assert_eq!(
        gone.between("<t:Delete>", "</t:Delete>").split('"').nth(1),
        Some(created.id().as_str())
    );
    assert!(bench.exchange.items(ANA)[0].in_deleted_items);
    assert_eq!(bench.ana(&delete(&folder)).await.code(), "NoError");
    assert_eq!(bench.ana(&delete(&folder)).await.code(), "ErrorFolderNotFound");
    assert!(bench.exchange.items(ANA).is_empty());
    assert_eq!(
        bench.sync(&folder, None, 10).await.code(),
        "ErrorSyncFolderNotFound"
    );
    let lost = bench.ana(&create_item(&folder, "<t:Subject>a</t:Subject>")).await;
    assert_eq!(lost.code(), "ErrorSavedItemFolderNotFound");
    assert_eq!(
        bench
            .ana(&hierarchy(&bench.sync(TASKS, None, 10).await.sync_state()))
            .await
            .code(),
        "ErrorInvalidSyncStateData"
    );
    bench.finish().await;
}

#[tokio::test]
async fn one_request_probes_many_mailboxes() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let both = format!("{}{}", folder_of(ANA), folder_of(BEN));
    let precise = "<t:DateTimePrecision>Milliseconds</t:DateTimePrecision>";
    let first = bench.send("svc", precise, &get_folder(&both)).await;
    assert_eq!(first.codes(), ["NoError", "NoError"]);
    let ids = first
        .all("<t:TasksFolder><t:FolderId Id=\"", "\"")
        .iter()
        .map(|id| format!("<t:FolderId Id=\"{id}\"/>"))
        .collect::<Vec<_>>()
        .concat();
    let probe = format!(
        "<m:GetFolder><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>{PROBE}</t:AdditionalProperties></m:FolderShape><m:FolderIds>{ids}</m:FolderIds></m:GetFolder>"
    );
    let values = async || bench.send("svc", precise, &probe).await.all("<t:Value>", "<");
    let before = values().await;
    assert_eq!(before, values().await, "an idle folder answers the same");
    let edit = MailboxItemEdit {
        subject: Some("a".to_owned()),
        ..MailboxItemEdit::default()
    };
    let item = bench.exchange.person_creates(BEN, None, edit).unwrap();
    let created = values().await;
    assert_eq!(created[..2], before[..2]);
    assert!(created[2] != before[2] && created[3] == before[3]);
    bench.exchange.person_deletes(BEN, &item.id, true).unwrap();
    assert_ne!(values().await[3], before[3]);
    assert_eq!(
        bench.exchange.mailbox_requests(BEN),
        bench.exchange.stats.snapshot().of("GetFolder")
    );

    let refused = bench
        .send("half", "", &get_folder(&format!("{}{both}", folder_of(BEN))))
        .await;
    assert_eq!(
        refused.codes(),
        [
            "ErrorAccessDenied",
            "ErrorBatchProcessingStopped",
            "ErrorBatchProcessingStopped"
        ]
    );
    let unknown_mailbox = bench
        .send(
            "svc",
            "",
            &get_folder(&format!("{}{}", folder_of("no@where"), folder_of(ANA))),
        )
        .await;
    assert_eq!(unknown_mailbox.codes(), ["ErrorNonExistentMailbox", "NoError"]);
    let alias = bench
        .send("svc", "", &get_folder(&folder_of(&format!("alias-{ANA}"))))
        .await;
    assert_eq!(
        (alias.code().as_str(), alias.between("Primary\">", "<").as_str()),
        ("ErrorNonPrimarySmtpAddress", ANA)
    );
    let without = bench.send("svc", "", &get_folder(TASKS)).await;
    assert_eq!(without.code(), "ErrorMissingEmailAddress");
    assert_eq!(
        bench.send(ANA, "", &get_folder(TASKS)).await.code(),
        "NoError",
        "one's own mailbox"
    );
    assert_eq!(
        bench.send(ANA, "", &get_folder(&folder_of(BEN))).await.code(),
        "ErrorAccessDenied"
    );
    bench.finish().await;

    let settings = ExchangeSettings {
        refuse_cross_server: true,
        omit_probe_tags: true,
        ..ExchangeSettings::default()
    };
    let bench = Bench::start(settings).await;
    let mixed = format!("{both}{}", folder_of("cem@contoso.example"));
    let reply = bench.send("svc", "", &get_folder(&mixed)).await;
    assert_eq!(reply.codes(), ["NoError", "NoError", "ErrorAccessDenied"]);
    assert!(!reply.text.contains("ExtendedProperty"), "the tags are left out");
    bench.finish().await;
}

#[tokio::test]
async fn impersonation_follows_the_rights_of_the_account() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let body = get_folder(TASKS);
    let as_ben = impersonating(BEN);
    assert_eq!(bench.send("svc", &as_ben, &body).await.code(), "NoError");
    let by_alias = as_ben.replace(BEN, &format!("alias-{BEN}"));
    assert_eq!(
        bench.send("svc", &by_alias, &body).await.code(),
        "ErrorNonPrimarySmtpAddress"
    );
    let smtp = by_alias.replace("PrimarySmtpAddress", "SmtpAddress");
    assert_eq!(bench.send("svc", &smtp, &body).await.code(), "NoError");
    let upn = impersonating("x@y").replace("PrimarySmtpAddress", "PrincipalName");
    assert_eq!(
        bench.send("svc", &upn, &body).await.code(),
        "ErrorInvalidUserPrincipalName"
    );
    let denied = bench.send("half", &as_ben, &body).await;
    assert_eq!(
        (denied.status, denied.code().as_str()),
        (500, "ErrorImpersonateUserDenied")
    );
    assert_eq!(
        bench.send(ANA, &as_ben, &body).await.code(),
        "ErrorImpersonationDenied"
    );
    assert_eq!(
        bench.send("svc", &impersonating("x@y"), &body).await.code(),
        "ErrorNonExistentMailbox"
    );
    let foreign = bench.send("svc", &as_ben, &get_folder(&folder_of(ANA))).await;
    assert_eq!(
        foreign.code(),
        "ErrorAccessDenied",
        "the impersonated person has no rights there"
    );
    bench.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn credentials_are_checked() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    bench.exchange.accept_tokens(Arc::new(|token: &str| {
        (token == "good").then(|| "svc".to_owned())
    }));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let body = envelope("", &get_folder(&folder_of(ANA)));
    let post = |url: String| client.post(url).body(body.clone());
    let wrong = post(bench.url())
        .basic_auth("svc", Some("wrong"))
        .send()
        .await
        .unwrap();
    assert_eq!(wrong.status(), 401);
    let offers: Vec<_> = wrong
        .headers()
        .get_all("www-authenticate")
        .iter()
        .map(|value| value.to_str().unwrap().to_owned())
        .collect();
    assert!(offers[0].starts_with("Basic ") && offers[1].starts_with("Bearer "));
    assert_eq!(post(bench.url()).send().await.unwrap().status(), 401);
    assert_eq!(
        post(bench.url())
            .bearer_auth("bad")
            .send()
            .await
            .unwrap()
            .status(),
        401
    );
    assert_eq!(
        post(bench.url().to_lowercase())
            .bearer_auth("good")
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(bench.exchange.stats.snapshot().refused, 3);
    bench.finish().await;

    let bench = Bench::start(ExchangeSettings {
        ews_enabled: false,
        ..ExchangeSettings::default()
    })
    .await;
    assert_eq!(bench.ana(&get_folder(TASKS)).await.status, 403);
    bench.finish().await;
    let bench = Bench::start(ExchangeSettings {
        basic_enabled: false,
        ..ExchangeSettings::default()
    })
    .await;
    assert_eq!(bench.ana(&get_folder(TASKS)).await.status, 401);
    bench.finish().await;
}

#[tokio::test]
async fn requests_that_break_the_schema_are_refused_with_the_place() {
    let bench = Bench::start(ExchangeSettings {
        maximum_request_bytes: 10_000,
        ..ExchangeSettings::default()
    })
    .await;
    let wrong = create_item(
        TASKS,
        "\n<t:StartDate>2026-01-01T00:00:00</t:StartDate>\n<t:DueDate>2026-01-01T00:00:00</t:DueDate>",
    );
    let reply = bench.ana(&wrong).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (500, "ErrorSchemaValidation")
    );
    assert_eq!(reply.between("Name=\"LineNumber\">", "<"), "4");
    assert!(
        reply
            .between("Name=\"Violation\">", "<")
            .contains("invalid child element 'DueDate'")
    );
    assert!(bench.exchange.items(ANA).is_empty());
    for text in ["", "<a", "<a/>", "<!DOCTYPE a><a/>"] {
        let reply = bench.raw("svc", text.to_owned()).await.unwrap();
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (500, "ErrorSchemaValidation"),
            "{text}"
        );
    }
    let unknown = bench.ana("<m:EmptyFolder/>").await;
    assert_eq!(unknown.code(), "ErrorSchemaValidation");
    let version = envelope("", &get_folder(TASKS)).replace("Exchange2013_SP1", "Exchange2099");
    assert_eq!(
        bench.raw("svc", version).await.unwrap().code(),
        "ErrorInvalidServerVersion"
    );
    let big = bench.raw("svc", " ".repeat(10_001)).await.unwrap();
    assert_eq!(big.code(), "ErrorRequestStreamTooBig");
    bench.finish().await;
}

#[tokio::test]
async fn identifiers_are_opaque_and_case_sensitive() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let folder = bench.ana(&get_folder(TASKS)).await.id();
    for (id, code) in [
        (folder.to_lowercase(), "ErrorInvalidIdMalformed"),
        (String::new(), "ErrorInvalidIdEmpty"),
        (folder.clone(), "NoError"),
    ] {
        assert_eq!(
            bench
                .ana(&get_folder(&format!("<t:FolderId Id=\"{id}\"/>")))
                .await
                .code(),
            code
        );
    }
    assert_eq!(
        bench.get(&[&format!("Id=\"{folder}\"")], "").await.code(),
        "ErrorCannotUseFolderIdForItemId"
    );
    let item = bench.create("<t:Subject>a</t:Subject>").await;
    assert_eq!(
        bench
            .ana(&get_folder(&format!("<t:FolderId {item}/>")))
            .await
            .code(),
        "ErrorCannotUseItemIdForFolderId"
    );
    bench.finish().await;
}

#[tokio::test]
async fn faults_hit_the_requests_of_their_rules() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let faults = &bench.exchange.faults;
    let busy = |inside| Fault::Busy {
        pause: Some(Duration::from_millis(4711)),
        inside,
        status: 0,
    };
    faults.next(Some("GetFolder"), 1, busy(false));
    let outside = bench.ana(&get_folder(TASKS)).await;
    assert_eq!(
        (outside.status, outside.code().as_str()),
        (500, "ErrorServerBusy")
    );
    assert_eq!(outside.between("BackOffMilliseconds\">", "<"), "4711");
    faults.next(Some("SyncFolderItems"), 1, busy(true));
    let inside = bench.sync(TASKS, None, 10).await;
    assert_eq!((inside.status, inside.code().as_str()), (200, "ErrorServerBusy"));
    assert_eq!(inside.between("BackOffMilliseconds\">", "<"), "4711");

    let create = envelope(
        &impersonating(ANA),
        &create_item(TASKS, "<t:Subject>a</t:Subject>"),
    );
    faults.next(Some("CreateItem"), 1, Fault::Cut);
    assert!(bench.raw("svc", create.clone()).await.is_err());
    assert_eq!(bench.exchange.items(ANA).len(), 0, "nothing was done");
    faults.next(Some("CreateItem"), 1, Fault::LoseResponse);
    assert!(bench.raw("svc", create).await.is_err());
    assert_eq!(bench.exchange.items(ANA).len(), 1, "it was done all the same");

    faults.next(None, 1, Fault::Status(503));
    assert_eq!(bench.ana(&get_folder(TASKS)).await.status, 503);
    faults.next(
        None,
        1,
        Fault::Error("soap:ErrorInternalServerTransientError".to_owned()),
    );
    assert_eq!(bench.ana(&get_folder(TASKS)).await.status, 500);
    faults.next(None, 1, Fault::Error("ErrorMailboxStoreUnavailable".to_owned()));
    let stopped = bench.ana(&get_folder(&TASKS.repeat(2))).await;
    assert_eq!(
        stopped.codes(),
        ["ErrorMailboxStoreUnavailable", "ErrorBatchProcessingStopped"]
    );
    let rule = |subject: &str, fault| Rule {
        operation: None,
        subject: Some(subject.to_owned()),
        fault,
        remaining: 1,
    };
    faults.add(rule(BEN, Fault::Error("ErrorCorruptData".to_owned())));
    let one = bench
        .send(
            "svc",
            "",
            &get_folder(&format!("{}{}{}", folder_of(ANA), folder_of(BEN), folder_of(ANA))),
        )
        .await;
    assert_eq!(one.codes(), ["NoError", "ErrorCorruptData", "NoError"]);

    faults.next(Some("SyncFolderItems"), 1, Fault::ExpireCursor);
    let first = bench.sync(TASKS, None, 10).await;
    assert_eq!(first.code(), "NoError", "no cursor was presented");
    assert_eq!(
        bench.sync(TASKS, Some(&first.sync_state()), 10).await.code(),
        "ErrorInvalidSyncStateData"
    );
    assert_eq!(
        bench.sync(TASKS, Some(&first.sync_state()), 10).await.code(),
        "NoError"
    );

    faults.next(None, 1, Fault::Slow(Duration::from_millis(5)));
    assert_eq!(bench.ana(&get_folder(TASKS)).await.code(), "NoError");
    faults.next(None, 1, Fault::Huge(300_000));
    assert_eq!(
        bench
            .raw("svc", envelope("", &get_folder(&folder_of(ANA))))
            .await
            .unwrap()
            .text
            .len(),
        300_000
    );
    faults.next(None, 1, Fault::Garbage);
    assert!(
        !bench
            .raw("svc", envelope("", &get_folder(&folder_of(ANA))))
            .await
            .unwrap()
            .text
            .contains("Envelope")
    );
    bench.finish().await;
}

#[tokio::test]
async fn answers_carry_the_servers_own_date_and_version() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    bench.exchange.clock.set_skew("PT48H".parse().unwrap());
    let reply = bench.ana(&get_folder(TASKS)).await;
    let date = reply.headers.get("date").unwrap().to_str().unwrap().to_owned();
    let expected = bench.exchange.clock.now().strftime("%d %b %Y").to_string();
    assert!(date.contains(&expected), "{date} is not on {expected}");
    assert_eq!(reply.headers.get_all("date").iter().count(), 1);
    assert!(reply.headers.contains_key("request-id"));
    assert!(reply.text.contains("ServerVersionInfo MajorVersion=\"15\""));
    bench.finish().await;
}
