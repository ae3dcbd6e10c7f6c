//! The table of addresses. The router, the reference page and the tests are all made from it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{MethodRouter, delete, get, post, put};
use tokio::sync::Semaphore;

use super::error::{ApiCode, ApiError};
use super::{
    ApiState, DOCTORS, Detail, MAXIMUM_BODY_BYTES, ServiceParts, alerts, auth, dead_letters, import,
    installation, middleware, pauses, probes, status, tenants, users,
};

/// Prefix of the API's addresses.
const BASE: &str = "/api/v1";
/// Time limit of a request that uses only tasksync's own stores.
const STORES_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit of a request that queries a tenant's servers.
const ASKS_SERVERS: Duration = Duration::from_secs(90);
/// Time limit of a request about many users.
const IMPORT: Duration = Duration::from_mins(2);
/// Time limit of the doctor.
const DOCTOR: Duration = Duration::from_secs(150);

/// One method of one address.
pub(super) struct Endpoint {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    what: &'static str,
    time: Duration,
    handler: MethodRouter<ApiState>,
}

fn endpoint(
    method: &'static str,
    path: &'static str,
    what: &'static str,
    time: Duration,
    handler: MethodRouter<ApiState>,
) -> Endpoint {
    Endpoint {
        method,
        path,
        what,
        time,
        handler,
    }
}

/// Returns all addresses, in the order of the reference page.
pub(super) fn endpoints() -> Vec<Endpoint> {
    [
        tenant_endpoints(),
        user_endpoints(),
        service_endpoints(),
        dead_letter_endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn tenant_endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(
            "GET",
            "/tenants",
            "Lists the tenants in order of name. Parameters: `after`, `limit` (100, at most 1,000). The last page has no `next`.",
            STORES_TIMEOUT,
            get(tenants::list),
        ),
        endpoint(
            "PUT",
            "/tenants/{tenant}",
            "Adds a tenant, or replaces its connections and settings. Body: a tenant. Its servers are not tested. 201 `added`, 200 `updated`, 422 `secret-not-allowed`.",
            STORES_TIMEOUT,
            put(tenants::put),
        ),
        endpoint(
            "POST",
            "/tenants/{tenant}/test",
            "Tests both ends of a tenant, which need not be stored, as the doctor does. Only reads, and stores nothing. Body: a tenant. Returns `result` (`ok`, `warning`, `failed`) and `checks`. 422 `secret-not-allowed`.",
            ASKS_SERVERS,
            post(tenants::test),
        ),
        endpoint(
            "GET",
            "/tenants/{tenant}",
            "Shows one tenant.",
            STORES_TIMEOUT,
            get(tenants::show),
        ),
        endpoint(
            "DELETE",
            "/tenants/{tenant}",
            "Removes a tenant with its users and their sync states. Tasks stay where they are, and the journal stays.",
            STORES_TIMEOUT,
            delete(tenants::remove),
        ),
        endpoint(
            "GET",
            "/tenants/{tenant}/pauses",
            "Lists the tenant's servers that are paused at their own request: `server`, `service`, `account`, `since`, `until`, `why`. No request is sent to them before `until`.",
            STORES_TIMEOUT,
            get(pauses::list),
        ),
        endpoint(
            "DELETE",
            "/tenants/{tenant}/pauses",
            "Ends the pauses of the tenant's servers for every worker, and makes the users due who wait for their end. With the parameter `server` (host and port), ends only that server's. Returns how many pauses were `ended` and how many users are `due`.",
            IMPORT,
            delete(pauses::end),
        ),
    ]
}

