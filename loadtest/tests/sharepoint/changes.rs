//! The change log and batches of the simulated SharePoint over HTTP.

use std::time::Duration;

use crate::farm::{Answer, Farm, SHAPES, SITE, Shape};
use serde_json::{Value, json};
use tasksync_loadtest::sharepoint::people::{ListItemEdit, ListSpec, RightsTarget};
use tasksync_loadtest::sharepoint::{Language, Operation, Settings};
use tasksync_loadtest::sim::faults::Fault;

fn query(start: Option<&str>) -> Value {
    let mut query = json!({
        "Item": true, "List": true, "Add": true, "Update": true, "SystemUpdate": true, "DeleteObject": true,
        "Restore": true, "Move": true, "Rename": true, "RoleAssignmentAdd": true, "RoleAssignmentDelete": true,
    });
    if let Some(start) = start {
        query["ChangeTokenStart"] = json!({ "StringValue": start });
    }
    json!({ "query": query })
}

fn kinds(answer: &Answer) -> Vec<(i64, Option<i64>)> {
    answer
        .entries()
        .iter()
        .map(|change| (change["ChangeType"].as_i64().unwrap(), change["ItemId"].as_i64()))
        .collect()
}

async fn token(farm: &Farm, shape: Shape, path: &str) -> String {
    let value = farm
        .ask(shape)
        .get(&format!("{path}?$select=CurrentChangeToken"))
        .await
        .value();
    value["CurrentChangeToken"]["StringValue"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn changes_are_reported_once_in_order() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        let (sharepoint, list) = (&farm.sharepoint, farm.list);
        let path = farm.list_path("");
        let start = token(&farm, shape, &path).await;
        let (web, site) = (
            token(&farm, shape, "web").await,
            token(&farm, shape, "site").await,
        );
        assert!(
            start.starts_with(&format!("1;3;{list};")) && web.starts_with("1;2;") && site.starts_with("1;1;")
        );
        let changes = farm.list_path("/getchanges");
        assert!(kinds(&farm.ask(shape).post(&changes, query(Some(&start))).await).is_empty());

        let item = sharepoint
            .person_creates(SITE, list, ListItemEdit::default(), farm.ana)
            .unwrap();
        sharepoint
            .person_assigns(SITE, list, item, &[farm.ben], farm.ana)
            .unwrap();
        sharepoint.person_deletes(SITE, list, item).unwrap();
        sharepoint.person_restores(SITE, list, item).unwrap();
        sharepoint
            .revoke(SITE, RightsTarget::Item(list, item), farm.ben)
            .unwrap();
        let answer = farm.ask(shape).post(&changes, query(Some(&start))).await;
        let expected = [
            (1, Some(1)),
            (2, Some(1)),
            (3, Some(1)),
            (7, Some(1)),
            (12, Some(1)),
        ];
        assert_eq!(kinds(&answer), expected);
        let unique = sharepoint.items(SITE, list).unwrap()[0].unique_id.to_string();
        for change in answer.entries() {
            assert_eq!(
                (&change["ListId"], &change["UniqueId"]),
                (&json!(list.to_string()), &json!(unique))
            );
            change["Time"]
                .as_str()
                .unwrap()
                .parse::<jiff::Timestamp>()
                .unwrap();
        }
        if shape == Shape::Verbose {
            assert_eq!(answer.entries()[0]["__metadata"]["type"], "SP.ChangeItem");
        }
        let second = answer.entries()[1]["ChangeToken"]["StringValue"]
            .as_str()
            .unwrap()
            .to_owned();
        assert_eq!(
            kinds(&farm.ask(shape).post(&changes, query(Some(&second))).await),
            expected[2..]
        );
        let mut limited = query(Some(&start));
        limited["query"]["FetchLimit"] = json!(2);
        assert_eq!(
            kinds(&farm.ask(shape).post(&changes, limited.clone()).await),
            expected[..2]
        );
        limited["query"]["LatestFirst"] = json!(true);
        assert_eq!(
            kinds(&farm.ask(shape).post(&changes, limited).await),
            [(12, Some(1)), (7, Some(1))]
        );
        let only_adds = json!({ "query": { "Item": true, "Add": true } });
        assert_eq!(
            kinds(&farm.ask(shape).post(&changes, only_adds).await),
            [(1, Some(1))]
        );
        let no_kind = json!({ "query": { "Add": true, "Update": true } });
        assert!(kinds(&farm.ask(shape).post(&changes, no_kind).await).is_empty());

        sharepoint.add_web(SITE, "/sites/contoso/hr", "HR").unwrap();
        let other = sharepoint
            .add_list("/sites/contoso/hr", &ListSpec::new("Other", 171))
            .unwrap();
        sharepoint.delete_list(SITE, other).unwrap();
        let in_web = farm.ask(shape).post("web/getchanges", query(Some(&web))).await;
        assert_eq!(kinds(&in_web), expected, "the sub web is another web");
        let in_site = kinds(&farm.ask(shape).post("site/getchanges", query(Some(&site))).await);
        assert_eq!(in_site[5..], [(1, None), (3, None)]);
        let now = token(&farm, shape, "site").await;
        assert!(kinds(&farm.ask(shape).post("site/getchanges", query(Some(&now))).await).is_empty());
    }
}

