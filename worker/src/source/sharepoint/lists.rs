//! Which task lists a site has: found by template or default content type, remembered until something changes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::LocationKey;
use url::Url;
use uuid::Uuid;

use super::client::Client;
use super::errors::Scope;
use super::fields::Columns;
use super::log::Log;
use super::wire::{Ask, Refusal, Reply};
use super::zone::Zone;
use super::{SharePointSettings, Site, locked, odata};
use crate::source::Location;

/// A task list.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct TaskList {
    /// Its GUID.
    pub(super) id: Uuid,
    /// Its key in mailboxes.
    pub(super) key: LocationKey,
    /// Address of its web, without a final slash.
    pub(super) web: String,
    /// The web's GUID.
    pub(super) web_id: Uuid,
    /// Title of web and list.
    pub(super) name: String,
    /// Address people can open.
    pub(super) web_url: String,
    /// The type name verbose writes need.
    pub(super) entity_type: String,
    /// Its columns.
    pub(super) columns: Columns,
    /// The web's time zone.
    pub(super) zone: Zone,
}

impl TaskList {
    /// The path of the list behind `_api/`.
    pub(super) fn path(&self, rest: &str) -> String {
        format!("web/lists(guid'{}')/{rest}", self.id)
    }

    /// The list as the sync pass sees it.
    pub(super) fn location(&self) -> Location {
        Location {
            key: self.key.clone(),
            name: self.name.clone(),
            web_url: self.web_url.clone(),
            holds: self.columns.holds(),
        }
    }

    /// Address of an item's form.
    pub(super) fn item_url(&self, item: i64) -> String {
        format!(
            "{}/_layouts/15/listform.aspx?PageType=4&ListId={}&ID={item}",
            self.web, self.id
        )
    }
}

/// What a walk of a site found.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// Task lists by GUID.
    pub(super) lists: BTreeMap<Uuid, Arc<TaskList>>,
    /// The root web's title.
    pub(super) title: String,
    at: Timestamp,
    /// The end of the feed's log when the walk began.
    as_of: i64,
}

/// What is known of a site's lists.
#[derive(Default)]
pub(super) struct Catalogue {
    /// Held during a walk: one walks, the others wait.
    turn: tokio::sync::Mutex<()>,
    found: Mutex<Option<Arc<Found>>>,
}

/// Templates of task lists: Tasks, Gantt tasks, tasks with timeline and hierarchy.
const TEMPLATES: [i64; 3] = [107, 150, 171];
/// Content type ids of tasks begin so.
const TASK: &str = "0x0108";
/// Lists read per request of a web's lists.
const PAGES: usize = 20;

impl Catalogue {
    /// The lists, found anew when the last walk is too old or the feed told of a change.
    pub(super) async fn current(
        &self,
        client: &Client,
        site: &Site,
        settings: &SharePointSettings,
    ) -> Result<Arc<Found>, Failure> {
        if let Some(found) = self.if_current(client, site, settings) {
            return Ok(found);
        }
        let _turn = self.turn.lock().await;
        if let Some(found) = self.if_current(client, site, settings) {
            return Ok(found);
        }
        client.forget_batch_refusal();
        let as_of = site.feed.end();
        let mut found = walk(client, &site.address, settings).await?;
        found.as_of = as_of;
        let known = locked(&self.found).clone();
        if let Some(known) = known {
            confirm_missing(client, site, &known, &found).await?;
        }
        let found = Arc::new(found);
        *locked(&self.found) = Some(Arc::clone(&found));
        Ok(found)
    }

    fn if_current(&self, client: &Client, site: &Site, settings: &SharePointSettings) -> Option<Arc<Found>> {
        let found = locked(&self.found).clone()?;
        let age = found.at.duration_until(client.now());
        let young =
            age < SignedDuration::try_from(settings.discovery_interval).unwrap_or(SignedDuration::MAX);
        let changed = site
            .feed
            .with_log(|log: &Log| log.structure_changed(found.as_of))
            .unwrap_or(false);
        (young && !changed).then_some(found)
    }

    /// What the last walk found, however old.
    pub(super) fn last(&self) -> Option<Arc<Found>> {
        locked(&self.found).clone()
    }

    /// The next caller walks again.
    pub(super) fn forget(&self) {
        if let Some(found) = &mut *locked(&self.found) {
            let mut old = (**found).clone();
            old.at = Timestamp::MIN;
            *found = Arc::new(old);
        }
    }

    /// Takes out a list that answered that it is not there.
    pub(super) fn drop_list(&self, list: Uuid) {
        if let Some(found) = &mut *locked(&self.found) {
            let mut without = (**found).clone();
            without.lists.remove(&list);
            *found = Arc::new(without);
        }
    }
}

