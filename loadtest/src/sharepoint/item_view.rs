//! Items as rows for conditions and as resources for answers.

use serde_json::Value;

use super::errors::SpError;
use super::fields::Column;
use super::filter::Cell;
use super::model::{Access, FULL_MASK, List, ListItem, Site, User};
use super::shape::{Entity, NamedProperties, Node};
use super::zones::format_instant;

/// A property that `$select` may name without `$expand`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Property {
    Field(Column),
    PersonId(Column),
    PersonStringId(Column),
    FileSystemObjectType,
    RedirectUri,
    HasUniqueRoleAssignments,
    EffectiveBasePermissions,
}

/// Names that are returned without `$select`, in addition to the list's own columns.
const DEFAULT_NAMES: &[&str] = &[
    "FileSystemObjectType",
    "Id",
    "ServerRedirectedEmbedUri",
    "ContentTypeId",
    "ID",
    "Modified",
    "Created",
    "AuthorId",
    "EditorId",
    super::fields::UI_VERSION,
    "Attachments",
    "GUID",
];

fn property(list: &List, name: &str) -> Option<Property> {
    match name {
        "Id" | "ID" => return Some(Property::Field(Column::Id)),
        "FileSystemObjectType" => return Some(Property::FileSystemObjectType),
        "ServerRedirectedEmbedUri" => return Some(Property::RedirectUri),
        "HasUniqueRoleAssignments" => return Some(Property::HasUniqueRoleAssignments),
        "EffectiveBasePermissions" => return Some(Property::EffectiveBasePermissions),
        _ => {}
    }
    // The property names of items are case-sensitive, unlike those of other resources.
    if let Some(field) = list.fields.iter().find(|field| field.entity_name() == name) {
        return (!is_person(field.column)).then_some(Property::Field(field.column));
    }
    let person = |stem: &str| {
        list.fields
            .iter()
            .find(|field| field.name == stem && is_person(field.column))
    };
    if let Some(field) = name.strip_suffix("StringId").and_then(person) {
        return Some(Property::PersonStringId(field.column));
    }
    name.strip_suffix("Id")
        .and_then(person)
        .map(|field| Property::PersonId(field.column))
}

fn is_person(column: Column) -> bool {
    matches!(column, Column::AssignedTo | Column::Author | Column::Editor)
}

/// A validated `$select`/`$expand` on items.
#[derive(Debug)]
pub(crate) struct Selection {
    names: Vec<(String, Property)>,
    /// Expanded person columns, each with the requested properties.
    people: Vec<(String, Column, Vec<String>)>,
}

impl Selection {
    /// Validates the names against the list's columns.
    pub(crate) fn new(list: &List, select: &[String], expand: &[String]) -> Result<Self, SpError> {
        let mut selection = Self {
            names: Vec::new(),
            people: Vec::new(),
        };
        for name in expand {
            match list
                .fields
                .iter()
                .find(|field| field.name == name && is_person(field.column))
            {
                Some(field) => selection.people.push((name.clone(), field.column, Vec::new())),
                None => return Err(SpError::no_field(name)),
            }
        }
        for name in select {
            if name == "*" {
                selection.add_defaults(list);
                continue;
            }
            let (head, tail) = name
                .split_once('/')
                .map_or((name.as_str(), None), |(head, tail)| (head, Some(tail)));
            if list
                .fields
                .iter()
                .any(|field| field.name == head && is_person(field.column))
            {
                let person = selection.people.iter_mut().find(|(known, ..)| known == head);
                match (person, tail) {
                    (Some((.., wanted)), Some(tail)) if PERSON_NAMES.contains(&tail) => {
                        wanted.push(tail.to_owned());
                    }
                    (Some(_), Some(tail)) => return Err(SpError::no_field(tail)),
                    _ => return Err(bad_lookup(head)),
                }
                continue;
            }
            let property = property(list, name).ok_or_else(|| SpError::no_field(name))?;
            selection.names.push((name.clone(), property));
        }
        if let Some((name, ..)) = selection.people.iter().find(|(.., wanted)| wanted.is_empty()) {
            return Err(bad_lookup(name));
        }
        if select.is_empty() {
            selection.add_defaults(list);
        }
        Ok(selection)
    }

    fn add_defaults(&mut self, list: &List) {
        let fields = list
            .fields
            .iter()
            .filter(|field| !field.column.read_only() || field.column == Column::Checkmark);
        let field_names = fields.map(|field| {
            if is_person(field.column) {
                format!("{}Id", field.name)
            } else {
                field.name.to_owned()
            }
        });
        for name in field_names.chain(DEFAULT_NAMES.iter().map(|name| (*name).to_owned())) {
            if let Some(property) = property(list, &name)
                && !self.names.iter().any(|(known, _)| *known == name)
            {
                self.names.push((name, property));
            }
        }
    }
}

/// The properties that can be selected of an expanded person.
const PERSON_NAMES: &[&str] = &["Id", "ID", "Title", "Name", "EMail", "UserName", "GUID"];

