//! People in a site: their site user ids, and what they may see and edit. Shared by all users of the tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tasksync_common::error::{Code, ErrorClass, Failure};
use uuid::Uuid;

use super::client::SharePointClient;
use super::errors::RequestSubject;
use super::identity::Identity;
use super::json::Cell;
use super::lists::TaskList;
use super::log::ChangeSubject;
use super::task_presence::Permissions;
use super::wire::{RestAnswer, RestRequest, SharePointRefusal};
use super::{SharePointSettings, Site, locked, odata};
use crate::source::Person;

/// A person in a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SiteUser {
    /// The id in this site collection; the same person has another id in another one.
    pub(super) id: i64,
    /// The login name as the site writes it (with claims).
    pub(super) login: String,
}

type Login = Arc<str>;
/// The person, or `None` if the site does not know them, and the time since which this is known.
type CachedUser = (Option<Arc<SiteUser>>, Timestamp);
/// A person, a list, and an item if it has its own permissions.
type PermissionKey = (Login, Uuid, Option<i64>);

#[derive(Clone)]
struct CachedPermissions {
    permissions: Permissions,
    at: Timestamp,
    as_of: i64,
}

/// The cached site users and permissions of a site.
#[derive(Default)]
pub(super) struct People {
    users: Mutex<HashMap<Login, CachedUser>>,
    permissions: Mutex<HashMap<PermissionKey, CachedPermissions>>,
}

/// Time after which a site user id is looked up again: the account may have been removed and recreated.
const USER_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// Bytes of the longest login name that is read; SharePoint's column has 251 characters.
const LONGEST_LOGIN: usize = 1_000;
/// Time for which an answer that a person is unknown is used.
const UNKNOWN_LIFETIME: SignedDuration = SignedDuration::from_mins(10);

impl People {
    /// Returns the person in the site; `None` if the site does not know them. With `fresh`, asks the server
    /// even if the answer is cached.
    ///
    /// Which tasks are a person's depends on this answer alone. So an answer counts only if it equals the
    /// known one or is given twice. If this process has no valid answer, it uses the person's saved identity,
    /// for which another process asked.
    pub(super) async fn user(
        &self,
        client: &SharePointClient,
        site: &Site,
        person: &Person,
        settings: &SharePointSettings,
        fresh: bool,
    ) -> Result<Option<Arc<SiteUser>>, Failure> {
        let (login, now) = (&*person.login, client.now());
        let mut cached = locked(&self.users).get(login).cloned();
        if !is_valid(cached.as_ref(), now) {
            let kept = Identity::saved_of(person).and_then(|identity| identity.in_site(&site.name));
            if let Some((user, at)) = kept {
                cached = Some((Some(Arc::new(user)), at));
            }
        }
        if let Some((user, at)) = cached
            .as_ref()
            .filter(|cached| !fresh && is_valid(Some(cached), now))
        {
            self.store(login, user.clone(), *at, settings);
            return Ok(user.clone());
        }
        let user = ensure_user(client, site, login).await?.map(Arc::new);
        let is_known = cached.is_some_and(|(cached_user, _)| cached_user == user);
        if !is_known && ensure_user(client, site, login).await?.map(Arc::new) != user {
            let reason = format!("two answers disagree about the identity of \"{login}\" in the site");
            return Err(unusable(site, Code::AnswersDisagree, &reason));
        }
        self.store(login, user.clone(), now, settings);
        Ok(user)
    }

    fn store(&self, login: &str, user: Option<Arc<SiteUser>>, at: Timestamp, settings: &SharePointSettings) {
        let mut users = locked(&self.users);
        if users.get(login).is_some_and(|(_, known_at)| *known_at == at) {
            return;
        }
        evict_older_half(&mut users, settings.people, |(_, at)| *at);
        users.insert(login.into(), (user, at));
    }

    /// Returns the person as the site last answered, and when; `None` if the site does not know them or was
    /// not asked.
    pub(super) fn cached(&self, login: &str) -> Option<(SiteUser, Timestamp)> {
        let users = locked(&self.users);
        let (user, at) = users.get(login)?;
        Some((SiteUser::clone(user.as_ref()?), *at))
    }

