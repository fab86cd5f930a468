//! The registry's API over HTTP, one blocking request at a time. Takes ids, subjects and schemas, gives schemas and ids, or
//! why not. Every request has a time-out and every answer a limit; whether to ask again is the caller's business.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::RegistryError;
use crate::config::Registry;
use crate::types::base64;

/// Of one answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Schemas that one schema may need, whatever the depth.
const REFERENCES_MAX: usize = 16;
/// How much of what the registry says goes on.
const SAID_CHARS_MAX: usize = 300;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";
/// Error codes of Confluent's API.
const SUBJECT_NOT_FOUND: u32 = 40401;
const VERSION_NOT_FOUND: u32 = 40402;
const SCHEMA_NOT_FOUND: u32 = 40403;

/// One registry, at one or several addresses.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    urls: Vec<String>,
    /// The address that answered last.
    first: AtomicUsize,
    authorization: Option<Hidden>,
}

struct Hidden(String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

/// A schema, with all those that it takes names from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    pub avsc: String,
    pub references: Vec<String>,
}

/// What the registry says of a schema.
#[derive(Deserialize)]
struct Registered {
    schema: String,
    #[serde(default, rename = "schemaType")]
    schema_type: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: i64,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Complaint {
    error_code: u32,
    #[serde(default)]
    message: String,
}

/// What came back that the question's asker has to judge.
enum Answer {
    Good(Vec<u8>),
    /// More than [`ANSWER_BYTES_MAX`]; its beginning.
    TooLong(Vec<u8>),
    /// A status of 404, 409 or 422, with the registry's own code.
    Complaint(Complaint),
}

impl Client {
    pub fn new(registry: &Registry) -> Result<Self, RegistryError> {
        let roots = match &registry.ca_file {
            None => RootCerts::PlatformVerifier,
            Some(path) => certificates(path)?.into(),
        };
        // A redirect takes no login with it to another host; a proxy of the environment is for the world outside.
        let config = ureq::Agent::config_builder()
            .tls_config(TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(roots).build())
            .timeout_global(Some(registry.timeout))
            .http_status_as_error(false)
            .max_redirects(3)
            .proxy(None)
            .user_agent(concat!("dce/", env!("CARGO_PKG_VERSION")))
            .build();
        let authorization = registry.login.as_ref().map(|login| {
            Hidden(format!("Basic {}", base64(format!("{}:{}", login.username, login.password).as_bytes())))
        });
        Ok(Self { agent: config.new_agent(), urls: registry.urls.clone(), first: AtomicUsize::new(0), authorization })
    }

    /// Says which address answers as a registry.
    pub fn ping(&self) -> Result<String, RegistryError> {
        let (url, answer) = self.ask("/subjects?limit=1", None)?;
        match answer {
            Answer::Good(bytes) | Answer::TooLong(bytes) if bytes.trim_ascii_start().starts_with(b"[") => Ok(url),
            Answer::Good(bytes) | Answer::TooLong(bytes) => Err(no_registrys(&url, &bytes)),
            Answer::Complaint(complaint) => Err(unexpected(&url, &complaint)),
        }
    }

    /// The schema of an id.
    pub fn schema(&self, id: u32) -> Result<Schema, RegistryError> {
        let (url, answer) = self.ask(&format!("/schemas/ids/{id}"), None)?;
        let unreadable = |why: String| RegistryError::Unreadable { id, why };
        let registered = match answer {
            Answer::Good(bytes) => parsed::<Registered>(&url, &bytes)?,
            // Of somebody else's page nothing is decided.
            Answer::TooLong(bytes) if is_schemas_beginning(&bytes) => {
                return Err(unreadable(format!("its schema is larger than {} KiB", ANSWER_BYTES_MAX >> 10)));
            }
            Answer::TooLong(bytes) => return Err(no_registrys(&url, &bytes)),
            Answer::Complaint(complaint) if complaint.error_code == SCHEMA_NOT_FOUND => {
                return Err(RegistryError::NoSuchId { id });
            }
            Answer::Complaint(complaint) => return Err(unexpected(&url, &complaint)),
        };
        is_avro(registered.schema_type.as_deref()).map_err(unreadable)?;
        let references = self.references(id, registered.references.unwrap_or_default())?;
        Ok(Schema { avsc: registered.schema, references })
    }

