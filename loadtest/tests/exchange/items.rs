//! Items of the simulated Exchange, over HTTP.
use crate::client::{ANA, Bench, KEY, TASKS, create_item, fields, get_folder, impersonating, named, set};
use tasksync_loadtest::exchange::{DateZone, ExchangeSettings, MailboxItemEdit, TaskStatus};

const DATES: [&str; 2] = ["task:DueDate", "task:StartDate"];

#[tokio::test]
async fn a_task_is_created_read_updated_and_deleted() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let inner = format!(
        "<t:Subject>Order &lt;parts&gt;</t:Subject><t:Sensitivity>Private</t:Sensitivity><t:Body BodyType=\"HTML\">&lt;p&gt;a&lt;/p&gt;</t:Body><t:Categories><t:String>Red</t:String></t:Categories><t:Importance>High</t:Importance>{}<t:ActualWork>60</t:ActualWork><t:DueDate>2026-12-04T00:00:00Z</t:DueDate><t:PercentComplete>25</t:PercentComplete><t:TotalWork>240</t:TotalWork>",
        named("sp|1|17")
    );
    let id = bench.create(&inner).await;
    let all = bench.ana(&format!("<m:GetItem><m:ItemShape><t:BaseShape>AllProperties</t:BaseShape><t:AdditionalProperties>{KEY}</t:AdditionalProperties></m:ItemShape><m:ItemIds><t:ItemId {id}/></m:ItemIds></m:GetItem>")).await;
    assert_eq!(all.element("Subject"), "Order &lt;parts&gt;");
    assert_eq!(
        (all.element("Status"), all.element("PercentComplete")),
        ("InProgress".into(), "25".into())
    );
    assert_eq!(
        (all.element("ActualWork"), all.element("TotalWork")),
        ("60".into(), "240".into())
    );
    assert!(all.text.contains("<t:Value>sp|1|17</t:Value>"));
    assert!(
        all.text.contains("&lt;html&gt;"),
        "an HTML body comes back as a document"
    );
    let text = bench.get(&[&id], "<t:BodyType>Text</t:BodyType><t:AdditionalProperties><t:FieldURI FieldURI=\"item:Body\"/></t:AdditionalProperties>").await;
    assert_eq!(
        text.between("BodyType=\"Text\">", "<")
            .trim_end_matches("&#xD;\n"),
        "a"
    );

    let extended = format!(
        "<t:SetItemField>{KEY}<t:Task>{}</t:Task></t:SetItemField><t:DeleteItemField><t:FieldURI FieldURI=\"task:DueDate\"/></t:DeleteItemField>",
        named("sp|1|18")
    );
    let updated = bench
        .update(
            &id,
            "NeverOverwrite",
            &(set("item:Subject", "<t:Subject>Two</t:Subject>") + &extended),
        )
        .await;
    assert_eq!(updated.codes(), ["NoError"], "{}", updated.text);
    assert_ne!(updated.item_id(), id, "the change key changes");
    assert_eq!(
        updated.item_id().split('"').nth(1),
        id.split('"').nth(1),
        "the identifier stays"
    );
    let item = bench.exchange.items(ANA).remove(0);
    assert_eq!((item.subject.as_str(), item.due), ("Two", None));
    assert_eq!(item.named.get("SourceKey").map(String::as_str), Some("sp|1|18"));
    assert_eq!(item.modified_by, "Ana");

    let delete = |how: &str, which: &str| {
        format!(
            "<m:DeleteItem DeleteType=\"{how}\"{which}><m:ItemIds><t:ItemId {id}/></m:ItemIds></m:DeleteItem>"
        )
    };
    let required = bench.ana(&delete("HardDelete", "")).await;
    assert_eq!(required.code(), "ErrorAffectedTaskOccurrencesRequired");
    let all_occurrences = " AffectedTaskOccurrences=\"AllOccurrences\"";
    assert_eq!(
        bench
            .ana(&delete("MoveToDeletedItems", all_occurrences))
            .await
            .code(),
        "NoError"
    );
    let moved = bench.exchange.items(ANA).remove(0);
    assert!(
        moved.in_deleted_items && moved.id != item.id,
        "a move gives a new identifier"
    );
    assert_eq!(
        bench.ana(&delete("HardDelete", all_occurrences)).await.code(),
        "ErrorItemNotFound"
    );
    assert_eq!(bench.get(&[&id], "").await.code(), "ErrorItemNotFound");
    assert_eq!(bench.exchange.stats.snapshot().writes, 3);
    bench.finish().await;
}