fn bad_lookup(field: &str) -> SpError {
    SpError::exception(
        400,
        -1,
        format!(
            "The query to field '{field}' is not valid. The $select query string must specify the target fields and the \
             $expand query string must contains {field}."
        ),
    )
}

/// The context of an item.
#[derive(Clone, Copy)]
pub(crate) struct ItemContext<'a> {
    pub(crate) site: &'a Site,
    pub(crate) list: &'a List,
    /// Address of the web's `_api`.
    pub(crate) service: &'a str,
    /// The caller's user id, and whether the caller has full control.
    pub(crate) me: (i32, bool),
}

impl ItemContext<'_> {
    /// Returns the item as a resource.
    pub(crate) fn entity(&self, item: &ListItem, selection: &Selection) -> Entity {
        let mut properties = NamedProperties::with_capacity(selection.names.len() + selection.people.len());
        for (name, property) in &selection.names {
            properties.push((name.clone().into(), self.node(item, *property)));
        }
        for (name, column, wanted) in &selection.people {
            properties.push((name.clone().into(), self.people_node(item, *column, wanted)));
        }
        Entity {
            kind: self.list.item_kind().into(),
            uri: format!(
                "{}/Web/Lists(guid'{}')/Items({})",
                self.service, self.list.id, item.id
            ),
            etag: Some(item.etag()),
            properties,
        }
    }

    fn node(&self, item: &ListItem, property: Property) -> Node {
        match property {
            Property::Field(column) => self.field_node(item, column),
            Property::PersonId(column) => {
                let ids = person_ids(item, column);
                if column == Column::AssignedTo && self.list.schema.multi_person {
                    return if ids.is_empty() {
                        Value::Null.into()
                    } else {
                        Node::Primitives("Edm.Int32", ids.into_iter().map(Value::from).collect())
                    };
                }
                ids.first().copied().into()
            }
            Property::PersonStringId(column) => {
                let ids: Vec<Value> = person_ids(item, column)
                    .iter()
                    .map(|id| id.to_string().into())
                    .collect();
                if column == Column::AssignedTo && self.list.schema.multi_person {
                    return if ids.is_empty() {
                        Value::Null.into()
                    } else {
                        Node::Primitives("Edm.String", ids)
                    };
                }
                ids.into_iter().next().unwrap_or_default().into()
            }
            Property::FileSystemObjectType => 0.into(),
            Property::RedirectUri => Value::Null.into(),
            Property::HasUniqueRoleAssignments => item.rights.is_some().into(),
            Property::EffectiveBasePermissions => {
                let mask = if self.me.1 {
                    FULL_MASK
                } else {
                    self.access(item, self.me.0).mask()
                };
                permissions_node(mask)
            }
        }
    }

    fn field_node(&self, item: &ListItem, column: Column) -> Node {
        let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
        let instant = |value: Option<jiff::Timestamp>| value.map(format_instant).into();
        match column {
            Column::Title => text(&item.title).into(),
            Column::Body => text(&item.body).into(),
            Column::Start => instant(item.start),
            Column::Due => instant(item.due),
            Column::Status => item.status.clone().into(),
            Column::Percent => item.percent.into(),
            Column::Priority => item.priority.clone().into(),
            Column::Completed => instant(item.completed),
            Column::ActualWork => item.actual_work.into(),
            Column::TotalWork => item.total_work.into(),
            Column::Checkmark => if item.percent.is_some_and(|percent| percent >= 1.0) {
                "1"
            } else {
                "0"
            }
            .into(),
            Column::Id => item.id.into(),
            Column::Created => instant(Some(item.created)),
            Column::Modified => instant(Some(item.modified)),
            Column::ContentTypeId => content_type_id(self.list, 0).into(),
            Column::Version => item.version.into(),
            Column::Guid => other_guid(item).to_string().into(),
            Column::UniqueId => item.unique_id.to_string().into(),
            Column::ObjectType => "0".into(),
            Column::UiVersion => "1.0".into(),
            Column::Attachments => false.into(),
            Column::AssignedTo | Column::Author | Column::Editor => Value::Null.into(),
        }
    }

    fn people_node(&self, item: &ListItem, column: Column, wanted: &[String]) -> Node {
        let mut people = person_ids(item, column)
            .into_iter()
            .filter_map(|id| self.site.users.get(&id))
            .map(|user| person_entity(user, wanted, self.service));
        if column == Column::AssignedTo && self.list.schema.multi_person {
            return Node::Set(people.collect());
        }
        people.next().map_or(Value::Null.into(), Node::Entity)
    }

    /// Returns the value of a column for a condition or a sort order, or `None` if the list has no such column.
    pub(crate) fn cell(&self, item: &ListItem, name: &str) -> Option<Cell> {
        let (head, tail) = match name.split_once('/') {
            Some((head, tail)) => (head, tail),
            None => match name
                .strip_suffix("Id")
                .filter(|stem| matches!(*stem, "AssignedTo" | "Author" | "Editor"))
            {
                Some(stem) => (stem, "Id"),
                None => (name, ""),
            },
        };
        let field = self.list.field(head)?;
        if is_person(field.column) {
            let user_cell = |id: i32| {
                let user = self.site.users.get(&id);
                match tail {
                    "Id" | "ID" | "" => Some(Cell::Number(f64::from(id))),
                    "Title" => user.map(|user| Cell::Text(user.title.clone())),
                    "EMail" => user.map(|user| Cell::Text(user.email.clone())),
                    "Name" => user.map(|user| Cell::Text(user.login.clone())),
                    _ => None,
                }
            };
            return Some(Cell::Many(
                person_ids(item, field.column)
                    .into_iter()
                    .filter_map(user_cell)
                    .collect(),
            ));
        }
        let number = |value: Option<f64>| value.map_or(Cell::Null, Cell::Number);
        let time = |value: Option<jiff::Timestamp>| value.map_or(Cell::Null, Cell::Time);
        let text = |value: &str| {
            if value.is_empty() {
                Cell::Null
            } else {
                Cell::Text(value.to_owned())
            }
        };
        Some(match field.column {
            Column::Title => text(&item.title),
            Column::Body => text(&item.body),
            Column::Start => time(item.start),
            Column::Due => time(item.due),
            Column::Status => text(item.status.as_deref().unwrap_or_default()),
            Column::Percent => number(item.percent),
            Column::Priority => text(item.priority.as_deref().unwrap_or_default()),
            Column::Completed => time(item.completed),
            Column::ActualWork => number(item.actual_work),
            Column::TotalWork => number(item.total_work),
            Column::Checkmark => Cell::Flag(item.percent.is_some_and(|percent| percent >= 1.0)),
            Column::Id => Cell::Number(f64::from(item.id)),
            Column::Created => Cell::Time(item.created),
            Column::Modified => Cell::Time(item.modified),
            Column::ContentTypeId => Cell::Text(content_type_id(self.list, 0)),
            Column::Version => Cell::Number(f64::from(item.version)),
            Column::Guid => Cell::Text(other_guid(item).to_string()),
            Column::UniqueId => Cell::Text(item.unique_id.to_string()),
            Column::ObjectType => Cell::Number(0.0),
            Column::UiVersion => Cell::Text("1.0".to_owned()),
            Column::Attachments => Cell::Flag(false),
            Column::AssignedTo | Column::Author | Column::Editor => Cell::Null,
        })
    }

    fn access(&self, item: &ListItem, user: i32) -> Access {
        self.site.access(self.list, Some(item), user)
    }

    /// Returns whether the caller may see the item.
    pub(crate) fn visible(&self, item: &ListItem) -> bool {
        self.me.1 || self.access(item, self.me.0) >= Access::Read
    }
}

