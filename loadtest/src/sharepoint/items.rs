//! Items over HTTP: list, read, create, update, recycle, and CAML queries.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde_json::Value;
use uuid::Uuid;

use super::SharePoint;
use super::caml;
use super::errors::SpError;
use super::filter::{self, Cell, Comparison, Test};
use super::item_view::{ItemContext, Selection};
use super::lists::need_edit;
use super::model::{List, ListItem, Site};
use super::path::{Segment, percent_encode};
use super::server::{Call, OperationOutcome, single_name};
use super::shape::AnswerContent;
use super::webs::{permissions, select_or_property};
use super::write;

/// Rows per page without `$top`.
const DEFAULT_PAGE: usize = 100;
/// Largest number of rows per page.
const MAXIMUM_PAGE: usize = 5000;

/// Fields to sort by, and whether each is ascending. The item's id decides between equal values.
type SortOrder = Vec<(String, bool)>;

impl SharePoint {
    /// Serves `items` of a list and the addresses below it. `rest` begins at `items`.
    pub(crate) fn items_resource(
        &self,
        site: &mut Site,
        list_id: Uuid,
        call: &Call<'_>,
        rest: &[Segment],
    ) -> Result<OperationOutcome, SpError> {
        let (id, tail) = match (
            rest.first().and_then(|segment| segment.argument.as_deref()),
            rest.get(1),
        ) {
            (Some(id), _) => (Some(id), rest.get(1..).unwrap_or_default()),
            (
                None,
                Some(Segment {
                    name,
                    argument: Some(id),
                }),
            ) if name == "getbyid" => (Some(id.as_str()), rest.get(2..).unwrap_or_default()),
            (None, _) => (None, rest.get(1..).unwrap_or_default()),
        };
        let Some(id) = id else {
            return match (call.method, tail.is_empty()) {
                ("GET", true) => self.items_by_odata(site, list_id, call),
                ("POST", true) => self.create_over_http(site, list_id, call),
                _ => Err(call.nothing_here()),
            };
        };
        let id = id
            .parse::<i32>()
            .map_err(|_| SpError::query("The item id is not a number."))?;
        visible_item(site, list_id, id, call)?;
        let step = tail.first();
        match (call.method, step.map(|segment| segment.name.as_str())) {
            ("GET", None) => one_item(site, list_id, id, call, &call.select()),
            ("GET", Some("getusereffectivepermissions")) => {
                let name = step
                    .and_then(|segment| segment.argument.as_deref())
                    .unwrap_or_default();
                let user = site.find_user(name).ok_or_else(SpError::no_user)?;
                let list = site.list(list_id)?;
                Ok(permissions(site.access(list, Some(list.item(id)?), user.id)))
            }
            ("GET", Some("parentlist")) => {
                let entity = self.list_entity(site, site.list(list_id)?, call);
                select_or_property(entity, tail.get(1..).unwrap_or_default(), call)
            }
            ("GET", Some(_)) => item_property(site, list_id, id, call, tail),
            ("POST", Some("recycle")) => {
                may_edit_item(site, list_id, id, call)?;
                site.recycle_item(list_id, id, call.if_match, self.clock.unique())?;
                Ok(OperationOutcome::named("Recycle", self.new_id().to_string()))
            }
            ("DELETE", None) => {
                may_edit_item(site, list_id, id, call)?;
                site.recycle_item(list_id, id, call.if_match, self.clock.unique())?;
                Ok(OperationOutcome {
                    status: 200,
                    answer: None,
                    etag: None,
                    location: None,
                })
            }
            // A POST to one item without X-HTTP-Method is also an update.
            ("MERGE" | "POST", None) => {
                may_edit_item(site, list_id, id, call)?;
                let patch = write::parse(site.list(list_id)?, &site.zone, call.body, call.verbose_body)?;
                let now = self.clock.unique();
                let etag = site.update_item(list_id, id, call.if_match, patch, call.caller.user, now)?;
                Ok(OperationOutcome::no_content(Some(etag)))
            }
            _ => Err(call.nothing_here()),
        }
    }