#[tokio::test]
async fn dates_are_days_of_the_mailbox() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let zone =
        "<t:TimeZoneContext><t:TimeZoneDefinition Id=\"W. Europe Standard Time\"/></t:TimeZoneContext>";
    let inner = "<t:Subject>a</t:Subject><t:StartDate>2026-12-04T00:00:00</t:StartDate>";
    let header = format!("{}{zone}", impersonating(ANA));
    let created = bench.send("svc", &header, &create_item(TASKS, inner)).await;
    let item = bench.exchange.items(ANA).remove(0);
    assert_eq!(item.start.unwrap().to_string(), "2026-12-04");
    assert_eq!(
        item.due, item.start,
        "a start without due gives its own day as due"
    );
    let id = created.item_id();
    assert_eq!(
        bench.get(&[&id], &fields(&DATES)).await.element("DueDate"),
        "2026-12-03T23:00:00Z"
    );
    let body = format!(
        "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape>{}</m:ItemShape><m:ItemIds><t:ItemId {id}/></m:ItemIds></m:GetItem>",
        fields(&DATES)
    );
    let zoned = bench.send("svc", &header, &body).await;
    assert_eq!(zoned.element("DueDate"), "2026-12-04T00:00:00+01:00");
    let unknown = header.replace("W. Europe", "Martian");
    assert_eq!(bench.send("svc", &unknown, &body).await.code(), "ErrorTimeZone");
    bench.finish().await;

    let settings = ExchangeSettings {
        date_zone: DateZone::Request,
        ..ExchangeSettings::default()
    };
    let bench = Bench::start(settings).await;
    let id = bench.create("<t:DueDate>2026-12-04T00:00:00Z</t:DueDate>").await;
    assert_eq!(
        bench.get(&[&id], &fields(&DATES)).await.element("DueDate"),
        "2026-12-04T00:00:00Z"
    );
    bench.finish().await;
}

#[tokio::test]
async fn of_status_percentage_and_completion_the_last_wins() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let id = bench
        .create("<t:CompleteDate>2020-01-01T00:00:00Z</t:CompleteDate>")
        .await;
    let item = bench.exchange.items(ANA).remove(0);
    assert_eq!(
        (item.status, item.percent.to_string().as_str()),
        (TaskStatus::Completed, "100")
    );
    assert_ne!(
        item.complete_date.unwrap().to_string(),
        "2020-01-01T00:00:00Z",
        "the server takes its own time"
    );
    let percent = |value: &str| {
        set(
            "task:PercentComplete",
            &format!("<t:PercentComplete>{value}</t:PercentComplete>"),
        )
    };
    let status = |value: &str| set("task:Status", &format!("<t:Status>{value}</t:Status>"));
    let reply = bench
        .update(&id, "NeverOverwrite", &(percent("50") + &status("NotStarted")))
        .await;
    let item = bench.exchange.items(ANA).remove(0);
    assert_eq!(
        (item.status, item.percent.to_string().as_str(), item.complete_date),
        (TaskStatus::NotStarted, "0", None)
    );
    let id = reply.item_id();
    let reply = bench
        .update(&id, "NeverOverwrite", &(percent("50") + &status("Deferred")))
        .await;
    assert_eq!(bench.exchange.items(ANA).remove(0).percent.to_string(), "50");
    let id = reply.item_id();
    assert_eq!(
        bench.update(&id, "NeverOverwrite", &percent("101")).await.code(),
        "ErrorInvalidPercentCompleteValue"
    );
    let future = set(
        "task:CompleteDate",
        "<t:CompleteDate>2999-01-01T00:00:00Z</t:CompleteDate>",
    );
    assert_eq!(
        bench.update(&id, "NeverOverwrite", &future).await.code(),
        "ErrorInvalidCompleteDate"
    );
    assert_eq!(
        bench.exchange.items(ANA).remove(0).status,
        TaskStatus::Deferred,
        "a refused update changes nothing"
    );
    bench.finish().await;
}

