//! The page of metrics and the relay's state, on a listener of their own.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::Phase;
use super::engine::EngineHandle;
use super::metrics::Meters;

/// The things that its pages tell of.
#[derive(Debug, Clone)]
pub(super) struct Monitor {
    pub(super) engine: EngineHandle,
    pub(super) meters: Arc<Meters>,
    pub(super) phases: watch::Receiver<Phase>,
    /// The store's file.
    pub(super) file: PathBuf,
}

/// Answers for as long as it is polled.
pub(super) async fn serve(listener: TcpListener, monitor: Monitor) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .with_state(monitor);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(error = &error as &dyn std::error::Error, "nothing is told of metrics");
    }
}

async fn metrics(State(monitor): State<Monitor>) -> Response {
    let Some(mut look) = monitor.engine.look().await else {
        return (StatusCode::SERVICE_UNAVAILABLE, "the engine does not answer\n").into_response();
    };
    let file = std::fs::metadata(&monitor.file);
    look.store_bytes = file.map_or(0, |file| file.len());
    match monitor.meters.page(&look) {
        Ok(page) => ([(CONTENT_TYPE, OPEN_METRICS)], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Whether the process runs. One that does not answer is to be started again.
async fn health() -> &'static str {
    "ok\n"
}

/// Whether replicas can be served: the engine answers, its store commits, and the relay is not
/// stopping.
async fn ready(State(monitor): State<Monitor>) -> Response {
    let unready = |why: &'static str| (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    if *monitor.phases.borrow() != Phase::Serving {
        return unready("stopping\n");
    }
    match monitor.engine.health().await {
        Some(_) => "ready\n".into_response(),
        None => unready("the store cannot be written\n"),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
