//! Wrong answers on demand from the simulated Exchange.

use crate::client::{ANA, BEN, Bench, TASKS, create_item, envelope, fields, folder_of, get_folder, set};
use tasksync_loadtest::exchange::{ExchangeSettings, MailboxItemEdit};
use tasksync_loadtest::sim::answers::{Answer, Tamper, Tape};
use tasksync_loadtest::sim::faults::{Aim, Fault};

const SUBJECT: &str = "<t:Subject>One</t:Subject>";

#[tokio::test]
async fn the_second_update_of_one_item_is_answered_with_a_page() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let (one, other) = (bench.create(SUBJECT).await, bench.create(SUBJECT).await);
    let page = Answer::html(200, "Maintenance");
    let id = one.split('"').nth(1).unwrap();
    bench.exchange.faults.aim(
        Aim::at("UpdateItem").of(ANA).containing(id).after(1).times(1),
        Fault::Instead(page.clone()),
    );
    let title = |text: &str| set("item:Subject", &format!("<t:Subject>{text}</t:Subject>"));
    let update = async |id: &str, text: &str| bench.update(id, "AlwaysOverwrite", &title(text)).await;
    assert_eq!(update(&other, "a").await.code(), "NoError");
    assert_eq!(update(&one, "b").await.code(), "NoError");
    assert_eq!(update(&one, "c").await.text, page.text());
    assert_eq!(update(&one, "d").await.code(), "NoError");
    let mut subjects: Vec<_> = bench
        .exchange
        .items(ANA)
        .into_iter()
        .map(|item| item.subject)
        .collect();
    subjects.sort();
    assert_eq!(subjects, ["a", "d"], "the page came in place of a write");
    bench.finish().await;
}

#[tokio::test]
async fn a_carried_out_request_is_answered_with_a_refusal() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let refusal = Answer::new(503);
    bench
        .exchange
        .faults
        .aim(Aim::at("CreateItem").times(1), Fault::Afterwards(refusal));
    assert_eq!(bench.ana(&create_item("", SUBJECT)).await.status, 503);
    assert_eq!(bench.exchange.items(ANA).len(), 1);
    bench.finish().await;
}

#[tokio::test]
async fn one_persons_answer_is_given_to_another() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let tape = Tape::default();
    let faults = &bench.exchange.faults;
    faults.aim(
        Aim::at("GetFolder").of(BEN).times(1),
        Fault::Tamper(tape.record()),
    );
    faults.aim(
        Aim::at("GetFolder").of(ANA).times(1),
        Fault::Tamper(tape.replay()),
    );
    let ask = async |smtp: &str| bench.send("svc", "", &get_folder(&folder_of(smtp))).await.id();
    let of_ben = ask(BEN).await;
    assert_eq!(ask(ANA).await, of_ben);
    assert_ne!(ask(ANA).await, of_ben);
    bench.finish().await;
}

