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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::super::board::tests::{alert, board, window};
    use super::*;
    use crate::health::Health;
    use crate::http::{self, Server, Shown};
    use crate::telemetry::metrics::Metrics;
    use crate::wire::drift::AlertState;

    const HOSTILE: &str = "label.app=</script><img src=x>/..%2F";

    fn start() -> Server {
        let clock = Clock::start();
        let board = board();
        board.windows([window("all", 0, &[(100, 5)]), window(HOSTILE, 0, &[(100, 5)])]);
        board.alert(alert(HOSTILE, 0, AlertState::Firing));
        let health = Arc::new([Health::new(clock.uptime())]);
        let shown = Shown { clock, health, metrics: Arc::new(Metrics::of_monitor(300_000)) };
        http::serve("127.0.0.1:0".parse().unwrap(), shown, routes(Arc::new(board), clock)).unwrap()
    }

    /// Head and body.
    fn ask(server: &Server, path: &str, known: Option<&str>) -> (String, String) {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let condition = known.map(|tag| format!("If-None-Match: {tag}\r\n")).unwrap_or_default();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: dce\r\n{condition}Connection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    fn header<'h>(head: &'h str, name: &str) -> &'h str {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
    }

    #[test]
    fn every_answer_forbids_what_it_does_not_need() {
        let server = start();
        for path in [
            "/",
            "/page.css",
            "/page.js",
            "/charts.js",
            "/api/pulse",
            "/api/now",
            "/api/segment/all/0/1",
            "/api/segment/x/0/1",
        ] {
            let (head, _) = ask(&server, path, None);
            let policy = header(&head, "content-security-policy");
            assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{path}: {head}");
            assert!(
                !policy.contains("unsafe") && header(&head, "x-content-type-options") == "nosniff",
                "{path}: {head}"
            );
            assert_eq!(header(&head, "cache-control"), "no-cache", "{path}");
        }
        assert!(ask(&server, "/metrics", None).1.contains("dce_drift_active 0"), "beside it are the endpoints");
        assert!(ask(&server, "/ready", None).0.starts_with("HTTP/1.1 503"));
    }

    #[test]
    fn the_files_ask_for_nothing_from_elsewhere_and_build_no_markup() {
        for (name, text) in [("index.html", HTML), ("page.css", CSS), ("page.js", SCRIPT), ("charts.js", CHARTS)] {
            let foreign =
                text.match_indices("http").filter(|(at, _)| !text[*at..].starts_with("http://www.w3.org/2000/svg"));
            assert_eq!(foreign.count(), 0, "{name}");
            for word in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=", "onclick="]
            {
                assert!(!text.contains(word), "{name} has {word}");
            }
        }
    }

    #[test]
    fn what_has_not_changed_is_not_sent_again() {
        let server = start();
        for path in ["/", "/page.js", "/api/now", "/api/segment/all/0/1"] {
            let (head, body) = ask(&server, path, None);
            assert!(head.starts_with("HTTP/1.1 200") && !body.is_empty(), "{path}: {head}");
            let (head, body) = ask(&server, path, Some(header(&head, "etag")));
            assert!(head.starts_with("HTTP/1.1 304") && body.is_empty(), "{path}: {head}");
            assert!(ask(&server, path, Some("\"other\"")).0.starts_with("HTTP/1.1 200"), "{path}");
        }
    }

    #[test]
    fn a_hostile_name_is_found_by_its_encoding_and_comes_back_as_json() {
        let server = start();
        let encoded: String = HOSTILE.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (head, body) = ask(&server, &format!("/api/segment/{encoded}/0/{}", i64::MAX), None);
        assert!(head.starts_with("HTTP/1.1 200") && header(&head, "content-type") == "application/json", "{head}");
        let detail: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(detail["name"], HOSTILE);
        let (_, body) = ask(&server, "/api/now", None);
        let now: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            (&now["alerts"][0]["segment"], &now["alerts"][0]["summary"]),
            (&HOSTILE.into(), &"<b>moved</b>".into())
        );
        for wrong in [
            "/api/segment/nobody/0/1",
            "/api/segment/all/x/1",
            "/api/segment/all/0",
            "/api/segment//0/1",
            "/api/segment/%FF/0/1",
        ] {
            let (head, body) = ask(&server, wrong, None);
            assert!(head.starts_with("HTTP/1.1 4"), "{wrong}: {head}");
            assert!(!body.contains('<'), "{wrong}: {body}");
        }
    }
}