    fn create_over_http(
        &self,
        site: &mut Site,
        list_id: Uuid,
        call: &Call<'_>,
    ) -> Result<OperationOutcome, SpError> {
        let list = site.list(list_id)?;
        need_edit(site, list, call)?;
        let patch = write::parse(list, &site.zone, call.body, call.verbose_body)?;
        let id = site.create_item(
            list_id,
            patch,
            call.caller.user,
            self.new_id(),
            self.clock.unique(),
        )?;
        let outcome = one_item(site, list_id, id, call, &call.select())?;
        let location = Some(format!("{}/Web/Lists(guid'{list_id}')/Items({id})", call.service));
        Ok(OperationOutcome {
            status: 201,
            location,
            ..outcome
        })
    }

    fn items_by_odata(
        &self,
        site: &Site,
        list_id: Uuid,
        call: &Call<'_>,
    ) -> Result<OperationOutcome, SpError> {
        let list = site.list(list_id)?;
        let context = item_context(site, list, call);
        let selection = Selection::new(list, &call.select(), &call.expand())?;
        let test = call.address.option("$filter").map(filter::parse).transpose()?;
        if let Some(test) = &test {
            self.check_filter(list, test)?;
        }
        let mut order = SortOrder::new();
        for part in call.address.names("$orderby") {
            let (name, direction) = part.split_once(' ').unwrap_or((&part, "asc"));
            list.field(name.split('/').next().unwrap_or(name))
                .ok_or_else(|| SpError::no_field(name))?;
            order.push((name.to_owned(), !direction.trim().eq_ignore_ascii_case("desc")));
        }
        let top = match call.address.option("$top") {
            None => DEFAULT_PAGE,
            Some(number) => match number.parse::<usize>() {
                Ok(0) | Err(_) => return Err(SpError::query("The value of $top is not valid.")),
                Ok(top) => top.min(MAXIMUM_PAGE),
            },
        };
        let after = call.address.option("$skiptoken").map(page_position).transpose()?;
        let query = Query { test, order, after };
        let (page, more) = query.run(&context, top, self.settings.list_view_threshold)?;
        let next = more.then(|| page.last()).flatten().map(|last| {
            let token = query.token(&context, last);
            let mut options: Vec<String> = call
                .address
                .query
                .iter()
                .filter(|(key, _)| !key.eq_ignore_ascii_case("$skiptoken"))
                .map(|(key, value)| format!("{}={}", percent_encode(key), percent_encode(value)))
                .collect();
            options.insert(0, format!("%24skiptoken={}", percent_encode(&token)));
            format!(
                "{}/Web/Lists(guid'{}')/Items?{}",
                call.service,
                list.id,
                options.join("&")
            )
        });
        let entries = page
            .into_iter()
            .map(|item| context.entity(item, &selection))
            .collect();
        Ok(OperationOutcome::ok(AnswerContent::Feed { entries, next }))
    }

    fn check_filter(&self, list: &List, test: &Test) -> Result<(), SpError> {
        let mut problem = None;
        test.fields(&mut |name| {
            let stem = name.split('/').next().unwrap_or(name);
            let stem = stem.strip_suffix("Id").filter(|stem| list.field(stem).is_some()).unwrap_or(stem);
            match list.field(stem) {
                None => problem = Some(SpError::no_field(name)),
                Some(_) if stem == "AssignedTo" && list.schema.multi_person && !self.settings.filter_multi_person => {
                    problem = Some(SpError::exception(
                        400,
                        -2_147_024_809,
                        "The field 'AssignedTo' of type 'UserMulti' cannot be used in the query filter expression.",
                    ));
                }
                Some(field) if field.column == super::fields::Column::Body => {
                    problem = Some(SpError::exception(
                        400,
                        -2_147_024_809,
                        "The field 'Body' of type 'Note' cannot be used in the query filter expression.",
                    ));
                }
                Some(_) => {}
            }
        });
        problem.map_or(Ok(()), Err)
    }