#[tokio::test]
async fn tokens_that_do_not_fit_are_refused() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        let changes = farm.list_path("/getchanges");
        let good = token(&farm, shape, &farm.list_path("")).await;
        let web = token(&farm, shape, "web").await;
        let refuse = async |token: &str| {
            let answer = farm.ask(shape).post(&changes, query(Some(token))).await;
            assert_eq!(answer.status, 500, "{token}");
            answer.error()
        };
        for broken in [
            "",
            "nonsense",
            "1;3;x;5;-1",
            "2;3;00000000-0000-4000-8000-000000000001;5;-1",
            "1;3;5",
        ] {
            assert_eq!(refuse(broken).await.0, -2_130_575_172, "{broken}");
        }
        assert_eq!(refuse(&web).await.0, -2_130_575_173);
        let other = good.replace(&farm.list.to_string(), "00000000-0000-4000-8000-000000000001");
        assert_eq!(refuse(&other).await.0, -2_130_575_173);
        let forged_token = |ticks: i64| format!("1;3;{};{ticks};-1", farm.list);
        assert!(
            refuse(&forged_token(600_000_000_000_000_000))
                .await
                .1
                .contains("before the start")
        );

        farm.sharepoint
            .faults
            .next(Some("getchanges"), 1, Fault::ExpireCursor);
        assert!(refuse(&good).await.1.contains("before the start"));
        assert_eq!(
            farm.ask(shape).post(&changes, query(Some(&good))).await.status,
            200
        );
        farm.sharepoint.expire_change_tokens(SITE).unwrap();
        assert!(refuse(&good).await.1.contains("before the start"));
        farm.sharepoint
            .person_creates(SITE, farm.list, ListItemEdit::default(), farm.ana)
            .unwrap();
        farm.sharepoint.set_silent_expiry(true);
        let silent = farm.ask(shape).post(&changes, query(Some(&good))).await;
        assert_eq!((silent.status, silent.entries().len()), (200, 0));
        assert_eq!(refuse("nonsense").await.0, -2_130_575_172);
        assert_eq!(
            farm.ask(shape).post(&changes, query(None)).await.entries().len(),
            1
        );
        let unknown = json!({ "query": { "Everything": true } });
        assert_eq!(farm.ask(shape).post(&changes, unknown).await.status, 400);
        assert_eq!(farm.ask(shape).post(&changes, json!(5)).await.status, 400);

        let now = farm.sharepoint.clock.now();
        let ticks = now.as_microsecond() * 10 + 621_355_968_000_000_000;
        assert_eq!(
            farm.ask(shape)
                .post(&changes, query(Some(&forged_token(ticks))))
                .await
                .entries()
                .len(),
            0
        );
    }
}

/// Returns the status and JSON body of each part of a batch answer.
fn parts(answer: &Answer) -> Vec<(u16, Value)> {
    let kind = answer.headers["content-type"].to_str().unwrap();
    let boundary = kind.split_once("boundary=\"").unwrap().1.trim_end_matches('"');
    let inner: Vec<&str> = answer.text.split(&format!("--{boundary}")).collect();
    assert_eq!(inner.last().map(|end| end.trim()), Some("--"));
    inner[1..inner.len() - 1]
        .iter()
        .map(|part| {
            let (_, http) = part.split_once("\r\n\r\n").unwrap();
            let status = http.split(' ').nth(1).unwrap().parse().unwrap();
            let body = http.split_once("\r\n\r\n").unwrap().1.trim();
            (status, serde_json::from_str(body).unwrap_or(Value::Null))
        })
        .collect()
}

fn get_part(url: &str) -> String {
    format!(
        "--batch_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\nGET {url} HTTP/1.1\r\n\
         Accept: application/json;odata=nometadata\r\n\r\n"
    )
}

fn write_part(method: &str, url: &str, version: Option<&str>, body: &str) -> String {
    let version = version.map_or(String::new(), |version| format!("IF-MATCH: {version}\r\n"));
    format!(
        "--changeset_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n{method} {url} \
         HTTP/1.1\r\nContent-Type: application/json;odata=nometadata\r\nAccept: application/json;odata=nometadata\r\n\
         {version}\r\n{body}\r\n"
    )
}

