//! Every element and attribute that Microsoft's schema calls optional may be missing in an answer. The test
//! omits each of them once from a good answer of each operation.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, Mutex};

use quick_xml::events::Event;
use tasksync_common::model::{FieldSet, Task};
use tasksync_common::registry::Access;

use super::bodies::schema_folder;
use super::rig::{Rig, ask, ok, owner};
use super::{envelope, key, location, own_folders};
use crate::mailbox::{FolderId, ItemChange, ItemChanges, ItemRef, Mailbox as _, NewItem};

/// The most requests that one call may make, whatever its answers lack.
const MOST_REQUESTS: usize = 60;

/// A parsed element; `name` is without prefix.
#[derive(Debug, Clone, Default)]
struct Node {
    tag: String,
    name: String,
    attributes: Vec<(String, String)>,
    children: Vec<Node>,
    text: String,
}

impl Node {
    fn parse(text: &str) -> Self {
        let mut reader = quick_xml::reader::Reader::from_str(text);
        let mut open = vec![Self::default()];
        loop {
            match reader.read_event().unwrap() {
                Event::Start(start) => open.push(Self::of(&start)),
                Event::Empty(start) => {
                    let child = Self::of(&start);
                    open.last_mut().unwrap().children.push(child);
                }
                Event::End(_) => {
                    let child = open.pop().unwrap();
                    open.last_mut().unwrap().children.push(child);
                }
                Event::Text(text) => open.last_mut().unwrap().text.push_str(text.trim()),
                Event::Eof => break,
                Event::CData(_)
                | Event::Comment(_)
                | Event::Decl(_)
                | Event::PI(_)
                | Event::DocType(_)
                | Event::GeneralRef(_) => {}
            }
        }
        assert_eq!(open.len(), 1);
        open.pop().unwrap().children.pop().unwrap()
    }

    fn of(start: &quick_xml::events::BytesStart<'_>) -> Self {
        let tag = start.name().into_inner().to_owned();
        let attributes = start.attributes().map(Result::unwrap);
        Self {
            name: local(&tag).to_owned(),
            attributes: attributes
                .map(|attribute| {
                    (
                        attribute.key.into_inner().to_owned(),
                        attribute.value.into_owned(),
                    )
                })
                .collect(),
            tag,
            ..Self::default()
        }
    }

    fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(found, _)| found == name)?;
        Some(&found.1)
    }

    fn write(&self, out: &mut String) {
        write!(out, "<{}", self.tag).unwrap();
        for (name, value) in &self.attributes {
            write!(out, " {name}=\"{value}\"").unwrap();
        }
        out.push('>');
        out.push_str(&self.text);
        for child in &self.children {
            child.write(out);
        }
        write!(out, "</{}>", self.tag).unwrap();
    }
}

fn local(name: &str) -> &str {
    name.rsplit_once(':').map_or(name, |(_, local)| local)
}

/// One child or attribute of a type, according to the schema.
#[derive(Debug, Clone)]
struct Part<'a> {
    optional: bool,
    repeated: bool,
    kind: Option<&'a Node>,
}

/// Microsoft's types by name.
struct Schema {
    documents: Vec<Node>,
}

impl Schema {
    fn read(folder: &Path) -> Self {
        let read = |name| Node::parse(&std::fs::read_to_string(folder.join(name)).unwrap());
        Self {
            documents: vec![read("messages.xsd"), read("types.xsd")],
        }
    }

    fn named(&self, element: &str, name: &str) -> Option<&Node> {
        let all = self.documents.iter().flat_map(|document| &document.children);
        all.filter(|node| node.name == element)
            .find(|node| node.attribute("name") == Some(local(name)))
    }

    /// Returns the type of an element's declaration: named, or written inside.
    fn kind<'a>(&'a self, element: &'a Node) -> Option<&'a Node> {
        match element.attribute("type") {
            Some(name) => self.named("complexType", name),
            None => element.children.iter().find(|child| child.name == "complexType"),
        }
    }

    /// Returns every child element and attribute (`@name`) of a type.
    fn parts<'a>(&'a self, kind: &'a Node) -> BTreeMap<String, Part<'a>> {
        let mut parts = BTreeMap::new();
        self.collect(kind, false, false, &mut parts);
        parts
    }