    /// Serves `getitems`, a CAML query.
    pub(crate) fn items_by_caml(
        &self,
        site: &Site,
        list_id: Uuid,
        call: &Call<'_>,
    ) -> Result<OperationOutcome, SpError> {
        let list = site.list(list_id)?;
        let context = item_context(site, list, call);
        let body = call.json()?;
        let query = body
            .get("query")
            .ok_or_else(|| SpError::query("The parameter query is missing."))?;
        let xml = query.get("ViewXml").and_then(Value::as_str).unwrap_or_default();
        let view = caml::parse(xml, &site.zone, call.caller.user)?;
        let mut names: Vec<String> = view.fields.clone();
        names.extend(view.order.iter().map(|(name, _)| name.clone()));
        if let Some(test) = &view.test {
            test.fields(&mut |name| names.push(name.split('/').next().unwrap_or(name).to_owned()));
        }
        if names.iter().any(|name| list.field(name).is_none()) {
            return Err(SpError::no_caml_field());
        }
        let selection = Selection::new(list, &call.select(), &call.expand())?;
        let position = query
            .get("ListItemCollectionPosition")
            .and_then(|position| position.get("PagingInfo"));
        let after = position.and_then(Value::as_str).map(page_position).transpose()?;
        let limit = match view.row_limit {
            Some(0) => return Err(SpError::query("The row limit is not valid.")),
            Some(limit) => limit.min(MAXIMUM_PAGE),
            None => MAXIMUM_PAGE,
        };
        let query = Query {
            test: view.test,
            order: view.order,
            after,
        };
        let (page, more) = query.run(&context, limit, self.settings.list_view_threshold)?;
        if more && view.row_limit.is_none() {
            return Err(SpError::threshold());
        }
        let entries = page
            .into_iter()
            .map(|item| context.entity(item, &selection))
            .collect();
        Ok(OperationOutcome::ok(AnswerContent::Feed { entries, next: None }))
    }
}

fn item_context<'a>(site: &'a Site, list: &'a List, call: &'a Call<'_>) -> ItemContext<'a> {
    ItemContext {
        site,
        list,
        service: &call.service,
        me: (call.caller.user, call.caller.full),
    }
}

/// Refuses an item that does not exist for the caller.
fn visible_item(site: &Site, list_id: Uuid, id: i32, call: &Call<'_>) -> Result<(), SpError> {
    let list = site.list(list_id)?;
    let item = list.item(id)?;
    // To a caller, an item that the caller may not see does not exist.
    if item_context(site, list, call).visible(item) {
        Ok(())
    } else {
        Err(SpError::no_item())
    }
}

/// Refuses a caller who may not change the item.
fn may_edit_item(site: &Site, list_id: Uuid, id: i32, call: &Call<'_>) -> Result<(), SpError> {
    let list = site.list(list_id)?;
    let access = site.access(list, Some(list.item(id)?), call.caller.user);
    if call.caller.full || access == super::Access::Edit {
        Ok(())
    } else {
        Err(SpError::access_denied())
    }
}

fn one_item(
    site: &Site,
    list_id: Uuid,
    id: i32,
    call: &Call<'_>,
    select: &[String],
) -> Result<OperationOutcome, SpError> {
    let list = site.list(list_id)?;
    let item = list.item(id)?;
    let selection = Selection::new(list, select, &call.expand())?;
    let entity = item_context(site, list, call).entity(item, &selection);
    Ok(OperationOutcome {
        etag: Some(item.etag()),
        ..OperationOutcome::ok(AnswerContent::Entity(entity))
    })
}