    /// The schemas that these name, and those that they name in turn.
    fn references(&self, id: u32, named: Vec<Reference>) -> Result<Vec<String>, RegistryError> {
        let unreadable = |why: String| RegistryError::Unreadable { id, why };
        let (mut open, mut seen, mut schemas) = (named, BTreeSet::new(), Vec::new());
        while let Some(Reference { subject, version }) = open.pop() {
            if !seen.insert((subject.clone(), version)) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Err(unreadable(format!("it needs more than {REFERENCES_MAX} other schemas")));
            }
            let (url, answer) = self.ask(&format!("/subjects/{}/versions/{version}", escaped(&subject)), None)?;
            let registered = match answer {
                Answer::Good(bytes) => parsed::<Registered>(&url, &bytes)?,
                Answer::TooLong(bytes) => return Err(no_registrys(&url, &bytes)),
                Answer::Complaint(Complaint {
                    error_code: SUBJECT_NOT_FOUND | VERSION_NOT_FOUND | SCHEMA_NOT_FOUND,
                    ..
                }) => {
                    return Err(unreadable(format!("it refers to version {version} of {subject}, which is not there")));
                }
                Answer::Complaint(complaint) => return Err(unexpected(&url, &complaint)),
            };
            is_avro(registered.schema_type.as_deref()).map_err(|why| unreadable(format!("{subject}: {why}")))?;
            open.extend(registered.references.unwrap_or_default());
            schemas.push(registered.schema);
        }
        Ok(schemas)
    }

    /// Puts a schema under a subject, unless it is there, and gives its id.
    pub fn register(&self, subject: &str, avsc: &str) -> Result<u32, RegistryError> {
        let (url, answer) = self.ask(&format!("/subjects/{}/versions", escaped(subject)), Some(avsc))?;
        match answer {
            Answer::Good(bytes) => Ok(parsed::<Id>(&url, &bytes)?.id),
            Answer::TooLong(bytes) => Err(no_registrys(&url, &bytes)),
            Answer::Complaint(complaint) => {
                Err(RegistryError::NotTaken { subject: subject.to_owned(), why: complaint.said() })
            }
        }
    }

    /// The id of a schema that stands under a subject.
    pub fn look_up(&self, subject: &str, avsc: &str) -> Result<u32, RegistryError> {
        let (url, answer) = self.ask(&format!("/subjects/{}", escaped(subject)), Some(avsc))?;
        match answer {
            Answer::Good(bytes) => Ok(parsed::<Id>(&url, &bytes)?.id),
            Answer::TooLong(bytes) => Err(no_registrys(&url, &bytes)),
            Answer::Complaint(complaint) => {
                Err(RegistryError::NotRegistered { subject: subject.to_owned(), why: complaint.said() })
            }
        }
    }

    /// The next question goes to another address first, where there are several.
    pub(super) fn prefer_another_address(&self) {
        self.first.store((self.first.load(Ordering::Relaxed) + 1) % self.urls.len(), Ordering::Relaxed);
    }

    /// Asks the addresses in turn, the one that answered last first, until one answers as a registry.
    fn ask(&self, path: &str, avsc: Option<&str>) -> Result<(String, Answer), RegistryError> {
        let first = self.first.load(Ordering::Relaxed);
        let mut whys = Vec::new();
        for place in (0..self.urls.len()).map(|n| (first + n) % self.urls.len()) {
            let url = &self.urls[place];
            match self.ask_one(url, path, avsc) {
                Ok(answer) => {
                    self.first.store(place, Ordering::Relaxed);
                    return Ok((url.clone(), answer));
                }
                Err(RegistryError::Away { why }) => whys.push(why),
                Err(other) => return Err(other),
            }
        }
        Err(RegistryError::Away { why: whys.join("; ") })
    }

