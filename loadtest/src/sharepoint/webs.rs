//! Resources for webs, the site collection, people and permissions.

use serde_json::Value;
use uuid::Uuid;

use super::SharePoint;
use super::changes::{ChangeQuery, ChangeScope, token_node};
use super::errors::SpError;
use super::item_view::permissions_node;
use super::model::{Access, Site, User, login_matches};
use super::path::Segment;
use super::server::{Call, OperationOutcome, single_name};
use super::service_account::AccountLevel;
use super::shape::{AnswerContent, Entity, Node};
use super::zones::{format_instant, parse_instant};

/// Properties that resources contain only if they are requested.
pub(crate) const ONLY_ON_REQUEST: &[&str] = &[
    "RegionalSettings",
    "EffectiveBasePermissions",
    "HasUniqueRoleAssignments",
    "CurrentUser",
    "Lists",
];

impl SharePoint {
    /// Serves `contextinfo`.
    pub(crate) fn context_info(&self, site: &Site, call: &Call<'_>) -> OperationOutcome {
        let lifetime = self.settings.digest_lifetime.as_secs();
        let root = call.service.trim_end_matches("/_api");
        let path = site.webs.get(call.web).map_or("", |web| web.path.as_str());
        let host = root.strip_suffix(path).unwrap_or(root);
        let properties = vec![
            ("FormDigestTimeoutSeconds".into(), lifetime.into()),
            (
                "FormDigestValue".into(),
                self.digest(call.name, self.clock.now()).into(),
            ),
            ("LibraryVersion".into(), "16.0.10417.20018".into()),
            ("SiteFullUrl".into(), format!("{host}{}", site.path()).into()),
            (
                "SupportedSchemaVersions".into(),
                Node::Primitives("Edm.String", vec!["14.0.0.0".into(), "15.0.0.0".into()]),
            ),
            ("WebFullUrl".into(), root.into()),
        ];
        OperationOutcome::named(
            "GetContextWebInformation",
            Node::Complex("SP.ContextWebInformation", properties),
        )
    }

    /// Serves `site` and the addresses below it.
    pub(crate) fn site_resource(
        &self,
        site: &Site,
        call: &Call<'_>,
        rest: &[Segment],
    ) -> Result<OperationOutcome, SpError> {
        match rest.first().map(|segment| segment.name.as_str()) {
            Some("getchanges") if call.method == "POST" => {
                self.changes(site, call, ChangeScope::Site(site.id))
            }
            Some("rootweb") if call.method == "GET" => {
                let entity = self.web_entity(site, 0, call)?;
                select_or_property(entity, rest.get(1..).unwrap_or_default(), call)
            }
            _ if call.method == "GET" => {
                let path = site.path();
                let host = call.service.trim_end_matches("/_api");
                let host = host.strip_suffix(call.address.web.as_str()).unwrap_or(host);
                let token = site
                    .log
                    .current_token(ChangeScope::Site(site.id), self.clock.unique());
                let entity = Entity {
                    kind: "SP.Site".into(),
                    uri: format!("{}/Site", call.service),
                    etag: None,
                    properties: vec![
                        ("Id".into(), site.id.to_string().into()),
                        ("Url".into(), format!("{host}{path}").into()),
                        ("ServerRelativeUrl".into(), root_path(path).into()),
                        ("CurrentChangeToken".into(), token_node(token)),
                        ("ReadOnly".into(), false.into()),
                        ("RootWeb".into(), Node::Entity(self.web_entity(site, 0, call)?)),
                    ],
                };
                select_or_property(entity, rest, call)
            }
            _ => Err(call.nothing_here()),
        }
    }

