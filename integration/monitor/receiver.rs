//! A receiver of posts: Alertmanager, or a webhook.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// It may refuse some.
pub(super) struct Receiver {
    pub(super) url: String,
    bodies: Arc<Mutex<Vec<(String, String)>>>,
    /// So many more are refused.
    refused: Arc<AtomicUsize>,
}

impl Receiver {
    pub(super) fn refusing(first: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let refused = Arc::new(AtomicUsize::new(first));
        let (kept, left) = (Arc::clone(&bodies), Arc::clone(&refused));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut request, mut length) = (String::new(), 0);
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap_or(0);
                    }
                    request.push_str(&line);
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap_or_default();
                let take_one = |left: usize| left.checked_sub(1);
                let is_refused = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take_one).is_ok();
                let answer = if is_refused { "503 Service Unavailable" } else { "200 OK" };
                drop(write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"));
                if !is_refused {
                    kept.lock().unwrap().push((request, String::from_utf8_lossy(&body).into_owned()));
                }
            }
        });
        Self { url, bodies, refused }
    }

    pub(super) fn refuse(&self, next: usize) {
        self.refused.store(next, Ordering::SeqCst);
    }

    /// The bodies that were taken.
    pub(super) fn json(&self) -> Vec<serde_json::Value> {
        self.got().iter().map(|(_, body)| serde_json::from_str(body).expect("JSON")).collect()
    }

    /// Heads and bodies.
    pub(super) fn got(&self) -> Vec<(String, String)> {
        self.bodies.lock().unwrap().clone()
    }
}
