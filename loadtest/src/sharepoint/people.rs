//! Actions of people in SharePoint, and an observer's view of it, both without HTTP.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use jiff::civil::Date;

use super::changes::{ChangeLog, ChangeType};
use super::errors::SpError;
use super::model::{Access, Closed, List, ListItem, Restrictions, Site, Web};
pub use super::specs::{
    ItemId, ListId, ListItemEdit, ListItemView, ListSpec, ListView, RightsTarget, SiteSpec, UserId,
};
use super::write::{CellChange, Patch};
use super::zones::SiteZone;
use super::{SharePoint, lock};
use crate::sim::conditions::GroupId;

fn text(error: &SpError) -> String {
    format!("{}: {}", error.code, error.message)
}

impl SharePoint {
    fn with_site<T>(
        &self,
        path: &str,
        work: impl FnOnce(&mut Site) -> Result<T, SpError>,
    ) -> Result<T, String> {
        let site = self
            .site_of(path.trim_end_matches('/'))
            .ok_or_else(|| format!("there is no site at {path}"))?;
        work(&mut lock(&site)).map_err(|error| text(&error))
    }

    /// Adds a site collection with its root web.
    ///
    /// # Errors
    /// If the path is taken or SharePoint does not know the time zone.
    pub fn add_site(&self, spec: &SiteSpec) -> Result<(), String> {
        let path = spec.path.trim_end_matches('/').to_owned();
        let zone = SiteZone::by_iana(&spec.time_zone)?;
        let web = Web {
            id: self.new_id(),
            path: path.clone(),
            title: spec.title.clone(),
            created: self.clock.now(),
            closed: None,
        };
        let site = Site {
            id: self.new_id(),
            language: spec.language,
            zone,
            webs: vec![web],
            lists: std::collections::BTreeMap::new(),
            users: std::collections::BTreeMap::new(),
            directory: Vec::new(),
            next_user: 0,
            names: std::collections::HashMap::new(),
            group: 0,
            refused: std::collections::HashSet::new(),
            log: ChangeLog::new(self.settings.maximum_changes_per_site),
        };
        let mut sites = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        match sites.entry(path.to_lowercase()) {
            std::collections::hash_map::Entry::Occupied(_) => {
                Err(format!("there is a site at {path} already"))
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(Arc::new(Mutex::new(site)));
                Ok(())
            }
        }
    }

    /// Adds a web below a site's root web. `path` is its complete server-relative path.
    ///
    /// # Errors
    /// If there is no such site, or the path is outside the site or taken.
    pub fn add_web(&self, site: &str, path: &str, title: &str) -> Result<(), String> {
        let path = path.trim_end_matches('/').to_owned();
        let (id, created) = (self.new_id(), self.clock.now());
        let added = self.with_site(site, |site| {
            let inside = path
                .to_lowercase()
                .starts_with(&format!("{}/", site.path().to_lowercase()));
            if !inside || site.web_index(&path).is_some() {
                return Ok(false);
            }
            site.webs.push(Web {
                id,
                path: path.clone(),
                title: title.to_owned(),
                created,
                closed: None,
            });
            Ok(true)
        })?;
        if added {
            Ok(())
        } else {
            Err(format!("{path} is taken or not below {site}"))
        }
    }

    /// Adds a person to a site, or updates the person with that login. `login` is a claims login such as
    /// `i:0#.w|contoso\ana`.
    ///
    /// # Errors
    /// If there is no such site.
    pub fn add_user(&self, site: &str, login: &str, title: &str, email: &str) -> Result<UserId, String> {
        self.with_site(site, |site| Ok(site.add_user(login, title, email)))
    }

    /// Adds a person whom `ensureuser` can find but who was never on the site.
    ///
    /// # Errors
    /// If there is no such site.
    pub fn add_to_directory(&self, site: &str, login: &str, title: &str, email: &str) -> Result<(), String> {
        self.with_site(site, |site| {
            site.directory
                .push((login.to_owned(), title.to_owned(), email.to_owned()));
            Ok(())
        })
    }

    /// Returns the person with this claims login, plain login or e-mail address.
    ///
    /// # Errors
    /// If there is no such site.
    pub fn find_user(&self, site: &str, name: &str) -> Result<Option<UserId>, String> {
        self.with_site(site, |site| Ok(site.find_user(name).map(|user| user.id)))
    }

