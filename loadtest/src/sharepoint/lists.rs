//! Lists, their columns and content types.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::changes::{ChangeScope, ChangeType, token_node};
use super::errors::SpError;
use super::fields::{Field, Schema};
use super::filter::{self, Cell};
use super::item_view::{content_type_id, permissions_node};
use super::model::{Access, Closed, List, Site};
use super::path::Segment;
use super::server::{Call, OperationOutcome};
use super::shape::{AnswerContent, Entity, NamedProperties, Node};
use super::webs::{ONLY_ON_REQUEST, permissions, select_or_property};
use super::zones::{format_instant, whole_second};
use super::{SharePoint, people::ListSpec};

impl SharePoint {
    /// Serves `web/lists` and the addresses below it. `rest` begins at `lists`.
    pub(crate) fn lists_resource(
        &self,
        site: &mut Site,
        call: &Call<'_>,
        rest: &[Segment],
    ) -> Result<OperationOutcome, SpError> {
        let (target, tail) = find_list(site, call, rest)?;
        let Some(id) = target else {
            return match call.method {
                "GET" => self.list_feed(site, call),
                "POST" => self.create_list(site, call),
                _ => Err(call.nothing_here()),
            };
        };
        let list = site.list(id)?;
        match list.closed.filter(|_| call.caller.full) {
            Some(Closed::Forbidden) => return Err(SpError::access_denied()),
            Some(Closed::Missing) => return Err(SpError::no_list()),
            None => {}
        }
        if !call.caller.full && site.access(list, None, call.caller.user) == Access::None {
            return Err(SpError::access_denied());
        }
        let step = tail.first();
        match (call.method, step.map(|segment| segment.name.as_str())) {
            // `getitembyid(17)` means the same as `items(17)`.
            (_, Some("items" | "getitembyid")) => self.items_resource(site, id, call, tail),
            ("POST", Some("getitems")) => self.items_by_caml(site, id, call),
            ("POST", Some("getchanges")) => self.changes(site, call, ChangeScope::List(id)),
            ("POST", Some("recycle")) => {
                self.remove_list(site, id);
                Ok(OperationOutcome::named("Recycle", self.new_id().to_string()))
            }
            ("GET", Some("getusereffectivepermissions")) => {
                let name = step
                    .and_then(|segment| segment.argument.as_deref())
                    .unwrap_or_default();
                let user = site.find_user(name).ok_or_else(SpError::no_user)?;
                Ok(permissions(site.access(list, None, user.id)))
            }
            ("GET", Some("fields")) => fields_resource(list, call, tail),
            ("GET", Some("contenttypes")) => content_types(list, call),
            ("GET", _) => select_or_property(self.list_entity(site, list, call), tail, call),
            ("DELETE", None) => {
                need_edit(site, list, call)?;
                self.remove_list(site, id);
                Ok(OperationOutcome::no_content(None))
            }
            ("MERGE", None) => {
                need_edit(site, list, call)?;
                self.update_list(site, id, call)
            }
            _ => Err(call.nothing_here()),
        }
    }

    fn list_feed(&self, site: &Site, call: &Call<'_>) -> Result<OperationOutcome, SpError> {
        let test = call.address.option("$filter").map(filter::parse).transpose()?;
        let (select, expand) = (call.select(), call.expand());
        let mut names = Vec::new();
        if let Some(test) = &test {
            test.fields(&mut |name| names.push(name.to_owned()));
        }
        let mut lists: Vec<&List> = site
            .lists
            .values()
            .filter(|list| list.web == call.web)
            .filter(|list| !call.caller.full || list.closed.is_none())
            .filter(|list| call.caller.full || site.access(list, None, call.caller.user) > Access::None)
            .collect();
        // SharePoint sorts lists by title.
        lists.sort_by(|left, right| {
            let titles = left.title.to_lowercase().cmp(&right.title.to_lowercase());
            titles.then_with(|| left.id.cmp(&right.id))
        });
        let mut entries = Vec::new();
        let top = call.address.option("$top").map(str::parse::<usize>).transpose();
        let top = top
            .map_err(|_| SpError::query("The value of $top is not valid."))?
            .unwrap_or(usize::MAX);
        for list in lists {
            let entity = self.list_entity(site, list, call);
            if let Some(unknown) = names.iter().find(|name| cell(&entity, name).is_none()) {
                return Err(SpError::no_field(unknown));
            }
            if test
                .as_ref()
                .is_none_or(|test| test.holds(&|name| cell(&entity, name).unwrap_or(Cell::Null)))
                && entries.len() < top
            {
                entries.push(entity.select(&select, &expand, ONLY_ON_REQUEST)?);
            }
        }
        Ok(OperationOutcome::ok(AnswerContent::Feed { entries, next: None }))
    }