#[tokio::test]
async fn fields_are_ignored_and_the_update_succeeds() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let id = bench
        .create("<t:Subject>One</t:Subject><t:Body BodyType=\"Text\">kept</t:Body>")
        .await;
    let clear = "<t:DeleteItemField><t:FieldURI FieldURI=\"item:Body\"/></t:DeleteItemField>";
    let updates = set("item:Subject", "<t:Subject>Two</t:Subject>") + clear;
    let faults = &bench.exchange.faults;
    faults.next(
        Some("UpdateItem"),
        1,
        Fault::IgnoreFields(vec!["item:Body".to_owned()]),
    );
    let done = bench.update(&id, "NeverOverwrite", &updates).await;
    assert_eq!(done.code(), "NoError");
    let item = bench.exchange.items(ANA).remove(0);
    assert_eq!(
        (item.subject.as_str(), item.body.as_deref()),
        ("Two", Some("kept"))
    );

    let id = done.item_id();
    faults.next(Some("UpdateItem"), 1, Fault::IgnoreFields(Vec::new()));
    let done = bench.update(&id, "NeverOverwrite", clear).await;
    assert_eq!((done.code().as_str(), done.item_id()), ("NoError", id));
    assert_eq!(bench.exchange.items(ANA).remove(0), item);
    bench.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn the_clients_request_id_is_returned_on_request() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let ask = async |wanted: &str| {
        let request = bench
            .request("svc", envelope("", &get_folder(&folder_of(ANA))))
            .header("client-request-id", "3f1c2f0e")
            .header("return-client-request-id", wanted);
        let answer = request.send().await.unwrap();
        let id = answer.headers().get("client-request-id").cloned();
        (
            id.map(|id| id.to_str().unwrap().to_owned()),
            answer.headers().contains_key("date"),
        )
    };
    assert_eq!(ask("true").await, (Some("3f1c2f0e".to_owned()), true));
    assert_eq!(ask("false").await, (None, true));
    let faults = &bench.exchange.faults;
    let wrong = |answer: Answer| {
        answer
            .without_header("client-request-id")
            .with_header("client-request-id", "other")
    };
    faults.next(None, 1, Fault::Tamper(Tamper::new(wrong)));
    assert_eq!(ask("true").await.0.as_deref(), Some("other"));
    faults.next(None, 1, Fault::Tamper(Tamper::without_header("date")));
    assert!(!ask("true").await.1);
    bench.finish().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test is a client of its own")]
async fn a_request_without_an_answer_ends_with_the_clients_patience() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    bench.exchange.faults.next(None, 1, Fault::Hang);
    let request = bench
        .request("svc", envelope("", &get_folder(&folder_of(ANA))))
        .timeout(std::time::Duration::from_millis(50));
    assert!(request.send().await.unwrap_err().is_timeout());
    assert_eq!(bench.ana(&get_folder(TASKS)).await.code(), "NoError");
    bench.finish().await;
}

#[tokio::test]
async fn a_task_folder_lies_anywhere_and_the_archive_is_a_mailbox_of_its_own() {
    let bench = Bench::start(ExchangeSettings::default()).await;
    let exchange = &bench.exchange;
    let parent = |name: &str| {
        let folders = exchange.folders(ANA);
        folders
            .into_iter()
            .find(|folder| folder.distinguished == Some(name))
            .map(|folder| folder.id)
    };
    let top = parent("msgfolderroot").unwrap();
    let folder = exchange
        .person_creates_folder(ANA, &top, "Private", "IPF.Task")
        .unwrap();
    let find = |root: &str| {
        format!(
            "<m:FindFolder Traversal=\"Deep\"><m:FolderShape><t:BaseShape>Default</t:BaseShape></m:FolderShape><m:ParentFolderIds><t:DistinguishedFolderId Id=\"{root}\"/></m:ParentFolderIds></m:FindFolder>"
        )
    };
    assert!(bench.ana(&find("msgfolderroot")).await.text.contains(&folder));
    let root = "archivemsgfolderroot";
    assert_eq!(bench.ana(&find(root)).await.code(), "ErrorFolderNotFound");
    assert_eq!(parent(root), None);

    exchange.give_archive(ANA).unwrap();
    let item = exchange
        .person_creates(
            ANA,
            Some(&folder),
            MailboxItemEdit {
                subject: Some("Old".to_owned()),
                ..MailboxItemEdit::default()
            },
        )
        .unwrap();
    let archived = exchange.person_archives(ANA, &item.id).unwrap();
    assert!(archived.in_archive && !archived.in_deleted_items);
    assert!(bench.ana(&find(root)).await.text.contains(&archived.folder_id));
    assert!(
        !bench
            .ana(&find("msgfolderroot"))
            .await
            .text
            .contains(&archived.folder_id)
    );
    let id = |id: &str| format!("Id=\"{id}\"");
    let subject = fields(&["item:Subject"]);
    let gone = bench.get(&[&id(&item.id)], &subject).await;
    assert_eq!(
        gone.code(),
        "ErrorItemNotFound",
        "an item that is moved gets a new id"
    );
    let there = bench.get(&[&id(&archived.id)], &subject).await;
    assert_eq!(there.element("Subject"), "Old");
    bench.finish().await;
}
