//! The change log of a site collection, and its change tokens.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::errors::SpError;
use super::shape::{Entity, NamedProperties, Node};
use super::zones::format_instant;

/// Largest number of entries that one call returns, whatever `FetchLimit` says.
const MAXIMUM_FETCH: usize = 1000;
/// The Unix epoch in .NET ticks (100 ns since the year 1).
const UNIX_EPOCH_TICKS: i64 = 621_355_968_000_000_000;

/// A type of change. Its value is the number used by the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeType {
    Add = 1,
    Update = 2,
    DeleteObject = 3,
    Restore = 7,
    AssignmentAdd = 11,
    AssignmentDelete = 12,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Item { id: i32, unique_id: Uuid },
    List,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct LoggedChange {
    number: i64,
    ticks: i64,
    time: Timestamp,
    kind: ChangeKind,
    change: ChangeType,
    web: Uuid,
    list: Uuid,
}

/// The object whose changes are requested. Changes of the objects inside it are included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeScope {
    Site(Uuid),
    Web(Uuid),
    List(Uuid),
}

impl ChangeScope {
    fn number(self) -> u8 {
        match self {
            Self::Site(_) => 1,
            Self::Web(_) => 2,
            Self::List(_) => 3,
        }
    }

    fn object(self) -> Uuid {
        match self {
            Self::Site(id) | Self::Web(id) | Self::List(id) => id,
        }
    }

    fn covers(self, change: &LoggedChange) -> bool {
        match self {
            Self::Site(_) => true,
            Self::Web(id) => change.web == id,
            Self::List(id) => change.list == id,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ChangeToken {
    ticks: i64,
    number: i64,
}

/// The log. It has its entries in order, and the time up to which entries have been dropped.
#[derive(Debug, Default)]
pub(crate) struct ChangeLog {
    entries: VecDeque<LoggedChange>,
    last_number: i64,
    expired_up_to: i64,
    capacity: usize,
}

impl ChangeLog {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            ..Self::default()
        }
    }

    /// Adds an entry. If the log is full, the oldest entry is dropped, and tokens from before it become too old.
    pub(crate) fn push(
        &mut self,
        kind: ChangeKind,
        change: ChangeType,
        web: Uuid,
        list: Uuid,
        time: Timestamp,
    ) {
        self.last_number += 1;
        self.entries.push_back(LoggedChange {
            number: self.last_number,
            ticks: ticks(time),
            time,
            kind,
            change,
            web,
            list,
        });
        while self.entries.len() > self.capacity {
            if let Some(oldest) = self.entries.pop_front() {
                self.expired_up_to = self.expired_up_to.max(oldest.ticks - 1);
            }
        }
    }

    /// Makes every token issued so far too old.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        self.expired_up_to = ticks(now);
        self.entries.clear();
    }

    /// Returns the token that covers everything up to now.
    pub(crate) fn current_token(&self, scope: ChangeScope, now: Timestamp) -> String {
        token_text(scope, ticks(now), self.last_number)
    }

    /// Returns the entries after the query's token that match the query.
    pub(crate) fn read(
        &self,
        scope: ChangeScope,
        query: &ChangeQuery,
        oldest_kept: Timestamp,
        expire_now: bool,
    ) -> Result<Vec<LoggedChange>, SpError> {
        let oldest = self.expired_up_to.max(ticks(oldest_kept));
        let start = query
            .start
            .as_deref()
            .map(|text| parse_token(text, scope))
            .transpose()?;
        let end = query
            .end
            .as_deref()
            .map(|text| parse_token(text, scope))
            .transpose()?;
        if start.is_some_and(|token| expire_now || token.ticks <= oldest) {
            return Err(SpError::token_too_old());
        }
        let after = |change: &LoggedChange, token: ChangeToken| {
            if token.number >= 0 {
                change.number > token.number
            } else {
                change.ticks > token.ticks
            }
        };
        // The numbers are consecutive, so the first entry to return can be computed.
        let skip = match (start, self.entries.front()) {
            (Some(token), Some(first)) if token.number >= 0 => {
                usize::try_from(token.number - first.number + 1).unwrap_or(0)
            }
            (Some(token), _) => self.entries.partition_point(|change| change.ticks <= token.ticks),
            (None, _) => 0,
        };
        let wanted = self
            .entries
            .range(skip.min(self.entries.len())..)
            .filter(|change| {
                change.ticks > oldest
                    && scope.covers(change)
                    && query.wants(change)
                    && start.is_none_or(|token| after(change, token))
                    && end.is_none_or(|token| !after(change, token))
            });
        let limit = query.limit.clamp(1, MAXIMUM_FETCH);
        Ok(if query.latest_first {
            wanted.rev().take(limit).copied().collect()
        } else {
            wanted.take(limit).copied().collect()
        })
    }
}