    /// Refuses a caller (account name or token owner) on a site with 403, or accepts the caller again.
    ///
    /// # Errors
    /// If there is no such site.
    pub fn refuse_caller(&self, site: &str, caller: &str, refuse: bool) -> Result<(), String> {
        self.with_site(site, |site| {
            let name = caller.to_lowercase();
            if refuse {
                site.refused.insert(name)
            } else {
                site.refused.remove(&name)
            };
            Ok(())
        })
    }

    /// Closes a web to service accounts and apps, or opens it again. `path` is its complete server-relative path. A
    /// closed web does not appear among the webs of its parent.
    ///
    /// # Errors
    /// If there is no such web.
    pub fn close_web(&self, path: &str, closed: Option<Closed>) -> Result<(), String> {
        let path = path.trim_end_matches('/');
        self.with_site(path, |site| {
            let at = site.web_index(path).ok_or_else(|| SpError::no_resource(path))?;
            if let Some(web) = site.webs.get_mut(at) {
                web.closed = closed;
            }
            Ok(())
        })
    }

    /// Closes a list to service accounts and apps, or opens it again. A closed list does not appear among the lists of
    /// its web.
    ///
    /// # Errors
    /// If there is no such site or list.
    pub fn close_list(&self, site: &str, list: ListId, closed: Option<Closed>) -> Result<(), String> {
        self.with_site(site, |site| {
            site.list_mut(list)?.closed = closed;
            Ok(())
        })
    }

    /// Adds a list to the web at `web`.
    ///
    /// # Errors
    /// If there is no such web.
    pub fn add_list(&self, web: &str, spec: &ListSpec) -> Result<ListId, String> {
        let path = web.trim_end_matches('/');
        self.with_site(web, |site| {
            let at = site.web_index(path).ok_or_else(|| SpError::no_resource(path))?;
            Ok(self.insert_list(site, at, spec))
        })
    }

    /// Deletes a list with all its items.
    ///
    /// # Errors
    /// If there is no such site or list.
    pub fn delete_list(&self, site: &str, list: ListId) -> Result<(), String> {
        self.with_site(site, |site| {
            site.list(list)?;
            self.remove_list(site, list);
            Ok(())
        })
    }

    /// Returns the lists of a site collection.
    ///
    /// # Errors
    /// If there is no such site.
    pub fn lists(&self, site: &str) -> Result<Vec<ListView>, String> {
        self.with_site(site, |site| {
            let view = |list: &List| ListView {
                id: list.id,
                title: list.title.clone(),
                template: list.schema.template,
                web: site
                    .webs
                    .get(list.web)
                    .map_or(String::new(), |web| web.path.clone()),
                items: list.live_items().count(),
            };
            Ok(site.lists.values().map(view).collect())
        })
    }

    /// Returns all items of a list, including those in the recycle bin.
    ///
    /// # Errors
    /// If there is no such site or list.
    pub fn items(&self, site: &str, list: ListId) -> Result<Vec<ListItemView>, String> {
        self.with_site(site, |site| {
            let list = site.list(list)?;
            Ok(list.items.values().map(|item| view(site, item)).collect())
        })
    }

    /// Returns one item, also from the recycle bin, or `None` if there is no such site, list or item.
    #[must_use]
    pub fn item(&self, site: &str, list: ListId, item: ItemId) -> Option<ListItemView> {
        self.with_site(site, |site| {
            let item = site.list(list)?.items.get(&item).ok_or_else(SpError::no_item)?;
            Ok(view(site, item))
        })
        .ok()
    }

    /// Returns the first live item with this id or a higher one, or else the first live item. Callers use it to pick a
    /// random item.
    #[must_use]
    pub fn item_from(&self, site: &str, list: ListId, from: ItemId) -> Option<ListItemView> {
        self.with_site(site, |site| {
            let list = site.list(list)?;
            let mut behind = list.items.range(from..).map(|(_, item)| item.as_ref());
            let found = behind
                .find(|item| !item.recycled)
                .or_else(|| list.live_items().next());
            Ok(found.map(|item| view(site, item)))
        })
        .ok()
        .flatten()
    }

    /// Returns the highest id that an item of the list was given.
    #[must_use]
    pub fn last_item(&self, site: &str, list: ListId) -> ItemId {
        self.with_site(site, |site| Ok(site.list(list)?.next_item - 1))
            .unwrap_or(0)
    }