    fn collect<'a>(
        &'a self,
        node: &'a Node,
        optional: bool,
        repeated: bool,
        parts: &mut BTreeMap<String, Part<'a>>,
    ) {
        for child in &node.children {
            let optional = optional || child.attribute("minOccurs") == Some("0");
            let repeated = repeated || child.attribute("maxOccurs").is_some_and(|most| most != "1");
            match child.name.as_str() {
                "element" => {
                    let reference = child
                        .attribute("ref")
                        .and_then(|name| self.named("element", name));
                    let element = reference.unwrap_or(child);
                    let name = element.attribute("name").unwrap().to_owned();
                    let kind = self.kind(element);
                    parts.insert(
                        name,
                        Part {
                            optional,
                            repeated,
                            kind,
                        },
                    );
                }
                "attribute" => {
                    let part = Part {
                        optional: child.attribute("use") != Some("required"),
                        repeated: false,
                        kind: None,
                    };
                    parts.insert(format!("@{}", child.attribute("name").unwrap_or_default()), part);
                }
                "attributeGroup" => {
                    let group = self
                        .named("attributeGroup", child.attribute("ref").unwrap())
                        .unwrap();
                    self.collect(group, false, false, parts);
                }
                "extension" => {
                    if let Some(base) = self.named("complexType", child.attribute("base").unwrap()) {
                        self.collect(base, false, false, parts);
                    }
                    self.collect(child, false, false, parts);
                }
                "group" => {
                    let group = self.named("group", child.attribute("ref").unwrap()).unwrap();
                    self.collect(group, optional, repeated, parts);
                }
                "complexContent" | "simpleContent" | "sequence" | "choice" | "all" => {
                    self.collect(child, optional, repeated, parts);
                }
                _ => {}
            }
        }
    }

    /// Adds every way to omit one optional part of `node`: its path, and the element without it.
    fn without_one(&self, node: &Node, kind: &Node, path: &str, out: &mut Vec<(String, Node)>) {
        let parts = self.parts(kind);
        for (at, (name, _)) in node.attributes.iter().enumerate() {
            if name.starts_with("xmlns") {
                continue;
            }
            let part = parts.get(&format!("@{name}"));
            let part = part.unwrap_or_else(|| panic!("{path}/@{name} is not in the schema"));
            if part.optional {
                let mut without = node.clone();
                without.attributes.remove(at);
                out.push((format!("{path}/@{name}"), without));
            }
        }
        for (at, child) in node.children.iter().enumerate() {
            let path = format!("{path}/{}", child.name);
            let part = parts.get(&child.name);
            let part = part.unwrap_or_else(|| panic!("{path} is not in the schema"));
            let alike = node.children.iter().filter(|other| other.name == child.name);
            if part.optional || part.repeated && alike.count() > 1 {
                let mut without = node.clone();
                without.children.remove(at);
                out.push((path.clone(), without));
            }
            if let Some(kind) = part.kind {
                let mut inside = Vec::new();
                self.without_one(child, kind, &path, &mut inside);
                for (path, changed) in inside {
                    let mut without = node.clone();
                    without.children[at] = changed;
                    out.push((path, without));
                }
            }
        }
    }
}

fn extended(name: &str, value: &str) -> String {
    format!(
        "<t:ExtendedProperty><t:ExtendedFieldURI PropertySetId=\"7d0c8f4e-53b1-4b6e-9f0a-2c5a1e8b9d41\" \
         PropertyName=\"{name}\" PropertyType=\"String\"/><t:Value>{value}</t:Value></t:ExtendedProperty>"
    )
}

fn tag(tag: &str, kind: &str, value: &str) -> String {
    format!(
        "<t:ExtendedProperty><t:ExtendedFieldURI PropertyTag=\"{tag}\" PropertyType=\"{kind}\"/>\
         <t:Value>{value}</t:Value></t:ExtendedProperty>"
    )
}