fn ticks(time: Timestamp) -> i64 {
    time.as_microsecond() * 10 + UNIX_EPOCH_TICKS
}

fn token_text(scope: ChangeScope, ticks: i64, number: i64) -> String {
    format!("1;{};{};{ticks};{number}", scope.number(), scope.object())
}

fn parse_token(text: &str, scope: ChangeScope) -> Result<ChangeToken, SpError> {
    let parts: Vec<&str> = text.split(';').collect();
    let [version, kind, object, ticks, number] = parts.as_slice() else {
        return Err(SpError::token_invalid());
    };
    let kind = kind.parse::<u8>().map_err(|_| SpError::token_invalid())?;
    let object = object.parse::<Uuid>().map_err(|_| SpError::token_invalid())?;
    let ticks = ticks.parse::<i64>().map_err(|_| SpError::token_invalid())?;
    let number = number.parse::<i64>().map_err(|_| SpError::token_invalid())?;
    if *version != "1" || !(0..=3).contains(&kind) || number < -1 {
        return Err(SpError::token_invalid());
    }
    if kind != scope.number() || object != scope.object() {
        return Err(SpError::token_foreign());
    }
    Ok(ChangeToken { ticks, number })
}

/// The members of `SP.ChangeQuery` that this server supports.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the members of SP.ChangeQuery are independent flags"
)]
pub(crate) struct ChangeQuery {
    item: bool,
    list: bool,
    add: bool,
    update: bool,
    delete: bool,
    restore: bool,
    role_add: bool,
    role_delete: bool,
    latest_first: bool,
    limit: usize,
    start: Option<String>,
    end: Option<String>,
}

impl ChangeQuery {
    /// Parses the `query` member of a `getchanges` body.
    pub(crate) fn parse(body: &Value) -> Result<Self, SpError> {
        let query = body.get("query").unwrap_or(body);
        let map = query
            .as_object()
            .ok_or_else(|| SpError::query("The parameter query is missing."))?;
        let mut parsed = Self {
            limit: MAXIMUM_FETCH,
            ..Self::default()
        };
        for (name, value) in map {
            let flag = value.as_bool().unwrap_or(false);
            match name.as_str() {
                "Item" => parsed.item = flag,
                "List" => parsed.list = flag,
                "Add" => parsed.add = flag,
                "Update" => parsed.update = flag,
                "DeleteObject" => parsed.delete = flag,
                "Restore" => parsed.restore = flag,
                "RoleAssignmentAdd" => parsed.role_add = flag,
                "RoleAssignmentDelete" => parsed.role_delete = flag,
                "LatestFirst" => parsed.latest_first = flag,
                "FetchLimit" => {
                    let number = value
                        .as_u64()
                        .or_else(|| value.as_str().and_then(|text| text.parse().ok()));
                    parsed.limit = match number {
                        Some(number) => usize::try_from(number).unwrap_or(MAXIMUM_FETCH),
                        None if value.is_null() => MAXIMUM_FETCH,
                        None => return Err(SpError::bad_value("FetchLimit")),
                    };
                }
                "ChangeTokenStart" => parsed.start = token_value(value)?,
                "ChangeTokenEnd" => parsed.end = token_value(value)?,
                "__metadata"
                | "SystemUpdate"
                | "Rename"
                | "Move"
                | "Web"
                | "Site"
                | "File"
                | "Folder"
                | "User"
                | "Group"
                | "View"
                | "Alert"
                | "ContentType"
                | "Field"
                | "Activity"
                | "Navigation"
                | "SecurityPolicy"
                | "GroupMembershipAdd"
                | "GroupMembershipDelete"
                | "RoleDefinitionAdd"
                | "RoleDefinitionDelete"
                | "RoleDefinitionUpdate"
                | "RecursiveAll"
                | "RequireSecurityTrim"
                | "AppConsentPrincipal"
                | "IgnoreStartTokenNotFoundError" => {}
                other => return Err(SpError::no_property(other, "SP.ChangeQuery")),
            }
        }
        Ok(parsed)
    }

