//! Walking through the webs of a site: which task lists exist, and which could not be seen.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use tasksync_common::error::{Code, ErrorClass, Failure, Scope as Whose};
use tasksync_common::model::LocationKey;
use url::Url;
use uuid::Uuid;

use super::client::SharePointClient;
use super::columns::{COLUMN_PROPERTIES, TaskColumns};
use super::errors::RequestSubject;
use super::json::Cell;
use super::lists::{DiscoveredLists, TaskList, UnreadList};
use super::read_failure::read_failure_of;
use super::wire::{RestAnswer, RestRequest, SharePointRefusal};
use super::zone::Zone;
use super::{SharePointSettings, odata};

/// The templates of task lists: Tasks, Gantt tasks, and tasks with timeline and hierarchy.
const TEMPLATES: [i64; 3] = [107, 150, 171];
/// The prefix of the ids of task content types.
const TASK: &str = "0x0108";
/// Pages read of a web's lists or of its sub webs.
const PAGES: usize = 20;

struct Web {
    address: String,
    id: Uuid,
    title: String,
    /// The zone, as read now or as last known; otherwise why it cannot be read.
    zone: Result<Zone, Failure>,
}

/// The state of a walk.
struct SiteWalk<'a> {
    client: &'a SharePointClient,
    site: &'a str,
    settings: &'a SharePointSettings,
    /// The result of the walk before.
    previous: Option<&'a DiscoveredLists>,
    found: DiscoveredLists,
}

/// Walks through the root web and its sub webs. A sub web or list that cannot be read is left out and
/// recorded.
///
/// # Errors
/// The root web cannot be read, or the whole server or the account is the cause.
pub(super) async fn walk(
    client: &SharePointClient,
    site: &str,
    settings: &SharePointSettings,
    previous: Option<&DiscoveredLists>,
) -> Result<DiscoveredLists, Failure> {
    let mut walk = SiteWalk {
        client,
        site,
        settings,
        previous,
        found: DiscoveredLists {
            lists: BTreeMap::new(),
            title: String::new(),
            unread: BTreeMap::new(),
            incomplete: None,
            zones: previous
                .map(|previous| previous.zones.clone())
                .unwrap_or_default(),
            lacks_zone: false,
            at: client.now(),
            as_of: 0,
        },
    };
    let mut queue = VecDeque::from([site.to_owned()]);
    let mut walked = 0;
    while let Some(address) = queue.pop_front() {
        if walked >= settings.webs_per_site.max(1) {
            walk.leave_out(&limit_exceeded(site, settings.webs_per_site, "webs"));
            break;
        }
        walked += 1;
        match walk.web(&address, &mut queue).await {
            Ok(()) => {}
            Err(refusal) if walked == 1 => return Err(refusal.failure),
            Err(refusal) => {
                let read_failure = read_failure_of(refusal, Whose::Container)?;
                walk.record_unread_web(&address, &read_failure.failure);
            }
        }
    }
    Ok(walk.found)
}

fn limit_exceeded(site: &str, limit: usize, what: &str) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::SharePointAnswerTooLarge,
        format!("{site}: more than {limit} {what}; the rest is not read"),
    )
}

