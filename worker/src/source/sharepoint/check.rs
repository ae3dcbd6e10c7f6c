//! The doctor's questions: whether each site answers, what the account may do, and whether the source knows a
//! person.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use jiff::Timestamp;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::facts::{ListFacts, PersonLookup, SiteCheck, SiteFacts, SiteRights, SiteZone};

use super::errors::RequestSubject;
use super::json::Cell;
use super::lists::DiscoveredLists;
use super::task_presence::Permissions;
use super::wire::RestRequest;
use super::{SharePointSource, Site, changes, odata, people};
use crate::source::Person;

/// Sites checked at the same time.
const SITES_AT_ONCE: usize = 4;
/// Webs of one site that are asked about their lists, and at the same time.
const WEBS: usize = 20;
const WEBS_AT_ONCE: usize = 4;

/// `DeleteListItems`, in the low half of the mask.
const DELETE_ITEMS: i64 = 0x8;
/// `EnumeratePermissions`, in the high half.
const ENUMERATE_PERMISSIONS: i64 = 0x4000_0000;
/// Rights that no sync needs, in the low half. `ManageWeb` is the mark of Full Control.
const NOT_NEEDED: [(i64, &str); 6] = [
    (0x800, "Manage Lists"),
    (0x4_0000, "Add and Customize Pages"),
    (0x80_0000, "Create Subsites"),
    (0x100_0000, "Create Groups"),
    (0x200_0000, "Manage Permissions"),
    (0x4000_0000, "Manage Web Site"),
];

impl SharePointSource {
    pub(super) async fn check_sites(&self) -> Vec<SiteCheck> {
        let checks = self.sites.iter().map(|site| async move {
            SiteCheck {
                site: site.address.clone(),
                result: self.check_site(site).await,
            }
        });
        futures::stream::iter(checks.collect::<Vec<_>>())
            .buffered(SITES_AT_ONCE)
            .collect()
            .await
    }

    async fn check_site(&self, site: &Site) -> Result<SiteFacts, Failure> {
        let request = RestRequest::get(
            &site.address,
            "web?$select=Id,EffectiveBasePermissions",
            RequestSubject::Site,
        );
        let web =
            self.client
                .send(&request)
                .await?
                .read(&["Id", "EffectiveBasePermissions", "High", "Low"])?;
        let mask = web.get("EffectiveBasePermissions");
        let permissions = mask.and_then(Permissions::read).ok_or_else(|| {
            let detail = format!("{}: the answer about permissions has no mask", site.address);
            Failure::new(ErrorClass::Transient, Code::SharePointBadAnswer, detail)
        })?;
        site.catalogue.forget();
        let found = self.lists(site).await?;
        let rights = mask.and_then(rights_of);
        let (task_lists, administrator) =
            futures::join!(self.facts_of_lists(&found), self.is_administrator(site));
        Ok(SiteFacts {
            title: found.title.clone(),
            lists: found.lists.len(),
            may_edit: permissions.edit,
            clock_offset: self.client.clock_offset(),
            rights: rights.map(|rights| SiteRights {
                administrator,
                ..rights
            }),
            task_lists,
            left_out: left_out(&found),
            zones: zones_of(&found, self.client.now()),
            webs_without_zone: webs_without_zone(&found),
        })
    }

    /// Returns whether the service account administers the site collection; `None` if the site does not say.
    async fn is_administrator(&self, site: &Site) -> Option<bool> {
        let path = "web/currentuser?$select=Id,IsSiteAdmin";
        let request = RestRequest::get(&site.address, path, RequestSubject::Site);
        let answer = self.client.send(&request).await.ok()?;
        let user = answer.read(&["Id", "IsSiteAdmin"]).ok()?;
        odata::boolean(&user, "IsSiteAdmin")
    }

