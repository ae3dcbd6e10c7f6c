//! A user's cursor over the change feeds of the tenant's sites, and change tokens. Pure.
//!
//! The stored form is compact JSON of version 1:
//! `{"v":1,"b":<unix seconds>,"s":{"<site>":"<token>"},"u":{"<list>":"<web>"}}`.
//!
//! - `<site>` is the 64-bit FNV-1a hash of the site's address in hexadecimal.
//! - An empty token means that the site was never read.
//! - `u`, omitted when empty, names the lists that could not be read up to the tokens, each with the address of
//!   its web if it is known. The cursor does not cover these lists, and the next reading lists them from the start.
//!
//! This is a stored format: old versions must stay readable.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tasksync_common::error::{Code, ErrorClass, Failure};
use tasksync_common::model::digest;
use uuid::Uuid;

use super::odata;

/// Returns the name of a site inside a cursor.
pub(super) fn site_name(address: &str) -> String {
    let hash = digest(address.bytes().map(|byte| byte.to_ascii_lowercase()));
    format!("{hash:016x}")
}

/// A cursor; its stored form is described in the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SourceCursor {
    v: u8,
    b: i64,
    s: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    u: BTreeMap<Uuid, String>,
}

const VERSION: u8 = 1;
/// Bytes of the longest cursor that is read: 1,000 sites at some 120 bytes take half of it.
const LONGEST: usize = 256 * 1024;

impl SourceCursor {
    /// Returns a cursor whose oldest token is from `birth`, and which does not cover the lists `unread`.
    pub(super) fn new(
        birth: Timestamp,
        tokens: BTreeMap<String, String>,
        unread: BTreeMap<Uuid, String>,
    ) -> Self {
        Self {
            v: VERSION,
            b: birth.as_second(),
            s: tokens,
            u: unread,
        }
    }

    /// Reads a stored cursor.
    ///
    /// # Errors
    /// `CursorInvalid` for anything that is not a cursor of a known version.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        if text.len() > LONGEST {
            return Err(invalid("the stored cursor is too long"));
        }
        match serde_json::from_str::<Self>(text) {
            Ok(cursor) if cursor.v == VERSION => Ok(cursor),
            Ok(cursor) => Err(invalid(format!("the stored cursor has version {}", cursor.v))),
            Err(_) => Err(invalid("the stored cursor is not readable")),
        }
    }

    /// Checks age and sites. The age is checked first, because the server sometimes answers an expired token
    /// with no error and no changes. A site that was added or removed makes a full listing necessary.
    ///
    /// # Errors
    /// `CursorInvalid` if the cursor is older than `lifetime` or the tenant's sites are not those of the
    /// cursor.
    pub(super) fn check<'a>(
        &self,
        now: Timestamp,
        lifetime: SignedDuration,
        sites: impl Iterator<Item = &'a str>,
    ) -> Result<(), Failure> {
        let birth = self.birth();
        if birth.duration_until(now) > lifetime {
            return Err(invalid(format!("the stored cursor is of {birth}")));
        }
        if sites.eq(self.s.keys().map(String::as_str)) {
            Ok(())
        } else {
            Err(invalid("the sites of the tenant have changed"))
        }
    }

    /// Returns the time at which the oldest of the tokens was current.
    pub(super) fn birth(&self) -> Timestamp {
        Timestamp::from_second(self.b).unwrap_or(Timestamp::MIN)
    }

    /// Returns the token of a site.
    pub(super) fn token(&self, site: &str) -> Option<&str> {
        self.s.get(site).map(String::as_str)
    }

    /// Returns the lists that the cursor does not cover, each with the address of its web, or an empty one.
    pub(super) fn unread(&self) -> &BTreeMap<Uuid, String> {
        &self.u
    }

    /// Returns the stored form.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Returns the failure of a cursor that is no longer valid.
pub(super) fn invalid(reason: impl Into<String>) -> Failure {
    Failure::new(ErrorClass::CursorInvalid, Code::SharePointTokenExpired, reason)
}

/// A change token of the form `1;scope;guid;ticks;number`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FeedToken {
    /// 1 for a site collection, 2 for a web, 3 for a list.
    pub(super) scope: u8,
    /// The id of the site, web or list.
    pub(super) guid: Uuid,
    /// .NET ticks, UTC.
    pub(super) ticks: i64,
    /// The number of the change; -1 in a token that names only a time.
    pub(super) number: i64,
}

impl FeedToken {
    /// Reads the form above. Returns `None` for any other form, which the server may still understand.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';');
        if parts.next()? != "1" {
            return None;
        }
        let token = Self {
            scope: parts.next()?.parse().ok()?,
            guid: Uuid::parse_str(parts.next()?).ok()?,
            ticks: parts.next()?.parse().ok()?,
            number: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(token)
    }

    /// Returns a token of our own that names a time, for servers that do not report their current token.
    pub(super) fn at(site: Uuid, instant: Timestamp) -> String {
        format!("1;1;{site};{};-1", odata::ticks_of(instant))
    }

    /// Returns the time of the token's change.
    pub(super) fn instant(&self) -> Option<Timestamp> {
        odata::instant_of_ticks(self.ticks)
    }

    /// Returns which of two tokens is earlier. Returns `None` if that is uncertain: the tokens are about
    /// different things, or their numbers and times contradict each other, as after a restore.
    pub(super) fn compare(&self, other: &Self) -> Option<Ordering> {
        if (self.scope, self.guid) != (other.scope, other.guid) {
            return None;
        }
        let by_time = self.ticks.cmp(&other.ticks);
        if self.number < 0 || other.number < 0 {
            return Some(by_time);
        }
        match (self.number.cmp(&other.number), by_time) {
            (by_number, Ordering::Equal) => Some(by_number),
            (by_number, by_time) if by_number == by_time => Some(by_number),
            _ => None,
        }
    }
}