impl SiteWalk<'_> {
    /// Records that the walk does not see everything.
    fn leave_out(&mut self, failure: &Failure) {
        tracing::warn!(site = self.site, %failure, "not every task list of the site can be read");
        self.found.incomplete.get_or_insert_with(|| failure.clone());
    }

    /// Records the lists of a web that cannot be read as unread: a list that cannot be seen is not gone.
    fn record_unread_web(&mut self, address: &str, failure: &Failure) {
        self.leave_out(failure);
        let Some(previous) = self.previous else { return };
        let lists = previous.lists.values().map(|list| (list.id, &list.web));
        // The lists that the walk before could not read either.
        let unread = previous.unread.iter().filter(|(_, list)| list.is_task_list);
        let unread = unread.map(|(id, list)| (*id, &list.web));
        for (id, web) in lists.chain(unread).filter(|(_, web)| *web == address) {
            let list = UnreadList {
                web: web.clone(),
                failure: failure.clone(),
                is_task_list: true,
            };
            self.found.unread.insert(id, list);
        }
    }

    /// Records a list that cannot be read as unread.
    fn record_unread_list(&mut self, web: &str, list: Uuid, failure: Failure, is_task_list: bool) {
        tracing::warn!(site = self.site, %list, %failure, "a list cannot be read");
        let was_task_list = self.previous.is_some_and(|previous| {
            previous.lists.contains_key(&list)
                || previous
                    .unread
                    .get(&list)
                    .is_some_and(|unread| unread.is_task_list)
        });
        self.found.unread.insert(
            list,
            UnreadList {
                web: web.to_owned(),
                failure,
                is_task_list: is_task_list || was_task_list,
            },
        );
    }

    /// Reads one web.
    async fn web(&mut self, address: &str, queue: &mut VecDeque<String>) -> Result<(), SharePointRefusal> {
        let web = self.read_web(address).await?;
        let lists = self.task_lists(&web).await?;
        if self.settings.webs_per_site > 1 {
            let webs = sub_webs(self.client, address).await?;
            queue.extend(webs.into_iter().take(self.settings.webs_per_site));
        }
        if address == self.site {
            self.found.title.clone_from(&web.title);
        }
        match web.zone {
            Ok(zone) => {
                self.found.zones.insert(web.address, zone);
            }
            Err(_) => self.found.lacks_zone = true,
        }
        for list in lists {
            if self.found.lists.len() >= self.settings.lists_per_site {
                self.leave_out(&limit_exceeded(
                    self.site,
                    self.settings.lists_per_site,
                    "task lists",
                ));
                break;
            }
            self.found.lists.insert(list.id, Arc::new(list));
        }
        Ok(())
    }

    async fn read_web(&self, address: &str) -> Result<Web, SharePointRefusal> {
        let request = RestRequest::get(address, "web?$select=Id,Title,Url", RequestSubject::Site);
        let web = self.client.send(&request).await?.read(&["Id", "Title", "Url"])?;
        let id = odata::guid(&web, "Id").ok_or_else(|| bad_answer(address, "the web has no id"))?;
        if odata::text(&web, "Url").is_some_and(|url| !is_at(&url, address)) {
            return Err(bad_answer(address, "the answer is about another web").into());
        }
        let last = self.found.zones.get(address).cloned();
        let zone = match self.zone_of(address, last.as_ref()).await? {
            Ok(zone) => Ok(zone),
            Err(failure) => {
                tracing::warn!(web = address, %failure, last_known = last.is_some(),
                    "the time zone cannot be read; unless an earlier one is known, no date is read or written");
                last.ok_or(failure)
            }
        };
        Ok(Web {
            address: address.to_owned(),
            id,
            title: odata::text(&web, "Title").unwrap_or_default(),
            zone,
        })
    }
}

impl SiteWalk<'_> {
    /// Reads the zone of a web. The answer does not name its web, so a zone other than the last known one
    /// counts only if two readings agree.
    async fn zone_of(
        &self,
        address: &str,
        last: Option<&Zone>,
    ) -> Result<Result<Zone, Failure>, SharePointRefusal> {
        let first = match self.zone_once(address).await? {
            Ok(zone) if last == Some(&zone) => return Ok(Ok(zone)),
            Ok(zone) => zone,
            Err(failure) => return Ok(Err(failure)),
        };
        let second = self.zone_once(address).await?;
        Ok(second.and_then(|second| {
            if second == first {
                Ok(second)
            } else {
                Err(bad_answer(address, "two readings of the time zone differ"))
            }
        }))
    }

    async fn zone_once(&self, address: &str) -> Result<Result<Zone, Failure>, SharePointRefusal> {
        let request = RestRequest::get(address, "web/regionalsettings/timezone", RequestSubject::Site);
        Ok(match self.client.send(&request).await {
            Ok(reply) => read_zone(&reply, self.client.now()).map_err(|reason| bad_answer(address, &reason)),
            Err(refusal) => Err(read_failure_of(refusal, Whose::Container)?.failure),
        })
    }
}

fn read_zone(reply: &RestAnswer, now: Timestamp) -> Result<Zone, String> {
    let names = ["Id", "Information", "Bias", "StandardBias", "DaylightBias"];
    let answer = reply.read(&names).map_err(|failure| failure.detail)?;
    Zone::read(&answer, now)
}

/// Returns whether an address is that of `web`, whatever host name the server uses for itself.
fn is_at(address: &str, web: &str) -> bool {
    let path = |text: &str| {
        let url = Url::parse(text).ok()?;
        Some(url.path().trim_end_matches('/').to_lowercase())
    };
    path(address).is_some_and(|address| Some(address) == path(web))
}