#[tokio::test]
async fn versions_guard_updates() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let id = bench.create("<t:Subject>a</t:Subject>").await;
    let bare = bench.exchange.items(ANA).remove(0).id;
    let subject = set("item:Subject", "<t:Subject>b</t:Subject>");
    let without_key = format!("Id=\"{bare}\"");
    assert_eq!(
        bench
            .update(&without_key, "NeverOverwrite", &subject)
            .await
            .code(),
        "ErrorChangeKeyRequired"
    );
    assert_eq!(
        bench
            .update(
                &format!("{without_key} ChangeKey=\"EwAA\""),
                "AutoResolve",
                &subject
            )
            .await
            .code(),
        "ErrorInvalidChangeKey"
    );
    let edit = MailboxItemEdit {
        subject: Some("person".to_owned()),
        ..MailboxItemEdit::default()
    };
    bench.exchange.person_edits(ANA, &bare, edit).unwrap();
    assert_eq!(
        bench.update(&id, "NeverOverwrite", &subject).await.code(),
        "ErrorIrresolvableConflict"
    );
    assert_eq!(
        bench.update(&id, "AutoResolve", &subject).await.code(),
        "ErrorIrresolvableConflict"
    );
    let work = set("task:TotalWork", "<t:TotalWork>5</t:TotalWork>");
    assert_eq!(
        bench.update(&id, "AutoResolve", &work).await.code(),
        "NoError",
        "another property merges"
    );
    assert_eq!(bench.exchange.items(ANA).remove(0).subject, "person");
    assert_eq!(
        bench
            .update(&id, "AlwaysOverwrite", &subject)
            .await
            .between("<t:Count>", "<"),
        "1"
    );
    assert_eq!(
        bench
            .update(&without_key, "AlwaysOverwrite", &subject)
            .await
            .code(),
        "NoError"
    );
    bench.finish().await;
}

#[tokio::test]
async fn an_update_holds_the_one_property_it_names() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let id = bench.create("<t:Subject>a</t:Subject>").await;
    for (update, code) in [
        (set("item:Subject", "<t:Subject>b</t:Subject><t:Importance>Low</t:Importance>"), "ErrorIncorrectUpdatePropertyCount"),
        (set("item:Subject", ""), "ErrorIncorrectUpdatePropertyCount"),
        (set("item:Subject", "<t:Importance>Low</t:Importance>"), "ErrorUpdatePropertyMismatch"),
        (set("task:IsComplete", "<t:IsComplete>true</t:IsComplete>"), "ErrorInvalidPropertySet"),
        ("<t:DeleteItemField><t:FieldURI FieldURI=\"task:Status\"/></t:DeleteItemField>".to_owned(), "ErrorInvalidPropertyDelete"),
        ("<t:DeleteItemField><t:ExtendedFieldURI PropertyName=\"a\" PropertyType=\"String\"/></t:DeleteItemField>".to_owned(), "ErrorInvalidExtendedProperty"),
        (format!("<t:SetItemField>{KEY}<t:Task><t:Subject>b</t:Subject></t:Task></t:SetItemField>"), "ErrorUpdatePropertyMismatch"),
    ] {
        assert_eq!(bench.update(&id, "NeverOverwrite", &update).await.code(), code, "{update}");
    }
    let wrong = bench
        .ana(&create_item(
            TASKS,
            "<t:Subject>a</t:Subject><t:IsComplete>true</t:IsComplete>",
        ))
        .await;
    assert_eq!(wrong.code(), "ErrorInvalidPropertySet");
    let unique = bench.get(&[&id], &fields(&["item:UniqueBody"])).await;
    assert_eq!(unique.code(), "ErrorInternalServerError");
    let inbox = bench
        .ana(&create_item(
            "<t:DistinguishedFolderId Id=\"inbox\"/>",
            "<t:Subject>a</t:Subject>",
        ))
        .await;
    assert_eq!(inbox.code(), "ErrorCannotCreateTaskInNonTaskFolder");
    assert_eq!(bench.exchange.items(ANA).len(), 1);
    bench.finish().await;
}

