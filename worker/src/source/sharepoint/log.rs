//! A bounded log of a site's change feed, from which the cursors of all users are answered. Pure.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use uuid::Uuid;

use super::cursor::{self, FeedToken};
use super::json::Cell;
use super::odata;

/// The subject of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum ChangeSubject {
    Item(Uuid, i64),
    List(Uuid),
    Web(Uuid),
    /// The whole site: its groups, its roles or the site itself.
    Site,
}

/// The kind of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FeedChangeKind {
    /// Anything that makes the subject worth reading again.
    Changed,
    /// The subject was deleted or moved away.
    Deleted,
    /// The permissions to see or edit it changed.
    Roles,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FeedChange {
    /// The change's own token.
    pub(super) token: Box<str>,
    /// The parsed token, if it can be compared with others.
    at: Option<FeedToken>,
    pub(super) subject: ChangeSubject,
    pub(super) kind: FeedChangeKind,
}

/// The properties of an entry of `GetChanges` that are read.
pub(super) const CHANGE_PROPERTIES: [&str; 9] = [
    "ChangeToken",
    "StringValue",
    "ChangeType",
    "SiteId",
    "WebId",
    "ListId",
    "ItemId",
    "GroupId",
    "UserId",
];

impl FeedChange {
    pub(super) fn new(token: Box<str>, subject: ChangeSubject, kind: FeedChangeKind) -> Self {
        Self {
            at: FeedToken::parse(&token).filter(|token| token.number >= 0),
            token,
            subject,
            kind,
        }
    }

    /// Returns whether this change certainly lies before `other`, or shares its token.
    fn is_not_after(&self, other: &Self) -> bool {
        let order = match (&self.at, &other.at) {
            (Some(this), Some(other)) => this.compare(other),
            (None, _) | (_, None) => None,
        };
        matches!(order, Some(Ordering::Less | Ordering::Equal))
    }

    /// Reads an entry of `GetChanges`. Returns `Err` for an entry without a token, from which no reading
    /// could continue. Returns `Ok(None)` beside the token for an entry that concerns nothing here.
    pub(super) fn read(entry: &Cell) -> Result<(Box<str>, Option<Self>), ()> {
        let token: Box<str> = entry
            .get("ChangeToken")
            .and_then(|token| odata::text(token, "StringValue"))
            .filter(|token| !token.is_empty() && token.len() <= 300)
            .ok_or(())?
            .into();
        // SP.ChangeType: 3 delete, 5 move away, 8–10 role definitions, 11–12 role assignments, 13–14 group
        // members, 17–18 permission inheritance broken or restored.
        let kind = match odata::integer(entry, "ChangeType") {
            Some(0) => return Ok((token, None)),
            Some(3 | 5) => FeedChangeKind::Deleted,
            Some(8..=14 | 17 | 18) => FeedChangeKind::Roles,
            _ => FeedChangeKind::Changed,
        };
        let list = odata::guid(entry, "ListId").filter(|list| !list.is_nil());
        let has = |name: &str| entry.get(name).is_some_and(|value| !value.is_null());
        let subject = match (list, odata::integer(entry, "ItemId").filter(|id| *id > 0)) {
            (Some(list), Some(item)) => ChangeSubject::Item(list, item),
            (Some(list), None) => ChangeSubject::List(list),
            (None, _) if has("GroupId") || has("UserId") => ChangeSubject::Site,
            (None, _) => match odata::guid(entry, "WebId") {
                // A column of the web changed: the web's lists may have other columns now.
                Some(web) => ChangeSubject::Web(web),
                None => ChangeSubject::Site,
            },
        };
        let change = Self::new(token.clone(), subject, kind);
        Ok((token, Some(change)))
    }
}

/// What changed between two places of the log, each subject once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Delta {
    /// Items by list, each once; `true` if an item's last change was that it went away.
    pub(super) items: BTreeMap<Uuid, Vec<(i64, bool)>>,
    /// Lists that changed (were created, restored, renamed, or got columns) and are not deleted.
    pub(super) lists: BTreeSet<Uuid>,
    /// Lists that were deleted.
    pub(super) lists_deleted: BTreeSet<Uuid>,
    /// Lists whose permissions changed.
    pub(super) roles_lists: BTreeSet<Uuid>,
    /// Webs whose permissions changed.
    pub(super) roles_webs: BTreeSet<Uuid>,
    /// Permissions changed somewhere in the site.
    pub(super) roles_site: bool,
}

impl Delta {
    fn add(&mut self, change: &FeedChange) {
        match (change.subject, change.kind) {
            (ChangeSubject::Item(list, item), kind) => {
                self.items
                    .entry(list)
                    .or_default()
                    .push((item, kind == FeedChangeKind::Deleted));
            }
            (ChangeSubject::List(list), FeedChangeKind::Changed) => {
                self.lists_deleted.remove(&list);
                self.lists.insert(list);
            }
            (ChangeSubject::List(list), FeedChangeKind::Deleted) => {
                self.lists.remove(&list);
                self.roles_lists.remove(&list);
                self.items.remove(&list);
                self.lists_deleted.insert(list);
            }
            (ChangeSubject::List(list), FeedChangeKind::Roles) => {
                self.roles_lists.insert(list);
            }
            (ChangeSubject::Web(web), FeedChangeKind::Roles) => {
                self.roles_webs.insert(web);
            }
            (ChangeSubject::Site, FeedChangeKind::Roles) => self.roles_site = true,
            // These changes only cause a new walk of the lists.
            (
                ChangeSubject::Web(_) | ChangeSubject::Site,
                FeedChangeKind::Changed | FeedChangeKind::Deleted,
            ) => {}
        }
    }

