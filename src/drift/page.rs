//! The page: its files, and what it asks for. Names of segments and words of alerts come from clicks; they leave here as JSON
//! alone, and the page shows them as text. It loads nothing from elsewhere, and its policy forbids it to.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;

use super::board::Board;
use super::view::{Detail, Now, Pulse};
use crate::telemetry::Clock;

const HTML: &str = include_str!("page/index.html");
const CSS: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const CHARTS: &str = include_str!("page/charts.js");

const TEXT: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];

/// Sent with every answer. The browser may ask whether its copy is still good, and never use it unasked.
const ALWAYS: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (header::CACHE_CONTROL, "no-cache"),
];

#[derive(Debug, Clone)]
struct Source {
    board: Arc<Board>,
    clock: Clock,
    /// Tells versions of this process from those of the one before it.
    started_ms: i64,
}

/// `/`, its files, and `/api/…`, for [`crate::http::serve`].
pub fn routes(board: Arc<Board>, clock: Clock) -> Router {
    let source = Source { board, clock, started_ms: clock.wall_ms() };
    Router::new()
        .route("/", get(|headers| file(headers, "text/html; charset=utf-8", HTML)))
        .route("/page.css", get(|headers| file(headers, "text/css; charset=utf-8", CSS)))
        .route("/page.js", get(|headers| file(headers, "text/javascript; charset=utf-8", SCRIPT)))
        .route("/charts.js", get(|headers| file(headers, "text/javascript; charset=utf-8", CHARTS)))
        .route("/api/pulse", get(pulse))
        .route("/api/now", get(now))
        .route("/api/segment/{name}/{from}/{to}", get(segment))
        .with_state(source)
}

async fn file(headers: HeaderMap, content_type: &'static str, text: &'static str) -> Response {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    answer(&headers, content_type, &format!("\"{:016x}\"", hasher.finish()), || text.as_bytes().to_vec())
}

async fn pulse(State(source): State<Source>) -> Response {
    let pulse = Pulse::of(&source.board, source.clock.wall_ms());
    (ALWAYS, [(header::CONTENT_TYPE, "application/json")], json(&pulse)).into_response()
}

async fn now(State(source): State<Source>, headers: HeaderMap) -> Response {
    let now = Now::of(&source.board);
    answer(&headers, "application/json", &source.tag(), || json(&now))
}

/// Milliseconds since 1970-01-01 UTC; the span is cut to what is kept.
async fn segment(
    State(source): State<Source>,
    Path((name, from, to)): Path<(String, i64, i64)>,
    headers: HeaderMap,
) -> Response {
    match Detail::of(&source.board, &name, from, to) {
        Some(detail) => answer(&headers, "application/json", &source.tag(), || json(&detail)),
        None => (StatusCode::NOT_FOUND, ALWAYS, TEXT, "no window of a segment of that name is kept\n").into_response(),
    }
}

impl Source {
    fn tag(&self) -> String {
        format!("\"{:x}-{:x}\"", self.started_ms, self.board.read().version)
    }
}

/// The body, or that it has not changed.
fn answer(asked: &HeaderMap, content_type: &'static str, tag: &str, body: impl FnOnce() -> Vec<u8>) -> Response {
    let tagged = [(header::ETAG, tag.to_owned())];
    let known = asked.get(header::IF_NONE_MATCH).and_then(|known| known.to_str().ok());
    if known.is_some_and(|known| known.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)) {
        return (StatusCode::NOT_MODIFIED, ALWAYS, tagged).into_response();
    }
    (ALWAYS, tagged, [(header::CONTENT_TYPE, content_type)], body()).into_response()
}

fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("a buffer takes every value whose keys are strings")
}