#[tokio::test]
async fn completing_a_recurring_task_leaves_a_completed_one_beside_it() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let id = bench.create("<t:Subject>a</t:Subject>").await;
    let bare = bench.exchange.items(ANA).remove(0).id;
    let recurring = MailboxItemEdit {
        is_recurring: Some(true),
        ..MailboxItemEdit::default()
    };
    bench.exchange.person_edits(ANA, &bare, recurring).unwrap();
    bench
        .update(
            &id,
            "AlwaysOverwrite",
            &set("task:Status", "<t:Status>Completed</t:Status>"),
        )
        .await;
    let items = bench.exchange.items(ANA);
    let states: Vec<_> = items
        .iter()
        .map(|item| (item.id == bare, item.is_recurring, item.status))
        .collect();
    assert_eq!(
        states,
        [
            (true, true, TaskStatus::NotStarted),
            (false, false, TaskStatus::Completed)
        ]
    );
    bench.finish().await;
}

#[tokio::test]
async fn sync_pages_echoes_moves_and_expires() {
    let bench = Bench::start(ExchangeSettings {
        sync_page: 2,
        ..ExchangeSettings::default()
    })
    .await;
    for subject in ["a", "b", "c"] {
        bench
            .create(&format!(
                "<t:Subject>{subject}</t:Subject><t:Body BodyType=\"Text\">x</t:Body>"
            ))
            .await;
    }
    let first = bench.sync(TASKS, None, 512).await;
    assert_eq!(first.all("<t:Subject>", "<"), ["c", "b"], "newest first");
    assert!(!first.text.contains("<t:Body"), "sync never returns bodies");
    assert!(first.text.contains("<m:IncludesLastItemInRange>false<"));
    let second = bench.sync(TASKS, Some(&first.sync_state()), 512).await;
    assert_eq!(second.all("<t:Subject>", "<"), ["a"]);
    assert!(second.text.contains("<m:IncludesLastItemInRange>true<"));
    let state = second.sync_state();
    assert_eq!(
        bench.sync(TASKS, Some(&state), 512).await.sync_state(),
        state,
        "an idle folder keeps its state"
    );

    let item = bench.exchange.items(ANA).remove(0);
    bench
        .update(
            &format!("Id=\"{}\"", item.id),
            "AlwaysOverwrite",
            &set("item:Subject", "<t:Subject>a2</t:Subject>"),
        )
        .await;
    let echo = bench.sync(TASKS, Some(&state), 512).await;
    assert_eq!(echo.all("<t:Update><t:Task>", "<t:Subject>").len(), 1);
    let bin = bench
        .exchange
        .folders(ANA)
        .into_iter()
        .find(|folder| folder.distinguished == Some("deleteditems"))
        .unwrap();
    bench.exchange.person_moves(ANA, &item.id, &bin.id).unwrap();
    let moved = bench.sync(TASKS, Some(&echo.sync_state()), 512).await;
    assert_eq!(
        moved.between("<t:Delete>", "</t:Delete>").split('"').nth(1),
        Some(item.id.as_str())
    );

    let good = moved.sync_state();
    for (folder, state) in [
        (TASKS, "H4sIAAA="),
        ("<t:DistinguishedFolderId Id=\"inbox\"/>", good.as_str()),
    ] {
        assert_eq!(
            bench.sync(folder, Some(state), 512).await.code(),
            "ErrorInvalidSyncStateData"
        );
    }
    bench.exchange.expire_sync_states(Some(ANA));
    assert_eq!(
        bench.sync(TASKS, Some(&good), 512).await.code(),
        "ErrorInvalidSyncStateData"
    );
    assert_eq!(bench.sync(TASKS, None, 512).await.code(), "NoError");
    assert_eq!(bench.sync(TASKS, None, 513).await.code(), "ErrorSchemaValidation");
    bench.finish().await;
}