    /// Returns whether nothing changed.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The log of one site: every change between `base` and `head`. Places are numbers that only grow, even when
/// the log is replaced. The place of an entry is its number; "at place n" means that every change below n has
/// been seen.
#[derive(Debug, Clone)]
pub(super) struct FeedLog {
    base: Box<str>,
    head: Box<str>,
    first: i64,
    changes: VecDeque<FeedChange>,
    limit: usize,
    items: HashMap<(Uuid, i64), i64>,
    roles: HashMap<ChangeSubject, i64>,
    /// Permissions read before this place no longer hold.
    roles_floor: i64,
    /// The last place at which a list, a web or the site changed.
    structure: i64,
    /// Tokens that were the head earlier, and their places.
    former: VecDeque<(Box<str>, i64)>,
    /// Whether every change's token is certainly later than the token before it, or the same.
    ordered: bool,
}

const FORMER_HEADS: usize = 64;
const ROLE_SUBJECTS: usize = 10_000;

impl FeedLog {
    /// Returns an empty log from `token` on, whose places begin at `place`.
    pub(super) fn new(token: &str, position: i64, limit: usize) -> Self {
        Self {
            base: token.into(),
            head: token.into(),
            first: position,
            changes: VecDeque::new(),
            limit: limit.max(1),
            items: HashMap::new(),
            roles: HashMap::new(),
            roles_floor: position,
            structure: position - 1,
            former: VecDeque::new(),
            ordered: true,
        }
    }

    /// Returns the token up to which the log contains every change.
    pub(super) fn head(&self) -> &str {
        &self.head
    }

    /// Returns the token after which the log begins.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Returns the place after the last change.
    pub(super) fn end(&self) -> i64 {
        self.first.saturating_add_unsigned(self.changes.len() as u64)
    }

    /// Returns the place of the first change.
    pub(super) fn first(&self) -> i64 {
        self.first
    }

    /// Returns the first change's token.
    pub(super) fn first_token(&self) -> Option<&str> {
        self.changes.front().map(|change| &*change.token)
    }

    /// Adds a change at the end and drops the oldest beyond the limit.
    pub(super) fn push(&mut self, change: FeedChange) {
        let position = self.end();
        self.index_change(&change, position);
        self.move_head(&change.token);
        self.ordered &= match self.changes.back() {
            Some(last) => last.is_not_after(&change),
            None => change.at.is_some(),
        };
        self.changes.push_back(change);
        while self.changes.len() > self.limit {
            self.drop_first();
        }
    }

    /// Moves the head, without a change, to a token after which no change is known.
    pub(super) fn move_head(&mut self, token: &str) {
        if *self.head == *token {
            return;
        }
        let former = std::mem::replace(&mut self.head, token.into());
        // A change's own token is found in the log.
        if self.changes.back().is_none_or(|last| last.token != former) {
            self.former.push_back((former, self.end()));
            if self.former.len() > FORMER_HEADS {
                self.former.pop_front();
            }
        }
    }

    /// Puts older changes in front; `base` is the token after which they were read. Returns `false` if they
    /// do not fit.
    pub(super) fn prepend(&mut self, base: &str, older: Vec<FeedChange>) -> bool {
        if older.len() + self.changes.len() > self.limit {
            return false;
        }
        for change in older.into_iter().rev() {
            self.first -= 1;
            if let ChangeSubject::Item(list, item) = change.subject {
                self.items.entry((list, item)).or_insert(self.first);
            }
            self.ordered &= match self.changes.front() {
                Some(next) => change.is_not_after(next),
                None => change.at.is_some(),
            };
            self.changes.push_front(change);
        }
        self.base = base.into();
        true
    }

    fn index_change(&mut self, change: &FeedChange, position: i64) {
        match change.subject {
            ChangeSubject::Item(list, item) => {
                self.items.insert((list, item), position);
            }
            ChangeSubject::List(_) | ChangeSubject::Web(_) | ChangeSubject::Site => {
                if change.kind != FeedChangeKind::Roles {
                    self.structure = position;
                }
            }
        }
        if change.kind == FeedChangeKind::Roles {
            self.roles.insert(change.subject, position);
            if self.roles.len() > ROLE_SUBJECTS {
                self.roles.clear();
                self.roles_floor = position + 1;
            }
        }
    }

    fn drop_first(&mut self) {
        let Some(change) = self.changes.pop_front() else {
            return;
        };
        if let ChangeSubject::Item(list, item) = change.subject
            && self.items.get(&(list, item)) == Some(&self.first)
        {
            self.items.remove(&(list, item));
        }
        self.first += 1;
        self.base = change.token;
        self.former.retain(|(_, position)| *position >= self.first);
    }