    fn wants(&self, change: &LoggedChange) -> bool {
        let object = match change.kind {
            ChangeKind::Item { .. } => self.item,
            ChangeKind::List => self.list,
        };
        object
            && match change.change {
                ChangeType::Add => self.add,
                ChangeType::Update => self.update,
                ChangeType::DeleteObject => self.delete,
                ChangeType::Restore => self.restore,
                ChangeType::AssignmentAdd => self.role_add,
                ChangeType::AssignmentDelete => self.role_delete,
            }
    }
}

fn token_value(value: &Value) -> Result<Option<String>, SpError> {
    match value {
        Value::Null => Ok(None),
        Value::Object(map) => match map.get("StringValue") {
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(Value::Null) | None => Ok(None),
            Some(_) => Err(SpError::token_invalid()),
        },
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(SpError::token_invalid())
        }
    }
}

/// Returns a token as a value of an answer.
pub(crate) fn token_node(text: String) -> Node {
    Node::Complex("SP.ChangeToken", vec![("StringValue".into(), text.into())])
}

impl LoggedChange {
    /// Returns the entry as a resource. `scope` is the requested object, which the entry's token names.
    pub(crate) fn entity(&self, scope: ChangeScope, site: Uuid, service: &str) -> Entity {
        let token = token_text(scope, self.ticks, self.number);
        let mut properties: NamedProperties = vec![
            ("ChangeToken".into(), token_node(token)),
            ("ChangeType".into(), (self.change as i32).into()),
            ("SiteId".into(), site.to_string().into()),
            ("Time".into(), format_instant(self.time).into()),
            ("WebId".into(), self.web.to_string().into()),
            ("ListId".into(), self.list.to_string().into()),
        ];
        let kind = match self.kind {
            ChangeKind::Item { id, unique_id } => {
                properties.push(("ItemId".into(), id.into()));
                properties.push(("UniqueId".into(), unique_id.to_string().into()));
                "SP.ChangeItem"
            }
            ChangeKind::List => {
                properties.push(("Hidden".into(), false.into()));
                "SP.ChangeList"
            }
        };
        Entity {
            kind: kind.into(),
            uri: format!("{service}/{kind}{}", self.number),
            etag: None,
            properties,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_counted_from_the_year_one() {
        assert_eq!(
            ticks("2026-11-22T14:00:00Z".parse().unwrap()),
            639_309_528_000_000_000
        );
    }

    #[test]
    fn a_full_log_forgets_the_oldest_and_says_so() {
        let scope = ChangeScope::Site(Uuid::nil());
        let mut log = ChangeLog::new(3);
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let first = log.current_token(scope, at(0));
        for second in 1..=5 {
            log.push(
                ChangeKind::List,
                ChangeType::Add,
                Uuid::nil(),
                Uuid::nil(),
                at(second),
            );
        }
        let query = |start: Option<String>| ChangeQuery {
            list: true,
            add: true,
            limit: 10,
            start,
            ..Default::default()
        };
        assert_eq!(
            log.read(scope, &query(None), Timestamp::UNIX_EPOCH, false)
                .unwrap()
                .len(),
            3
        );
        let error = log
            .read(scope, &query(Some(first)), Timestamp::UNIX_EPOCH, false)
            .unwrap_err();
        assert!(error.message.contains("before the start"));
        let kept = log.read(
            scope,
            &query(Some(token_text(scope, ticks(at(3)), 3))),
            Timestamp::UNIX_EPOCH,
            false,
        );
        assert_eq!(kept.unwrap().len(), 2);
    }
}