    /// Returns facts about the task lists of the site, in the order of their names. A list about which its web does
    /// not answer is left out.
    async fn facts_of_lists(&self, found: &DiscoveredLists) -> Vec<ListFacts> {
        let webs: BTreeSet<&str> = found.lists.values().map(|list| list.web.as_str()).collect();
        let answers = webs.into_iter().take(WEBS).map(|web| async move {
            let path = "web/lists?$select=Id,ItemCount,EnableModeration&$filter=Hidden%20eq%20false";
            let request = RestRequest::get(web, path, RequestSubject::Site);
            let answer = self.client.send(&request).await.ok()?;
            answer.read(&["Id", "ItemCount", "EnableModeration"]).ok()
        });
        let answers: Vec<Option<Cell>> = futures::stream::iter(answers.collect::<Vec<_>>())
            .buffered(WEBS_AT_ONCE)
            .collect()
            .await;
        let entries = answers.iter().flatten().filter_map(odata::entries).flatten();
        let mut facts: Vec<ListFacts> = entries
            .filter_map(|entry| {
                let list = found.lists.get(&odata::guid(entry, "Id")?)?;
                Some(ListFacts {
                    name: list.name.clone(),
                    items: odata::integer(entry, "ItemCount")?.unsigned_abs(),
                    needs_approval: odata::boolean(entry, "EnableModeration").unwrap_or(false),
                })
            })
            .collect();
        facts.sort_by(|one, other| one.name.cmp(&other.name));
        facts
    }

    pub(super) async fn check_login(&self, person: &Person, lookup: PersonLookup) -> Result<(), Failure> {
        for site in &self.sites {
            let is_known = match lookup {
                PersonLookup::Read => people::is_in_site(&self.client, site, &person.login).await?,
                PersonLookup::Resolve => site
                    .people
                    .user(&self.client, site, person, &self.settings, true)
                    .await?
                    .is_some(),
            };
            if is_known {
                return Ok(());
            }
        }
        Err(changes::unknown_person(person))
    }
}

/// Returns the rights in SharePoint's permission mask.
fn rights_of(mask: &Cell) -> Option<SiteRights> {
    let (high, low) = (odata::integer(mask, "High")?, odata::integer(mask, "Low")?);
    Some(SiteRights {
        may_delete: low & DELETE_ITEMS != 0,
        may_ask_about_people: high & ENUMERATE_PERMISSIONS != 0,
        not_needed: NOT_NEEDED
            .into_iter()
            .filter(|(bit, _)| low & bit != 0)
            .map(|(_, name)| name)
            .collect(),
        administrator: None,
    })
}

/// Returns what the walk did not see, each with the reason.
fn left_out(found: &DiscoveredLists) -> Vec<String> {
    let lists = found
        .unread_task_lists()
        .map(|(list, failure)| format!("list {list}: {failure}"));
    let incomplete = found.incomplete().map(|failure| failure.to_string());
    incomplete.into_iter().chain(lists).collect()
}

/// Returns the zones of the webs with task lists.
fn zones_of(found: &DiscoveredLists, now: Timestamp) -> Vec<SiteZone> {
    let mut webs = BTreeSet::new();
    found
        .lists
        .values()
        .filter_map(|list| Some((list.web.as_str(), list.zone()?)))
        .filter(|(web, _)| webs.insert(*web))
        .map(|(web, zone)| {
            let (name, offsets) = zone.name_and_offsets(now);
            SiteZone {
                web: web.to_owned(),
                name,
                offsets,
            }
        })
        .collect()
}

/// Returns the webs whose zone cannot be read, each with the reason.
fn webs_without_zone(found: &DiscoveredLists) -> Vec<String> {
    let webs: BTreeSet<String> = found
        .lists
        .values()
        .filter_map(|list| Some(format!("{}: {}", list.web, list.zone.as_ref().err()?)))
        .collect();
    webs.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_mask_says_what_is_missing_and_what_is_too_much() {
        let of = |high: u32, low: u32| rights_of(&json!({"High": high, "Low": low}).into()).unwrap();
        let contribute = of(432, 1_011_028_719);
        assert!(contribute.may_delete && !contribute.may_ask_about_people);
        assert_eq!(contribute.not_needed, Vec::<&str>::new());
        assert!(of(0x1b0 | 0x4000_0000, 1_011_028_719).may_ask_about_people);
        assert_eq!(of(432, 1_011_030_767).not_needed, ["Manage Lists"]);
        let full = of(2_147_483_647, 4_294_967_295);
        assert_eq!(full.not_needed.len(), NOT_NEEDED.len());
        assert!(!of(176, 138_612_833).may_delete);
        assert_eq!(rights_of(&json!({}).into()), None);
    }
}