fn item_property(
    site: &Site,
    list_id: Uuid,
    id: i32,
    call: &Call<'_>,
    tail: &[Segment],
) -> Result<OperationOutcome, SpError> {
    let name = single_name(tail).ok_or_else(|| call.nothing_here())?;
    let list = site.list(list_id)?;
    // Addresses ignore case, but property names do not: find the name that is meant.
    let property = list
        .fields
        .iter()
        .map(|field| field.entity_name().to_owned())
        .chain(
            [
                "HasUniqueRoleAssignments",
                "EffectiveBasePermissions",
                "AssignedToId",
                "AuthorId",
                "EditorId",
            ]
            .map(str::to_owned),
        )
        .find(|known| known.eq_ignore_ascii_case(name))
        .ok_or_else(|| call.nothing_here())?;
    let selection = Selection::new(list, &[property], &[]).map_err(|_| call.nothing_here())?;
    let entity = item_context(site, list, call).entity(list.item(id)?, &selection);
    entity
        .property(name)
        .map(OperationOutcome::ok)
        .ok_or_else(|| call.nothing_here())
}

/// The start of a page: after the item with this id and these values of the sort fields.
#[derive(Debug)]
struct Position {
    id: i32,
    values: Vec<(String, String)>,
}

/// Parses `Paged=TRUE&p_ID=100&p_Modified=…`.
fn page_position(text: &str) -> Result<Position, SpError> {
    let mut position = Position {
        id: 0,
        values: Vec::new(),
    };
    let mut found = false;
    for (key, value) in url::form_urlencoded::parse(text.as_bytes()) {
        match key.strip_prefix("p_") {
            Some("ID") => {
                position.id = value
                    .parse()
                    .map_err(|_| SpError::query("The paging position is not valid."))?;
                found = true;
            }
            Some(field) => position.values.push((field.to_owned(), value.into_owned())),
            None => {}
        }
    }
    if found {
        Ok(position)
    } else {
        Err(SpError::query("The paging position is not valid."))
    }
}

struct Query {
    test: Option<Test>,
    order: SortOrder,
    after: Option<Position>,
}

impl Query {
    /// Runs the query. Returns at most `limit` items, and whether there are more.
    fn run<'a>(
        &self,
        context: &ItemContext<'a>,
        limit: usize,
        threshold: usize,
    ) -> Result<(Vec<&'a ListItem>, bool), SpError> {
        let list = context.list;
        let by_id = |name: &str| name.eq_ignore_ascii_case("ID");
        let indexed = |name: &str| {
            by_id(name) || list.index_assigned_to && matches!(name, "AssignedTo/Id" | "AssignedToId")
        };
        let plain_order = self.order.iter().all(|(name, _)| by_id(name));
        let scans = self.test.as_ref().is_some_and(|test| !test.uses_index(&indexed)) || !plain_order;
        if scans && list.items.len() > threshold && list.live_items().count() > threshold {
            return Err(SpError::threshold());
        }
        let fits = |item: &&ListItem| {
            !item.recycled
                && context.visible(item)
                && self
                    .test
                    .as_ref()
                    .is_none_or(|test| test.holds(&|name| context.cell(item, name).unwrap_or(Cell::Null)))
        };
        let ascending = plain_order && self.order.first().is_none_or(|(_, ascending)| *ascending);
        let mut page: Vec<&ListItem> = if ascending {
            let from = self
                .after
                .as_ref()
                .map_or(i32::MIN, |after| after.id.saturating_add(1));
            let first = from..;
            match self.test.as_ref().and_then(|test| candidates(list, test)) {
                Some(ids) => ids
                    .iter()
                    .filter(|id| first.contains(id))
                    .filter_map(|id| list.items.get(id))
                    .map(Box::as_ref)
                    .filter(fits)
                    .take(limit + 1)
                    .collect(),
                None => list
                    .items
                    .range(first)
                    .map(|(_, item)| item.as_ref())
                    .filter(fits)
                    .take(limit + 1)
                    .collect(),
            }
        } else {
            let mut all: Vec<&ListItem> = list.items.values().map(Box::as_ref).filter(fits).collect();
            all.sort_by(|left, right| self.compare(context, left, right));
            all.into_iter()
                .filter(|item| self.is_past_position(context, item))
                .take(limit + 1)
                .collect()
        };
        let more = page.len() > limit;
        page.truncate(limit);
        Ok((page, more))
    }

    fn compare(&self, context: &ItemContext<'_>, left: &ListItem, right: &ListItem) -> Ordering {
        for (name, ascending) in &self.order {
            let order = filter::order(&sort_cell(context, left, name), &sort_cell(context, right, name));
            let order = order.unwrap_or(Ordering::Equal);
            if order.is_ne() {
                return if *ascending { order } else { order.reverse() };
            }
        }
        left.id.cmp(&right.id)
    }

    /// Returns whether an item comes after the position at which the page starts.
    fn is_past_position(&self, context: &ItemContext<'_>, item: &ListItem) -> bool {
        let Some(after) = &self.after else { return true };
        for (name, ascending) in &self.order {
            let value = after
                .values
                .iter()
                .find(|(field, _)| field == name)
                .map(|(_, value)| value.as_str());
            let wanted = match value {
                _ if name.eq_ignore_ascii_case("ID") => Cell::Number(f64::from(after.id)),
                None | Some("") => Cell::Null,
                Some(text) => Cell::Text(text.to_owned()),
            };
            let order = filter::order(&sort_cell(context, item, name), &wanted).unwrap_or(Ordering::Equal);
            if order.is_ne() {
                return order.is_gt() == *ascending;
            }
        }
        item.id > after.id
    }

    /// Returns the position after an item as text.
    fn token(&self, context: &ItemContext<'_>, last: &ListItem) -> String {
        let names = self.order.iter().map(|(name, _)| name);
        let fields = names.filter(|name| !name.eq_ignore_ascii_case("ID")).map(|name| {
            let value = match sort_cell(context, last, name) {
                Cell::Number(number) => number.to_string(),
                Cell::Text(text) => text,
                Cell::Time(time) => time.to_string(),
                Cell::Flag(flag) => u8::from(flag).to_string(),
                Cell::Null | Cell::Many(_) => String::new(),
            };
            format!("&p_{}={}", percent_encode(name), percent_encode(&value))
        });
        format!(
            "Paged=TRUE{}&p_ID={}",
            fields.collect::<Vec<_>>().concat(),
            last.id
        )
    }
}

