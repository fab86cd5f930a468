//! The endpoints for an orchestrator and for Prometheus: `/live`, `/ready`, `/metrics`, on a thread and a small runtime of
//! their own, so that neither a busy nor a stuck worker keeps them from answering; and whatever a process shows beside them.
//! Plain HTTP/1, no login.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;

use crate::health::{self, Health};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::telemetry::metrics::Metrics;

/// How long open requests may take to end once the stop is asked for.
const DRAIN: Duration = Duration::from_secs(1);

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
    /// Of each worker.
    pub health: Arc<[Health]>,
    pub metrics: Arc<Metrics>,
}

/// The running endpoints; dropped or stopped, they end.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

/// What stands at `/` where there is no page: the endpoints' names.
pub fn index() -> Router {
    Router::new().route("/", get(|| async { "/live\n/ready\n/metrics\n" }))
}

/// Listens before it returns, so that a port in use is an error at the start. `beside` is what else is answered, `/` with it.
pub fn serve(listen: SocketAddr, shown: Shown, beside: Router) -> Result<Server, HttpError> {
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
        if let Err(error) = runtime.block_on(answer(listener, shown, beside, until)) {
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
    /// Open requests get `DRAIN` to end.
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the http thread panicked");
        }
    }
}

async fn answer(listener: TcpListener, shown: Shown, beside: Router, stop: Stop) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let routes = Router::new()
        .route("/live", get(live))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics_text))
        .with_state(shown)
        .merge(beside);
    let until = stop.clone();
    let server = axum::serve(listener, routes).with_graceful_shutdown(async move { until.stopped().await });
    let drained = async {
        stop.stopped().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        served = server.into_future() => served,
        () = drained => Ok(()),
    }
}

async fn live(State(shown): State<Shown>) -> impl IntoResponse {
    verdict(health::live(&shown.health, shown.clock.uptime()), "live\n")
}

async fn ready(State(shown): State<Shown>) -> impl IntoResponse {
    verdict(health::readiness(&shown.health, shown.clock.uptime()), "ready\n")
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;
    use crate::health::SILENCE_MS_MAX;
    use crate::types::Uptime;

    fn start() -> (Server, Shown) {
        let clock = Clock::start();
        let health = Arc::new([Health::new(clock.uptime())]);
        let shown = Shown { clock, health, metrics: Arc::new(Metrics::new()) };
        (serve("127.0.0.1:0".parse().unwrap(), shown.clone(), index()).unwrap(), shown)
    }

    /// Status, content type and body.
    fn ask(server: &Server, path: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: dce\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let content_type = head.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default();
        (status, content_type.to_owned(), body.to_owned())
    }

    #[test]
    fn ready_follows_what_the_worker_says() {
        let (server, shown) = start();
        let text = "text/plain; charset=utf-8".to_owned();
        assert_eq!(ask(&server, "/ready"), (503, text.clone(), "starting\n".to_owned()));
        shown.health[0].ready();
        assert_eq!(ask(&server, "/ready"), (200, text.clone(), "ready\n".to_owned()));
        shown.health[0].not_ready("no partitions assigned");
        assert_eq!(ask(&server, "/ready"), (503, text, "no partitions assigned\n".to_owned()));
    }

    #[test]
    fn live_ends_with_the_workers_progress() {
        let health = Health::new(Uptime(0));
        assert_eq!(verdict(health.live(Uptime(5)), "live\n"), (StatusCode::OK, "live\n".to_owned()));
        let (status, why) = verdict(health.live(Uptime(SILENCE_MS_MAX + 1)), "live\n");
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(why.starts_with("no progress for 60 s"), "{why}");
        let (server, _) = start();
        assert_eq!(ask(&server, "/live").0, 200);
    }

    #[test]
    fn metrics_are_prometheus_text() {
        let (server, shown) = start();
        shown.metrics.assigned(3, shown.clock.wall_ms());
        let (status, content_type, body) = ask(&server, "/metrics");
        assert_eq!((status, content_type.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
        assert!(body.contains("dce_partition_last_commit_age_seconds{partition=\"3\"} "), "{body}");
        assert!(body.contains("dce_epochs_total 0"), "{body}");
    }

    #[test]
    fn other_paths_and_methods_are_refused() {
        let (server, _) = start();
        assert_eq!(ask(&server, "/").2, "/live\n/ready\n/metrics\n");
        assert_eq!(ask(&server, "/metric").0, 404);
        let mut stream = TcpStream::connect(server.address()).unwrap();
        stream
            .write_all(b"POST /live HTTP/1.1\r\nHost: dce\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    }

    #[test]
    fn a_port_in_use_is_an_error_at_the_start() {
        let (server, shown) = start();
        let error = serve(server.address(), shown, index()).unwrap_err();
        assert!(matches!(error, HttpError::InUse { address } if address == server.address()), "{error}");
        assert!(error.to_string().contains("is in use; choose another"), "{error}");
    }

    #[test]
    fn it_stops_though_a_client_holds_its_connection_open() {
        let (server, _) = start();
        let mut idle = TcpStream::connect(server.address()).unwrap();
        idle.write_all(b"GET /live HT").unwrap();
        drop(server);
        let mut answer = String::new();
        _ = idle.read_to_string(&mut answer);
        assert_eq!(answer, "", "the connection ended without an answer");
    }
}