    /// Returns a list as a resource.
    pub(crate) fn list_entity(&self, site: &Site, list: &List, call: &Call<'_>) -> Entity {
        let web = site.webs.get(list.web).map_or("", |web| web.path.as_str());
        let folder = format!("{web}/Lists/{}", list.url_name);
        let access = site.access(list, None, call.caller.user);
        let mask = if call.caller.full {
            self.account_level().mask()
        } else {
            access.mask()
        };
        let properties: NamedProperties = vec![
            ("Id".into(), list.id.to_string().into()),
            ("Title".into(), list.title.as_str().into()),
            ("Description".into(), list.description.as_str().into()),
            ("BaseTemplate".into(), list.schema.template.into()),
            ("BaseType".into(), 0.into()),
            ("Hidden".into(), list.hidden.into()),
            ("ItemCount".into(), list.live_items().count().into()),
            ("Created".into(), format_instant(list.created).into()),
            (
                "LastItemModifiedDate".into(),
                format_instant(list.last_item_modified).into(),
            ),
            (
                "LastItemUserModifiedDate".into(),
                format_instant(list.last_item_modified).into(),
            ),
            (
                "LastItemDeletedDate".into(),
                format_instant(list.last_item_deleted).into(),
            ),
            ("ListItemEntityTypeFullName".into(), list.item_kind().into()),
            ("EntityTypeName".into(), list.entity_type_name().into()),
            (
                "ParentWebUrl".into(),
                if web.is_empty() { "/" } else { web }.into(),
            ),
            ("DefaultViewUrl".into(), format!("{folder}/AllItems.aspx").into()),
            (
                "ContentTypesEnabled".into(),
                (list.content_types.len() > 1).into(),
            ),
            ("EnableVersioning".into(), false.into()),
            ("EnableModeration".into(), false.into()),
            (
                "CurrentChangeToken".into(),
                token_node(self.list_token(site, list.id)),
            ),
            ("HasUniqueRoleAssignments".into(), list.rights.is_some().into()),
            ("EffectiveBasePermissions".into(), permissions_node(mask)),
        ];
        let uri = format!("{}/Web/Lists(guid'{}')", call.service, list.id);
        Entity {
            kind: "SP.List".into(),
            uri,
            etag: Some("\"0\"".to_owned()),
            properties,
        }
    }

    fn create_list(&self, site: &mut Site, call: &Call<'_>) -> Result<OperationOutcome, SpError> {
        let body = call.json()?;
        let title = body
            .get("Title")
            .and_then(Value::as_str)
            .filter(|title| !title.trim().is_empty());
        let title = title.ok_or_else(|| SpError::query("The property 'Title' is missing."))?;
        let template = body
            .get("BaseTemplate")
            .and_then(Value::as_u64)
            .and_then(|number| u16::try_from(number).ok());
        let template = template.filter(|template| matches!(template, 100 | 107 | 150 | 171));
        let template = template.ok_or_else(|| {
            SpError::exception(
                500,
                -2_130_575_342,
                "The list template is invalid or not available here.",
            )
        })?;
        if site
            .lists
            .values()
            .any(|list| list.web == call.web && list.title.eq_ignore_ascii_case(title))
        {
            return Err(SpError::exception(
                500,
                -2_130_575_342,
                "A list, survey, discussion board, or document library with the specified title already exists in this Web \
                 site. Please choose another title.",
            ));
        }
        // A list created manually from template 100 contains generic items.
        let spec = ListSpec {
            task_content_type: template != 100,
            ..ListSpec::new(title, template)
        };
        let id = self.insert_list(site, call.web, &spec);
        if let (Ok(list), Some(text)) = (site.list_mut(id), body.get("Description").and_then(Value::as_str)) {
            text.clone_into(&mut list.description);
        }
        let entity = self.list_entity(site, site.list(id)?, call);
        let (location, etag) = (Some(entity.uri.clone()), entity.etag.clone());
        let entity = entity.select(&call.select(), &call.expand(), ONLY_ON_REQUEST)?;
        Ok(OperationOutcome {
            status: 201,
            answer: Some(AnswerContent::Entity(entity)),
            etag,
            location,
        })
    }

