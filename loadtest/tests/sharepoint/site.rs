//! Credentials, digest, web, people, lists, columns and faults of the simulated SharePoint over HTTP.

use std::time::Duration;

use crate::farm::{Answer, Credentials, Farm, SHAPES, SITE, Shape};
use serde_json::{Value, json};
use tasksync_loadtest::sharepoint::people::ListSpec;
use tasksync_loadtest::sharepoint::{Language, Settings};
use tasksync_loadtest::sim::faults::{Fault, Rule};

/// Returns the digest in a `contextinfo` answer.
fn digest(answer: &Answer, shape: Shape) -> String {
    let value = answer.value();
    let inner = if shape == Shape::Verbose {
        &value["GetContextWebInformation"]
    } else {
        &value
    };
    assert_eq!(inner["FormDigestTimeoutSeconds"], 1800);
    inner["FormDigestValue"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn bad_credentials_are_challenged() {
    let farm = Farm::start().await;
    for credentials in [
        Credentials::Nobody,
        Credentials::Basic("svc".to_owned(), "wrong".to_owned()),
        Credentials::Basic("nobody".to_owned(), "pass".to_owned()),
        Credentials::Bearer("bad".to_owned()),
    ] {
        let refused = farm.ask(Shape::Light).credentials(credentials).get("web").await;
        assert_eq!(refused.status, 401);
        let challenges: Vec<_> = refused.headers.get_all("www-authenticate").iter().collect();
        assert_eq!(challenges.len(), 2, "{challenges:?}");
    }
    assert_eq!(farm.sharepoint.stats.refused(), 4);
    for shape in SHAPES {
        assert_eq!(farm.ask(shape).account("svc").get("web").await.status, 200);
        farm.sharepoint.refuse_caller(SITE, "SVC", true).unwrap();
        let refused = farm.ask(shape).account("svc").get("web").await;
        assert_eq!((refused.status, refused.error().0), (403, -2_147_024_891));
        farm.sharepoint.refuse_caller(SITE, "svc", false).unwrap();
    }
}

#[tokio::test]
async fn writes_with_a_password_need_a_fresh_digest() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        let items = farm.list_path("/items");
        let ask = || farm.ask(shape).account("svc");
        let missing = ask().post_item(&items, json!({ "Title": "a" })).await;
        assert_eq!((missing.status, missing.error().0), (403, -2_130_575_251));
        let query = json!({ "query": { "Item": true, "Add": true } });
        assert_eq!(ask().post("web/getchanges", query).await.status, 403);
        let digest = digest(&ask().post("contextinfo", Value::Null).await, shape);
        let good = ask()
            .header("X-RequestDigest", &digest)
            .post_item(&items, json!({ "Title": "a" }))
            .await;
        assert_eq!(good.status, 201);
        let foreign = digest.replacen("0x", "0xA", 1);
        let foreign = ask()
            .header("X-RequestDigest", &foreign)
            .post_item(&items, json!({ "Title": "a" }))
            .await;
        assert_eq!(foreign.error().0, -2_130_575_251);
        farm.sharepoint
            .clock
            .set_skew(jiff::SignedDuration::from_mins(31));
        let late = ask()
            .header("X-RequestDigest", &digest)
            .post_item(&items, json!({ "Title": "a" }))
            .await;
        assert_eq!((late.status, late.error().0), (403, -2_130_575_252));
        assert_eq!(farm.sharepoint.items(SITE, farm.list).unwrap().len(), 1);
        assert_eq!(
            farm.ask(shape)
                .post_item(&items, json!({ "Title": "b" }))
                .await
                .status,
            201,
            "tokens need none"
        );
    }
}

