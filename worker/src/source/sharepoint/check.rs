//! The doctor's questions: whether each site answers, what the account may do, and whether the source knows a
//! person.

use futures::StreamExt as _;
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::facts::{PersonLookup, SiteCheck, SiteFacts};

use super::errors::RequestSubject;
use super::task_presence::Permissions;
use super::wire::RestRequest;
use super::{SharePointSource, Site, changes, people};
use crate::source::Person;

/// Sites checked at the same time.
const SITES_AT_ONCE: usize = 4;

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
        let mask = web.get("EffectiveBasePermissions").and_then(Permissions::read);
        let permissions = mask.ok_or_else(|| {
            let detail = format!("{}: the answer about permissions has no mask", site.address);
            Failure::new(ErrorClass::Transient, Code::SharePointBadAnswer, detail)
        })?;
        site.catalogue.forget();
        let found = self.lists(site).await?;
        Ok(SiteFacts {
            title: found.title.clone(),
            lists: found.lists.len(),
            may_edit: permissions.edit,
            clock_offset: self.client.clock_offset(),
        })
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
