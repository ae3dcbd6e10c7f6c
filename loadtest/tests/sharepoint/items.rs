//! Items of the simulated SharePoint over HTTP, in both forms of JSON.

use crate::farm::{Farm, SHAPES, SITE, Shape};
use jiff::civil::date;
use serde_json::{Value, json};
use tasksync_loadtest::sharepoint::people::{ListItemEdit, ListSpec, RightsTarget};
use tasksync_loadtest::sharepoint::{Access, Language, Operation, Settings};

#[tokio::test]
async fn an_item_lives_and_dies() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        let values = json!({
            "Title": "Order parts", "Body": "<p>soon</p>", "Status": "In Progress", "PercentComplete": 0.25,
            "Priority": "(1) High", "StartDate": "2026-11-30T23:00:00Z", "DueDate": "2026-12-03T23:00:00Z",
            "AssignedToId": [farm.ana],
        });
        let created = farm.ask(shape).post_item(&farm.list_path("/items"), values).await;
        assert_eq!(created.status, 201, "{created:?}");
        assert_eq!(created.etag(), "\"1\"");
        assert_eq!(created.value()["Id"], 1);
        let seen = &farm.sharepoint.items(SITE, farm.list).unwrap()[0];
        assert_eq!(
            (seen.start, seen.due),
            (Some(date(2026, 12, 1)), Some(date(2026, 12, 4)))
        );
        assert_eq!((seen.status, seen.percent, seen.priority), (2, 0.25, 1));
        assert_eq!(seen.assigned_to, [farm.ana]);

        assert_first_item_reads_back(&farm, shape, seen.unique_id).await;

        let item = farm.list_path("/items(1)");
        let updated = farm
            .ask(shape)
            .merge(&item, "\"1\"", json!({ "PercentComplete": 1, "DueDate": null }))
            .await;
        assert_eq!((updated.status, updated.etag().as_str()), (204, "\"2\""));
        let seen = &farm.sharepoint.items(SITE, farm.list).unwrap()[0];
        assert_eq!(
            (seen.percent, seen.due, seen.status),
            (1.0, None, 2),
            "status and percent are not coupled"
        );

        let stale = farm
            .ask(shape)
            .merge(&item, "\"1\"", json!({ "Title": "lost" }))
            .await;
        assert_eq!(stale.status, 412);
        assert!(stale.error().1.contains("ETag"));
        let forced = farm
            .ask(shape)
            .merge(&item, "*", json!({ "Title": "forced" }))
            .await;
        assert_eq!(forced.etag(), "\"3\"");

        let recycled = farm
            .ask(shape)
            .post(&farm.list_path("/items(1)/recycle()"), Value::Null)
            .await;
        assert_eq!(recycled.status, 200);
        recycled
            .result("Recycle")
            .as_str()
            .unwrap()
            .parse::<uuid::Uuid>()
            .unwrap();
        assert!(farm.sharepoint.items(SITE, farm.list).unwrap()[0].recycled);
        for gone in [
            farm.ask(shape).get(&item).await,
            farm.ask(shape).merge(&item, "*", json!({ "Title": "x" })).await,
            farm.ask(shape)
                .header("X-HTTP-Method", "DELETE")
                .header("IF-MATCH", "*")
                .post(&item, Value::Null)
                .await,
        ] {
            assert_eq!((gone.status, gone.error().0), (404, -2_130_575_338));
        }
        assert_eq!(farm.sharepoint.stats.operations(Operation::ItemsUpdate), 4);
        assert_eq!(farm.sharepoint.stats.item_writes(), 7);
    }
}