/// A list that is no longer found must be really gone (or no task list any more): a walk that saw less than it should,
/// because the account lost a right for a while, must not look like lists being deleted.
async fn confirm_missing(client: &Client, site: &Site, known: &Found, found: &Found) -> Result<(), Failure> {
    let missing: Vec<&Arc<TaskList>> = known
        .lists
        .values()
        .filter(|list| !found.lists.contains_key(&list.id))
        .collect();
    let asks = missing
        .iter()
        .map(|list| {
            Ask::get(
                &list.web,
                list.path("?$select=Id").replace("/?", "?"),
                Scope::List,
            )
        })
        .collect();
    for reply in client.send_all(&site.address, asks).await? {
        match reply {
            Ok(_) => {}
            Err(refusal) if refusal.failure.class == ErrorClass::Gone => {}
            Err(refusal) => return Err(refusal.failure.within("a task list can no longer be found")),
        }
    }
    Ok(())
}

struct Web {
    address: String,
    id: Uuid,
    title: String,
    zone: Zone,
}

/// Walks the root web and its sub webs.
async fn walk(client: &Client, site: &str, settings: &SharePointSettings) -> Result<Found, Failure> {
    let mut lists = BTreeMap::new();
    let mut title = String::new();
    let mut queue = VecDeque::from([site.to_owned()]);
    let mut walked = 0;
    while let Some(address) = queue.pop_front() {
        if walked >= settings.webs_per_site.max(1) {
            tracing::warn!(
                site,
                limit = settings.webs_per_site,
                "more webs than the limit, the rest is left out"
            );
            break;
        }
        walked += 1;
        let web = match read_web(client, &address).await {
            Ok(web) => web,
            // A sub web that went away since its parent was read.
            Err(failure) if walked > 1 && failure.code == Code::SharePointSiteMissing => continue,
            // One closed sub web does not stop the tenant; lists known from it are asked for one by one below.
            Err(failure) if walked > 1 && failure.code == Code::SharePointDenied => {
                tracing::warn!(
                    site,
                    web = address,
                    "a sub web is closed to the account and is left out"
                );
                continue;
            }
            Err(failure) => return Err(failure),
        };
        if walked == 1 {
            title.clone_from(&web.title);
        }
        for list in task_lists(client, site, &web).await? {
            if lists.len() >= settings.lists_per_site {
                tracing::warn!(
                    site,
                    limit = settings.lists_per_site,
                    "more task lists than the limit, the rest is left out"
                );
                break;
            }
            lists.insert(list.id, Arc::new(list));
        }
        if settings.webs_per_site > 1 {
            queue.extend(
                sub_webs(client, &address)
                    .await?
                    .into_iter()
                    .take(settings.webs_per_site),
            );
        }
    }
    Ok(Found {
        lists,
        title,
        at: client.now(),
        as_of: 0,
    })
}

async fn read_web(client: &Client, address: &str) -> Result<Web, Failure> {
    let web = client
        .send(&Ask::get(address, "web?$select=Id,Title", Scope::Site))
        .await?
        .value;
    let id = odata::guid(&web, "Id").ok_or_else(|| bad(address, "the web has no id"))?;
    let zone = client
        .send(&Ask::get(address, "web/regionalsettings/timezone", Scope::Site))
        .await?
        .value;
    Ok(Web {
        address: address.to_owned(),
        id,
        title: odata::text(&web, "Title").unwrap_or_default(),
        zone: Zone::read(&zone, client.now()),
    })
}

async fn sub_webs(client: &Client, address: &str) -> Result<Vec<String>, Failure> {
    let ask = Ask::get(address, "web/webs?$select=Id,Title,Url", Scope::Site);
    let entries = collection(client, ask).await?;
    let own = Url::parse(address).ok();
    Ok(entries
        .iter()
        .filter_map(|web| odata::text(web, "Url"))
        .filter_map(|url| own.as_ref()?.join(&url).ok())
        // Credentials go to the server the tenant named and to no other.
        .filter(|url| own.as_ref().is_some_and(|own| own.origin() == url.origin()))
        .map(|url| url.as_str().trim_end_matches('/').to_owned())
        .collect())
}

/// Every entry of a collection, page by page.
async fn collection(client: &Client, mut ask: Ask) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    for _ in 0..PAGES {
        let reply = client.send(&ask).await?;
        let entries = odata::entries(&reply.value).ok_or_else(|| bad(&ask.web, "an answer is no list"))?;
        all.extend(entries.iter().cloned());
        let Some(next) = odata::next_page(&reply.value) else {
            return Ok(all);
        };
        match next.split_once("/_api/") {
            Some((web, path)) if web.eq_ignore_ascii_case(&ask.web) => ask.path = path.to_owned(),
            _ => return Err(bad(&ask.web, "the next page is elsewhere")),
        }
    }
    Err(bad(&ask.web, "an answer has too many pages"))
}