/// Returns a folder; every value in it ends with its mark.
pub(super) fn folder(mark: &str, number: u32) -> String {
    format!(
        "<t:TasksFolder><t:FolderId Id=\"folder-{mark}\" ChangeKey=\"change-{mark}\"/>\
         <t:ParentFolderId Id=\"parent\" ChangeKey=\"change-parent\"/><t:FolderClass>IPF.Task</t:FolderClass>\
         <t:DisplayName>name-{mark}</t:DisplayName>{}{}{}</t:TasksFolder>",
        extended("TaskSyncLocation", &format!("sp|list-{mark}")),
        tag("0x670a", "SystemTime", &format!("2026-11-22T14:00:0{number}Z")),
        tag("0x670b", "Integer", &format!("{number}{number}{number}")),
    )
}

/// Returns a task; every value in it ends with its mark.
pub(super) fn task(mark: &str, minutes: u32) -> String {
    format!(
        "<t:Task><t:ItemId Id=\"item-{mark}\" ChangeKey=\"change-{mark}\"/>\
         <t:ParentFolderId Id=\"folder-a\" ChangeKey=\"change-folder\"/><t:Subject>title-{mark}</t:Subject>\
         <t:Sensitivity>Normal</t:Sensitivity><t:Body BodyType=\"Text\" IsTruncated=\"false\">body-{mark}</t:Body>\
         <t:Categories><t:String>one-{mark}</t:String><t:String>two-{mark}</t:String></t:Categories>\
         <t:Importance>High</t:Importance><t:DateTimeCreated>2026-11-20T08:00:00Z</t:DateTimeCreated>{}{}\
         <t:LastModifiedTime>2026-11-22T14:00:00Z</t:LastModifiedTime><t:ActualWork>{minutes}</t:ActualWork>\
         <t:CompleteDate>2026-11-22T10:00:00Z</t:CompleteDate><t:DueDate>2026-12-04T00:00:00Z</t:DueDate>\
         <t:IsRecurring>false</t:IsRecurring><t:PercentComplete>100</t:PercentComplete>\
         <t:StartDate>2026-12-01T00:00:00Z</t:StartDate><t:Status>Completed</t:Status>\
         <t:TotalWork>{minutes}</t:TotalWork></t:Task>",
        extended("TaskSyncSourceKey", &format!("sp|list-{mark}|1")),
        extended("TaskSyncWriteId", &format!("write-{mark}")),
    )
}

pub(super) fn answer(operation: &str, payloads: &[String]) -> String {
    let messages: Vec<String> = payloads
        .iter()
        .map(|payload| {
            format!(
                "<m:{operation}ResponseMessage ResponseClass=\"Success\"><m:MessageText>fine</m:MessageText>\
                 <m:ResponseCode>NoError</m:ResponseCode><m:DescriptiveLinkKey>0</m:DescriptiveLinkKey>{payload}\
                 </m:{operation}ResponseMessage>"
            )
        })
        .collect();
    format!(
        "<m:{operation}Response xmlns:m=\"m\" xmlns:t=\"t\"><m:ResponseMessages>{}</m:ResponseMessages></m:{operation}Response>",
        messages.concat()
    )
}

const PAGE: &str = "IndexedPagingOffset=\"2\" TotalItemsInView=\"2\" IncludesLastItemInRange=\"true\"";

