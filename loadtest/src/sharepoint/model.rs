//! The store: site collections, webs, lists, items, people and rights.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::changes::{ChangeKind, ChangeLog, ChangeType};
use super::errors::SpError;
use super::fields::{Field, Schema};
use super::zones::SiteZone;
use crate::sim::conditions::GroupId;

/// First id for a person of a site. Smaller ids belong to the system.
const FIRST_USER_ID: i32 = 7;
/// Id of the account that represents app-only tokens on every site.
pub(crate) const APP_USER_ID: i32 = 1_073_741_822;

/// The rights of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// None. For this person the object does not exist.
    None,
    /// May see it.
    Read,
    /// May see, add, change and delete.
    Edit,
}

impl Access {
    /// Returns SharePoint's permission mask, high and low 32 bits.
    pub(crate) fn mask(self) -> (u32, u32) {
        match self {
            Self::None => (0, 0),
            Self::Read => (176, 138_612_833),
            Self::Edit => (432, 1_011_028_719),
        }
    }
}

/// The permission mask of full control.
pub(crate) const FULL_MASK: (u32, u32) = (2_147_483_647, 4_294_967_295);

#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: i32,
    pub(crate) login: String,
    pub(crate) title: String,
    pub(crate) email: String,
}

/// The answer to service accounts and apps at a web or list that is closed to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// 403, access denied.
    Forbidden,
    /// 404, as if it did not exist.
    Missing,
}

#[derive(Debug, Clone)]
pub(crate) struct Web {
    pub(crate) id: Uuid,
    /// Server-relative path without a final slash.
    pub(crate) path: String,
    pub(crate) title: String,
    pub(crate) created: Timestamp,
    /// Whether and how service accounts and apps are refused.
    pub(crate) closed: Option<Closed>,
}

/// The rights of people who have less than full access. Absent people may edit.
pub(crate) type Restrictions = BTreeMap<i32, Access>;

#[derive(Debug, Clone)]
pub(crate) struct ListItem {
    pub(crate) id: i32,
    pub(crate) unique_id: Uuid,
    pub(crate) version: u32,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) start: Option<Timestamp>,
    pub(crate) due: Option<Timestamp>,
    pub(crate) status: Option<String>,
    pub(crate) percent: Option<f64>,
    pub(crate) priority: Option<String>,
    pub(crate) assigned_to: Vec<i32>,
    pub(crate) actual_work: Option<f64>,
    pub(crate) total_work: Option<f64>,
    pub(crate) completed: Option<Timestamp>,
    pub(crate) created: Timestamp,
    pub(crate) modified: Timestamp,
    pub(crate) author: i32,
    pub(crate) editor: i32,
    pub(crate) recycled: bool,
    /// The item's own rights, which replace the list's.
    pub(crate) rights: Option<Restrictions>,
}

impl ListItem {
    /// Returns the version as an HTTP entity tag.
    pub(crate) fn etag(&self) -> String {
        format!("\"{}\"", self.version)
    }
}

#[derive(Debug)]
pub(crate) struct List {
    pub(crate) id: Uuid,
    pub(crate) web: usize,
    pub(crate) title: String,
    pub(crate) description: String,
    /// Last part of the list's address. It is derived from the first title and never changes.
    pub(crate) url_name: String,
    pub(crate) hidden: bool,
    pub(crate) schema: Schema,
    pub(crate) fields: Arc<[Field]>,
    /// Id prefix and name of each content type. The first one is the default.
    pub(crate) content_types: Vec<(&'static str, &'static str)>,
    pub(crate) index_assigned_to: bool,
    pub(crate) items: BTreeMap<i32, Box<ListItem>>,
    /// Items that are or were assigned to a person, in order of id. Queries about one person use this index.
    pub(crate) by_person: HashMap<i32, Vec<i32>>,
    pub(crate) next_item: i32,
    pub(crate) created: Timestamp,
    pub(crate) last_item_modified: Timestamp,
    pub(crate) last_item_deleted: Timestamp,
    pub(crate) rights: Option<Restrictions>,
    /// Whether and how service accounts and apps are refused.
    pub(crate) closed: Option<Closed>,
}