#[tokio::test]
async fn the_web_reports_its_zone_and_the_servers_time() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        farm.sharepoint.add_web(SITE, "/sites/contoso/hr", "HR").unwrap();
        let web = farm.ask(shape).get("web?$select=Title,Url,ServerRelativeUrl,RegionalSettings/TimeZone/Id&$expand=RegionalSettings/TimeZone").await.value();
        assert_eq!(web["Title"], "Contoso");
        assert_eq!(web["ServerRelativeUrl"], SITE);
        assert_eq!(format!("{}/_api", web["Url"].as_str().unwrap()), farm.api());
        assert_eq!(web["RegionalSettings"]["TimeZone"]["Id"], 4);
        assert_eq!(farm.ask(shape).get("web/title").await.result("Title"), "Contoso");
        let zone = farm.ask(shape).get("web/regionalsettings/timezone").await.value();
        assert!(zone["Description"].as_str().unwrap().contains("Berlin"));
        assert_eq!(zone["Information"]["Bias"], -60);
        assert_eq!(zone["Information"]["DaylightBias"], -60);
        let local = "web/regionalsettings/timezone/utctolocaltime(@d)?@d='2026-12-03T23:00:00Z'";
        assert_eq!(
            farm.ask(shape).get(local).await.result("UTCToLocalTime"),
            "2026-12-04T00:00:00"
        );
        let utc = "web/regionalsettings/timezone/localtimetoutc(@d)?@d='2026-07-01T00:00:00'";
        assert_eq!(
            farm.ask(shape).get(utc).await.result("LocalTimeToUTC"),
            "2026-06-30T22:00:00Z"
        );
        assert_eq!(
            farm.ask(shape)
                .get("web/webs?$select=ServerRelativeUrl")
                .await
                .entries()
                .len(),
            1
        );
        let sub = format!("{}/hr/_api/web", farm.api().trim_end_matches("/_api"));
        assert_eq!(farm.ask(shape).get(&sub).await.value()["Title"], "HR");
        let site = farm.ask(shape).get("site?$select=Id,Url").await.value();
        site["Id"].as_str().unwrap().parse::<uuid::Uuid>().unwrap();
        assert_eq!(
            farm.ask(shape).get("web/currentuser").await.value()["Title"],
            "SharePoint App"
        );

        farm.sharepoint
            .clock
            .set_skew(jiff::SignedDuration::from_hours(24 * 400));
        farm.sharepoint.set_health_score(7);
        let answer = farm.ask(shape).get("web").await;
        assert!(answer.headers["date"].to_str().unwrap().ends_with("GMT"));
        let stamp = jiff::fmt::rfc2822::parse(answer.headers["date"].to_str().unwrap())
            .unwrap()
            .timestamp();
        assert!(stamp.duration_since(farm.sharepoint.clock.now()).abs() < jiff::SignedDuration::from_mins(1));
        assert_eq!(answer.headers["x-sharepointhealthscore"], "7");

        for (path, status) in [("web?$select=Nope", 400), ("web/nothing", 404), ("nothing", 404)] {
            assert_eq!(farm.ask(shape).get(path).await.status, status, "{path}");
        }
        let elsewhere = farm.api().replace("contoso", "elsewhere");
        assert_eq!(farm.ask(shape).get(&format!("{elsewhere}/web")).await.status, 404);
        assert_eq!(
            farm.ask(shape).get(&sub.replace("/hr/", "/it/")).await.status,
            404
        );
    }
}

#[tokio::test]
async fn people_are_found_and_brought_in() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        farm.sharepoint
            .add_to_directory(SITE, "i:0#.w|contoso\\eve", "Eve", "eve@contoso.example")
            .unwrap();
        let ensured = farm
            .ask(shape)
            .post("web/ensureuser", json!({ "logonName": "i:0#.w|contoso\\ana" }))
            .await
            .value();
        assert_eq!(
            (&ensured["Id"], &ensured["Email"]),
            (&json!(farm.ana), &json!("ana@contoso.example"))
        );
        let by_email = "web/siteusers/getbyemail('eve@contoso.example')";
        let before = farm.ask(shape).get(by_email).await;
        assert_eq!((before.status, before.error().0), (404, -2_146_232_832));
        let eve = farm
            .ask(shape)
            .post("web/ensureuser", json!({ "logonName": "contoso\\EVE" }))
            .await
            .value();
        assert_eq!(farm.ask(shape).get(by_email).await.value()["Id"], eve["Id"]);
        let by_id = format!("web/siteusers({})?$select=LoginName", farm.ben);
        let login = "i:0#.f|membership|ben@contoso.example";
        assert_eq!(farm.ask(shape).get(&by_id).await.value()["LoginName"], login);
        assert_eq!(farm.ask(shape).get("web/siteusers(999)").await.status, 404);
        let unknown = farm
            .ask(shape)
            .post("web/ensureuser", json!({ "logonName": "nobody" }))
            .await;
        assert_eq!((unknown.status, unknown.error().0), (400, -2_130_575_276));
        assert_eq!(
            farm.ask(shape).post("web/ensureuser", json!({})).await.status,
            400
        );
    }
}