    /// Returns the person's permissions for lists, or for items that have their own, in the order of
    /// `wanted`. A cached answer is used if no change has touched it. An answer that is refused or cannot be
    /// read is the failure of its list or item. So is an answer that denies a right and is not given twice:
    /// it would take away the person's copy or edit.
    ///
    /// # Errors
    /// The requests cannot be sent at all.
    pub(super) async fn permissions(
        &self,
        client: &SharePointClient,
        site: &Site,
        user: &SiteUser,
        wanted: &[(&TaskList, Option<i64>)],
        settings: &SharePointSettings,
    ) -> Result<Vec<Result<Permissions, SharePointRefusal>>, Failure> {
        let login: Login = user.login.as_str().into();
        let now = client.now();
        let lifetime = SignedDuration::try_from(settings.discovery_interval).unwrap_or(SignedDuration::MAX);
        let cached: Vec<Option<Permissions>> = wanted
            .iter()
            .map(|(list, item)| {
                let entry = locked(&self.permissions)
                    .get(&(login.clone(), list.id, *item))
                    .cloned()?;
                let mut subjects = vec![
                    ChangeSubject::List(list.id),
                    ChangeSubject::Web(list.web_id),
                    ChangeSubject::Site,
                ];
                subjects.extend(item.map(|item| ChangeSubject::Item(list.id, item)));
                let is_fresh = site
                    .feed
                    .with_log(|log| log.roles_are_fresh(&subjects, entry.as_of))
                    .unwrap_or(false);
                (is_fresh && entry.at.duration_until(now) < lifetime).then_some(entry.permissions)
            })
            .collect();
        let as_of = site.feed.end();
        let asked: Vec<(&TaskList, Option<i64>)> = wanted
            .iter()
            .zip(&cached)
            .filter(|(_, cached)| cached.is_none())
            .map(|(subject, _)| *subject)
            .collect();
        let mut fresh = permission_masks(client, site, user, &asked).await?;
        let denied: Vec<usize> = (0..)
            .zip(&fresh)
            .filter(|(_, mask)| denies(mask))
            .map(|(at, _)| at)
            .collect();
        if !denied.is_empty() {
            let again: Vec<_> = denied.iter().filter_map(|at| asked.get(*at).copied()).collect();
            for (at, second) in denied
                .into_iter()
                .zip(permission_masks(client, site, user, &again).await?)
            {
                if let Some(first) = fresh.get_mut(at)
                    && first.as_ref().ok() != second.as_ref().ok()
                {
                    let reason = "two answers disagree about what the person may do";
                    let disagree = unusable(site, Code::AnswersDisagree, reason);
                    *first = Err(second.err().unwrap_or_else(|| disagree.into()));
                }
            }
        }
        let mut fresh = fresh.into_iter();
        let mut answers = Vec::with_capacity(wanted.len());
        for ((list, item), cached) in wanted.iter().zip(cached) {
            if let Some(cached) = cached {
                answers.push(Ok(cached));
                continue;
            }
            let answer = fresh.next().unwrap_or_else(|| {
                Err(bad_answer(site, "a question about permissions has no answer").into())
            });
            if let Ok(permissions) = answer {
                let mut cache = locked(&self.permissions);
                evict_older_half(&mut cache, settings.permissions, |entry| entry.at);
                let entry = CachedPermissions {
                    permissions,
                    at: now,
                    as_of,
                };
                cache.insert((login.clone(), list.id, *item), entry);
            }
            answers.push(answer);
        }
        Ok(answers)
    }
}

/// Returns whether this answer need not be requested again. A time that lies as far in the future was not set
/// by our clock.
fn is_valid(cached: Option<&CachedUser>, now: Timestamp) -> bool {
    cached.is_some_and(|(user, at)| {
        let lifetime = if user.is_some() {
            USER_LIFETIME
        } else {
            UNKNOWN_LIFETIME
        };
        at.duration_until(now).abs() < lifetime
    })
}