async fn batch(farm: &Farm, body: String) -> Answer {
    let ask = farm
        .ask(Shape::Light)
        .header("Content-Type", "multipart/mixed; boundary=\"batch_1\"");
    ask.try_send("POST", "$batch", Some(body)).await.unwrap()
}

fn changeset(parts: &[String]) -> String {
    let inner = parts.concat();
    format!(
        "--batch_1\r\nContent-Type: multipart/mixed; boundary=\"changeset_1\"\r\n\r\n{inner}--changeset_1--\r\n\r\n"
    )
}

#[tokio::test]
async fn a_batch_answers_each_part_by_itself() {
    let farm = Farm::start().await;
    let items = format!("{}/{}", farm.api(), farm.list_path("/items"));
    let one = format!("{items}(1)");
    let writes = changeset(&[
        write_part("POST", &items, None, "{\"Title\":\"a\"}"),
        write_part("PATCH", &one, Some("\"1\""), "{\"Title\":\"b\"}"),
        write_part("PATCH", &one, Some("\"1\""), "{\"Title\":\"c\"}"),
    ]);
    let body = format!(
        "{writes}{}{}--batch_1--\r\n",
        get_part(&one),
        get_part(&format!("{items}(9)"))
    );
    let answer = batch(&farm, body.clone()).await;
    assert_eq!(answer.status, 200);
    let answers = parts(&answer);
    assert_eq!(
        answers.iter().map(|(status, _)| *status).collect::<Vec<_>>(),
        [201, 204, 412, 200, 404]
    );
    assert_eq!(answers[3].1["Title"], "b");
    assert_eq!(
        answers[4].1["odata.error"]["code"],
        "-2130575338, System.ArgumentException"
    );
    assert_eq!(farm.sharepoint.stats.operations(Operation::Batch), 1);
    assert_eq!(farm.sharepoint.stats.operations(Operation::ItemsGet), 2);

    let busy = Fault::Busy {
        pause: Some(Duration::from_secs(3)),
        inside: false,
        status: 429,
    };
    farm.sharepoint.faults.next(Some("items.get"), 1, busy);
    let answer = batch(&farm, body.clone()).await;
    assert_eq!(parts(&answer)[3].0, 429);
    assert!(answer.text.contains("RETRY-AFTER: 3"));
    farm.sharepoint.faults.next(Some("batch"), 1, Fault::Status(503));
    assert_eq!(batch(&farm, body.clone()).await.status, 503);
    let before = farm.sharepoint.items(SITE, farm.list).unwrap().len();
    farm.sharepoint.faults.next(Some("batch"), 1, Fault::LoseResponse);
    let ask = farm
        .ask(Shape::Light)
        .header("Content-Type", "multipart/mixed; boundary=\"batch_1\"");
    ask.try_send("POST", "$batch", Some(body)).await.unwrap_err();
    assert_eq!(farm.sharepoint.items(SITE, farm.list).unwrap().len(), before + 1);
}

#[tokio::test]
async fn a_batch_has_limits_and_a_form() {
    let farm = Farm::with(
        Settings {
            batch_limit: 3,
            ..Settings::default()
        },
        Language::default(),
    )
    .await;
    let web = format!("{}/web", farm.api());
    let many = |count: usize| format!("{}--batch_1--\r\n", get_part(&web).repeat(count));
    assert_eq!(parts(&batch(&farm, many(3)).await).len(), 3);
    assert_eq!(batch(&farm, many(4)).await.status, 400);
    assert_eq!(batch(&farm, many(0)).await.status, 400);
    assert_eq!(batch(&farm, get_part(&web)).await.status, 400, "no end");
    let reads = changeset(&[write_part("GET", &web, None, "")]);
    assert_eq!(batch(&farm, format!("{reads}--batch_1--\r\n")).await.status, 400);
    let outside = web.replace("contoso", "other");
    let bare = get_part(&format!("{}/contextinfo", farm.api())).replace("\r\nGET ", "\r\nPOST ");
    let nested = get_part(&format!("{}/$batch", farm.api()));
    let answers = parts(
        &batch(
            &farm,
            format!("{}{bare}{nested}--batch_1--\r\n", get_part(&outside)),
        )
        .await,
    );
    assert_eq!(
        answers.iter().map(|(status, _)| *status).collect::<Vec<_>>(),
        [400, 400, 400]
    );
    let ask = farm
        .ask(Shape::Light)
        .account("svc")
        .header("Content-Type", "multipart/mixed; boundary=\"batch_1\"");
    let without_digest = ask.try_send("POST", "$batch", Some(many(1))).await.unwrap();
    assert_eq!(without_digest.status, 403);
    let wrong_type = farm
        .ask(Shape::Light)
        .try_send("POST", "$batch", Some(many(1)))
        .await
        .unwrap();
    assert_eq!(wrong_type.status, 400);
}
