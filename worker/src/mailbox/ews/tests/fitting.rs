//! Answers that are too large, too long or endless.

use tasksync_common::error::{Code, ErrorClass, Scope};
use tasksync_common::registry::Access;

use super::rig::{Canned, Rig, ok, owner};
use super::{key, response, success};
use crate::mailbox::{FolderId, Mailbox as _};

/// The most bytes of an answer that the client reads in these tests.
const LIMIT: usize = 20_000;

/// Returns the ids that a request names, in order.
fn ids<'a>(request: &'a str, element: &str) -> Vec<&'a str> {
    request
        .split(&format!("<t:{element} Id=\""))
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect()
}

fn number_in(request: &str, attribute: &str) -> usize {
    let value = request.split(attribute).nth(1).unwrap();
    let digits = value.trim_start_matches(['=', '"', '>']);
    let end = digits
        .find(|character: char| !character.is_ascii_digit())
        .unwrap();
    digits[..end].parse().unwrap()
}

/// Answers with items whose bodies have the number of bytes with which their id ends.
fn bodies(request: &str) -> Canned {
    let messages: Vec<String> = ids(request, "ItemId")
        .into_iter()
        .map(|id| {
            let bytes = id.rsplit('-').next().unwrap().parse().unwrap();
            let body = "x".repeat(bytes);
            success(
                "GetItem",
                &format!(
                    "<m:Items><t:Task><t:ItemId Id=\"{id}\" ChangeKey=\"c\"/><t:Subject>{id}</t:Subject>\
                     <t:Body BodyType=\"Text\">{body}</t:Body></t:Task></m:Items>"
                ),
            )
        })
        .collect();
    ok(response("GetItem", &messages))
}

#[tokio::test]
async fn batches_halve_until_they_fit_and_one_item_above_the_limit_is_refused_alone() {
    let rig = Rig::limited(Access::Delegate, LIMIT, bodies).await;
    let ids: Vec<String> = (0..10)
        .map(|number| format!("{number}-{}", if number == 4 { 2 * LIMIT } else { LIMIT / 3 }))
        .collect();
    let items = rig.mailbox.items(&owner("ana"), &ids).await.unwrap();
    for (id, item) in ids.iter().zip(items) {
        if id.starts_with('4') {
            let failure = item.unwrap_err();
            assert_eq!(
                (failure.class, failure.code, failure.scope),
                (ErrorClass::Refused, Code::ExchangeAnswerTooLarge, Scope::Item)
            );
        } else {
            assert_eq!(item.unwrap().task.title, *id);
        }
    }
    assert!(rig.count() < 2 * ids.len(), "{}", rig.count());
}

#[tokio::test]
async fn pages_of_changes_and_of_searches_halve_until_they_fit() {
    let rig = Rig::limited(Access::Delegate, LIMIT, |request| {
        let id = |number: usize| format!("<t:ItemId Id=\"{number}{}\" ChangeKey=\"c\"/>", "i".repeat(200));
        if request.contains("<m:SyncFolderItems>") {
            let most = number_in(request, "<m:MaxChangesReturned");
            let changes = (0..most)
                .map(|number| format!("<t:Create><t:Task>{}</t:Task></t:Create>", id(number)))
                .collect::<Vec<_>>()
                .concat();
            let payload = format!("<m:SyncState>s</m:SyncState><m:Changes>{changes}</m:Changes>");
            return ok(response("SyncFolderItems", &[success("SyncFolderItems", &payload)]));
        }
        let (size, offset) = (number_in(request, "MaxEntriesReturned"), number_in(request, "Offset"));
        let messages: Vec<String> = ids(request, "FolderId")
            .into_iter()
            .map(|folder| {
                let first = if folder == "a" { 0 } else { 1_000 };
                let end = (offset + size).min(300);
                let found = (offset..end)
                    .map(|number| format!("<t:Task>{}</t:Task>", id(first + number)))
                    .collect::<Vec<_>>()
                    .concat();
                let page = format!(
                    "<m:RootFolder IndexedPagingOffset=\"{end}\" IncludesLastItemInRange=\"{}\"><t:Items>{found}</t:Items></m:RootFolder>",
                    end == 300
                );
                success("FindItem", &page)
            })
            .collect();
        ok(response("FindItem", &messages))
    })
    .await;
    let folders = ["a", "b"].map(|id| FolderId(id.to_owned()));
    let page = rig
        .mailbox
        .changes(&owner("ana"), &folders[0], None)
        .await
        .unwrap();
    assert_eq!(page.changes.len(), 64);
    assert_eq!(rig.count(), 4, "512, 256, 128 and 64");
    let found = rig.mailbox.find(&owner("ana"), &folders, &key()).await.unwrap();
    assert_eq!(found.len(), 600);
}

#[tokio::test]
async fn overlong_ids_and_cursors_are_refused() {
    let rows = [
        ("<t:ItemId Id=\"#\" ChangeKey=\"c\"/>", "s", 30_000),
        ("<t:ItemId Id=\"i\" ChangeKey=\"#\"/>", "s", 30_000),
        ("<t:ItemId Id=\"i\" ChangeKey=\"c\"/>", "#", 300_000),
    ];
    for (id, cursor, bytes) in rows {
        let long = "x".repeat(bytes);
        let payload = format!(
            "<m:SyncState>{cursor}</m:SyncState><m:Changes><t:Create><t:Task>{id}</t:Task></t:Create></m:Changes>"
        )
        .replace('#', &long);
        let rig = Rig::new(Access::Delegate, move |_| {
            ok(response(
                "SyncFolderItems",
                &[success("SyncFolderItems", &payload)],
            ))
        })
        .await;
        let folder = FolderId("f".to_owned());
        let failure = rig
            .mailbox
            .changes(&owner("ana"), &folder, None)
            .await
            .unwrap_err();
        assert_eq!(
            (failure.class, failure.code),
            (ErrorClass::Transient, Code::ExchangeBadAnswer)
        );
        assert!(failure.detail.len() < 500, "{failure}");
    }
}