    fn update_list(&self, site: &mut Site, id: Uuid, call: &Call<'_>) -> Result<OperationOutcome, SpError> {
        let body = call.json()?;
        let map = body
            .as_object()
            .ok_or_else(|| SpError::query("Invalid JSON. An object was expected."))?;
        let list = site.list_mut(id)?;
        for (name, value) in map {
            match (name.as_str(), value) {
                ("__metadata" | "odata.type", _) => {}
                ("Title", Value::String(text)) if !text.is_empty() => text.clone_into(&mut list.title),
                ("Description", Value::String(text)) => text.clone_into(&mut list.description),
                ("Hidden", Value::Bool(hidden)) => list.hidden = *hidden,
                ("Title" | "Description" | "Hidden", _) => return Err(SpError::bad_value(name)),
                _ => return Err(SpError::no_property(name, "SP.List")),
            }
        }
        let web = list.web;
        site.log_list(ChangeType::Update, id, web, self.clock.unique());
        Ok(OperationOutcome::no_content(None))
    }

    /// Adds a list and records it in the change log.
    pub(crate) fn insert_list(&self, site: &mut Site, web: usize, spec: &ListSpec) -> Uuid {
        let now = self.clock.unique();
        let schema = Schema {
            template: spec.template,
            task: spec.task_content_type,
            renamed: spec.renamed_columns,
            with_work: spec.with_work,
            with_completed: spec.with_date_completed,
            multi_person: spec.multi_person,
            mappings: spec.with_mappings,
            language: site.language,
        };
        let id = self.new_id();
        site.lists.insert(id, new_list(id, web, spec, schema, now));
        site.log_list(ChangeType::Add, id, web, now);
        id
    }

    /// Removes a list with all its items.
    pub(crate) fn remove_list(&self, site: &mut Site, id: Uuid) {
        if let Some(list) = site.lists.remove(&id) {
            site.log_list(ChangeType::DeleteObject, id, list.web, self.clock.unique());
        }
    }
}

fn new_list(id: Uuid, web: usize, spec: &ListSpec, schema: Schema, now: Timestamp) -> List {
    let mut content_types = Vec::new();
    match (schema.task, schema.template) {
        (true, 171) => content_types.extend([("0x0108", "Task"), ("0x0120", "Folder")]),
        (true, 107 | 150) => content_types.push(("0x0108", "Task")),
        (true, _) => content_types.extend([("0x0108", "Task"), ("0x01", "Item")]),
        (false, _) => content_types.push(("0x01", "Item")),
    }
    if spec.task_not_default {
        content_types.reverse();
    }
    List {
        id,
        web,
        title: spec.title.clone(),
        description: String::new(),
        url_name: spec.title.replace(
            [
                '/', '\\', ':', '*', '?', '"', '<', '>', '|', '#', '%', '&', '{', '}', '~',
            ],
            "",
        ),
        hidden: spec.hidden,
        schema,
        fields: Arc::from(schema.fields()),
        content_types,
        index_assigned_to: spec.index_assigned_to,
        items: std::collections::BTreeMap::new(),
        by_person: std::collections::HashMap::new(),
        next_item: 1,
        created: whole_second(now),
        last_item_modified: whole_second(now),
        last_item_deleted: whole_second(now),
        rights: None,
        closed: None,
    }
}

/// Returns the list that an address names and the rest of the address; `None` for the collection itself.
fn find_list<'a>(
    site: &Site,
    call: &Call<'_>,
    rest: &'a [Segment],
) -> Result<(Option<Uuid>, &'a [Segment]), SpError> {
    let in_this_web = |list: &&List| list.web == call.web;
    let by_id = |text: &str| {
        let id = text
            .parse::<Uuid>()
            .map_err(|_| SpError::query("Guid should contain 32 digits with 4 dashes."))?;
        site.list(id)
            .ok()
            .filter(in_this_web)
            .map(|list| list.id)
            .ok_or_else(SpError::no_list)
    };
    let tail = rest.get(1..).unwrap_or_default();
    if let Some(id) = rest.first().and_then(|segment| segment.argument.as_deref()) {
        return Ok((Some(by_id(id)?), tail));
    }
    let Some(first) = tail.first() else {
        return Ok((None, tail));
    };
    let argument = first.argument.as_deref().unwrap_or_default();
    let behind = tail.get(1..).unwrap_or_default();
    match first.name.as_str() {
        "getbyid" => Ok((Some(by_id(argument)?), behind)),
        "getbytitle" => {
            let list = site
                .lists
                .values()
                .filter(in_this_web)
                .find(|list| list.title.eq_ignore_ascii_case(argument));
            let web_url = call.service.trim_end_matches("/_api");
            Ok((
                Some(list.ok_or_else(|| SpError::no_list_titled(argument, web_url))?.id),
                behind,
            ))
        }
        _ => Err(call.nothing_here()),
    }
}

/// Returns an error if the caller may only read.
pub(crate) fn need_edit(site: &Site, list: &List, call: &Call<'_>) -> Result<(), SpError> {
    if call.caller.full || site.access(list, None, call.caller.user) == Access::Edit {
        Ok(())
    } else {
        Err(SpError::access_denied())
    }
}

