//! People in a site: their site user ids, and what they may see and edit. Shared by all users of the tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tasksync_common::error::{Code, ErrorClass, Failure};
use uuid::Uuid;

use super::client::Client;
use super::errors::Scope;
use super::lists::TaskList;
use super::log::Subject;
use super::presence::Permissions;
use super::wire::Ask;
use super::{SharePointSettings, Site, locked, odata};

/// A person in a site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SiteUser {
    /// Id in this site collection; the same person has another one elsewhere.
    pub(super) id: i64,
    /// Login name as the site writes it (with claims).
    pub(super) login: String,
}

type Login = Arc<str>;
/// The person, or that the site does not know them, and since when this is known.
type Known = (Option<Arc<SiteUser>>, Timestamp);
/// A person, a list, and an item when it has permissions of its own.
type Question = (Login, Uuid, Option<i64>);

#[derive(Clone)]
struct Asked {
    permissions: Permissions,
    at: Timestamp,
    as_of: i64,
}

/// See the module.
#[derive(Default)]
pub(super) struct People {
    users: Mutex<HashMap<Login, Known>>,
    permissions: Mutex<HashMap<Question, Asked>>,
}

/// A site user id is looked up again after this long: the account may have been removed and made anew.
const USER_LIFETIME: SignedDuration = SignedDuration::from_hours(24);
/// That a person is unknown is believed for this long.
const UNKNOWN_LIFETIME: SignedDuration = SignedDuration::from_mins(10);

impl People {
    /// The person in the site; `None` when the site does not know them. `fresh` asks the server whatever is known.
    pub(super) async fn user(
        &self,
        client: &Client,
        site: &Site,
        login: &str,
        settings: &SharePointSettings,
        fresh: bool,
    ) -> Result<Option<Arc<SiteUser>>, Failure> {
        let now = client.now();
        if let Some((user, at)) = locked(&self.users).get(login).filter(|_| !fresh) {
            let lifetime = if user.is_some() {
                USER_LIFETIME
            } else {
                UNKNOWN_LIFETIME
            };
            if at.duration_until(now) < lifetime {
                return Ok(user.clone());
            }
        }
        let ask = Ask::query(
            &site.address,
            "web/ensureuser",
            json!({"logonName": login}),
            Scope::Person,
        );
        let user = match client.send(&ask).await {
            Ok(reply) => {
                let user = odata::result_of(&reply.value, "EnsureUser");
                let Some(id) = odata::integer(user, "Id") else {
                    let detail = format!("{}: the answer about a person has no id", site.address);
                    return Err(Failure::new(
                        ErrorClass::Transient,
                        Code::SharePointBadAnswer,
                        detail,
                    ));
                };
                let login = odata::text(user, "LoginName").unwrap_or_else(|| login.to_owned());
                Some(Arc::new(SiteUser { id, login }))
            }
            Err(refusal) if refusal.failure.code == Code::SharePointUserUnknown => None,
            Err(refusal) => return Err(refusal.failure),
        };
        let mut users = locked(&self.users);
        make_room(&mut users, settings.people, |(_, at)| *at);
        users.insert(login.into(), (user.clone(), now));
        Ok(user)
    }

    /// What the person may do with lists, or with items that have permissions of their own: in the order asked for.
    /// What is known and not touched by a change is not asked again.
    pub(super) async fn permissions(
        &self,
        client: &Client,
        site: &Site,
        user: &SiteUser,
        wanted: &[(&TaskList, Option<i64>)],
        settings: &SharePointSettings,
    ) -> Result<Vec<Permissions>, Failure> {
        let login: Login = user.login.as_str().into();
        let now = client.now();
        let lifetime = SignedDuration::try_from(settings.discovery_interval).unwrap_or(SignedDuration::MAX);
        let mut answers: Vec<Option<Permissions>> = wanted
            .iter()
            .map(|(list, item)| {
                let asked = locked(&self.permissions)
                    .get(&(login.clone(), list.id, *item))
                    .cloned()?;
                let mut subjects = vec![Subject::List(list.id), Subject::Web(list.web_id), Subject::Site];
                subjects.extend(item.map(|item| Subject::Item(list.id, item)));
                let holds = site
                    .feed
                    .with_log(|log| log.roles_are_fresh(&subjects, asked.as_of))
                    .unwrap_or(false);
                (holds && asked.at.duration_until(now) < lifetime).then_some(asked.permissions)
            })
            .collect();
        let missing: Vec<usize> = (0..answers.len())
            .filter(|at| answers.get(*at) == Some(&None))
            .collect();
        let as_of = site.feed.end();
        let asks = missing
            .iter()
            .filter_map(|at| wanted.get(*at))
            .map(|(list, item)| {
                let path = match item {
                    Some(item) => list.path(&format!("items({item})/getusereffectivepermissions(@u)")),
                    None => list.path("getusereffectivepermissions(@u)"),
                };
                let path = format!("{path}?@u={}", odata::quoted(&user.login));
                let scope = if item.is_some() { Scope::Item } else { Scope::List };
                Ask::get(&list.web, path, scope)
            })
            .collect();
        let replies = client.send_all(&site.address, asks).await?;
        let mut cache = locked(&self.permissions);
        for (at, reply) in missing.into_iter().zip(replies) {
            let permissions = match reply {
                Ok(reply) => {
                    let mask = odata::result_of(&reply.value, "GetUserEffectivePermissions");
                    Permissions::read(mask).ok_or_else(|| {
                        let detail = format!("{}: the answer about permissions has no mask", site.address);
                        Failure::new(ErrorClass::Transient, Code::SharePointBadAnswer, detail)
                    })?
                }
                // The list or item went away meanwhile, which the next sync tells; nobody may see it now.
                Err(refusal) if refusal.failure.class == ErrorClass::Gone => Permissions::default(),
                Err(refusal) => return Err(refusal.failure),
            };
            if let Some((list, item)) = wanted.get(at) {
                make_room(&mut cache, settings.permissions, |asked| asked.at);
                let asked = Asked {
                    permissions,
                    at: now,
                    as_of,
                };
                cache.insert((login.clone(), list.id, *item), asked);
            }
            if let Some(answer) = answers.get_mut(at) {
                *answer = Some(permissions);
            }
        }
        Ok(answers.into_iter().map(Option::unwrap_or_default).collect())
    }
}

/// Makes room in a full cache: the older half goes.
fn make_room<K: std::hash::Hash + Eq, V>(
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
    fn a_full_cache_drops_its_older_half_and_never_grows_beyond_its_limit() {
        let mut cache: HashMap<i64, Timestamp> = HashMap::new();
        for number in 0..1_000 {
            make_room(&mut cache, 10, |at| *at);
            cache.insert(number, Timestamp::from_second(number).unwrap());
            assert!(cache.len() <= 10);
        }
        assert!(cache.contains_key(&999) && !cache.contains_key(&900));
    }
}
