//! The API's address while the process waits for its stores: every request is answered, and says to come back.

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

/// Stands before the API until it can be made. Clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<OnceLock<TowerToHyperService<Router>>>);

impl Gate {
    /// Lets every further request through to `api`. Only the first call counts.
    pub fn open(&self, api: Router) {
        // A second API would be a defect of the caller; the first one goes on.
        self.0.set(TowerToHyperService::new(api)).ok();
    }

    /// What listens: the probes, and behind the gate the API.
    pub fn router(&self, health: Health) -> Router {
        Router::new()
            .fallback(pass)
            .with_state(self.clone())
            .merge(probes(health, Detail::Hidden))
    }
}

async fn pass(State(gate): State<Gate>, request: Request<Body>) -> Response {
    let Some(api) = gate.0.get() else {
        return ApiError::new(ApiCode::Starting, "not everything it needs is there yet").into_response();
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
        let gate = Gate::default();
        let health = Health::new(CancellationToken::new());
        let listening = TowerToHyperService::new(gate.router(health));
        assert_eq!(status(&listening, "/api").await, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(status(&listening, "/livez").await, StatusCode::OK);
        gate.open(Router::new().route("/api", get(async || "here")));
        assert_eq!(status(&listening, "/api").await, StatusCode::OK);
        assert_eq!(status(&listening, "/other").await, StatusCode::NOT_FOUND);
    }
}