fn user_endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(
            "GET",
            "/tenants/{tenant}/users",
            "Lists the tenant's users in order of name. Parameters as for tenants.",
            STORES_TIMEOUT,
            get(users::list),
        ),
        endpoint(
            "POST",
            "/tenants/{tenant}/users",
            "Opts many users in at once, as `PUT` does with `unchecked=true`. Body: `users`, at most 1,000, each with `user`, `source_login`, `mailbox`, optional `time_zone`. Returns how many were `added` and `updated`, and which users were `refused` because the mailbox or sign-in name belongs to another user.",
            IMPORT,
            post(import::import),
        ),
        endpoint(
            "PUT",
            "/tenants/{tenant}/users/{user}",
            "Opts a user in, or updates and enables an existing user. Body: `source_login`, `mailbox`, optional `time_zone`. Checks that SharePoint knows the person and that Exchange opens the mailbox, unless `unchecked=true`. 201 `added`, 200 `updated`, 409 `mailbox-taken` or `login-taken`.",
            ASKS_SERVERS,
            put(users::opt_in),
        ),
        endpoint(
            "GET",
            "/tenants/{tenant}/users/{user}",
            "Shows one user: enrolment, place in the schedule, next sync, open alerts, state of the tasks (unfinished, held back, refused, without a copy), newest journal entries.",
            STORES_TIMEOUT,
            get(users::show),
        ),
        endpoint(
            "DELETE",
            "/tenants/{tenant}/users/{user}",
            "Opts a user out: nothing more is synced, and tasks stay where they are.",
            STORES_TIMEOUT,
            delete(users::opt_out),
        ),
        endpoint(
            "POST",
            "/tenants/{tenant}/users/{user}/sync",
            "Syncs the user at once: the sync is `sent` to the workers, or the user is `due` and sent next. `pauses` lists the tenant's servers that are paused. `waits_until` is the end of the last pause, after which the sync is made. 202, 409 `tenant-disabled`, 429 `too-many-requests`.",
            STORES_TIMEOUT,
            post(users::sync_now),
        ),
        endpoint(
            "POST",
            "/tenants/{tenant}/users/{user}/deletions/allow",
            "Allows the deletions that are held back now, once, within a day. `plan` names them as they were shown (`held_plan` of the plan). Returns `plan`, `deletions` and `until`. 202, 409 `nothing-held`, 409 `plan-changed`.",
            STORES_TIMEOUT,
            post(users::allow_deletions),
        ),
        endpoint(
            "GET",
            "/tenants/{tenant}/users/{user}/plan",
            "Shows what a sync of the user would do now: `folders` to create, `steps` in order, and the deletions that would be held back (`held`). Reads both sides in full and writes nothing.",
            ASKS_SERVERS,
            get(users::plan),
        ),
        endpoint(
            "GET",
            "/tenants/{tenant}/users/{user}/journal",
            "Lists what was overwritten or deleted, newest first ([policies.md](policies.md) lists the kinds). Parameter: `limit` (50, at most 500).",
            STORES_TIMEOUT,
            get(users::journal),
        ),
    ]
}

fn service_endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(
            "GET",
            "/status",
            "Shows what is wrong (`problems`; `result` is `attention` if the operator has to act), freshness, queues, leader, processes, disabled users and open alerts, for all tenants or for one `tenant`. Answers within a few seconds even if stores are down: what they would have told is `null`, and `missing` names them. `as_of` says when each store was read.",
            STORES_TIMEOUT,
            get(status::status),
        ),
        endpoint(
            "GET",
            "/status/tenants",
            "Shows the tenants that took most of the workers' time within the last five to ten minutes, those that failed most, and those with most late users, in order of `time_share`. Parameter: `limit` of each kind (10, at most 50).",
            STORES_TIMEOUT,
            get(status::top),
        ),
        endpoint(
            "GET",
            "/alerts",
            "Lists the open alerts, oldest first. Parameters: `tenant`, `user`, `code`, `since` (raised at this time or later), `limit` (100, at most 1,000), and `after`, the `next` of the page before. The last page has no `next`.",
            STORES_TIMEOUT,
            get(alerts::list),
        ),
        endpoint(
            "GET",
            "/alerts/causes",
            "Shows the open alerts by cause, each with its counts, the tenants with most of them and an example. Parameters: `tenant`, `code`, `since`. Without one, `installation` has what is wrong with the installation itself. Reads at most 50,000 alerts.",
            STORES_TIMEOUT,
            get(alerts::causes),
        ),
        endpoint(
            "GET",
            "/installation",
            "Shows the `id` of the installation, which markers in mailboxes carry, and how many `people` are opted in.",
            STORES_TIMEOUT,
            get(installation::show),
        ),
        endpoint(
            "PUT",
            "/installation",
            "Replaces the installation's id, for a registry that was restored empty. Body: `id`, and `confirmed` while people are opted in. 409 `people-enrolled`.",
            STORES_TIMEOUT,
            put(installation::replace),
        ),
        endpoint(
            "GET",
            "/doctor",
            "Checks the installation and the tenants' servers. Only reads. Parameter: `tenant`.",
            DOCTOR,
            get(status::doctor),
        ),
    ]
}