    /// Serves `web` and the addresses below it, except lists.
    pub(crate) fn web_resource(
        &self,
        site: &mut Site,
        call: &Call<'_>,
        rest: &[Segment],
    ) -> Result<OperationOutcome, SpError> {
        let step = rest.first();
        let tail = rest.get(1..).unwrap_or_default();
        match (call.method, step.map(|segment| segment.name.as_str())) {
            ("POST", Some("getchanges")) => {
                let web = site
                    .webs
                    .get(call.web)
                    .map(|web| web.id)
                    .ok_or_else(|| call.nothing_here())?;
                self.changes(site, call, ChangeScope::Web(web))
            }
            ("POST", Some("ensureuser")) => ensure_user(site, call, step),
            ("GET", Some("getusereffectivepermissions")) => {
                let user = step
                    .and_then(|segment| segment.argument.as_deref())
                    .ok_or_else(|| call.nothing_here())?;
                site.find_user(user).ok_or_else(SpError::no_user)?;
                Ok(permissions(Access::Edit))
            }
            ("GET", Some("regionalsettings")) => self.regional_settings(site, call, tail),
            ("GET", Some("currentuser")) => {
                let user = site.users.get(&call.caller.user).ok_or_else(SpError::no_user)?;
                let administers = call.caller.full && self.account_level() == AccountLevel::Administrator;
                select_or_property(user_entity(user, call, administers), tail, call)
            }
            ("GET", Some("siteusers")) => site_users(site, call, step, tail),
            ("GET", Some("getuserbyid")) => {
                let user = user_by_id(site, step)?;
                select_or_property(user_entity(user, call, false), tail, call)
            }
            ("GET", Some("webs")) if tail.is_empty() => {
                let prefix = format!("{}/", site.webs.get(call.web).map_or("", |web| web.path.as_str()));
                let mut entries = Vec::new();
                for (at, web) in site.webs.iter().enumerate() {
                    // Only direct children.
                    if at != call.web
                        && !(call.caller.full && web.closed.is_some())
                        && web
                            .path
                            .strip_prefix(&prefix)
                            .is_some_and(|name| !name.contains('/'))
                    {
                        let entity = self.web_entity(site, at, call)?;
                        entries.push(entity.select(&call.select(), &call.expand(), ONLY_ON_REQUEST)?);
                    }
                }
                Ok(OperationOutcome::ok(AnswerContent::Feed { entries, next: None }))
            }
            ("GET", _) => select_or_property(self.web_entity(site, call.web, call)?, rest, call),
            _ => Err(call.nothing_here()),
        }
    }

    fn web_entity(&self, site: &Site, at: usize, call: &Call<'_>) -> Result<Entity, SpError> {
        let web = site.webs.get(at).ok_or_else(|| call.nothing_here())?;
        let web_url = call.service.trim_end_matches("/_api");
        let host = web_url.strip_suffix(call.address.web.as_str()).unwrap_or(web_url);
        let service = format!("{host}{}/_api", web.path);
        let token = site
            .log
            .current_token(ChangeScope::Web(web.id), self.clock.unique());
        let modified = site
            .lists
            .values()
            .filter(|list| list.web == at)
            .map(|list| list.last_item_modified)
            .max();
        let mask = if call.caller.full {
            self.account_level().mask()
        } else {
            Access::Edit.mask()
        };
        Ok(Entity {
            kind: "SP.Web".into(),
            uri: format!("{service}/Web"),
            etag: None,
            properties: vec![
                ("Id".into(), web.id.to_string().into()),
                ("Title".into(), web.title.as_str().into()),
                ("Url".into(), format!("{host}{}", web.path).into()),
                ("ServerRelativeUrl".into(), root_path(&web.path).into()),
                ("Language".into(), site.language.lcid().into()),
                ("WebTemplate".into(), "STS".into()),
                ("Created".into(), format_instant(web.created).into()),
                (
                    "LastItemModifiedDate".into(),
                    format_instant(modified.unwrap_or(web.created)).into(),
                ),
                ("CurrentChangeToken".into(), token_node(token)),
                ("EffectiveBasePermissions".into(), permissions_node(mask)),
                (
                    "RegionalSettings".into(),
                    Node::Entity(self.regional_entity(site, &service)),
                ),
            ],
        })
    }

    fn regional_entity(&self, site: &Site, service: &str) -> Entity {
        Entity {
            kind: "SP.RegionalSettings".into(),
            uri: format!("{service}/Web/RegionalSettings"),
            etag: None,
            properties: vec![
                ("LocaleId".into(), site.language.lcid().into()),
                ("Time24".into(), (site.language == super::Language::German).into()),
                ("WorkDays".into(), 62.into()),
                ("TimeZone".into(), Node::Entity(self.zone_entity(site, service))),
            ],
        }
    }