#[tokio::test]
async fn lists_are_filtered_made_and_removed() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        for (title, template, hidden) in [
            ("Old", 107, false),
            ("Gantt", 150, false),
            ("Secret", 171, true),
            ("Own", 100, false),
        ] {
            farm.sharepoint
                .add_list(
                    SITE,
                    &ListSpec {
                        hidden,
                        ..ListSpec::new(title, template)
                    },
                )
                .unwrap();
        }
        let filter = "web/lists?$select=Id,Title,BaseTemplate,ItemCount,LastItemModifiedDate,ListItemEntityTypeFullName&\
                      $filter=(BaseTemplate eq 171 or BaseTemplate eq 107 or BaseTemplate eq 150) and Hidden eq false";
        let lists = farm.ask(shape).get(filter).await.entries();
        let titles: Vec<_> = lists.iter().map(|list| list["Title"].as_str().unwrap()).collect();
        assert_eq!(titles, ["Gantt", "Old", "Tasks"]);
        assert_eq!(lists[2]["ListItemEntityTypeFullName"], "SP.Data.TasksListItem");
        assert_eq!(farm.ask(shape).get("web/lists?$top=2").await.entries().len(), 2);
        let types = farm
            .ask(shape)
            .get("web/lists/getbytitle('Own')/contenttypes?$select=StringId,Name")
            .await
            .entries();
        assert!(
            types[0]["StringId"].as_str().unwrap().starts_with("0x010800"),
            "{types:?}"
        );

        let mut values = json!({ "Title": "New list", "BaseTemplate": 171 });
        if shape == Shape::Verbose {
            values["__metadata"] = json!({ "type": "SP.List" });
        }
        let made = farm.ask(shape).post("web/lists", values.clone()).await;
        assert_eq!(made.status, 201);
        assert_eq!(made.value()["EntityTypeName"], "New_x0020_listList");
        assert_eq!(
            farm.ask(shape).post("web/lists", values).await.status,
            500,
            "the title is taken"
        );
        let path = format!("web/lists(guid'{}')", made.value()["Id"].as_str().unwrap());
        let renamed = json!({ "Title": "Newer" });
        assert_eq!(
            farm.ask(shape)
                .header("X-HTTP-Method", "MERGE")
                .post(&path, renamed)
                .await
                .status,
            204
        );
        assert_eq!(
            farm.ask(shape).get("web/lists/getbytitle('newer')").await.status,
            200
        );
        assert_eq!(
            farm.ask(shape)
                .header("X-HTTP-Method", "DELETE")
                .post(&path, Value::Null)
                .await
                .status,
            204
        );
        let gone = farm.ask(shape).get(&path).await;
        assert_eq!((gone.status, gone.error().0), (404, -2_130_575_322));
        let gone = farm.ask(shape).get("web/lists/getbytitle('Newer')").await;
        assert_eq!((gone.status, gone.error().0), (404, -1));
        for (path, status) in [
            ("web/lists(guid'x')", 400),
            ("web/lists?$filter=Nope eq 1", 400),
            ("web/lists?$top=x", 400),
        ] {
            assert_eq!(farm.ask(shape).get(path).await.status, status, "{path}");
        }
    }
}