impl List {
    /// Returns the type name of the list's items, such as `SP.Data.TasksListItem`.
    pub(crate) fn item_kind(&self) -> String {
        format!("SP.Data.{}ListItem", encode_name(&self.url_name))
    }

    pub(crate) fn entity_type_name(&self) -> String {
        format!("{}List", encode_name(&self.url_name))
    }

    pub(crate) fn live_items(&self) -> impl Iterator<Item = &ListItem> {
        self.items.values().map(Box::as_ref).filter(|item| !item.recycled)
    }

    /// Adds an item to the index of the people it is assigned to.
    pub(crate) fn index_item(&mut self, id: i32) {
        let Some(item) = self.items.get(&id) else { return };
        for person in &item.assigned_to {
            let items = self.by_person.entry(*person).or_default();
            if let Err(at) = items.binary_search(&id) {
                if items.capacity() == items.len() && items.len() < 4 {
                    items.reserve_exact(1);
                }
                items.insert(at, id);
            }
        }
    }

    pub(crate) fn item(&self, id: i32) -> Result<&ListItem, SpError> {
        self.items
            .get(&id)
            .map(Box::as_ref)
            .filter(|item| !item.recycled)
            .ok_or_else(SpError::no_item)
    }

    pub(crate) fn field(&self, name: &str) -> Option<Field> {
        self.fields
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name) || field.entity_name() == name)
            .copied()
    }
}

/// Encodes a name as in SharePoint's type names: letters and digits stay, and other characters become `_x…_`. The
/// first letter becomes upper case.
fn encode_name(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for (at, character) in name.chars().enumerate() {
        match character {
            'a'..='z' if at == 0 => encoded.push(character.to_ascii_uppercase()),
            'a'..='z' | 'A'..='Z' | '0'..='9' => encoded.push(character),
            other => {
                let _ = write!(encoded, "_x{:04x}_", u32::from(other));
            }
        }
    }
    encoded
}

#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) id: Uuid,
    pub(crate) language: super::fields::Language,
    pub(crate) zone: SiteZone,
    /// The webs; the first is the root web.
    pub(crate) webs: Vec<Web>,
    pub(crate) lists: BTreeMap<Uuid, List>,
    pub(crate) users: BTreeMap<i32, User>,
    /// People whom `ensureuser` can find but who were never on the site: login, title, e-mail.
    pub(crate) directory: Vec<(String, String, String)>,
    pub(crate) next_user: i32,
    /// Ids of people by the hash of each name under which they can be found. Hits must be verified.
    pub(crate) names: HashMap<u64, i32>,
    /// Group of tenants that the site belongs to.
    pub(crate) group: GroupId,
    /// Names of callers that are refused on this site, in lower case.
    pub(crate) refused: HashSet<String>,
    pub(crate) log: ChangeLog,
}

impl Site {
    /// Returns the site collection's path.
    pub(crate) fn path(&self) -> &str {
        self.webs.first().map_or("", |web| web.path.as_str())
    }

    pub(crate) fn web_index(&self, path: &str) -> Option<usize> {
        self.webs
            .iter()
            .position(|web| web.path.eq_ignore_ascii_case(path))
    }

    pub(crate) fn list(&self, id: Uuid) -> Result<&List, SpError> {
        self.lists.get(&id).ok_or_else(SpError::no_list)
    }

    pub(crate) fn list_mut(&mut self, id: Uuid) -> Result<&mut List, SpError> {
        self.lists.get_mut(&id).ok_or_else(SpError::no_list)
    }