/// Asserts that the first item of the list has the values it was created with, at each of its addresses.
async fn assert_first_item_reads_back(farm: &Farm, shape: Shape, unique_id: uuid::Uuid) {
    let select = "?$select=Id,Title,Body,StartDate,DueDate,Status,PercentComplete,AssignedToId,owshiddenversion,UniqueId,\
                  AssignedTo/Title,AssignedTo/EMail&$expand=AssignedTo";
    let read = farm
        .ask(shape)
        .get(&farm.list_path(&format!("/items(1){select}")))
        .await;
    assert_eq!(read.etag(), "\"1\"");
    let value = read.value();
    assert_eq!(value["DueDate"], "2026-12-03T23:00:00Z");
    assert_eq!(value["owshiddenversion"], 1);
    assert_eq!(value["UniqueId"], unique_id.to_string());
    let body = value["Body"].as_str().unwrap();
    assert!(
        body.starts_with("<div class=\"ExternalClass") && body.contains("<p>soon</p>"),
        "{body}"
    );
    match shape {
        Shape::Verbose => {
            assert_eq!(value["AssignedToId"]["results"], json!([farm.ana]));
            assert_eq!(value["AssignedTo"]["results"][0]["EMail"], "ana@contoso.example");
            assert_eq!(value["__metadata"]["etag"], "\"1\"");
            assert_eq!(value["__metadata"]["type"], "SP.Data.TasksListItem");
        }
        Shape::Light => {
            assert_eq!(value["AssignedToId"], json!([farm.ana]));
            assert_eq!(value["AssignedTo"][0]["Title"], "Ana");
            assert!(value.get("odata.etag").is_none());
        }
    }

    for other in ["/getitembyid(1)", "/items/getbyid(1)"] {
        assert_eq!(
            farm.ask(shape).get(&farm.list_path(other)).await.value()["Title"],
            "Order parts"
        );
    }
    let parent = farm.ask(shape).get(&farm.list_path("/items(1)/parentlist")).await;
    assert_eq!(parent.value()["Id"], farm.list.to_string());
    assert_eq!(
        farm.ask(shape)
            .get(&farm.list_path("/items(1)/title"))
            .await
            .result("Title"),
        "Order parts"
    );
}

#[tokio::test]
async fn values_that_do_not_fit_are_refused_and_change_nothing() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        let items = farm.list_path("/items");
        for (values, code) in [
            (json!({ "Nothing": 1 }), -1),
            (json!({ "Title": "x".repeat(256) }), -2_130_575_163),
            (json!({ "Title": 5 }), -1),
            (json!({ "PercentComplete": 25 }), -2_130_575_155),
            (json!({ "PercentComplete": "much" }), -1),
            (json!({ "DueDate": "tomorrow" }), -1),
            (json!({ "DueDate": "1066-10-14T00:00:00Z" }), -2_130_575_155),
            (json!({ "AssignedToId": [4711] }), -2_130_575_276),
            (json!({ "AssignedToId": 12 }), -1),
            (json!({ "DateCompleted": "2026-12-04T00:00:00Z" }), -1),
            (json!({ "ActualWork": 5 }), -1),
            (json!({ "Modified": "2026-12-04T00:00:00Z" }), -1),
        ] {
            let refused = farm.ask(shape).post_item(&items, values.clone()).await;
            assert_eq!((refused.status, refused.error().0), (400, code), "{values}");
        }
        let broken = farm
            .ask(shape)
            .try_send("POST", &items, Some("{\"Title\":".to_owned()))
            .await
            .unwrap();
        assert_eq!(broken.status, 400);
        assert!(farm.sharepoint.items(SITE, farm.list).unwrap().is_empty());
    }
}

#[tokio::test]
async fn each_form_enforces_its_own_rules() {
    let farm = Farm::start().await;
    let items = farm.list_path("/items");
    let untyped = farm
        .ask(Shape::Verbose)
        .post(&items, json!({ "Title": "a" }))
        .await;
    assert_eq!(untyped.status, 400);
    assert!(untyped.error().1.contains("type name"));
    let other = json!({ "__metadata": { "type": "SP.Data.OtherListItem" }, "Title": "a" });
    assert_eq!(farm.ask(Shape::Verbose).post(&items, other).await.status, 400);
    let plain = json!({ "__metadata": { "type": "SP.Data.TasksListItem" }, "AssignedToId": [farm.ana] });
    assert_eq!(
        farm.ask(Shape::Verbose).post(&items, plain.clone()).await.status,
        400
    );
    let with_metadata = farm.ask(Shape::Light).post(&items, plain).await;
    assert!(with_metadata.error().1.contains("'__metadata' does not exist"));
    let wrapped = json!({ "AssignedToId": { "results": [farm.ana] } });
    assert!(
        farm.ask(Shape::Light)
            .post(&items, wrapped)
            .await
            .error()
            .1
            .contains("StartArray")
    );
    let atom = farm
        .ask(Shape::Light)
        .header("Accept", "application/atom+xml")
        .get(&items)
        .await;
    assert_eq!(atom.status, 406);
    let minimal = farm
        .ask(Shape::Light)
        .header("Accept", "application/json")
        .post(&items, json!({ "Title": "m" }))
        .await;
    assert_eq!(minimal.value()["odata.etag"], "\"1\"");
    assert_eq!(minimal.value()["odata.type"], "SP.Data.TasksListItem");
}