    /// Returns the place of a token: every change after the token is at this place or later. Returns `None`
    /// if the log does not know it and the server must be asked.
    pub(super) fn locate(&self, token: &str) -> Option<i64> {
        if *self.head == *token {
            return Some(self.end());
        }
        if *self.base == *token {
            return Some(self.first);
        }
        if let Some((_, position)) = self.former.iter().rev().find(|(former, _)| **former == *token) {
            return Some(*position);
        }
        match FeedToken::parse(token) {
            Some(parsed) if self.ordered => self.locate_by_order(token, &parsed),
            Some(_) | None => self.locate_by_scan(token),
        }
    }

    /// Locates a token in a log whose tokens only grow, by halving.
    fn locate_by_order(&self, token: &str, parsed: &FeedToken) -> Option<i64> {
        let (mut low, mut high) = (0, self.changes.len());
        while low < high {
            let middle = low + (high - low) / 2;
            let change = self.changes.get(middle)?;
            match change.at.as_ref().and_then(|at| at.compare(parsed)) {
                Some(Ordering::Less) => low = middle + 1,
                Some(Ordering::Equal | Ordering::Greater) => high = middle,
                // The token is of another site, or its number and its time contradict the log.
                None => return self.locate_by_scan(token),
            }
        }
        // Of entries that share a token, take the first. A token that only names the time of a change may lie
        // before or after it.
        let exact = self
            .changes
            .range(low..)
            .take_while(|change| {
                let order = change.at.as_ref().and_then(|at| at.compare(parsed));
                order == Some(Ordering::Equal)
            })
            .position(|change| *change.token == *token);
        let at = match exact {
            Some(after) => low + after + 1,
            None if self.is_between_ends(token)? => low,
            None => return None,
        };
        Some(self.first.saturating_add_unsigned(at as u64))
    }

    fn locate_by_scan(&self, token: &str) -> Option<i64> {
        // Search from the end, because most users are nearly up to date. Of entries that share a token, take
        // the first.
        let mut found = None;
        for (at, change) in self.changes.iter().enumerate().rev() {
            if *change.token == *token {
                found = Some(at + 1);
            } else if found.is_some() {
                break;
            }
        }
        if let Some(at) = found {
            return Some(self.first.saturating_add_unsigned(at as u64));
        }
        self.locate_by_comparison(token)
    }

    /// Locates a token that is not in the log but certainly between its ends. In doubt it returns an earlier
    /// place: a change that is reported twice is read twice, which does no harm.
    fn locate_by_comparison(&self, token: &str) -> Option<i64> {
        if !self.is_between_ends(token)? {
            return None;
        }
        for (at, change) in self.changes.iter().enumerate() {
            // If only the times are equal, the change may be before or after the token.
            if matches!(
                cursor::compare(token, &change.token)?,
                Ordering::Less | Ordering::Equal
            ) {
                return Some(self.first.saturating_add_unsigned(at as u64));
            }
        }
        Some(self.end())
    }

    /// Returns whether a token is certainly between the log's ends; `None` if it cannot be compared with them.
    fn is_between_ends(&self, token: &str) -> Option<bool> {
        let not_after = |order: Ordering| matches!(order, Ordering::Less | Ordering::Equal);
        let after_base = not_after(cursor::compare(&self.base, token)?);
        Some(not_after(cursor::compare(token, &self.head)?) && after_base)
    }

    /// Returns the changes from a place on.
    pub(super) fn since(&self, position: i64) -> Delta {
        let skip = usize::try_from(position.saturating_sub(self.first)).unwrap_or(0);
        let mut delta = Delta::default();
        for (position, change) in (self.first..).zip(&self.changes).skip(skip) {
            // Of an item only the last change is taken: thousands of changes are read here for every user.
            let followed = match change.subject {
                ChangeSubject::Item(list, item) => self.items.get(&(list, item)) != Some(&position),
                ChangeSubject::List(_) | ChangeSubject::Web(_) | ChangeSubject::Site => false,
            };
            if !followed {
                delta.add(change);
            }
        }
        delta
    }

    /// Returns whether an item that was read when the log ended at `as_of` has had no change since.
    pub(super) fn item_is_fresh(&self, list: Uuid, item: i64, as_of: i64) -> bool {
        as_of >= self.first
            && self.structure < as_of
            && self
                .items
                .get(&(list, item))
                .is_none_or(|position| *position < as_of)
    }

    /// Returns whether permissions that were read when the log ended at `as_of` still hold for these subjects
    /// (item, list, web, site).
    pub(super) fn roles_are_fresh(&self, subjects: &[ChangeSubject], as_of: i64) -> bool {
        as_of >= self.roles_floor
            && subjects
                .iter()
                .all(|subject| self.roles.get(subject).is_none_or(|position| *position < as_of))
    }

    /// Returns whether lists may have been added, removed or changed since the log ended at `as_of`.
    pub(super) fn structure_changed(&self, as_of: i64) -> bool {
        self.structure >= as_of
    }
}

#[cfg(test)]
mod tests;
