//! What the controller answers on its port: alive, ready, metrics. Thin.

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use tokio::net::TcpListener;

/// Why this replica is not ready; none: it is. Alive it is as long as it answers.
#[derive(Clone, Debug)]
pub struct Ready(Arc<RwLock<Option<String>>>);

impl Default for Ready {
    fn default() -> Self {
        Self(Arc::new(RwLock::new(Some("the caches are being filled".to_owned()))))
    }
}

impl Ready {
    pub fn set(&self, problem: Option<String>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    fn answer(&self) -> (StatusCode, String) {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            None => (StatusCode::OK, "ok\n".to_owned()),
            Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")),
        }
    }
}

/// Serves until the task is dropped.
pub async fn serve(listener: TcpListener, ready: Ready, metrics: impl Fn() -> String + Clone + Send + Sync + 'static) {
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || std::future::ready(ready.answer())))
        .route(
            "/metrics",
            get(move || {
                let text = metrics();
                std::future::ready((
                    [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")],
                    text,
                ))
            }),
        );
    if let Err(error) = axum::serve(listener, routes).await {
        tracing::error!(%error, "the port is closed");
    }
}