#[tokio::test]
async fn a_single_person_list_takes_one_id() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        let spec = ListSpec {
            with_work: true,
            with_date_completed: true,
            ..ListSpec::new("Old", 107)
        };
        let list = farm.sharepoint.add_list(SITE, &spec).unwrap();
        let path = format!("web/lists(guid'{list}')/items");
        let mut values = json!({
            "AssignedToId": farm.ben, "ActualWork": 30, "TotalWork": 60.0, "DateCompleted": "2026-12-03T23:00:00Z",
        });
        if shape == Shape::Verbose {
            values["__metadata"] = json!({ "type": "SP.Data.OldListItem" });
        }
        let created = farm.ask(shape).post(&path, values.clone()).await;
        assert_eq!(created.status, 201, "{created:?}");
        assert_eq!(created.value()["AssignedToId"], farm.ben);
        let seen = &farm.sharepoint.items(SITE, list).unwrap()[0];
        assert_eq!(
            (seen.actual_work, seen.date_completed),
            (Some(30.0), Some(date(2026, 12, 4)))
        );
        values["AssignedToId"] = json!(-1);
        let cleared = farm
            .ask(shape)
            .header("X-HTTP-Method", "MERGE")
            .post(&format!("{path}(1)"), values.clone())
            .await;
        assert_eq!(cleared.status, 204);
        assert!(
            farm.sharepoint.items(SITE, list).unwrap()[0]
                .assigned_to
                .is_empty()
        );
        values["AssignedToId"] = json!([farm.ben]);
        assert_eq!(farm.ask(shape).post(&path, values).await.status, 400);
        let query = format!(
            "$filter=AssignedTo/Id eq {}&$expand=AssignedTo&$select=Id,AssignedTo/Id",
            farm.ben
        );
        assert_eq!(farm.ask(shape).get(&format!("{path}?{query}")).await.status, 200);
    }
}

#[tokio::test]
async fn pages_follow_one_another_without_gaps() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        for number in 0..250 {
            let edit = ListItemEdit {
                title: Some(format!("Task {:03}", (number * 7) % 250)),
                ..ListItemEdit::default()
            };
            farm.sharepoint
                .person_creates(SITE, farm.list, edit, farm.ana)
                .unwrap();
        }
        let walk = async |first: String| {
            let (mut seen, mut sizes, mut next) = (Vec::new(), Vec::new(), Some(first));
            while let Some(path) = next {
                let page = farm.ask(shape).get(&path).await;
                assert_eq!(page.status, 200, "{page:?}");
                sizes.push(page.entries().len());
                seen.extend(
                    page.entries()
                        .iter()
                        .map(|item| item["Title"].as_str().unwrap().to_owned()),
                );
                next = page.next();
                assert!(sizes.len() < 20);
            }
            (seen, sizes)
        };
        let (_, sizes) = walk(farm.list_path("/items")).await;
        assert_eq!(sizes, [100, 100, 50]);
        let (titles, sizes) = walk(farm.list_path("/items?$top=60&$orderby=Title desc&$select=Title")).await;
        assert_eq!(sizes, [60, 60, 60, 60, 10]);
        let mut expected: Vec<String> = (0..250).map(|number| format!("Task {number:03}")).collect();
        expected.reverse();
        assert_eq!(titles, expected);
        let (titles, _) =
            walk(farm.list_path("/items?$top=2&$filter=startswith(Title,'Task 00')&$select=Title")).await;
        assert_eq!(titles.len(), 10);
    }
}