/// Returns the addresses of the webs directly below a web.
async fn sub_webs(client: &SharePointClient, address: &str) -> Result<Vec<String>, SharePointRefusal> {
    let request = RestRequest::get(address, "web/webs?$select=Id,Title,Url", RequestSubject::Site);
    let entries = collection(client, request, &["Url"]).await?;
    let base = Url::parse(address).ok();
    Ok(entries
        .iter()
        .filter_map(|web| odata::text(web, "Url"))
        .filter_map(|url| base.as_ref()?.join(&url).ok())
        // Credentials are sent only to the server that the tenant named.
        .filter(|url| base.as_ref().is_some_and(|base| is_below(base, url)))
        .map(|url| url.as_str().trim_end_matches('/').to_owned())
        .collect())
}

/// Returns whether a web is below another one of the same server.
fn is_below(parent: &Url, web: &Url) -> bool {
    let parent_path = format!("{}/", parent.path().trim_end_matches('/').to_lowercase());
    parent.origin() == web.origin() && web.path().to_lowercase().starts_with(&parent_path)
}

/// Returns the properties `names` of every entry of a collection, page by page.
async fn collection(
    client: &SharePointClient,
    mut ask: RestRequest,
    names: &[&str],
) -> Result<Vec<Cell>, SharePointRefusal> {
    let mut all = Vec::new();
    for _ in 0..PAGES {
        let answer = client.send(&ask).await?.read(names)?;
        let entries =
            odata::entries(&answer).ok_or_else(|| bad_answer(&ask.web, "an answer is not a list"))?;
        all.extend(entries.iter().cloned());
        let Some(next) = odata::next_page(&answer) else {
            return Ok(all);
        };
        match next.split_once("/_api/") {
            Some((web, path)) if web.eq_ignore_ascii_case(&ask.web) => path.clone_into(&mut ask.path),
            _ => return Err(bad_answer(&ask.web, "the next page is elsewhere").into()),
        }
    }
    Err(bad_answer(&ask.web, "an answer has too many pages").into())
}

fn bad_answer(address: &str, reason: &str) -> Failure {
    Failure::new(
        ErrorClass::Transient,
        Code::SharePointBadAnswer,
        format!("{address}: {reason}"),
    )
}

/// The properties that are read of each list.
const LIST_PROPERTIES: [&str; 7] = [
    "Id",
    "Title",
    "BaseTemplate",
    "Hidden",
    "ListItemEntityTypeFullName",
    "DefaultViewUrl",
    "ParentWebUrl",
];

