//! Writing to SharePoint: fields of a task, and moving tasks to the recycle bin.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value, json};
use tasksync_common::error::{self, Code, ErrorClass, Failure};
use tasksync_common::model::SourceKey;
use uuid::Uuid;

use super::errors::RequestSubject;
use super::item_cache::etag_version;
use super::lists::TaskList;
use super::missing_list::ListVerdict;
use super::wire::{RestRequest, Verb};
use super::{SharePointSource, item_reads, odata, queries};
use crate::http::service::Intent;
use crate::source::{TaskChanges, WrittenTask};

impl SharePointSource {
    /// Returns the list and id of a task. Fails with class `Gone` if the list is certainly gone.
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
            if let Ok(found) = self.lists(site).await
                && let Some(found) = found.lists.get(&list)
            {
                return Ok((Arc::clone(found), item));
            }
        }
        match self.judge_missing_list(list).await? {
            ListVerdict::Gone => Err(gone()),
            ListVerdict::Unread(failure) => Err(failure.within(key)),
        }
    }

    pub(super) async fn write_task(
        &self,
        key: &SourceKey,
        version: &str,
        changes: &TaskChanges,
    ) -> Result<WrittenTask, Failure> {
        let (list, item) = self.target(key).await?;
        let version = etag_version(version);
        let midnights = self
            .midnights(&list, changes)
            .await
            .map_err(|failure| failure.within(key))?;
        let columns = list
            .columns
            .write_task(&changes.task, changes.fields, list.zone(), &midnights);
        if columns.is_empty() {
            return Ok(WrittenTask {
                version: version.to_owned(),
            });
        }
        let mut body = columns.clone();
        body.insert("__metadata".to_owned(), json!({"type": list.entity_type}));
        let request = RestRequest {
            verb: Verb::Merge(Value::Object(body), version.to_owned()),
            intent: Intent::Write,
            ..RestRequest::get(
                &list.web,
                list.path(&format!("items({item})")),
                RequestSubject::Item,
            )
        };
        let sent = self.client.now();
        let answer = self.client.send(&request).await;
        // Whatever the outcome, the cached item may no longer be valid.
        self.items.forget(list.id, item);
        let reply = answer.map_err(|refusal| refusal.failure.within(key))?;
        // SharePoint answers a change with nothing but a new entity tag. A gateway that drops writes may
        // answer in the same way.
        let answered_version = if reply.is_empty() { reply.version } else { None };
        let answered_version = answered_version.filter(|new| new != version);
        let read = self
            .read_back(&list, item, version, answered_version, &columns, changes)
            .await
            .map_err(|reason| outcome_unknown(key, &list, &reason))?;
        if let Some(modified) = read.modified {
            self.client.learn_clock(modified, sent);
        }
        Ok(WrittenTask {
            version: read.version,
        })
    }

    /// Returns the version that a write left, if a read of the item proves the write: `told` if the answer
    /// named it, otherwise the present version.
    ///
    /// # Errors
    /// Says which part of the proof is missing.
    async fn read_back(
        &self,
        list: &TaskList,
        item: i64,
        previous_version: &str,
        answered_version: Option<String>,
        written: &Map<String, Value>,
        changes: &TaskChanges,
    ) -> Result<ReadBack, String> {
        let reply = self
            .client
            .send(&queries::get_item(list, item))
            .await
            .map_err(|refusal| format!("reading it back failed: {}", refusal.failure))?;
        let cells = item_reads::cells_of_item(list, item, &reply)
            .inspect_err(|read_failure| self.client.note_foreign(&read_failure.failure))
            .map_err(|read_failure| read_failure.failure.to_string())?;
        let current_version = odata::version(&cells)
            .or(reply.version)
            .ok_or("the item has no version")?;
        if current_version == previous_version {
            return Err(format!("the item still has version {previous_version}"));
        }
        if let Some(column) = list.columns.first_difference(&cells, written, changes) {
            return Err(format!("{column} does not have the value that was written"));
        }
        // Versions count the writes. If a user wrote again since, the next reading must notice that.
        Ok(
            match answered_version.filter(|answered| is_older(answered, &current_version)) {
                Some(version) => ReadBack {
                    version,
                    modified: None,
                },
                None => ReadBack {
                    version: current_version,
                    modified: odata::instant_column(&cells, "Modified").ok().flatten(),
                },
            },
        )
    }

    /// Returns the midnights that only the server knows.
    ///
    /// # Errors
    /// The server does not report one: a date is never written by a guess.
    async fn midnights(
        &self,
        list: &TaskList,
        changes: &TaskChanges,
    ) -> Result<HashMap<Date, Timestamp>, Failure> {
        let mut midnights = HashMap::new();
        let dates = list
            .columns
            .unknown_midnights(&changes.task, changes.fields, list.zone());
        for date in dates {
            let path = format!("web/regionalsettings/timezone/localtimetoutc(@d)?@d='{date}T00:00:00'");
            let answer = self
                .client
                .send(&RestRequest::get(&list.web, path, RequestSubject::Site))
                .await?
                .read(&["LocalTimeToUTC"])?;
            let instant = ["value", "LocalTimeToUTC"]
                .iter()
                .find_map(|name| odata::instant(&answer, name))
                .or_else(|| odata::parse_instant(answer.as_str()?));
            let instant = instant
                .filter(|instant| is_midnight_of(*instant, date))
                .ok_or_else(|| {
                    let detail = format!("{}: the server does not report when {date} begins", list.web);
                    Failure::new(ErrorClass::Transient, Code::SharePointBadAnswer, detail)
                })?;
            midnights.insert(date, instant);
        }
        Ok(midnights)
    }

    /// Returns the item's present version; `None` if the item is gone.
    async fn version_of(&self, list: &TaskList, item: i64) -> Result<Option<String>, Failure> {
        let path = list.path(&format!("items({item})?$select=Id"));
        let request = RestRequest::get(&list.web, path, RequestSubject::Item).with_versions();
        match self.client.send(&request).await {
            Ok(reply) => {
                let cells = item_reads::cells_of_item(list, item, &reply)
                    .map_err(|read_failure| read_failure.failure)
                    .inspect_err(|failure| self.client.note_foreign(failure))?;
                match odata::version(&cells).or(reply.version) {
                    Some(version) => Ok(Some(version)),
                    None => Err(Failure::new(
                        ErrorClass::Transient,
                        Code::SharePointBadAnswer,
                        format!("{} list {}: item {item} has no version", list.web, list.id),
                    )),
                }
            }
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
            Some(now) if now != etag_version(version) => {
                let detail = format!("{key}: version {now}, expected {version}");
                return Err(Failure::new(
                    ErrorClass::Conflict,
                    Code::SharePointConflict,
                    detail,
                ));
            }
            Some(_) => {}
        }
        let request = RestRequest {
            verb: Verb::Post(Value::Null),
            intent: Intent::Write,
            ..RestRequest::get(
                &list.web,
                list.path(&format!("items({item})/recycle()")),
                RequestSubject::Item,
            )
        };
        let answer = self.client.send(&request).await;
        self.items.forget(list.id, item);
        match answer {
            Ok(_) => {}
            Err(refusal) if refusal.failure.class == ErrorClass::Gone => return Ok(()),
            Err(refusal) => return Err(refusal.failure.within(key)),
        }
        // A success counts only if the item is gone.
        match self.version_of(&list, item).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(outcome_unknown(key, &list, "the item is still there")),
            Err(failure) => Err(outcome_unknown(
                key,
                &list,
                &format!("reading it back failed: {failure}"),
            )),
        }
    }
}