/// Returns the ids of the only items that can satisfy a condition, in order, if an index provides them. Each must
/// still be tested.
fn candidates(list: &List, test: &Test) -> Option<BTreeSet<i32>> {
    let id = |cell: &Cell| match cell {
        Cell::Number(number) if number.fract() == 0.0 && number.abs() < 2e9 => {
            format!("{number:.0}").parse().ok()
        }
        Cell::Text(digits) => digits.parse::<i32>().ok(),
        Cell::Null | Cell::Flag(_) | Cell::Number(_) | Cell::Time(_) | Cell::Many(_) => None,
    };
    let by_id = |name: &str| name.eq_ignore_ascii_case("ID");
    match test {
        Test::And(left, right) => candidates(list, left).or_else(|| candidates(list, right)),
        Test::Or(left, right) => {
            let mut either = candidates(list, left)?;
            either.append(&mut candidates(list, right)?);
            Some(either)
        }
        Test::Compare(name, Comparison::Equal, wanted) if by_id(name) => Some(BTreeSet::from([id(wanted)?])),
        Test::In(name, wanted) if by_id(name) => wanted.iter().map(id).collect(),
        Test::Compare(name, Comparison::Equal, wanted)
            if matches!(name.as_str(), "AssignedTo/Id" | "AssignedToId") =>
        {
            let items = list.by_person.get(&id(wanted)?);
            Some(items.into_iter().flatten().copied().collect())
        }
        Test::Always(_)
        | Test::Not(_)
        | Test::Compare(..)
        | Test::In(..)
        | Test::Contains(..)
        | Test::StartsWith(..) => None,
    }
}

/// Returns the value by which a field sorts. Of several people it is the first.
fn sort_cell(context: &ItemContext<'_>, item: &ListItem, name: &str) -> Cell {
    match context.cell(item, name) {
        Some(Cell::Many(cells)) => cells.into_iter().next().unwrap_or(Cell::Null),
        Some(cell) => cell,
        None => Cell::Null,
    }
}