/// Compares two tokens as text; see [`FeedToken::compare`].
pub(super) fn compare(one: &str, other: &str) -> Option<Ordering> {
    if one == other {
        return Some(Ordering::Equal);
    }
    FeedToken::parse(one)?.compare(&FeedToken::parse(other)?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GUID: &str = "00000000-0000-4000-8000-000000000001";

    fn token(ticks: i64, number: i64) -> String {
        format!("1;1;{GUID};{ticks};{number}")
    }

    #[test]
    fn the_stored_form_never_changes() {
        let tokens = BTreeMap::from([(site_name("https://h/sites/A"), token(639_309_528_000_000_000, 7))]);
        let cursor = SourceCursor::new("2026-11-22T14:00:00Z".parse().unwrap(), tokens, BTreeMap::new());
        let stored = r#"{"v":1,"b":1795356000,"s":{"8ae16d2f6a60ab19":"1;1;00000000-0000-4000-8000-000000000001;639309528000000000;7"}}"#;
        assert_eq!(cursor.to_text().len(), stored.len());
        assert_eq!(SourceCursor::parse(&cursor.to_text()).unwrap(), cursor);
        assert_eq!(site_name("https://h/sites/A"), site_name("https://H/Sites/a"));
        assert!(cursor.to_text().starts_with(r#"{"v":1,"b":1795356000,"s":{""#));
        let unread = BTreeMap::from([(GUID.parse().unwrap(), "https://h/s".to_owned())]);
        let text = SourceCursor::new(cursor.birth(), cursor.s, unread.clone()).to_text();
        assert!(
            text.ends_with(r#""u":{"00000000-0000-4000-8000-000000000001":"https://h/s"}}"#),
            "{text}"
        );
        assert_eq!(SourceCursor::parse(&text).unwrap().unread(), &unread);
    }

    #[test]
    fn few_sites_stay_small() {
        let tokens = (0..15)
            .map(|site| {
                (
                    site_name(&format!("https://h/{site}")),
                    token(639_309_528_000_000_000, 123_456_789),
                )
            })
            .collect();
        assert!(
            SourceCursor::new(Timestamp::UNIX_EPOCH, tokens, BTreeMap::new())
                .to_text()
                .len()
                < 2_048
        );
    }

    #[test]
    fn a_cursor_longer_than_any_of_ours_is_not_read() {
        let of = |sites: usize| {
            let tokens = (0..sites).map(|site| (site_name(&site.to_string()), "t".repeat(200)));
            SourceCursor::new(Timestamp::UNIX_EPOCH, tokens.collect(), BTreeMap::new()).to_text()
        };
        assert!(SourceCursor::parse(&of(1_000)).is_ok());
        let failure = SourceCursor::parse(&of(1_300)).unwrap_err();
        assert_eq!(failure.class, ErrorClass::CursorInvalid);
    }

    #[test]
    fn age_and_sites_are_checked_before_the_server_is_asked() {
        let birth: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let cursor = SourceCursor::new(birth, BTreeMap::from([("a".into(), "t".into())]), BTreeMap::new());
        let days = |days: i64| SignedDuration::from_hours(24 * days);
        assert!(
            cursor
                .check(birth + days(30), days(30), ["a"].into_iter())
                .is_ok()
        );
        for (now, sites) in [
            (birth + days(31), vec!["a"]),
            (birth, vec!["a", "b"]),
            (birth, vec!["b"]),
        ] {
            let failure = cursor.check(now, days(30), sites.into_iter()).unwrap_err();
            assert_eq!(failure.class, ErrorClass::CursorInvalid);
        }
        for wrong in ["", "{}", "null", r#"{"v":2,"b":0,"s":{}}"#] {
            assert_eq!(
                SourceCursor::parse(wrong).unwrap_err().class,
                ErrorClass::CursorInvalid
            );
        }
    }

    #[test]
    fn tokens_are_compared_only_when_everything_agrees() {
        assert_eq!(compare(&token(10, 5), &token(10, 6)), Some(Ordering::Less));
        assert_eq!(compare(&token(10, 5), &token(20, 6)), Some(Ordering::Less));
        assert_eq!(compare(&token(10, -1), &token(20, 6)), Some(Ordering::Less));
        assert_eq!(compare(&token(20, 5), &token(10, 6)), None);
        assert_eq!(
            compare(&token(10, 5), "1;3;00000000-0000-4000-8000-000000000001;10;6"),
            None
        );
        assert_eq!(compare("what", "ever"), None);
        assert_eq!(compare("what", "what"), Some(Ordering::Equal));
    }

    #[test]
    fn a_token_of_our_own_names_the_time() {
        let instant = "2026-11-22T14:00:00Z".parse().unwrap();
        let text = FeedToken::at(GUID.parse().unwrap(), instant);
        assert_eq!(text, token(639_309_528_000_000_000, -1));
        assert_eq!(
            FeedToken::parse(&text).and_then(|token| token.instant()),
            Some(instant)
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,80}", other in "1;[0-9];[0-9a-f-]{0,40};-?[0-9]{0,20};-?[0-9]{0,20}") {
            let _ = SourceCursor::parse(&text);
            let _ = compare(&text, &other);
            let _ = FeedToken::parse(&other).map(|token| token.instant());
        }
    }
}