    fn zone_entity(&self, site: &Site, service: &str) -> Entity {
        let (bias, standard, daylight) = site.zone.biases(self.clock.now());
        let information = vec![
            ("Bias".into(), bias.into()),
            ("DaylightBias".into(), daylight.into()),
            ("StandardBias".into(), standard.into()),
        ];
        Entity {
            kind: "SP.TimeZone".into(),
            uri: format!("{service}/Web/RegionalSettings/TimeZone"),
            etag: None,
            properties: vec![
                ("Description".into(), site.zone.description.into()),
                ("Id".into(), site.zone.id.into()),
                (
                    "Information".into(),
                    Node::Complex("SP.TimeZoneInformation", information),
                ),
            ],
        }
    }

    fn regional_settings(
        &self,
        site: &Site,
        call: &Call<'_>,
        rest: &[Segment],
    ) -> Result<OperationOutcome, SpError> {
        let Some((first, tail)) = rest.split_first() else {
            return select_or_property(self.regional_entity(site, &call.service), rest, call);
        };
        if first.name != "timezone" {
            return select_or_property(self.regional_entity(site, &call.service), rest, call);
        }
        let argument = tail.first().and_then(|segment| segment.argument.as_deref());
        match (tail.first().map(|segment| segment.name.as_str()), argument) {
            (Some("utctolocaltime"), Some(text)) => {
                // The argument is UTC, with or without `Z`.
                let text = text.trim_end_matches('Z');
                let instant = format!("{text}Z")
                    .parse()
                    .map_err(|_| SpError::bad_value("date"))?;
                let local = site.zone.local(instant).strftime("%Y-%m-%dT%H:%M:%S").to_string();
                Ok(OperationOutcome::named("UTCToLocalTime", local))
            }
            (Some("localtimetoutc"), Some(text)) => {
                let instant = parse_instant(text.trim_end_matches('Z'), &site.zone);
                let instant = instant.ok_or_else(|| SpError::bad_value("date"))?;
                Ok(OperationOutcome::named("LocalTimeToUTC", format_instant(instant)))
            }
            _ => select_or_property(self.zone_entity(site, &call.service), tail, call),
        }
    }

    /// Serves `getchanges` of a site, web or list.
    pub(crate) fn changes(
        &self,
        site: &Site,
        call: &Call<'_>,
        scope: ChangeScope,
    ) -> Result<OperationOutcome, SpError> {
        let query = ChangeQuery::parse(&call.json()?)?;
        let oldest = self
            .clock
            .now()
            .checked_sub(self.settings.change_log_retention)
            .unwrap_or_default();
        let changes = match site.log.read(scope, &query, oldest, call.expire_cursor) {
            Ok(changes) => changes,
            Err(error) if error == SpError::token_too_old() && self.silent_expiry() => Vec::new(),
            Err(error) => return Err(error),
        };
        let entries = changes
            .iter()
            .map(|change| change.entity(scope, site.id, &call.service))
            .collect();
        Ok(OperationOutcome::ok(AnswerContent::Feed { entries, next: None }))
    }