fn bad(address: &str, reason: &str) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::SharePointBadAnswer,
        format!("{address}: {reason}"),
    )
}

async fn task_lists(client: &Client, site: &str, web: &Web) -> Result<Vec<TaskList>, Failure> {
    let ask = Ask::get(
        &web.address,
        "web/lists?$select=Id,Title,BaseTemplate,Hidden,ListItemEntityTypeFullName,DefaultViewUrl&$filter=Hidden%20eq%20false",
        Scope::Site,
    );
    let entries: HashMap<Uuid, Value> = collection(client, ask)
        .await?
        .into_iter()
        .filter(|list| odata::boolean(list, "Hidden") != Some(true))
        .filter_map(|list| Some((odata::guid(&list, "Id")?, list)))
        .collect();
    let (mut chosen, others): (Vec<Uuid>, Vec<Uuid>) = entries.keys().copied().partition(|id| {
        let template = entries
            .get(id)
            .and_then(|list| odata::integer(list, "BaseTemplate"));
        template.is_some_and(|template| TEMPLATES.contains(&template))
    });
    let of_list =
        |id: &Uuid, rest: &str| Ask::get(&web.address, format!("web/lists(guid'{id}')/{rest}"), Scope::List);
    let asks = others
        .iter()
        .map(|id| of_list(id, "contenttypes?$select=StringId,Name"))
        .collect();
    let replies = client.send_all(site, asks).await?;
    for (id, reply) in others.iter().zip(replies) {
        if present(reply)?.is_some_and(|value| default_is_task(&value)) {
            chosen.push(*id);
        }
    }
    chosen.sort_unstable();
    let asks = chosen
        .iter()
        .map(|id| {
            of_list(
                id,
                "fields?$select=Id,InternalName,TypeAsString,Choices,SchemaXml,DisplayFormat,AllowMultipleValues",
            )
        })
        .collect();
    let mut lists = Vec::new();
    for (id, reply) in chosen.iter().zip(client.send_all(site, asks).await?) {
        let (Some(fields), Some(list)) = (present(reply)?, entries.get(id)) else {
            continue;
        };
        let Some(columns) = Columns::read(&fields) else {
            tracing::info!(site, list = %id, "a task list without a column of assigned people is left out");
            continue;
        };
        lists.push(TaskList {
            id: *id,
            key: LocationKey::sharepoint_list(&id.to_string()),
            web: web.address.clone(),
            web_id: web.id,
            name: name_of(&web.title, &odata::text(list, "Title").unwrap_or_default()),
            web_url: view_url(&web.address, odata::text(list, "DefaultViewUrl").as_deref()),
            entity_type: odata::text(list, "ListItemEntityTypeFullName").unwrap_or_default(),
            columns,
            zone: web.zone.clone(),
        });
    }
    Ok(lists)
}

/// The answer, or `None` when the list went away meanwhile.
fn present(reply: Result<Reply, Refusal>) -> Result<Option<Value>, Failure> {
    match reply {
        Ok(reply) => Ok(Some(reply.value)),
        Err(refusal) if refusal.failure.class == ErrorClass::Gone => Ok(None),
        Err(refusal) => Err(refusal.failure),
    }
}

/// The first content type is the list's default.
fn default_is_task(value: &Value) -> bool {
    odata::entries(value)
        .and_then(|types| types.first())
        .and_then(|first| odata::text(first, "StringId"))
        .is_some_and(|id| id.starts_with(TASK))
}

fn name_of(web: &str, list: &str) -> String {
    match (web.trim(), list.trim()) {
        ("", list) => list.to_owned(),
        (web, list) => format!("{web} - {list}"),
    }
}

fn view_url(web: &str, view: Option<&str>) -> String {
    let web = web.to_owned();
    match (view.filter(|view| !view.is_empty()), Url::parse(&web)) {
        (Some(view), Ok(base)) => base.join(view).map_or(web, String::from),
        _ => web,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_default_content_type_counts() {
        let types =
            |ids: &[&str]| json!({"value": ids.iter().map(|id| json!({"StringId": id})).collect::<Vec<_>>()});
        assert!(default_is_task(&types(&["0x0108003A", "0x01"])));
        assert!(!default_is_task(&types(&["0x01", "0x0108003A"])));
        assert!(!default_is_task(&types(&[])) && !default_is_task(&json!(null)));
    }

    #[test]
    fn names_and_addresses_for_people() {
        assert_eq!(name_of("Projects", "Tasks"), "Projects - Tasks");
        assert_eq!(name_of(" ", "Tasks"), "Tasks");
        let web = "https://h/sites/p";
        assert_eq!(
            view_url(web, Some("/sites/p/Lists/T/All Tasks.aspx")),
            "https://h/sites/p/Lists/T/All%20Tasks.aspx"
        );
        assert_eq!(view_url(web, None), web);
    }
}