fn dead_letter_endpoints() -> Vec<Endpoint> {
    vec![
        endpoint(
            "GET",
            "/dead-letters",
            "Lists dead letters, the jobs that workers gave up on, oldest first, with the reason and their queue. Parameter: `limit` (50, at most 500).",
            STORES_TIMEOUT,
            get(dead_letters::list),
        ),
        endpoint(
            "DELETE",
            "/dead-letters",
            "Discards the oldest dead letters. Parameter: `limit` (1 to 500). Returns how many were `discarded`.",
            STORES_TIMEOUT,
            delete(dead_letters::discard),
        ),
        endpoint(
            "POST",
            "/dead-letters/replay",
            "Puts the oldest dead letters back into their queues. Parameter: `limit` (1 to 500). Returns how many were `replayed`. A job whose claim is gone does nothing.",
            STORES_TIMEOUT,
            post(dead_letters::replay),
        ),
        endpoint(
            "POST",
            "/dead-letters/{id}/replay",
            "Puts one dead letter back. 404 if there is none with this id.",
            STORES_TIMEOUT,
            post(dead_letters::replay_one),
        ),
        endpoint(
            "DELETE",
            "/dead-letters/{id}",
            "Discards one dead letter. 404 if there is none with this id.",
            STORES_TIMEOUT,
            delete(dead_letters::discard_one),
        ),
    ]
}

/// Returns the router of the whole service: the API behind its token, and the two probes.
pub fn router(parts: ServiceParts, token: Option<super::ApiToken>) -> Router {
    let probes = probes(parts.health.clone(), Detail::Hidden);
    let state = ApiState {
        parts: Arc::new(parts),
        token: token.map(Arc::new),
        doctors: Arc::new(Semaphore::new(DOCTORS)),
    };
    let mut api = Router::new();
    for endpoint in endpoints() {
        api = api.route(
            endpoint.path,
            endpoint
                .handler
                .layer(from_fn_with_state(endpoint.time, middleware::time_limit)),
        );
    }
    let api = api
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAXIMUM_BODY_BYTES))
        .layer(from_fn_with_state(state.clone(), auth::require));
    Router::new()
        .nest(BASE, api)
        .with_state(state)
        .merge(probes)
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(middleware::observe))
}

async fn not_found() -> ApiError {
    ApiError::new(
        ApiCode::NoSuchAddress,
        format!("addresses of the API begin with {BASE}"),
    )
}

async fn method_not_allowed(request: Request) -> ApiError {
    let matched = request.extensions().get::<MatchedPath>();
    let path = matched.map_or("", MatchedPath::as_str);
    let allowed = allowed_methods(path.strip_prefix(BASE).unwrap_or(path));
    ApiError::new(
        ApiCode::MethodNotAllowed,
        format!(
            "{} is not possible here; allowed: {}",
            request.method(),
            allowed.join(", ")
        ),
    )
}

/// Returns the methods of an address of the API. The probes, which have none here, take `GET`.
fn allowed_methods(path: &str) -> Vec<&'static str> {
    let methods: Vec<_> = endpoints()
        .into_iter()
        .filter(|endpoint| endpoint.path == path)
        .map(|endpoint| endpoint.method)
        .collect();
    if methods.is_empty() { vec!["GET"] } else { methods }
}

/// Returns the addresses as a Markdown page.
#[must_use]
pub fn markdown() -> String {
    let mut page = format!(
        "# REST API\n\nGenerated from the code (`tasksync docs api`); do not edit.\n\n\
         Every address below begins with `{BASE}` and needs `Authorization: Bearer TOKEN`, with the token the service was started \
         with (`TASKSYNC_TOKEN` or `TASKSYNC_TOKEN_FILE`). Bodies and answers are JSON. Unknown fields and parameters are \
         refused. A body may have at most 1 MiB. Every answer carries `x-request-id`, copied from the request if it has one. \
         Errors are `{{code, message, detail, action}}`, see [errors](errors.md); if fields of the request are wrong, `problems` \
         has `{{field, problem}}` for each. 429 and 503 may carry `Retry-After`.\n\n\
         Without a token: `GET /livez` (the process is alive) and `GET /readyz` (200, or 503 with what the process still needs).\n\n\
         | address | what it does |\n|---|---|\n"
    );
    for endpoint in endpoints() {
        let _ = writeln!(
            page,
            "| `{} {}` | {} |",
            endpoint.method, endpoint.path, endpoint.what
        );
    }
    page
}