/// Asks once for the person of a login in the site.
async fn ensure_user(
    client: &SharePointClient,
    site: &Site,
    login: &str,
) -> Result<Option<SiteUser>, Failure> {
    let request = RestRequest::query(
        &site.address,
        "web/ensureuser",
        json!({"logonName": login}),
        RequestSubject::Person,
    );
    match client.send(&request).await {
        Ok(reply) => {
            let answer = reply.read(&["Id", "LoginName", "Email", "UserPrincipalName"])?;
            site_user(login, odata::result_of(&answer, "EnsureUser"))
                .map(Some)
                .map_err(|(code, reason)| unusable(site, code, &reason))
                .inspect_err(|failure| client.note_foreign(failure))
        }
        Err(refusal) if refusal.failure.code == Code::SharePointUserUnknown => Ok(None),
        Err(refusal) => Err(refusal.failure),
    }
}

/// Returns whether the site has met the person of a login. Only reads: `ensureuser` would add the person to the site.
///
/// The site's list of people has claims logins. A login in another form is looked up in the forms that Windows and
/// Entra accounts have.
pub(super) async fn is_in_site(client: &SharePointClient, site: &Site, login: &str) -> Result<bool, Failure> {
    for claims in claims_logins(login) {
        // Not every version has every property of a person, so none is selected.
        let path = format!("web/siteusers(@v)?@v={}", odata::quoted(&claims));
        let request = RestRequest::get(&site.address, path, RequestSubject::Person);
        match client.send(&request).await {
            Ok(reply) => {
                let answer = reply.read(&["Id", "LoginName", "Email", "UserPrincipalName"])?;
                return site_user(&claims, &answer)
                    .map(|_| true)
                    .map_err(|(code, reason)| unusable(site, code, &reason))
                    .inspect_err(|failure| client.note_foreign(failure));
            }
            Err(refusal) if refusal.failure.code == Code::SharePointUserUnknown => {}
            Err(refusal) => return Err(refusal.failure),
        }
    }
    Ok(false)
}

/// Returns the claims logins that a login can stand for.
fn claims_logins(login: &str) -> Vec<String> {
    let login = login.trim();
    if login.contains('|') {
        vec![login.to_owned()]
    } else if login.contains('@') {
        vec![format!("i:0#.f|membership|{login}"), format!("i:0#.w|{login}")]
    } else {
        vec![format!("i:0#.w|{login}")]
    }
}

/// Asks once for the person's permissions for each of these subjects.
async fn permission_masks(
    client: &SharePointClient,
    site: &Site,
    user: &SiteUser,
    subjects: &[(&TaskList, Option<i64>)],
) -> Result<Vec<Result<Permissions, SharePointRefusal>>, Failure> {
    let requests = subjects
        .iter()
        .map(|(list, item)| {
            let path = match item {
                Some(item) => list.path(&format!("items({item})/getusereffectivepermissions(@u)")),
                None => list.path("getusereffectivepermissions(@u)"),
            };
            let path = format!("{path}?@u={}", odata::quoted(&user.login));
            let scope = if item.is_some() {
                RequestSubject::Item
            } else {
                RequestSubject::List
            };
            RestRequest::get(&list.web, path, scope)
        })
        .collect();
    let replies = client.send_all(requests).await?;
    let read = |reply: Result<RestAnswer, SharePointRefusal>| {
        read_mask(site, &reply?).map_err(SharePointRefusal::from)
    };
    Ok(replies.into_iter().map(read).collect())
}

/// Returns whether an answer denies the person the right to see or to edit.
fn denies(mask: &Result<Permissions, SharePointRefusal>) -> bool {
    mask.as_ref().is_ok_and(|mask| !mask.view || !mask.edit)
}

fn bad_answer(site: &Site, reason: &str) -> Failure {
    unusable(site, Code::SharePointBadAnswer, reason)
}

fn unusable(site: &Site, code: Code, reason: &str) -> Failure {
    Failure::new(ErrorClass::Transient, code, format!("{}: {reason}", site.address))
}

fn read_mask(site: &Site, reply: &RestAnswer) -> Result<Permissions, Failure> {
    let answer = reply.read(&["High", "Low"])?;
    let mask = odata::result_of(&answer, "GetUserEffectivePermissions");
    Permissions::read(mask).ok_or_else(|| bad_answer(site, "the answer about permissions has no mask"))
}