/// Returns a permission mask as SharePoint writes it: two numbers as text.
pub(crate) fn permissions_node((high, low): (u32, u32)) -> Node {
    Node::Complex(
        "SP.BasePermissions",
        vec![
            ("High".into(), high.to_string().into()),
            ("Low".into(), low.to_string().into()),
        ],
    )
}

/// Returns the value of the `GUID` column. It differs from `UniqueId` and is derived from it.
fn other_guid(item: &ListItem) -> uuid::Uuid {
    uuid::Uuid::from_u128(item.unique_id.as_u128() ^ 0x0055_5555_0000_0000_0000_5555_5555_5555)
}

/// Returns the id of a list's content type: the parent's id, `00`, and a number of the list.
pub(crate) fn content_type_id(list: &List, at: usize) -> String {
    let prefix = list.content_types.get(at).map_or("0x01", |(prefix, _)| prefix);
    format!("{prefix}00{}", list.id.simple().to_string().to_uppercase())
}

fn person_ids(item: &ListItem, column: Column) -> Vec<i32> {
    match column {
        Column::AssignedTo => item.assigned_to.clone(),
        Column::Author => vec![item.author],
        Column::Editor => vec![item.editor],
        Column::Title
        | Column::Body
        | Column::Start
        | Column::Due
        | Column::Status
        | Column::Percent
        | Column::Priority
        | Column::Completed
        | Column::ActualWork
        | Column::TotalWork
        | Column::Checkmark
        | Column::Id
        | Column::Created
        | Column::Modified
        | Column::ContentTypeId
        | Column::Version
        | Column::Guid
        | Column::UniqueId
        | Column::ObjectType
        | Column::UiVersion
        | Column::Attachments => Vec::new(),
    }
}

fn person_entity(user: &User, wanted: &[String], service: &str) -> Entity {
    let properties = wanted
        .iter()
        .map(|name| {
            let node: Node = match name.as_str() {
                "Title" => user.title.as_str().into(),
                "Name" => user.login.as_str().into(),
                "EMail" => user.email.as_str().into(),
                "UserName" => user.login.rsplit('|').next().unwrap_or_default().into(),
                "GUID" => Value::Null.into(),
                _ => user.id.into(),
            };
            (name.clone().into(), node)
        })
        .collect();
    Entity {
        kind: "SP.Data.UserInfoItem".into(),
        uri: format!("{service}/Web/SiteUserInfoList/Items({})", user.id),
        etag: None,
        properties,
    }
}