#[tokio::test]
async fn bad_queries_are_refused() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        for (query, part) in [
            ("$select=Nope", "'Nope' does not exist"),
            ("$select=id", "'id' does not exist"),
            ("$select=AssignedTo/Id", "$expand"),
            ("$select=Id&$expand=AssignedTo", "$select"),
            ("$expand=Nope", "Nope"),
            ("$filter=Nope eq 1", "Nope"),
            ("$filter=Title eq", "not valid"),
            ("$filter=AssignedTo/Id eq 7", "UserMulti"),
            ("$filter=Body eq 'a'", "Note"),
            ("$top=0", "$top"),
            ("$skiptoken=Paged", "position"),
            ("$orderby=Nope", "Nope"),
        ] {
            let refused = farm
                .ask(shape)
                .get(&farm.list_path(&format!("/items?{query}")))
                .await;
            assert_eq!(refused.status, 400, "{query}: {refused:?}");
            assert!(refused.error().1.contains(part), "{query}: {refused:?}");
        }
        assert_eq!(
            farm.ask(shape).get(&farm.list_path("/items(1)")).await.error().0,
            -2_130_575_338
        );
        assert_eq!(
            farm.ask(shape).get(&farm.list_path("/items(one)")).await.status,
            400
        );
        assert_eq!(farm.ask(shape).get(&farm.list_path("/nothing")).await.status, 404);
    }
}

fn caml(field: &str, value: &str, limit: &str) -> String {
    format!(
        "<View Scope='RecursiveAll'><Query><Where><Eq><FieldRef Name='{field}' LookupId='TRUE'/><Value Type='Integer'>\
         {value}</Value></Eq></Where><OrderBy><FieldRef Name='ID'/></OrderBy></Query>{limit}</View>"
    )
}

#[tokio::test]
async fn caml_finds_a_persons_tasks_page_by_page() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        for number in 0..9 {
            let people = if number % 3 == 0 {
                vec![farm.ana, farm.ben]
            } else {
                vec![farm.ben]
            };
            let edit = ListItemEdit {
                assigned_to: Some(people),
                ..ListItemEdit::default()
            };
            farm.sharepoint
                .person_creates(SITE, farm.list, edit, farm.ben)
                .unwrap();
        }
        let path = farm.list_path("/getitems?$select=Id,AssignedToId");
        let xml = caml(
            "AssignedTo",
            &farm.ana.to_string(),
            "<RowLimit Paged='TRUE'>2</RowLimit>",
        );
        let first = farm
            .ask(shape)
            .post(&path, json!({ "query": { "ViewXml": xml } }))
            .await;
        let ids = |answer: &crate::farm::Answer| -> Vec<i64> {
            answer
                .entries()
                .iter()
                .map(|item| item["Id"].as_i64().unwrap())
                .collect()
        };
        assert_eq!(ids(&first), [1, 4]);
        let position = json!({ "PagingInfo": "Paged=TRUE&p_ID=4" });
        let query = json!({ "query": { "ViewXml": xml, "ListItemCollectionPosition": position } });
        assert_eq!(ids(&farm.ask(shape).post(&path, query).await), [7]);

        let unknown = json!({ "query": { "ViewXml": caml("Assignee", "1", "") } });
        let refused = farm.ask(shape).post(&path, unknown).await;
        assert_eq!((refused.status, refused.error().0), (400, -2_130_575_340));
        for broken in [json!({}), json!({ "query": { "ViewXml": "<View>" } })] {
            assert_eq!(farm.ask(shape).post(&path, broken).await.status, 400);
        }
    }
}

#[tokio::test]
async fn a_scan_beyond_the_threshold_is_refused_but_an_index_helps() {
    let settings = Settings {
        list_view_threshold: 20,
        ..Settings::default()
    };
    let farm = Farm::with(settings, Language::English).await;
    let spec = ListSpec {
        index_assigned_to: true,
        ..ListSpec::new("Indexed", 171)
    };
    let indexed = farm.sharepoint.add_list(SITE, &spec).unwrap();
    for list in [farm.list, indexed] {
        for _ in 0..21 {
            farm.sharepoint
                .person_creates(SITE, list, ListItemEdit::default(), farm.ana)
                .unwrap();
        }
    }
    let body =
        json!({ "query": { "ViewXml": caml("AssignedTo", "7", "<RowLimit Paged='TRUE'>5</RowLimit>") } });
    let refused = farm
        .ask(Shape::Light)
        .post(&farm.list_path("/getitems"), body.clone())
        .await;
    assert_eq!((refused.status, refused.error().0), (500, -2_147_024_860));
    let good = farm
        .ask(Shape::Light)
        .post(&format!("web/lists(guid'{indexed}')/getitems"), body)
        .await;
    assert_eq!(good.status, 200);
    let by_id = farm
        .ask(Shape::Light)
        .get(&farm.list_path("/items?$filter=ID gt 15"))
        .await;
    assert_eq!(by_id.entries().len(), 6);
    let by_title = farm
        .ask(Shape::Light)
        .get(&farm.list_path("/items?$filter=Title eq null"))
        .await;
    assert_eq!(by_title.error().0, -2_147_024_860);
}