/// Returns a property of a resource as a value for conditions.
fn cell(entity: &Entity, name: &str) -> Option<Cell> {
    let (_, node) = entity.properties.iter().find(|(known, _)| known == name)?;
    let Node::Plain(value) = node else { return None };
    Some(match value {
        Value::Null => Cell::Null,
        Value::Bool(flag) => Cell::Flag(*flag),
        Value::Number(number) => Cell::Number(number.as_f64()?),
        Value::String(text) => match text.parse::<Timestamp>() {
            Ok(time) => Cell::Time(time),
            Err(_) => Cell::Text(text.clone()),
        },
        Value::Array(_) | Value::Object(_) => return None,
    })
}

fn fields_resource(list: &List, call: &Call<'_>, tail: &[Segment]) -> Result<OperationOutcome, SpError> {
    let list_id = list.id.to_string();
    let entity = |field: &Field| {
        let (kind, properties) = field.properties(&list.schema, &list_id);
        let uri = format!(
            "{}/Web/Lists(guid'{list_id}')/Fields(guid'{}')",
            call.service,
            field.column.guid()
        );
        Entity {
            kind: kind.into(),
            uri,
            etag: None,
            properties,
        }
    };
    let by_guid = |text: &str| {
        list.fields
            .iter()
            .find(|field| field.column.guid().eq_ignore_ascii_case(text))
    };
    let missing = |name: &str| {
        SpError::new(
            404,
            -2_147_024_809,
            "System.ArgumentException",
            format!("Column '{name}' does not exist. It may have been deleted by another user."),
        )
    };
    let one = tail.first().and_then(|segment| segment.argument.as_deref());
    if let Some(id) = one {
        let field = by_guid(id).ok_or_else(|| missing(id))?;
        return select_or_property(entity(field), tail.get(1..).unwrap_or_default(), call);
    }
    if let Some(step) = tail.get(1) {
        let name = step.argument.as_deref().unwrap_or_default();
        let field = match step.name.as_str() {
            "getbyinternalnameortitle" => list.field(name),
            "getbyid" => by_guid(name).copied(),
            _ => return Err(call.nothing_here()),
        };
        let field = field.ok_or_else(|| missing(name))?;
        return select_or_property(entity(&field), tail.get(2..).unwrap_or_default(), call);
    }
    let test = call.address.option("$filter").map(filter::parse).transpose()?;
    let (select, expand) = (call.select(), call.expand());
    // A property that some kinds of columns lack (Choices, DisplayFormat) is absent from their entries, as in the
    // product.
    let all: Vec<Entity> = list.fields.iter().map(&entity).collect();
    if let Some(unknown) = select.iter().find(|name| {
        *name != "*"
            && !all.iter().any(|entity| {
                entity
                    .properties
                    .iter()
                    .any(|(known, _)| known.eq_ignore_ascii_case(name))
            })
    }) {
        return Err(SpError::no_field(unknown));
    }
    let mut entries = Vec::new();
    for mut entity in all {
        if test
            .as_ref()
            .is_some_and(|test| !test.holds(&|name| cell(&entity, name).unwrap_or(Cell::Null)))
        {
            continue;
        }
        let exists = |name: &String| {
            name == "*"
                || entity
                    .properties
                    .iter()
                    .any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        let present: Vec<String> = select.iter().filter(|name| exists(name)).cloned().collect();
        if present.is_empty() && !select.is_empty() {
            entity.properties.clear();
        }
        entries.push(entity.select(&present, &expand, ONLY_ON_REQUEST)?);
    }
    Ok(OperationOutcome::ok(AnswerContent::Feed { entries, next: None }))
}

fn content_types(list: &List, call: &Call<'_>) -> Result<OperationOutcome, SpError> {
    let (select, expand) = (call.select(), call.expand());
    let entries = list.content_types.iter().enumerate().map(|(at, (_, name))| {
        let id = content_type_id(list, at);
        let properties: NamedProperties = vec![
            (
                "Id".into(),
                Node::Complex(
                    "SP.ContentTypeId",
                    vec![("StringValue".into(), id.as_str().into())],
                ),
            ),
            ("StringId".into(), id.as_str().into()),
            ("Name".into(), (*name).into()),
            ("Hidden".into(), false.into()),
        ];
        let uri = format!(
            "{}/Web/Lists(guid'{}')/ContentTypes('{id}')",
            call.service, list.id
        );
        Entity {
            kind: "SP.ContentType".into(),
            uri,
            etag: None,
            properties,
        }
        .select(&select, &expand, ONLY_ON_REQUEST)
    });
    Ok(OperationOutcome::ok(AnswerContent::Feed {
        entries: entries.collect::<Result<_, _>>()?,
        next: None,
    }))
}
