//! The API's address while the process waits for its stores: every request gets an answer that says to try again.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tasksync_common::health::Health;

use super::error::{ApiCode, ApiError};
use super::probes::{Detail, probes};

/// Answers requests until the API exists, and passes them on afterwards. Clones share one gate.
#[derive(Clone, Default)]
pub struct StartupGate(Arc<OnceLock<TowerToHyperService<Router>>>);

impl StartupGate {
    /// Passes all further requests on to `api`. Only the first call has an effect.
    pub fn open(&self, api: Router) {
        // A second API would be a bug of the caller. The first one stays.
        self.0.set(TowerToHyperService::new(api)).ok();
    }

    /// Returns the router to listen with: the probes, and the API behind the gate.
    pub fn router(&self, health: Health) -> Router {
        Router::new()
            .fallback(pass)
            .with_state(self.clone())
            .merge(probes(health, Detail::Hidden))
    }
}

async fn pass(State(gate): State<StartupGate>, request: Request<Body>) -> Response {
    let Some(api) = gate.0.get() else {
        return ApiError::new(ApiCode::Starting, "not all stores answer yet").into_response();
    };
    match api.call(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use axum::routing::get;
    use tokio_util::sync::CancellationToken;

    use super::*;

    async fn status(router: &TowerToHyperService<Router>, path: &str) -> StatusCode {
        let request = Request::builder().uri(path).body(Body::empty()).unwrap();
        router.call(request).await.unwrap().status()
    }

    #[tokio::test]
    async fn requests_wait_outside_until_the_api_is_there() {
        let gate = StartupGate::default();
        let health = Health::new(CancellationToken::new());
        let listening = TowerToHyperService::new(gate.router(health));
        assert_eq!(status(&listening, "/api").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(&listening, "/livez").await, StatusCode::OK);
        gate.open(Router::new().route("/api", get(async || "here")));
        assert_eq!(status(&listening, "/api").await, StatusCode::OK);
        assert_eq!(status(&listening, "/other").await, StatusCode::NOT_FOUND);
    }
}