#[tokio::test]
async fn rights_decide_what_a_person_sees_and_does() {
    for shape in SHAPES {
        let farm = Farm::start().await;
        let sharepoint = &farm.sharepoint;
        let as_ben = || farm.ask(shape).account("ben@contoso.example");
        for name in ["contoso\\ana", "ben@contoso.example"] {
            sharepoint.add_account(name, "pass");
        }
        for _ in 0..2 {
            sharepoint
                .person_creates(SITE, farm.list, ListItemEdit::default(), farm.ana)
                .unwrap();
        }
        sharepoint
            .revoke(SITE, RightsTarget::Item(farm.list, 1), farm.ben)
            .unwrap();
        let path = farm.list_path("/items?$select=Id,HasUniqueRoleAssignments");
        let all = farm.ask(shape).get(&path).await.entries();
        assert_eq!(
            (
                &all[0]["HasUniqueRoleAssignments"],
                &all[1]["HasUniqueRoleAssignments"]
            ),
            (&json!(true), &json!(false))
        );
        assert_eq!(
            farm.ask(shape)
                .account("contoso\\ana")
                .get(&path)
                .await
                .entries()
                .len(),
            2
        );
        assert_eq!(as_ben().get(&path).await.entries().len(), 1);
        assert_eq!(as_ben().get(&farm.list_path("/items(1)")).await.status, 404);

        let effective = async |rest: &str| {
            let login = "i%3A0%23.f%7Cmembership%7Cben%40contoso.example";
            let path = farm.list_path(&format!("{rest}/getusereffectivepermissions(@u)?@u='{login}'"));
            let mask = farm
                .ask(shape)
                .get(&path)
                .await
                .result("GetUserEffectivePermissions");
            mask["Low"].as_str().unwrap().parse::<u32>().unwrap() & 0xf
        };
        assert_eq!(
            (
                effective("").await,
                effective("/items(1)").await,
                effective("/items(2)").await
            ),
            (15, 0, 15)
        );
        sharepoint
            .set_access(SITE, RightsTarget::List(farm.list), farm.ben, Access::Read)
            .unwrap();
        assert_eq!((effective("").await, effective("/items(2)").await), (1, 1));
        let digest = as_ben().post("contextinfo", Value::Null).await;
        let digest = match shape {
            Shape::Verbose => digest.value()["GetContextWebInformation"]["FormDigestValue"].clone(),
            Shape::Light => digest.value()["FormDigestValue"].clone(),
        };
        let digest = digest.as_str().unwrap().to_owned();
        let refused = as_ben().header("X-RequestDigest", &digest);
        let refused = refused
            .merge(&farm.list_path("/items(2)"), "*", json!({ "Title": "no" }))
            .await;
        assert_eq!((refused.status, refused.error().0), (403, -2_147_024_891));
        sharepoint
            .grant(SITE, RightsTarget::Item(farm.list, 1), farm.ben)
            .unwrap();
        assert_eq!(effective("/items(1)").await, 15);
        sharepoint
            .revoke(SITE, RightsTarget::List(farm.list), farm.ben)
            .unwrap();
        let refused = as_ben().get(&path).await;
        assert_eq!((refused.status, refused.error().0), (403, -2_147_024_891));
        let unknown = farm
            .ask(shape)
            .get(&farm.list_path("/getusereffectivepermissions(@u)?@u='nobody'"))
            .await;
        assert_eq!(unknown.status, 404);
    }
}
