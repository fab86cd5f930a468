//! A registry of a few lines for the tests, which does what it is told: answers, refuses, is slow, talks nonsense.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::config::{Login, Registry, SubjectStrategy};

/// What came in.
#[derive(Debug, Clone, Default)]
pub(super) struct Request {
    /// `GET /schemas/ids/7`
    pub(super) line: String,
    pub(super) authorization: Option<String>,
    pub(super) body: String,
}

/// What goes out.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Status(u16, String),
    /// The connection is closed without a word.
    Nothing,
    /// Bytes as they are, and the end.
    Raw(Vec<u8>),
    /// A header, and then one byte a while.
    Drip,
}

impl Reply {
    pub(super) fn json(value: serde_json::Value) -> Self {
        Self::Status(200, value.to_string())
    }

    pub(super) fn complaint(status: u16, code: u32) -> Self {
        Self::Status(status, serde_json::json!({ "error_code": code, "message": "as told" }).to_string())
    }
}

type Handler = Box<dyn FnMut(&Request) -> Reply + Send>;

/// Listens until the test's process ends.
pub(super) struct Stub {
    pub(super) url: String,
    handler: Arc<Mutex<Handler>>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Stub {
    pub(super) fn new(handler: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/api", listener.local_addr().unwrap());
        let handler: Arc<Mutex<Handler>> = Arc::new(Mutex::new(Box::new(handler)));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (its, log) = (Arc::clone(&handler), Arc::clone(&seen));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (its, log) = (Arc::clone(&its), Arc::clone(&log));
                std::thread::spawn(move || serve(&stream, &its, &log));
            }
        });
        Self { url, handler, seen }
    }

    pub(super) fn now(&self, handler: impl FnMut(&Request) -> Reply + Send + 'static) {
        *self.handler.lock().unwrap() = Box::new(handler);
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().iter().map(|request| request.line.clone()).collect()
    }

    pub(super) fn last(&self) -> Request {
        self.seen.lock().unwrap().last().cloned().unwrap_or_default()
    }

    pub(super) fn settings(&self) -> Registry {
        Registry {
            urls: vec![self.url.clone()],
            login: Some(Login { username: "dce".into(), password: "p:äss".into() }),
            ca_file: None,
            subject_strategy: SubjectStrategy::TopicName,
            register: true,
            timeout: Duration::from_millis(400),
        }
    }
}

fn serve(stream: &TcpStream, handler: &Mutex<Handler>, seen: &Mutex<Vec<Request>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut request = Request {
            line: line.rsplit_once(" HTTP").map_or(String::new(), |(line, _)| line.into()),
            ..Request::default()
        };
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.trim().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().ok()?,
                "authorization" => request.authorization = Some(value.trim().to_owned()),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        request.body = String::from_utf8(body).ok()?;
        seen.lock().unwrap().push(request.clone());
        let reply = handler.lock().unwrap()(&request);
        let mut writer = stream;
        match reply {
            Reply::Status(status, body) => {
                write!(writer, "HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).ok()?;
            }
            Reply::Nothing => return None,
            Reply::Raw(bytes) => {
                writer.write_all(&bytes).ok()?;
                return None;
            }
            Reply::Drip => {
                write!(writer, "HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n").ok()?;
                loop {
                    writer.write_all(b"{").ok()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}