    fn silent_expiry(&self) -> bool {
        self.silent_expiry.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Returns the current change token of a list.
    pub(crate) fn list_token(&self, site: &Site, list: Uuid) -> String {
        site.log
            .current_token(ChangeScope::List(list), self.clock.unique())
    }
}

/// Returns an entity with `$select` and `$expand` applied, or the one property that a further segment names.
pub(crate) fn select_or_property(
    entity: Entity,
    rest: &[Segment],
    call: &Call<'_>,
) -> Result<OperationOutcome, SpError> {
    if rest.is_empty() {
        let etag = entity.etag.clone();
        let entity = entity.select(&call.select(), &call.expand(), ONLY_ON_REQUEST)?;
        return Ok(OperationOutcome {
            etag,
            ..OperationOutcome::ok(AnswerContent::Entity(entity))
        });
    }
    let name = single_name(rest).ok_or_else(|| call.nothing_here())?;
    let answer = entity.property(name).ok_or_else(|| call.nothing_here())?;
    Ok(OperationOutcome::ok(match answer {
        AnswerContent::Entity(inner) => {
            AnswerContent::Entity(inner.select(&call.select(), &call.expand(), ONLY_ON_REQUEST)?)
        }
        answer @ (AnswerContent::Feed { .. } | AnswerContent::Named(..)) => answer,
    }))
}

/// Returns the result of `getusereffectivepermissions`.
pub(crate) fn permissions(access: Access) -> OperationOutcome {
    OperationOutcome::named("GetUserEffectivePermissions", permissions_node(access.mask()))
}

fn root_path(path: &str) -> &str {
    if path.is_empty() { "/" } else { path }
}

fn user_entity(user: &User, call: &Call<'_>, administers: bool) -> Entity {
    Entity {
        kind: "SP.User".into(),
        uri: format!("{}/Web/GetUserById({})", call.service, user.id),
        etag: None,
        properties: vec![
            ("Id".into(), user.id.into()),
            ("IsHiddenInUI".into(), false.into()),
            ("LoginName".into(), user.login.as_str().into()),
            ("Title".into(), user.title.as_str().into()),
            ("PrincipalType".into(), 1.into()),
            ("Email".into(), user.email.as_str().into()),
            ("IsShareByEmailGuestUser".into(), false.into()),
            ("IsSiteAdmin".into(), administers.into()),
        ],
    }
}

fn user_by_id<'a>(site: &'a Site, segment: Option<&Segment>) -> Result<&'a User, SpError> {
    let id = segment
        .and_then(|segment| segment.argument.as_deref())
        .and_then(|id| id.parse::<i32>().ok());
    id.and_then(|id| site.users.get(&id)).ok_or_else(SpError::no_user)
}

fn site_users(
    site: &Site,
    call: &Call<'_>,
    step: Option<&Segment>,
    tail: &[Segment],
) -> Result<OperationOutcome, SpError> {
    if let Some(name) = step.and_then(|segment| segment.argument.as_deref()) {
        let user = match name.parse::<i32>() {
            Ok(id) => site.users.get(&id),
            Err(_) => site
                .users
                .values()
                .find(|user| user.login.eq_ignore_ascii_case(name)),
        };
        return select_or_property(
            user_entity(user.ok_or_else(SpError::no_user)?, call, false),
            tail,
            call,
        );
    }
    let argument = tail.first().and_then(|segment| segment.argument.as_deref());
    let rest = tail.get(1..).unwrap_or_default();
    let user = match (tail.first().map(|segment| segment.name.as_str()), argument) {
        (None, _) => {
            let (select, expand) = (call.select(), call.expand());
            let entries = site
                .users
                .values()
                .map(|user| user_entity(user, call, false).select(&select, &expand, ONLY_ON_REQUEST))
                .collect::<Result<_, _>>()?;
            return Ok(OperationOutcome::ok(AnswerContent::Feed { entries, next: None }));
        }
        (Some("getbyemail"), Some(email)) => site
            .users
            .values()
            .find(|user| !email.is_empty() && user.email.eq_ignore_ascii_case(email)),
        (Some("getbyid"), Some(_)) => Some(user_by_id(site, tail.first())?),
        (Some("getbyloginname"), Some(login)) => site
            .users
            .values()
            .find(|user| user.login.eq_ignore_ascii_case(login)),
        _ => return Err(call.nothing_here()),
    };
    select_or_property(
        user_entity(user.ok_or_else(SpError::no_user)?, call, false),
        rest,
        call,
    )
}

fn ensure_user(
    site: &mut Site,
    call: &Call<'_>,
    step: Option<&Segment>,
) -> Result<OperationOutcome, SpError> {
    let body = call.json()?;
    let name = step
        .and_then(|segment| segment.argument.clone())
        .or_else(|| body.get("logonName").and_then(Value::as_str).map(str::to_owned))
        .ok_or_else(|| SpError::query("The parameter logonName is missing."))?;
    let existing = site.find_user(&name).map(|user| user.id);
    let id = if let Some(id) = existing {
        id
    } else {
        let entry = site
            .directory
            .iter()
            .find(|(login, _, email)| login_matches(login, email, &name))
            .cloned();
        let (login, title, email) = entry.ok_or_else(SpError::user_not_unique)?;
        site.add_user(&login, &title, &email)
    };
    let user = site.users.get(&id).ok_or_else(SpError::no_user)?;
    select_or_property(user_entity(user, call, false), &[], call)
}
