//! Writing: fields of a task, and tasks into the recycle bin.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::SourceKey;
use uuid::Uuid;

use super::errors::{Intent, Scope};
use super::lists::TaskList;
use super::wire::{Ask, Verb};
use super::{SharePointSource, odata};
use crate::source::{TaskChanges, Written};

impl SharePointSource {
    /// The list and id of a task; `Gone` when no site has such a list.
    async fn target(&self, key: &SourceKey) -> Result<(Arc<TaskList>, i64), Failure> {
        let gone = || {
            Failure::new(
                ErrorClass::Gone,
                Code::SharePointListGone,
                format!("no task list holds {key}"),
            )
        };
        let location = key.location();
        let list = location
            .sharepoint_list_id()
            .and_then(|id| Uuid::parse_str(id).ok());
        let (Some(list), Some(item)) = (list, key.item_id()) else {
            return Err(gone());
        };
        for site in &self.sites {
            if let Some(found) = site
                .catalogue
                .last()
                .and_then(|found| found.lists.get(&list).cloned())
            {
                return Ok((found, item));
            }
        }
        for site in &self.sites {
            if let Some(found) = self.lists(site).await?.lists.get(&list) {
                return Ok((Arc::clone(found), item));
            }
        }
        Err(gone())
    }

    pub(super) async fn write_task(
        &self,
        key: &SourceKey,
        version: &str,
        changes: &TaskChanges,
    ) -> Result<Written, Failure> {
        let (list, item) = self.target(key).await?;
        let midnights = self.midnights(&list, changes).await;
        let mut columns = list
            .columns
            .write_task(&changes.task, changes.fields, &list.zone, &midnights);
        if columns.is_empty() {
            return Ok(Written {
                version: version.to_owned(),
            });
        }
        columns.insert("__metadata".to_owned(), json!({"type": list.entity_type}));
        let ask = Ask {
            verb: Verb::Merge(Value::Object(columns), version.to_owned()),
            intent: Intent::Write,
            ..Ask::get(&list.web, list.path(&format!("items({item})")), Scope::Item)
        };
        let answer = self.client.send(&ask).await;
        // Whatever the outcome, what was read before is not known to hold any more.
        self.items.forget(list.id, item);
        let reply = answer.map_err(|refusal| refusal.failure.within(key))?;
        // SharePoint answers a change with nothing but a new entity tag. Anything else that calls itself a success comes
        // from something before it, and the change may never have arrived.
        if reply.version.is_none() && !reply.value.is_null() {
            return Err(Failure::new(
                ErrorClass::OutcomeUnknown,
                Code::SharePointOutcomeUnknown,
                format!(
                    "{key}: {} answered the change with something else than SharePoint does",
                    list.web
                ),
            ));
        }
        let version = match reply.version.or_else(|| next_version(version)) {
            Some(version) => version,
            None => self.version_of(&list, item).await?.unwrap_or_default(),
        };
        Ok(Written { version })
    }

    /// Midnights only the server knows; a date it does not tell is left to the zone's standard offset.
    async fn midnights(&self, list: &TaskList, changes: &TaskChanges) -> HashMap<Date, Timestamp> {
        let mut midnights = HashMap::new();
        for date in list
            .columns
            .unknown_midnights(&changes.task, changes.fields, &list.zone)
        {
            let path = format!("web/regionalsettings/timezone/localtimetoutc(@d)?@d='{date}T00:00:00'");
            match self.client.send(&Ask::get(&list.web, path, Scope::Site)).await {
                Ok(reply) => {
                    let instant = ["value", "LocalTimeToUTC"]
                        .iter()
                        .find_map(|name| odata::instant(&reply.value, name))
                        .or_else(|| odata::parse_instant(reply.value.as_str()?));
                    midnights.extend(instant.map(|instant| (date, instant)));
                }
                Err(refusal) => tracing::debug!(failure = %refusal.failure, "a local midnight is not known"),
            }
        }
        midnights
    }

    /// The item's version now; `None` when it is gone.
    async fn version_of(&self, list: &TaskList, item: i64) -> Result<Option<String>, Failure> {
        let path = list.path(&format!("items({item})?$select=Id"));
        let ask = Ask::get(&list.web, path, Scope::Item).with_versions();
        match self.client.send(&ask).await {
            Ok(reply) => match odata::version(&reply.value).or(reply.version) {
                Some(version) => Ok(Some(version)),
                None => Err(Failure::new(
                    ErrorClass::Transient,
                    Code::SharePointBadAnswer,
                    format!("{} list {}: item {item} has no version", list.web, list.id),
                )),
            },
            Err(refusal) if refusal.failure.class == ErrorClass::Gone => Ok(None),
            Err(refusal) => Err(refusal.failure),
        }
    }

    pub(super) async fn recycle(&self, key: &SourceKey, version: &str) -> Result<(), Failure> {
        let (list, item) = match self.target(key).await {
            Ok(target) => target,
            Err(failure) if failure.class == ErrorClass::Gone => return Ok(()),
            Err(failure) => return Err(failure),
        };
        let now = self
            .version_of(&list, item)
            .await
            .map_err(|failure| failure.within(key))?;
        match now {
            None => return Ok(()),
            Some(now) if now != version => {
                let detail = format!("{key}: version {now}, expected {version}");
                return Err(Failure::new(
                    ErrorClass::Conflict,
                    Code::SharePointConflict,
                    detail,
                ));
            }
            Some(_) => {}
        }
        let ask = Ask {
            verb: Verb::Post(Value::Null),
            intent: Intent::Write,
            ..Ask::get(
                &list.web,
                list.path(&format!("items({item})/recycle()")),
                Scope::Item,
            )
        };
        let answer = self.client.send(&ask).await;
        self.items.forget(list.id, item);
        match answer {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.failure.class == ErrorClass::Gone => Ok(()),
            Err(refusal) => Err(refusal.failure.within(key)),
        }
    }
}

/// The version after one more write, where versions are plain numbers: told without reading again, a foreign edit that
/// came right after ours is still seen as a change.
fn next_version(version: &str) -> Option<String> {
    let number: u64 = version.parse().ok()?;
    Some(number.checked_add(1)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_version_is_known_only_of_numbers() {
        assert_eq!(next_version("5").as_deref(), Some("6"));
        assert_eq!(next_version("0a1b,5"), None);
        assert_eq!(next_version("18446744073709551615"), None);
    }
}