#[tokio::test]
async fn columns_report_names_choices_and_kinds() {
    for shape in SHAPES {
        let farm = Farm::with(Settings::default(), Language::German).await;
        let spec = ListSpec {
            renamed_columns: true,
            ..ListSpec::new("Own", 100)
        };
        farm.sharepoint.add_list(SITE, &spec).unwrap();
        let query =
            "?$select=Id,InternalName,TypeAsString,Choices,SchemaXml,DisplayFormat,AllowMultipleValues";
        let by_guid =
            |fields: &[Value], guid: &str| fields.iter().find(|field| field["Id"] == guid).cloned().unwrap();
        let status = "c15b34c3-ce7d-490a-b133-3f4de8801b76";
        let fields = farm
            .ask(shape)
            .get(&farm.list_path(&format!("/fields{query}")))
            .await
            .entries();
        let field = by_guid(&fields, status);
        let choices = if shape == Shape::Verbose {
            &field["Choices"]["results"]
        } else {
            &field["Choices"]
        };
        assert_eq!(
            (&field["InternalName"], &choices[2]),
            (&json!("Status"), &json!("Erledigt"))
        );
        assert!(
            field["SchemaXml"]
                .as_str()
                .unwrap()
                .contains("<MAPPING Value=\"3\">Erledigt</MAPPING>")
        );
        let person = by_guid(&fields, "53101f38-dd2e-458c-b245-0c236cc13d1a");
        assert_eq!(
            (&person["TypeAsString"], &person["AllowMultipleValues"]),
            (&json!("UserMulti"), &json!(true))
        );
        assert_eq!(
            by_guid(&fields, "cd21b4c2-6841-4f9e-a23a-738a65f99889")["DisplayFormat"],
            0
        );
        let body = by_guid(&fields, "7662cd2c-f069-4dba-9e35-082cf976e170");
        assert!(
            body["SchemaXml"]
                .as_str()
                .unwrap()
                .contains("RichTextMode=\"FullHtml\"")
        );
        assert!(
            !fields
                .iter()
                .any(|field| field["InternalName"] == "DateCompleted")
        );

        let own_fields = farm
            .ask(shape)
            .get(&format!("web/lists/getbytitle('Own')/fields{query}"))
            .await
            .entries();
        assert_eq!(by_guid(&own_fields, status)["InternalName"], "TaskStatus");
        assert_eq!(
            by_guid(&own_fields, "53101f38-dd2e-458c-b245-0c236cc13d1a")["TypeAsString"],
            "User"
        );
        let one = farm.list_path(&format!("/fields(guid'{status}')"));
        assert_eq!(farm.ask(shape).get(&one).await.value()["InternalName"], "Status");
        assert_eq!(
            farm.ask(shape)
                .get(&farm.list_path("/fields/getbyinternalnameortitle('Nope')"))
                .await
                .status,
            404
        );
        assert_eq!(
            farm.ask(shape)
                .get(&farm.list_path("/fields?$select=Nope"))
                .await
                .status,
            400
        );
    }
}

#[tokio::test]
async fn faults_hit_only_their_targets() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        let faults = &farm.sharepoint.faults;
        let items = farm.list_path("/items");
        let create = || farm.ask(shape).post_item(&items, json!({ "Title": "a" }));
        let count = || farm.sharepoint.items(SITE, farm.list).unwrap().len();
        faults.add(Rule {
            operation: Some("items.create".to_owned()),
            subject: Some("/sites/other".to_owned()),
            fault: Fault::Cut,
            remaining: 1,
        });
        assert_eq!(create().await.status, 201);
        faults.clear();

        let busy = Fault::Busy {
            pause: Some(Duration::from_millis(1500)),
            inside: false,
            status: 429,
        };
        faults.next(Some("items.create"), 1, busy);
        let answer = create().await;
        assert_eq!(
            (answer.status, answer.headers["retry-after"].to_str().unwrap()),
            (429, "2")
        );
        faults.next(
            None,
            1,
            Fault::Busy {
                pause: None,
                inside: false,
                status: 503,
            },
        );
        let answer = create().await;
        assert_eq!(
            (answer.status, answer.headers.contains_key("retry-after")),
            (503, false)
        );
        faults.next(Some("items.create"), 1, Fault::Error("-2147024891".to_owned()));
        assert_eq!(create().await.error().0, -2_147_024_891);
        faults.next(Some("items.create"), 1, Fault::Status(502));
        assert_eq!(create().await.status, 502);
        faults.next(Some("items.create"), 1, Fault::Garbage);
        let answer = create().await;
        assert!(answer.status == 200 && serde_json::from_str::<Value>(&answer.text).is_err());
        faults.next(Some("items.create"), 1, Fault::Huge(3_000_000));
        assert_eq!(create().await.text.len(), 3_000_000);
        let body = crate::farm::typed(shape, json!({ "Title": "a" })).to_string();
        faults.next(Some("items.create"), 1, Fault::Cut);
        farm.ask(shape)
            .try_send("POST", &items, Some(body.clone()))
            .await
            .unwrap_err();
        assert_eq!(count(), 1, "none of these was carried out");
        faults.next(Some("items.create"), 1, Fault::LoseResponse);
        farm.ask(shape)
            .try_send("POST", &items, Some(body))
            .await
            .unwrap_err();
        assert_eq!(count(), 2, "this one was");
        faults.next(Some("items.create"), 1, Fault::Slow(Duration::from_millis(1)));
        assert_eq!(create().await.status, 201);
        assert_eq!(farm.sharepoint.stats.faults(), 9);
    }
}
