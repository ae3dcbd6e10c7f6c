//! Wrong answers on demand from the simulated SharePoint.

use crate::farm::{Farm, SHAPES, SITE, Shape};
use serde_json::json;
use tasksync_loadtest::sharepoint::people::ListSpec;
use tasksync_loadtest::sharepoint::{Closed, Settings};
use tasksync_loadtest::sim::answers::{Answer, Tamper};
use tasksync_loadtest::sim::faults::{Aim, Fault};

#[tokio::test]
async fn a_rule_hits_one_list_alone_and_only_after_some_requests() {
    let farm = Farm::start().await;
    let other = farm
        .sharepoint
        .add_list(SITE, &ListSpec::new("Other", 171))
        .unwrap();
    let other = format!("web/lists(guid'{other}')/items");
    farm.sharepoint.faults.aim(
        Aim::at("items.list")
            .of(SITE)
            .containing(&farm.list.to_string().to_uppercase())
            .after(1)
            .times(1),
        Fault::Error("-2147024860".to_owned()),
    );
    let read = async |path: &str| farm.ask(Shape::Light).get(path).await.status;
    let mine = farm.list_path("/items");
    assert_eq!(read(&mine).await, 200);
    assert_eq!(read(&other).await, 200);
    assert_eq!(read(&mine).await, 500);
    assert_eq!(read(&mine).await, 200);
}

#[tokio::test]
async fn an_update_is_answered_as_done_and_not_carried_out() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        let created = farm
            .ask(shape)
            .post_item(&farm.list_path("/items"), json!({ "Title": "a" }))
            .await;
        assert_eq!(created.status, 201);
        let faults = &farm.sharepoint.faults;
        faults.next(Some("items.update"), 1, Fault::Instead(Answer::new(200)));
        let merge = async || {
            farm.ask(shape)
                .merge(&farm.list_path("/items(1)"), "*", json!({ "Title": "b" }))
                .await
        };
        let done = merge().await;
        assert_eq!((done.status, done.text.as_str()), (200, ""));
        assert!(!done.headers.contains_key("etag"));
        assert!(done.headers.contains_key("microsoftsharepointteamservices"));
        let title = || farm.sharepoint.item(SITE, farm.list, 1).unwrap().title;
        assert_eq!(title(), "a");
        let gone = Answer::html(404, "Not Found").bare();
        faults.next(Some("items.update"), 1, Fault::Afterwards(gone));
        let refused = merge().await;
        assert_eq!((refused.status, title().as_str()), (404, "b"));
        assert!(!refused.headers.contains_key("microsoftsharepointteamservices"));
        assert!(!refused.headers.contains_key("date"));
    }
}

#[tokio::test]
async fn an_answer_is_changed_on_its_way() {
    let farm = Farm::start().await;
    let faults = &farm.sharepoint.faults;
    faults.next(
        Some("web"),
        1,
        Fault::Tamper(Tamper::replace("\"Contoso\"", "\"cut \\ud83d\"")),
    );
    let web = farm.ask(Shape::Light).get("web").await;
    assert!(web.text.contains("cut \\ud83d"), "{}", web.text);
    let bomb = Answer::gzip_bomb("application/json", "{\"value\":[", "{\"\":0},", "{}]}", 1 << 20);
    faults.next(Some("web"), 1, Fault::Instead(bomb.clone()));
    let inflated = farm.ask(Shape::Light).get("web").await;
    assert!(inflated.text.len() > 100 * bomb.body.len());
}

#[tokio::test]
async fn webs_and_lists_are_closed_to_the_service_account() {
    let farm = Farm::with(
        Settings::default(),
        tasksync_loadtest::sharepoint::Language::English,
    )
    .await;
    let below = format!("{SITE}/sub");
    farm.sharepoint.add_web(SITE, &below, "Sub").unwrap();
    let count = async |path: &str| farm.ask(Shape::Light).get(path).await.entries().len();
    let lists = count("web/lists").await;
    assert_eq!(count("web/webs").await, 1);
    let list = farm.list_path("");
    for (closed, status) in [(Closed::Forbidden, 403), (Closed::Missing, 404)] {
        farm.sharepoint.close_list(SITE, farm.list, Some(closed)).unwrap();
        farm.sharepoint.close_web(&below, Some(closed)).unwrap();
        assert_eq!(farm.ask(Shape::Light).get(&list).await.status, status);
        assert_eq!(count("web/lists").await, lists - 1);
        assert_eq!(count("web/webs").await, 0);
    }
    farm.sharepoint.close_list(SITE, farm.list, None).unwrap();
    farm.sharepoint.close_web(&below, None).unwrap();
    assert_eq!(farm.ask(Shape::Light).get(&list).await.status, 200);
    assert_eq!((count("web/lists").await, count("web/webs").await), (lists, 1));
}