/// Returns a good answer of each operation about `a` and `b`, or about `a` if the operation takes one object.
fn recorded_answers() -> Vec<(&'static str, String)> {
    let folders = |marks: &str| format!("<m:Folders>{marks}</m:Folders>");
    let items = |items: &str| format!("<m:Items>{items}</m:Items>");
    let item = |mark| format!("<t:Task><t:ItemId Id=\"item-{mark}\" ChangeKey=\"new-{mark}\"/></t:Task>");
    let (a, b, c) = (folder("a", 1), folder("b", 2), folder("c", 3));
    let own_folder = folder("own", 4).replace("folder-own", "tasks");
    let (first, second) = (task("a", 11), task("b", 22));
    let changes = format!(
        "<m:SyncState>state-a</m:SyncState><m:IncludesLastItemInRange>true</m:IncludesLastItemInRange>\
         <m:Changes><t:Create>{}</t:Create><t:Update>{}</t:Update>\
         <t:Delete><t:ItemId Id=\"item-c\" ChangeKey=\"change-c\"/></t:Delete></m:Changes>",
        item("a"),
        item("b"),
    );
    let found = format!("<m:RootFolder {PAGE}><t:Items>{first}{second}</t:Items></m:RootFolder>");
    vec![
        ("GetFolder", answer("GetFolder", &[folders(&a), folders(&b)])),
        (
            "FindFolder",
            answer(
                "FindFolder",
                &[
                    format!("<m:RootFolder {PAGE}><t:Folders>{own_folder}{a}{b}</t:Folders></m:RootFolder>"),
                    format!("<m:RootFolder {PAGE}><t:Folders>{c}</t:Folders></m:RootFolder>"),
                ],
            ),
        ),
        (
            "CreateFolder",
            answer(
                "CreateFolder",
                &[folders(
                    "<t:TasksFolder><t:FolderId Id=\"folder-a\" ChangeKey=\"c\"/></t:TasksFolder>",
                )],
            ),
        ),
        (
            "UpdateFolder",
            answer(
                "UpdateFolder",
                &[folders(
                    "<t:TasksFolder><t:FolderId Id=\"folder-a\" ChangeKey=\"c\"/></t:TasksFolder>",
                )],
            ),
        ),
        ("SyncFolderItems", answer("SyncFolderItems", &[changes])),
        ("GetItem", answer("GetItem", &[items(&first), items(&second)])),
        ("FindItem", answer("FindItem", &[found])),
        ("CreateItem", answer("CreateItem", &[items(&item("a"))])),
        (
            "UpdateItem",
            answer(
                "UpdateItem",
                &[format!(
                    "{}<m:ConflictResults><t:Count>0</t:Count></m:ConflictResults>",
                    items(&item("a"))
                )],
            ),
        ),
        ("DeleteItem", answer("DeleteItem", &[String::new()])),
    ]
}

/// Calls the operation. Returns the result for each object, or the failure, as text.
async fn call(rig: &Rig, operation: &str) -> Vec<(String, String)> {
    let owner = owner("ana");
    let folder = FolderId("folder-a".to_owned());
    let item = ItemRef {
        id: "item-a".to_owned(),
        change_key: "change-a".to_owned(),
    };
    let one = |text: String| vec![("a".to_owned(), text)];
    let mark = |id: &str| id.rsplit('-').next().unwrap_or_default().to_owned();
    match operation {
        "GetFolder" => {
            let probed = rig
                .mailbox
                .probe(&[ask("ana", &["folder-a", "folder-b"])])
                .await
                .remove(0);
            match probed {
                Ok(probed) => ["a", "b"]
                    .into_iter()
                    .zip(probed)
                    .map(|(mark, probed)| {
                        (
                            mark.to_owned(),
                            format!("{probed:?}").replace("111", "-a").replace("222", "-b"),
                        )
                    })
                    .collect(),
                Err(failure) => one(failure.to_string()),
            }
        }
        "FindFolder" => match rig.mailbox.folders(&owner).await {
            Ok(folders) => folders
                .into_iter()
                .map(|folder| (mark(&folder.id.0), format!("{folder:?}")))
                .collect(),
            Err(failure) => one(failure.to_string()),
        },
        "CreateFolder" => one(format!(
            "{:?}",
            rig.mailbox.create_folder(&owner, "name", &location()).await
        )),
        "UpdateFolder" => one(format!(
            "{:?}",
            rig.mailbox.rename_folder(&owner, &folder, "name").await
        )),
        "SyncFolderItems" => match rig.mailbox.changes(&owner, &folder, Some("before")).await {
            Ok(page) => page
                .changes
                .into_iter()
                .map(|change| match change {
                    ItemChange::Present(item) => (mark(&item.id), format!("{item:?}")),
                    ItemChange::Gone { id } => (mark(&id), "gone".to_owned()),
                })
                .collect(),
            Err(failure) => one(failure.to_string()),
        },
        "GetItem" => {
            let ids = ["item-a", "item-b"].map(str::to_owned);
            match rig.mailbox.items(&owner, &ids).await {
                Ok(items) => ids
                    .iter()
                    .zip(items)
                    .map(|(id, item)| (mark(id), format!("{item:?}").replace("folder-a", "home")))
                    .collect(),
                Err(failure) => one(failure.to_string()),
            }
        }
        "FindItem" => match rig
            .mailbox
            .list_marked(&owner, std::slice::from_ref(&folder))
            .await
        {
            Ok(found) => found
                .into_iter()
                .map(|item| (mark(&item.item.id), format!("{:?}", (item.item, item.marker))))
                .collect(),
            Err(failure) => one(failure.to_string()),
        },
        "CreateItem" => {
            let (key, task) = (key(), Task::default());
            let new = NewItem {
                key: &key,
                task: &task,
                web_link: None,
                write_id: "w",
            };
            one(format!("{:?}", rig.mailbox.create(&owner, &folder, &new).await))
        }
        "UpdateItem" => {
            let changes = ItemChanges {
                task: Task::default(),
                fields: FieldSet::ALL,
                write_id: "w".to_owned(),
            };
            one(format!("{:?}", rig.mailbox.update(&owner, &item, &changes).await))
        }
        _ => one(format!("{:?}", rig.mailbox.delete(&owner, &item).await)),
    }
}