impl SiteWalk<'_> {
    /// Returns the task lists of a web.
    async fn task_lists(&mut self, web: &Web) -> Result<Vec<TaskList>, SharePointRefusal> {
        let path = format!(
            "web/lists?$select={}&$filter=Hidden%20eq%20false",
            LIST_PROPERTIES.join(",")
        );
        let request = RestRequest::get(&web.address, path, RequestSubject::Site);
        let mut entries: HashMap<Uuid, Cell> = HashMap::new();
        for list in collection(self.client, request, &LIST_PROPERTIES).await? {
            let id = odata::guid(&list, "Id").ok_or_else(|| bad_answer(&web.address, "a list has no id"))?;
            if odata::text(&list, "ParentWebUrl").is_some_and(|path| !is_path_of(&path, &web.address)) {
                return Err(bad_answer(&web.address, "a list is of another web").into());
            }
            if odata::boolean(&list, "Hidden") != Some(true) {
                entries.insert(id, list);
            }
        }
        let chosen = self.choose(web, &entries).await?;
        let requests = chosen
            .iter()
            .map(|id| {
                let select = "fields?$select=Id,InternalName,TypeAsString,Choices,SchemaXml,DisplayFormat,AllowMultipleValues";
                of_list(web, *id, select)
            })
            .collect();
        let mut lists = Vec::new();
        for (id, reply) in chosen.iter().zip(self.client.send_all(requests).await?) {
            let (Some(fields), Some(list)) = (
                self.present(&web.address, *id, reply, &COLUMN_PROPERTIES, "InternalName", true)?,
                entries.get(id),
            ) else {
                continue;
            };
            let Some(columns) = TaskColumns::read(&fields) else {
                tracing::info!(site = self.site, list = %id, "a task list without a column of assigned people is left out");
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

    /// Returns which of the lists are task lists: by their template, otherwise by their default content type.
    async fn choose(
        &mut self,
        web: &Web,
        entries: &HashMap<Uuid, Cell>,
    ) -> Result<Vec<Uuid>, SharePointRefusal> {
        let (mut chosen, others): (Vec<Uuid>, Vec<Uuid>) = entries.keys().copied().partition(|id| {
            let template = entries
                .get(id)
                .and_then(|list| odata::integer(list, "BaseTemplate"));
            template.is_some_and(|template| TEMPLATES.contains(&template))
        });
        let requests = others
            .iter()
            .map(|id| of_list(web, *id, "contenttypes?$select=StringId,Name"))
            .collect();
        let replies = self.client.send_all(requests).await?;
        for (id, reply) in others.iter().zip(replies) {
            let types = self.present(&web.address, *id, reply, &["StringId"], "StringId", false)?;
            if types.is_some_and(|types| default_is_task(&types)) {
                chosen.push(*id);
            }
        }
        chosen.sort_unstable();
        Ok(chosen)
    }

    /// Returns the answer about a list, in which each entry must have a `key`. Returns `None` if the list was
    /// removed meanwhile, or cannot be read, which is recorded.
    fn present(
        &mut self,
        web: &str,
        list: Uuid,
        reply: Result<RestAnswer, SharePointRefusal>,
        names: &[&str],
        key: &str,
        is_task_list: bool,
    ) -> Result<Option<Cell>, Failure> {
        let failure = match reply {
            Ok(reply) => match reply.read(names) {
                Ok(answer) => match odata::entries(&answer) {
                    // Entries without the key belong to the answer to another request.
                    Some(entries) if entries.iter().any(|entry| odata::text(entry, key).is_none()) => {
                        bad_answer(
                            self.site,
                            &format!("list {list}: an entry of the answer has no {key}"),
                        )
                    }
                    Some(_) => return Ok(Some(answer)),
                    None => bad_answer(self.site, &format!("list {list}: the answer is not a list")),
                },
                Err(failure) => failure,
            },
            Err(refusal) if refusal.failure.class == ErrorClass::Gone => return Ok(None),
            Err(refusal) => read_failure_of(refusal, Whose::Container)?.failure,
        };
        self.record_unread_list(web, list, failure, is_task_list);
        Ok(None)
    }
}

fn of_list(web: &Web, list: Uuid, rest: &str) -> RestRequest {
    RestRequest::get(
        &web.address,
        format!("web/lists(guid'{list}')/{rest}"),
        RequestSubject::List,
    )
}

/// Returns whether a server-relative path is that of `web`.
fn is_path_of(path: &str, web: &str) -> bool {
    let joined = Url::parse(web).ok().and_then(|base| base.join(path).ok());
    joined.is_some_and(|url| is_at(url.as_str(), web))
}

/// Returns whether the first content type, which is the list's default, is a task.
fn default_is_task(answer: &Cell) -> bool {
    odata::entries(answer)
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
        let types = |ids: &[&str]| {
            Cell::from(json!({"value": ids.iter().map(|id| json!({"StringId": id})).collect::<Vec<_>>()}))
        };
        assert!(default_is_task(&types(&["0x0108003A", "0x01"])));
        assert!(!default_is_task(&types(&["0x01", "0x0108003A"])));
        assert!(!default_is_task(&types(&[])) && !default_is_task(&Cell::Null));
    }

    #[test]
    fn an_answer_about_another_web_is_recognised() {
        let web = "https://h/sites/p";
        for same in ["https://h/sites/p/", "http://intranet/Sites/P"] {
            assert!(is_at(same, web), "{same}");
        }
        for other in ["https://h/sites/q", "https://h/sites/p/sub", "https://h/", "x"] {
            assert!(!is_at(other, web), "{other}");
        }
        assert!(is_path_of("/sites/p", web) && !is_path_of("/sites/q", web));
        assert!(is_at("https://h", "https://h") && is_path_of("/", "https://h"));
        let (parent, below) = (Url::parse(web).unwrap(), |url: &str| Url::parse(url).unwrap());
        assert!(is_below(&parent, &below("https://h/sites/P/sub")));
        for other in [
            "https://h/sites/p",
            "https://h/sites/pq/sub",
            "https://x/sites/p/sub",
        ] {
            assert!(!is_below(&parent, &below(other)), "{other}");
        }
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