#[tokio::test]
async fn items_are_found_by_named_property_in_pages() {
    let bench = Bench::start(ExchangeSettings {
        restricted_find_page: 2,
        ..ExchangeSettings::default()
    })
    .await;
    for key in ["k1", "k2", "k2", "k2"] {
        bench
            .create(&format!("<t:Subject>s{key}</t:Subject>{}", named(key)))
            .await;
    }
    bench.create("<t:Subject>bare</t:Subject>").await;
    let equal = |key: &str| {
        format!(
            "<t:IsEqualTo>{KEY}<t:FieldURIOrConstant><t:Constant Value=\"{key}\"/></t:FieldURIOrConstant></t:IsEqualTo>"
        )
    };
    let find = async |restriction: String, offset: usize| {
        bench.ana(&format!("<m:FindItem Traversal=\"Shallow\"><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>{KEY}</t:AdditionalProperties></m:ItemShape><m:IndexedPageItemView MaxEntriesReturned=\"50\" Offset=\"{offset}\" BasePoint=\"Beginning\"/><m:Restriction>{restriction}</m:Restriction><m:ParentFolderIds>{TASKS}<t:DistinguishedFolderId Id=\"deleteditems\"/></m:ParentFolderIds></m:FindItem>")).await
    };
    let first = find(equal("k2"), 0).await;
    assert_eq!(first.codes(), ["NoError", "NoError"], "one message per folder");
    assert!(
        first
            .text
            .contains("IndexedPagingOffset=\"2\" TotalItemsInView=\"3\" IncludesLastItemInRange=\"false\"")
    );
    assert_eq!(find(equal("k2"), 2).await.all("<t:Value>", "<"), ["k2"]);
    assert_eq!(
        find(format!("<t:And>{}{}</t:And>", equal("k1"), equal("k2")), 0)
            .await
            .all("<t:Value>", "<")
            .len(),
        0
    );
    assert_eq!(
        find(format!("<t:Or>{}{}</t:Or>", equal("k1"), equal("none")), 0)
            .await
            .all("<t:Value>", "<"),
        ["k1"]
    );
    assert!(
        find(format!("<t:Not><t:Exists>{KEY}</t:Exists></t:Not>"), 0)
            .await
            .text
            .contains("TotalItemsInView=\"1\"")
    );
    let status = "<t:Exists><t:FieldURI FieldURI=\"task:Status\"/></t:Exists>";
    assert_eq!(
        find(status.to_owned(), 0).await.code(),
        "ErrorUnsupportedPathForQuery"
    );
    bench.finish().await;
}

#[tokio::test]
async fn people_act_in_outlook() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let exchange = &bench.exchange;
    bench
        .create(&format!("<t:Subject>a</t:Subject>{}", named("k")))
        .await;
    let item = exchange.items(ANA).remove(0);
    let copy = exchange.person_copies(ANA, &item.id, None).unwrap();
    assert_eq!(
        copy.named.get("SourceKey").map(String::as_str),
        Some("k"),
        "a copy keeps the named properties"
    );
    let due = MailboxItemEdit {
        due: Some("2026-12-04".parse().ok()),
        percent: Some(100.0),
        ..MailboxItemEdit::default()
    };
    let edited = exchange.person_edits(ANA, &copy.id, due).unwrap();
    assert!(edited.change_number > copy.change_number && edited.change_key != copy.change_key);
    assert_eq!(edited.status, TaskStatus::Completed);
    let created = exchange
        .person_creates(
            ANA,
            None,
            MailboxItemEdit {
                subject: Some("own".into()),
                ..MailboxItemEdit::default()
            },
        )
        .unwrap();
    assert!(
        exchange
            .person_deletes(ANA, &created.id, true)
            .unwrap()
            .unwrap()
            .in_deleted_items
    );
    assert_eq!(
        exchange.person_deletes(ANA, &created.id, false).unwrap_err().code,
        "ErrorItemNotFound"
    );
    let refused = MailboxItemEdit {
        percent: Some(-1.0),
        ..MailboxItemEdit::default()
    };
    assert_eq!(
        exchange.person_edits(ANA, &item.id, refused).unwrap_err().code,
        "ErrorInvalidPercentCompleteValue"
    );
    assert_eq!(
        exchange
            .person_edits("no@where", &item.id, MailboxItemEdit::default())
            .unwrap_err()
            .code,
        "ErrorNonExistentMailbox"
    );
    let before = bench.ana(&get_folder(TASKS)).await;
    exchange.person_deletes(ANA, &item.id, false).unwrap();
    let after = bench.ana(&get_folder(TASKS)).await;
    let deleted = |reply: &crate::client::Reply| {
        reply.between("PropertyTag=\"0x670b\" PropertyType=\"Integer\"/><t:Value>", "<")
    };
    assert_ne!(deleted(&before), deleted(&after));
    bench.finish().await;
}