/// Reads the person in the answer to a question about `login`.
///
/// # Errors
/// The answer is about another person, or about none.
fn site_user(login: &str, answer: &Cell) -> Result<SiteUser, (Code, String)> {
    let bad = |reason: &str| (Code::SharePointBadAnswer, reason.to_owned());
    let id = odata::integer(answer, "Id")
        .filter(|id| *id > 0)
        .ok_or_else(|| bad("the answer about a person has no id"))?;
    let name =
        odata::text(answer, "LoginName").ok_or_else(|| bad("the answer about a person has no login name"))?;
    if name.len() > LONGEST_LOGIN {
        return Err(bad(&format!("a login name has more than {LONGEST_LOGIN} bytes")));
    }
    let also = ["Email", "UserPrincipalName"]
        .iter()
        .filter_map(|property| odata::text(answer, property));
    if std::iter::once(name.clone())
        .chain(also)
        .any(|name| names(login, &name))
    {
        Ok(SiteUser { id, login: name })
    } else {
        let reason = "the answer is about another person than the one requested";
        Err((Code::SharePointForeignAnswer, reason.to_owned()))
    }
}

/// Returns whether a site's name of a person (`i:0#.w|contoso\ana`) is the one asked for
/// (`i:0#.w|contoso\ana`, `contoso\ana` or `ana`). Case is ignored.
fn names(asked: &str, name: &str) -> bool {
    let account = |text: &str| text.rsplit('|').next().unwrap_or_default().trim().to_lowercase();
    let (asked, name) = (account(asked), account(name));
    !asked.is_empty()
        && (asked == name
            || (!asked.contains(['\\', '@'])
                && (name.rsplit('\\').next() == Some(asked.as_str())
                    || name.split('@').next() == Some(asked.as_str()))))
}

/// Removes the older half of a full cache.
fn evict_older_half<K: std::hash::Hash + Eq, V>(
    cache: &mut HashMap<K, V>,
    limit: usize,
    age: impl Fn(&V) -> Timestamp,
) {
    if cache.len() < limit.max(2) {
        return;
    }
    let mut ages: Vec<Timestamp> = cache.values().map(&age).collect();
    let middle = ages.len() / 2;
    let (_, median, _) = ages.select_nth_unstable(middle);
    let median = *median;
    cache.retain(|_, value| age(value) > median);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_about_another_person_is_refused() {
        let answer =
            |login: &str, email: &str| Cell::from(json!({"Id": 12, "LoginName": login, "Email": email}));
        for (asked, login, email) in [
            ("ana", "i:0#.w|ana", ""),
            ("ana", "i:0#.w|contoso\\ana", ""),
            ("CONTOSO\\Ana", "i:0#.w|contoso\\ana", ""),
            (
                "i:0#.f|membership|ana@contoso.example",
                "i:0#.f|membership|Ana@contoso.example",
                "",
            ),
            (
                "ana@contoso.example",
                "i:0#.f|membership|ana@contoso.onmicrosoft.example",
                "Ana@contoso.example",
            ),
        ] {
            assert_eq!(
                site_user(asked, &answer(login, email)).unwrap().login,
                login,
                "{asked}"
            );
        }
        for (asked, login, email) in [
            (
                "i:0#.f|membership|ana@contoso.example",
                "i:0#.f|membership|bo@contoso.example",
                "bo@contoso.example",
            ),
            ("contoso\\ana", "i:0#.w|fabrikam\\ana", ""),
            ("ana", "i:0#.w|contoso\\diana", ""),
        ] {
            assert!(
                site_user(asked, &answer(login, email)).is_err(),
                "{asked} {login}"
            );
        }
        let long = |bytes: usize| "a".repeat(bytes);
        assert!(site_user(&long(1_000), &answer(&long(1_000), "")).is_ok());
        assert!(site_user(&long(1_001), &answer(&long(1_001), "")).is_err());
        assert!(site_user("ana", &json!({"Id": 0, "LoginName": "ana"}).into()).is_err());
        assert!(site_user("ana", &json!({"Id": 12}).into()).is_err());
    }

    #[test]
    fn a_full_cache_drops_its_older_half_and_never_grows_beyond_its_limit() {
        let mut cache: HashMap<i64, Timestamp> = HashMap::new();
        for number in 0..1_000 {
            evict_older_half(&mut cache, 10, |at| *at);
            cache.insert(number, Timestamp::from_second(number).unwrap());
            assert!(cache.len() <= 10);
        }
        assert!(cache.contains_key(&999) && !cache.contains_key(&900));
    }
}
