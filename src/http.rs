//! The endpoints for an orchestrator and for Prometheus: `/live`, `/ready`, `/metrics`, on a thread and a small runtime of
//! their own, so that neither a busy nor a stuck worker keeps them from answering. Plain HTTP/1, no login.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::health::Health;
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::telemetry::metrics::Metrics;

/// How long open requests may take to end once the stop is asked for.
const DRAIN: Duration = Duration::from_secs(1);
/// How often samples are folded into histograms where nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why the endpoints could not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("http.listen: {address} is in use; choose another address, port 0 for any free one, or \"off\"")]
    InUse { address: SocketAddr },
    #[error("http.listen: cannot listen on {address}")]
    Listen { address: SocketAddr, source: std::io::Error },
    #[error("http: the thread or its runtime could not start")]
    Start { source: std::io::Error },
}

/// What the endpoints show.
#[derive(Debug, Clone)]
pub struct Shown {
    pub clock: Clock,
    pub health: Arc<Health>,
    pub metrics: Arc<Metrics>,
}

/// The running endpoints; dropped or stopped, they end.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// Listens before it returns, so that a port in use is an error at the start.
pub fn serve(listen: SocketAddr, shown: Shown) -> Result<Server, HttpError> {
    let listener = TcpListener::bind(listen).map_err(|source| match source.kind() {
        std::io::ErrorKind::AddrInUse => HttpError::InUse { address: listen },
        _ => HttpError::Listen { address: listen, source },
    })?;
    let start = |source| HttpError::Start { source };
    let address = listener.local_addr().map_err(start)?;
    listener.set_nonblocking(true).map_err(start)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(start)?;
    let stop = Stop::new();
    let until = stop.clone();
    let thread = std::thread::Builder::new().name("http".to_owned()).spawn(move || {
        if let Err(error) = runtime.block_on(answer(listener, shown, until)) {
            tracing::error!(%error, "the http endpoints ended");
        }
    });
    tracing::info!(%address, "http endpoints answer");
    Ok(Server { address, stop, thread: Some(thread.map_err(start)?) })
}

impl Server {
    /// Where they answer: the port that was chosen, where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    /// Open requests get [`DRAIN`] to end.
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the http thread panicked");
        }
    }
}

async fn answer(listener: TcpListener, shown: Shown, stop: Stop) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let metrics = Arc::clone(&shown.metrics);
    let routes = Router::new()
        .route("/", get(|| async { "/live\n/ready\n/metrics\n" }))
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(shown);
    let until = stop.clone();
    let server = axum::serve(listener, routes).with_graceful_shutdown(async move { until.stopped().await });
    let upkeep = async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            metrics.upkeep();
        }
    };
    let drained = async {
        stop.stopped().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = server.into_future() => served,
        () = drained => Ok(()),
        () = upkeep => Ok(()),
    }
}

async fn live(State(shown): State<Shown>) -> impl IntoResponse {
    verdict(shown.health.live(shown.clock.uptime()), "live\n")
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    verdict(shown.health.readiness(shown.clock.uptime()), "ready\n")
}

fn verdict(result: Result<(), String>, ok: &'static str) -> (StatusCode, String) {
    match result {
        Ok(()) => (StatusCode::OK, ok.to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why + "\n"),
    }
}

async fn metrics_text(State(shown): State<Shown>) -> impl IntoResponse {
    let text = shown.metrics.render(shown.clock.wall_ms());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}