    fn ask_one(&self, url: &str, path: &str, avsc: Option<&str>) -> Result<Answer, RegistryError> {
        let address = format!("{url}{path}");
        let away = |why: String| RegistryError::Away { why: format!("{url}: {why}") };
        let sent = match avsc {
            None => {
                let mut request = self.agent.get(&address).header("accept", CONTENT_TYPE);
                if let Some(Hidden(authorization)) = &self.authorization {
                    request = request.header("authorization", authorization);
                }
                request.call()
            }
            Some(avsc) => {
                let mut request = self.agent.post(&address).header("accept", CONTENT_TYPE).content_type(CONTENT_TYPE);
                if let Some(Hidden(authorization)) = &self.authorization {
                    request = request.header("authorization", authorization);
                }
                request.send(serde_json::json!({ "schema": avsc }).to_string())
            }
        };
        let mut response = sent.map_err(|error| match error {
            ureq::Error::NativeTls(_) => away(format!(
                "{error}; is its certificate from an authority that this system or registry.ca_file trusts?"
            )),
            _ => away(error.to_string()),
        })?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        let limit = ANSWER_BYTES_MAX as u64 + 1;
        response.body_mut().as_reader().take(limit).read_to_end(&mut bytes).map_err(|error| away(error.to_string()))?;
        let complaint = || serde_json::from_slice::<Complaint>(&bytes).ok();
        let said = || complaint().map_or_else(|| shortened(&String::from_utf8_lossy(&bytes)), |own| own.said());
        match status {
            200..=299 if bytes.len() > ANSWER_BYTES_MAX => Ok(Answer::TooLong(bytes)),
            200..=299 => Ok(Answer::Good(bytes)),
            401 | 403 => {
                Err(RegistryError::Refused { url: url.to_owned(), why: format!("status {status} {}", said()) })
            }
            404 | 409 | 422 => match complaint() {
                Some(complaint) => Ok(Answer::Complaint(complaint)),
                None => Err(away(format!(
                    "status {status}, and not from a registry: is the path of registry.url that of its API? {}",
                    said()
                ))),
            },
            _ => Err(away(format!("status {status} {}", said()))),
        }
    }
}

impl Complaint {
    fn said(&self) -> String {
        format!("{} (code {})", shortened(&self.message), self.error_code)
    }
}

fn parsed<'b, T: Deserialize<'b>>(url: &str, bytes: &'b [u8]) -> Result<T, RegistryError> {
    serde_json::from_slice(bytes).map_err(|_| no_registrys(url, bytes))
}

fn no_registrys(url: &str, bytes: &[u8]) -> RegistryError {
    let said = shortened(&String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SAID_CHARS_MAX)]));
    RegistryError::Away { why: format!("{url}: an answer that is no registry's: {said:?}") }
}

fn unexpected(url: &str, complaint: &Complaint) -> RegistryError {
    RegistryError::Away { why: format!("{url}: {}", complaint.said()) }
}

fn is_avro(schema_type: Option<&str>) -> Result<(), String> {
    match schema_type {
        None | Some("" | "AVRO") => Ok(()),
        Some(other) => Err(format!("it is of the type {}, not AVRO", shortened(other))),
    }
}

fn is_schemas_beginning(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"{")
        && bytes.windows(9).take(4 * SAID_CHARS_MAX).any(|part| part == b"\"schema\":")
}

/// One line of a bearable length.
fn shortened(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SAID_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// A segment of a path.
fn escaped(segment: &str) -> String {
    segment.bytes().fold(String::with_capacity(segment.len()), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
        escaped
    })
}

fn certificates(path: &std::path::Path) -> Result<Vec<Certificate<'static>>, RegistryError> {
    let fault = |why: String| RegistryError::CaFile { path: path.display().to_string(), why };
    let pem = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| fault(format!("no PEM: {error}")))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(fault("it holds no certificate in PEM".to_owned()));
    }
    Ok(certificates)
}