    /// Puts a site into a group of tenants.
    ///
    /// # Errors
    /// If there is no such site.
    pub fn set_group(&self, site: &str, group: GroupId) -> Result<(), String> {
        self.with_site(site, |site| {
            site.group = group;
            Ok(())
        })
    }

    /// Creates a task as a person.
    ///
    /// # Errors
    /// If the site, list or a person is unknown, or a value is not allowed.
    pub fn person_creates(
        &self,
        site: &str,
        list: ListId,
        edit: ListItemEdit,
        by: UserId,
    ) -> Result<ItemId, String> {
        self.with_site(site, |site| {
            let patch = patch(site, list, edit)?;
            site.create_item(list, patch, by, self.new_id(), self.clock.unique())
        })
    }

    /// Changes a task as a person, whatever its version.
    ///
    /// # Errors
    /// If the site, list, item or a person is unknown, or a value is not allowed.
    pub fn person_edits(
        &self,
        site: &str,
        list: ListId,
        item: ItemId,
        edit: ListItemEdit,
        by: UserId,
    ) -> Result<(), String> {
        self.with_site(site, |site| {
            let patch = patch(site, list, edit)?;
            site.update_item(list, item, None, patch, by, self.clock.unique())
                .map(drop)
        })
    }

    /// Assigns a task to other people, or to no one, as a person.
    ///
    /// # Errors
    /// If the site, list, item or a person is unknown.
    pub fn person_assigns(
        &self,
        site: &str,
        list: ListId,
        item: ItemId,
        to: &[UserId],
        by: UserId,
    ) -> Result<(), String> {
        let edit = ListItemEdit {
            assigned_to: Some(to.to_vec()),
            ..ListItemEdit::default()
        };
        self.person_edits(site, list, item, edit, by)
    }

    /// Deletes a task as a person: moves it to the recycle bin.
    ///
    /// # Errors
    /// If the site, list or item is unknown.
    pub fn person_deletes(&self, site: &str, list: ListId, item: ItemId) -> Result<(), String> {
        self.with_site(site, |site| {
            site.recycle_item(list, item, None, self.clock.unique())
        })
    }

    /// Restores a task from the recycle bin as a person.
    ///
    /// # Errors
    /// If the site or list is unknown or the item is not in the recycle bin.
    pub fn person_restores(&self, site: &str, list: ListId, item: ItemId) -> Result<(), String> {
        self.with_site(site, |site| site.restore_item(list, item, self.clock.unique()))
    }

    /// Sets a person's rights on a list or an item. The change log records it.
    ///
    /// # Errors
    /// If the site, list, item or person is unknown.
    pub fn set_access(
        &self,
        site: &str,
        target: RightsTarget,
        user: UserId,
        access: Access,
    ) -> Result<(), String> {
        let now = self.clock.unique();
        let kind = if access == Access::None {
            ChangeType::AssignmentDelete
        } else {
            ChangeType::AssignmentAdd
        };
        self.with_site(site, |site| {
            site.known_users(&[user])?;
            match target {
                RightsTarget::List(id) => {
                    let list = site.list_mut(id)?;
                    restrict(list.rights.get_or_insert_default(), user, access);
                    let web = list.web;
                    site.log_list(kind, id, web, now);
                }
                RightsTarget::Item(list_id, id) => {
                    let list = site.list_mut(list_id)?;
                    list.item(id)?;
                    let inherited = list.rights.clone().unwrap_or_default();
                    let item = list.items.get_mut(&id).ok_or_else(SpError::no_item)?;
                    restrict(item.rights.get_or_insert(inherited), user, access);
                    let unique_id = item.unique_id;
                    site.log_item(kind, list_id, (id, unique_id), now);
                }
            }
            Ok(())
        })
    }

    /// Gives a person the right to see and edit a list or an item.
    ///
    /// # Errors
    /// As [`SharePoint::set_access`].
    pub fn grant(&self, site: &str, target: RightsTarget, user: UserId) -> Result<(), String> {
        self.set_access(site, target, user, Access::Edit)
    }

    /// Takes all rights on a list or an item from a person.
    ///
    /// # Errors
    /// As [`SharePoint::set_access`].
    pub fn revoke(&self, site: &str, target: RightsTarget, user: UserId) -> Result<(), String> {
        self.set_access(site, target, user, Access::None)
    }