    /// Returns the person with this claims login, plain login or e-mail, ignoring case.
    pub(crate) fn find_user(&self, name: &str) -> Option<&User> {
        let matches = |user: &&User| login_matches(&user.login, &user.email, name);
        let hint = self
            .names
            .get(&name_hash(name))
            .and_then(|id| self.users.get(id))
            .filter(matches);
        // Two names may share a hash, or the name may have belonged to another person before. Then check all people.
        match hint {
            Some(user) => Some(user),
            None if self.names.contains_key(&name_hash(name)) => self.users.values().find(matches),
            None => None,
        }
    }

    /// Adds a person, or updates the person with that login. Returns the id.
    pub(crate) fn add_user(&mut self, login: &str, title: &str, email: &str) -> i32 {
        let existing = self
            .find_user(login)
            .filter(|user| user.login.eq_ignore_ascii_case(login))
            .map(|user| user.id);
        if let Some(user) = existing.and_then(|id| self.users.get_mut(&id)) {
            title.clone_into(&mut user.title);
            email.clone_into(&mut user.email);
            let id = user.id;
            self.names.entry(name_hash(email)).or_insert(id);
            return id;
        }
        let id = self.next_user.max(FIRST_USER_ID);
        self.next_user = id + 1;
        let bare = login.rsplit('|').next().unwrap_or(login);
        for name in [login, bare, email].into_iter().filter(|name| !name.is_empty()) {
            self.names.entry(name_hash(name)).or_insert(id);
        }
        self.users.insert(
            id,
            User {
                id,
                login: login.to_owned(),
                title: title.to_owned(),
                email: email.to_owned(),
            },
        );
        id
    }

    /// Returns a person's rights on a list, or on one of its items.
    pub(crate) fn access(&self, list: &List, item: Option<&ListItem>, user: i32) -> Access {
        if !self.users.contains_key(&user) {
            return Access::None;
        }
        let rights = item
            .and_then(|item| item.rights.as_ref())
            .or(list.rights.as_ref());
        rights
            .and_then(|rights| rights.get(&user))
            .copied()
            .unwrap_or(Access::Edit)
    }

    /// Records a change of an item in the site's log.
    pub(crate) fn log_item(&mut self, kind: ChangeType, list: Uuid, item: (i32, Uuid), at: Timestamp) {
        let web = self
            .lists
            .get(&list)
            .and_then(|list| self.webs.get(list.web))
            .map_or(Uuid::nil(), |web| web.id);
        self.log.push(
            ChangeKind::Item {
                id: item.0,
                unique_id: item.1,
            },
            kind,
            web,
            list,
            at,
        );
    }

    /// Records a change of a list itself.
    pub(crate) fn log_list(&mut self, kind: ChangeType, list: Uuid, web: usize, at: Timestamp) {
        let web = self.webs.get(web).map_or(Uuid::nil(), |web| web.id);
        self.log.push(ChangeKind::List, kind, web, list, at);
    }

    /// Returns the ids without repetition, or an error if one of them is unknown.
    pub(crate) fn known_users(&self, ids: &[i32]) -> Result<Vec<i32>, SpError> {
        let mut seen = BTreeSet::new();
        for id in ids {
            if !self.users.contains_key(id) {
                return Err(SpError::user_not_unique());
            }
            seen.insert(*id);
        }
        Ok(ids.iter().copied().filter(|id| seen.remove(id)).collect())
    }
}

/// Returns the hash of a name, ignoring case.
fn name_hash(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    for byte in name.bytes() {
        byte.to_ascii_lowercase().hash(&mut hasher);
    }
    hasher.finish()
}

/// Returns whether `name` refers to the person with this claims login and address.
pub(crate) fn login_matches(login: &str, email: &str, name: &str) -> bool {
    let bare = login.rsplit('|').next().unwrap_or(login);
    login.eq_ignore_ascii_case(name)
        || bare.eq_ignore_ascii_case(name)
        || !email.is_empty() && email.eq_ignore_ascii_case(name)
}