/// Returns whether a value in the text ends with this mark.
fn bears(text: &str, mark: &str) -> bool {
    let mark = format!("-{mark}");
    text.match_indices(&mark).any(|(at, _)| {
        let rest = text.get(at + mark.len()..).unwrap_or_default();
        !rest.starts_with(|next: char| next.is_ascii_alphabetic())
    })
}

#[tokio::test]
async fn every_optional_part_of_every_answer_may_be_missing() {
    let Some(schema) = schema_folder() else { return };
    let schema = Schema::read(&schema);
    let answers: BTreeMap<&'static str, String> = recorded_answers().into_iter().collect();
    let served = Arc::new(Mutex::new(answers.clone()));
    let serving = Arc::clone(&served);
    let rig = Rig::new(Access::Delegate, move |request| {
        let served = serving.lock().unwrap();
        let asked = served.iter().find(|(operation, _)| {
            request.contains(&format!("<m:{operation}>")) || request.contains(&format!("<m:{operation} "))
        });
        if request.contains("<t:DistinguishedFolderId") && request.contains("<m:GetFolder>") {
            return ok(own_folders());
        }
        ok(envelope(asked.map_or("", |(_, answer)| answer)))
    })
    .await;
    let mut tried = 0;
    for (operation, good) in &answers {
        let complete = call(&rig, operation).await;
        let node = Node::parse(good);
        let response = schema.named("element", &node.name).unwrap();
        let mut crippled = Vec::new();
        schema.without_one(&node, schema.kind(response).unwrap(), operation, &mut crippled);
        assert!(crippled.len() >= 3, "{operation}");
        for (path, node) in crippled {
            let mut text = String::new();
            node.write(&mut text);
            served.lock().unwrap().insert(operation, text);
            let before = rig.count();
            let found = call(&rig, operation).await;
            let requests = rig.count() - before;
            assert!(requests <= MOST_REQUESTS, "{path}: {requests} requests");
            for (mark, text) in &found {
                for (other, _) in &complete {
                    assert!(
                        other == mark || !bears(text, other),
                        "{path}: {mark} is given {text}"
                    );
                }
            }
            let marks: BTreeSet<&String> = found.iter().map(|(mark, _)| mark).collect();
            assert_eq!(marks.len(), found.len(), "{path}: {found:?}");
            tried += 1;
        }
        served.lock().unwrap().insert(operation, good.clone());
    }
    assert!(tried > 100, "{tried}");
}

/// Other servers omit `RootFolder` if there is no folder or item.
#[tokio::test]
async fn a_page_without_root_folder_has_nothing_on_it() {
    let rig = Rig::new(Access::Delegate, |request| {
        if request.contains("<m:GetFolder>") {
            return ok(own_folders());
        }
        let operation = if request.contains("<m:FindFolder ") {
            "FindFolder"
        } else {
            "FindItem"
        };
        let count = request.matches("<t:DistinguishedFolderId").count();
        ok(envelope(&answer(operation, &vec![String::new(); count])))
    })
    .await;
    assert_eq!(rig.mailbox.folders(&owner("ana")).await, Ok(Vec::new()));
    assert_eq!(rig.mailbox.list_marked(&owner("ana"), &[]).await, Ok(Vec::new()));
}