    /// Changes a site's time zone. Stored times stay the same instants, as in the product.
    ///
    /// # Errors
    /// If the site or the zone is unknown.
    pub fn set_time_zone(&self, site: &str, iana: &str) -> Result<(), String> {
        let zone = SiteZone::by_iana(iana)?;
        self.with_site(site, |site| {
            site.zone = zone;
            Ok(())
        })
    }

    /// Makes every change token issued so far for a site too old.
    ///
    /// # Errors
    /// If there is no such site.
    pub fn expire_change_tokens(&self, site: &str) -> Result<(), String> {
        self.with_site(site, |site| {
            site.log.expire(self.clock.unique());
            Ok(())
        })
    }
}

fn restrict(rights: &mut Restrictions, user: UserId, access: Access) {
    if access == Access::Edit {
        rights.remove(&user);
    } else {
        rights.insert(user, access);
    }
}

fn patch(site: &Site, list: ListId, edit: ListItemEdit) -> Result<Patch, SpError> {
    let list = site.list(list)?;
    let columns = [
        ("ActualWork", edit.actual_work.is_some()),
        ("TotalWork", edit.total_work.is_some()),
        ("DateCompleted", edit.date_completed.is_some()),
        ("StartDate", edit.start.is_some()),
        ("AssignedTo", edit.assigned_to.is_some()),
    ];
    for (name, set) in columns {
        if set && list.field(name).is_none() {
            return Err(SpError::no_property(name, &list.item_kind()));
        }
    }
    let choice = |index: u8, texts: &[&str], field: &str| match usize::from(index).checked_sub(1) {
        Some(at) => texts
            .get(at)
            .map(|text| CellChange::Set((*text).to_owned()))
            .ok_or_else(|| SpError::bad_value(field)),
        None => Ok(CellChange::Clear),
    };
    let midnight = |date: Option<Date>| CellChange::replace_with(date.map(|date| site.zone.midnight(date)));
    if edit.assigned_to.as_ref().is_some_and(|people| people.len() > 1) && !list.schema.multi_person {
        return Err(SpError::bad_value("AssignedTo"));
    }
    if edit
        .title
        .as_ref()
        .is_some_and(|title| title.encode_utf16().count() > 255)
    {
        return Err(SpError::text_too_long());
    }
    let status = edit.status.map_or(Ok(CellChange::Keep), |index| {
        choice(index, &site.language.statuses(), "Status")
    })?;
    let priority = edit.priority.map_or(Ok(CellChange::Keep), |index| {
        choice(index, &site.language.priorities(), "Priority")
    })?;
    Ok(Patch {
        title: edit.title,
        body: edit.body,
        start: edit.start.map_or(CellChange::Keep, midnight),
        due: edit.due.map_or(CellChange::Keep, midnight),
        status,
        percent: edit.percent.map_or(CellChange::Keep, CellChange::Set),
        priority,
        assigned_to: edit.assigned_to,
        actual_work: edit
            .actual_work
            .map_or(CellChange::Keep, CellChange::replace_with),
        total_work: edit.total_work.map_or(CellChange::Keep, CellChange::replace_with),
        completed: edit.date_completed.map_or(CellChange::Keep, midnight),
    })
}

fn view(site: &Site, item: &ListItem) -> ListItemView {
    let date = |instant: Option<Timestamp>| instant.map(|instant| site.zone.date(instant));
    let index = |text: Option<&str>, texts: &[&str]| {
        let at = text.and_then(|text| texts.iter().position(|choice| *choice == text));
        at.and_then(|at| u8::try_from(at + 1).ok()).unwrap_or(0)
    };
    ListItemView {
        id: item.id,
        unique_id: item.unique_id,
        version: item.version,
        title: item.title.clone(),
        body: item.body.clone(),
        start: date(item.start),
        due: date(item.due),
        status: index(item.status.as_deref(), &site.language.statuses()),
        percent: item.percent.unwrap_or(0.0),
        priority: index(item.priority.as_deref(), &site.language.priorities()),
        assigned_to: item.assigned_to.clone(),
        actual_work: item.actual_work,
        total_work: item.total_work,
        date_completed: date(item.completed),
        created: item.created,
        modified: item.modified,
        editor: item.editor,
        recycled: item.recycled,
    }
}