/// What a read after a write proves.
struct ReadBack {
    /// The version that the write left.
    version: String,
    /// The time that the server gave to the write, if it was the last one.
    modified: Option<Timestamp>,
}

/// Returns whether both versions are numbers and `one` is the smaller.
fn is_older(one: &str, other: &str) -> bool {
    matches!((one.parse::<u64>(), other.parse::<u64>()), (Ok(one), Ok(other)) if one < other)
}

fn outcome_unknown(key: &SourceKey, list: &TaskList, reason: &str) -> Failure {
    Failure::new(
        ErrorClass::OutcomeUnknown,
        Code::SharePointOutcomeUnknown,
        format!(
            "{key}: {} answered the write with success and without proof, and {reason}",
            list.web
        ),
    )
    .about(error::Scope::Item)
}

/// Returns whether an instant can be midnight of a date in any zone. Zones are at most 14 hours from UTC; 16
/// are allowed here.
fn is_midnight_of(instant: Timestamp, date: Date) -> bool {
    let utc = date
        .to_datetime(jiff::civil::Time::midnight())
        .to_zoned(jiff::tz::TimeZone::UTC);
    utc.is_ok_and(|utc| utc.timestamp().duration_until(instant).abs() <= jiff::SignedDuration::from_hours(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_midnight_of_another_day_is_not_believed() {
        let date: Date = "2026-07-04".parse().unwrap();
        for (instant, believed) in [
            ("2026-07-03T22:00:00Z", true),
            ("2026-07-04T11:00:00Z", true),
            ("2026-07-05T22:00:00Z", false),
        ] {
            assert_eq!(
                is_midnight_of(instant.parse().unwrap(), date),
                believed,
                "{instant}"
            );
        }
    }
}
