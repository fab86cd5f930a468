//! Alerts to where people are told: Alertmanagers (API v2), and one webhook (CloudEvents in JSON). Threads of their own, so that
//! a receiver that is slow or away holds up no window.
//!
//! Alertmanagers get the present state again and again, as they expect it, and tell people once: an alert is known by its
//! labels and when it began. The webhook gets the opening and the end of each alert, in order, each until it is taken; how
//! far it has come is an offset on `drift-alerts` that the monitor's group notes. The topic is compacted, so an opening is told
//! by the first record of its alert that is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::wire::drift::{AlertState, DriftAlert};

/// An alert that is not sent again ends by itself after [`LASTS_MS`]: longer than Kafka or a monitor is away, since ends are sent.
const AGAIN: Duration = Duration::from_secs(30);
const LASTS_MS: i64 = 60 * 60_000;
/// For so long after its end an alert is sent as resolved.
const RESOLVED_MS: i64 = 24 * 3_600_000;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Between two attempts, doubled from the first to the last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));

/// Who is told, and how an alert names where it came from.
#[derive(Debug, Clone)]
pub struct Receivers {
    pub alertmanagers: Vec<String>,
    pub webhook: Option<String>,
    /// The application's id.
    pub monitor: String,
    pub link: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    #[error("{url}: {why}")]
    Away { url: String, why: String },
    #[error("{url} answered {status}: {said}")]
    Refused { url: String, status: u16, said: String },
}

impl NotifyError {
    /// Whether the same may be taken later.
    fn may_pass(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Refused { status, .. } => matches!(status, 408 | 429 | 500..),
        }
    }
}

/// The alerts that Alertmanagers are told of: those that fire, and those that have just ended.
#[derive(Debug, Default)]
struct Present {
    alerts: Vec<DriftAlert>,
    /// Rises with each change.
    version: u64,
}

/// Tells Alertmanagers, as long as it lives.
#[derive(Debug)]
pub struct Alertmanagers {
    shared: Arc<(Mutex<Present>, Condvar)>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Alertmanagers {
    /// `told` hears of each attempt: the address, and what went wrong.
    pub fn start(
        receivers: &Receivers,
        clock: Clock,
        told: impl Fn(&str, Result<(), &NotifyError>) + Send + 'static,
    ) -> std::io::Result<Self> {
        let shared = Arc::new((Mutex::new(Present::default()), Condvar::new()));
        let stop = Stop::new();
        let (state, until, receivers) = (Arc::clone(&shared), stop.clone(), receivers.clone());
        let thread = std::thread::Builder::new().name("alertmanagers".to_owned()).spawn(move || {
            tell_alertmanagers(&receivers, clock, &state, &until, told);
        })?;
        Ok(Self { shared, stop, thread: Some(thread) })
    }

    /// The alerts as they stand.
    pub fn set(&self, alerts: Vec<DriftAlert>) {
        let mut present = lock(&self.shared.0);
        if present.alerts != alerts {
            present.alerts = alerts;
            present.version += 1;
            self.shared.1.notify_all();
        }
    }
}

impl Drop for Alertmanagers {
    fn drop(&mut self) {
        self.stop.stop();
        // Only under the lock: between its look at the stop and its wait, the thread would sleep through this.
        let present = lock(&self.shared.0);
        self.shared.1.notify_all();
        drop(present);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn tell_alertmanagers(
    receivers: &Receivers,
    clock: Clock,
    shared: &(Mutex<Present>, Condvar),
    stop: &Stop,
    told: impl Fn(&str, Result<(), &NotifyError>),
) {
    let agent = agent();
    let mut failures = 0_u32;
    let mut sent_version = None;
    while !stop.is_stopped() {
        let (alerts, version) = {
            let present = lock(&shared.0);
            (present.alerts.clone(), present.version)
        };
        let now = clock.wall_ms();
        let payload = alertmanager_payload(&alerts, receivers, now);
        let mut failed = false;
        for url in receivers.alertmanagers.iter().filter(|_| payload.as_array().is_some_and(|all| !all.is_empty())) {
            // Each may take as long as an answer is waited for, and a process that ends is not given long.
            if stop.is_stopped() {
                return;
            }
            let sent = post(&agent, &format!("{url}/api/v2/alerts"), "application/json", &payload);
            failed |= sent.is_err();
            told(url, sent.as_ref().copied());
        }
        failures = if failed { failures + 1 } else { 0 };
        sent_version = if failed { sent_version } else { Some(version) };
        let wait = if failed { backoff(failures) } else { AGAIN };
        let present = lock(&shared.0);
        let is_told = |present: &mut Present| !stop.is_stopped() && (failed || Some(present.version) == sent_version);
        drop(shared.1.wait_timeout_while(present, wait, is_told));
    }
}

/// What Alertmanager's API v2 takes: `POST /api/v2/alerts`. An end in the future is when the alert ends if nobody sends it again.
fn alertmanager_payload(alerts: &[DriftAlert], receivers: &Receivers, now_ms: i64) -> Value {
    let still_told = |alert: &&DriftAlert| alert.resolved_at.is_none_or(|at| now_ms - at < RESOLVED_MS);
    let one = |alert: &DriftAlert| {
        let ends = match alert.state {
            AlertState::Firing => now_ms + LASTS_MS,
            AlertState::Resolved => alert.resolved_at.unwrap_or(now_ms).min(now_ms),
        };
        let mut payload = json!({
            "labels": {
                "alertname": "DceEmbeddingDrift",
                "severity": "warning",
                "monitor": receivers.monitor,
                "segment": alert.segment,
                "statistic": alert.statistic,
            },
            "annotations": {
                "summary": alert.summary,
                "id": alert.id,
                "since": time(alert.since),
                "companions": alert.companions.iter().map(|c| c.words.as_str()).collect::<Vec<_>>().join("; "),
            },
            "startsAt": time(alert.opened_at),
            "endsAt": time(ends),
        });
        if let Some(link) = &receivers.link {
            payload["generatorURL"] = link.as_str().into();
        }
        payload
    };
    alerts.iter().filter(still_told).map(one).collect()
}

/// The attributes of an alert's CloudEvent, specification 1.0: as headers on Kafka (`ce_…`), as members in JSON.
pub fn cloud_event(alert: &DriftAlert, monitor: &str) -> [(&'static str, String); 6] {
    let state = match alert.state {
        AlertState::Firing if alert.updated_at == alert.opened_at => "opened",
        AlertState::Firing => "updated",
        AlertState::Resolved => "resolved",
    };
    [
        ("specversion", "1.0".to_owned()),
        ("id", format!("{}/{state}/{}", alert.id, alert.updated_at)),
        ("source", format!("/dce/{monitor}/monitor")),
        ("type", format!("dce.drift.alert.{state}.v1")),
        ("subject", alert.segment.to_string()),
        ("time", time(alert.updated_at)),
    ]
}

/// Posts changes of alerts, each until it is taken.
#[derive(Debug)]
pub struct Webhook {
    url: String,
    monitor: String,
    agent: ureq::Agent,
}

impl Webhook {
    pub fn new(receivers: &Receivers) -> Option<Self> {
        let url = receivers.webhook.clone()?;
        Some(Self { url, monitor: receivers.monitor.clone(), agent: agent() })
    }

    /// Returns when it is taken, or never will be; false where `stop` came before.
    pub fn tell(&self, alert: &DriftAlert, stop: &Stop, told: impl Fn(&str, Result<(), &NotifyError>)) -> bool {
        let mut event: serde_json::Map<String, Value> = cloud_event(alert, &self.monitor)
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        event.insert("datacontenttype".to_owned(), "application/json".into());
        event.insert("data".to_owned(), serde_json::to_value(alert).expect("an alert has keys of text"));
        let event = Value::Object(event);
        for failures in 1.. {
            if stop.is_stopped() {
                return false;
            }
            let sent = post(&self.agent, &self.url, "application/cloudevents+json", &event);
            told(&self.url, sent.as_ref().copied());
            match sent {
                Ok(()) => return true,
                Err(error) if !error.may_pass() => {
                    tracing::error!(alert = %alert.id, %error, "the webhook refuses an alert; it is not sent again");
                    return true;
                }
                Err(_) => _ = stop.wait(backoff(failures)),
            }
        }
        false
    }
}

/// Of which alert of each segment the webhook has heard.
#[derive(Debug, Default)]
pub struct Heard(BTreeMap<Arc<str>, Arc<str>>);

impl Heard {
    /// What is to be told of the next record: that the alert has opened, where that was not heard, and that it is over.
    pub fn due(&self, alert: &DriftAlert) -> Vec<DriftAlert> {
        let mut due = Vec::new();
        if self.0.get(&alert.segment) != Some(&alert.id) {
            let updated_at = alert.opened_at;
            due.push(DriftAlert { state: AlertState::Firing, updated_at, resolved_at: None, ..alert.clone() });
        }
        due.extend((alert.state == AlertState::Resolved).then(|| alert.clone()));
        due
    }

    pub fn heard(&mut self, alert: &DriftAlert) {
        self.0.insert(Arc::clone(&alert.segment), Arc::clone(&alert.id));
    }
}

fn agent() -> ureq::Agent {
    let tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier).build();
    let config = ureq::Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .user_agent(concat!("dce/", env!("CARGO_PKG_VERSION")))
        .build();
    config.new_agent()
}

fn post(agent: &ureq::Agent, url: &str, content_type: &str, body: &Value) -> Result<(), NotifyError> {
    const SAID_CHARS_MAX: u64 = 300;
    let away = |error: ureq::Error| NotifyError::Away { url: url.to_owned(), why: error.to_string() };
    let mut answer =
        agent.post(url).header("content-type", content_type).send(body.to_string().as_bytes()).map_err(away)?;
    let status = answer.status().as_u16();
    if (200..300).contains(&status) {
        return Ok(());
    }
    let said = answer.body_mut().with_config().limit(SAID_CHARS_MAX).read_to_string().unwrap_or_default();
    Err(NotifyError::Refused { url: url.to_owned(), status, said: said.trim().to_owned() })
}

fn backoff(failures: u32) -> Duration {
    BACKOFF.1.min(BACKOFF.0 * 2_u32.saturating_pow(failures.saturating_sub(1).min(16)))
}

fn time(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

/// A list is replaced whole, so one that a panic left behind is good.
fn lock(mutex: &Mutex<Present>) -> MutexGuard<'_, Present> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::drift::DriftAlert;

    fn alert(state: AlertState, resolved_at: Option<i64>) -> DriftAlert {
        DriftAlert {
            id: "all/0".into(),
            segment: "all".into(),
            state,
            statistic: "zero".into(),
            since: 0,
            opened_at: 600_000,
            updated_at: 600_000,
            resolved_at,
            breaches: 2,
            value: 9.0,
            threshold: 3.0,
            effect: 0.1,
            customers: 850,
            model: None,
            reference: None,
            reference_count: 9_000,
            summary: "a \"sentence\"".to_owned(),
            moved: Vec::new(),
            companions: Vec::new(),
        }
    }

    #[test]
    fn alertmanager_is_told_when_an_alert_ends_and_forgets_it_then() {
        let receivers = Receivers {
            alertmanagers: Vec::new(),
            webhook: None,
            monitor: "dce".to_owned(),
            link: Some("https://dce.bank".to_owned()),
        };
        let payload = |alert: DriftAlert, now| alertmanager_payload(&[alert], &receivers, now);
        let firing = payload(alert(AlertState::Firing, None), 900_000);
        assert_eq!(firing[0]["startsAt"], "1970-01-01T00:10:00Z");
        assert_eq!(firing[0]["endsAt"], "1970-01-01T01:15:00Z", "unless it is sent again");
        assert_eq!(firing[0]["labels"]["segment"], "all");
        assert_eq!(firing[0]["generatorURL"], "https://dce.bank");
        let over = payload(alert(AlertState::Resolved, Some(900_000)), 960_000);
        assert_eq!((&over[0]["endsAt"], &over[0]["labels"]), (&"1970-01-01T00:15:00Z".into(), &firing[0]["labels"]));
        assert_eq!(payload(alert(AlertState::Resolved, Some(900_000)), 900_000 + RESOLVED_MS), serde_json::json!([]));
    }

    #[test]
    fn who_ends_tells_no_further_alertmanager() {
        // Nothing listens there: each attempt fails at once.
        let receivers = Receivers {
            alertmanagers: vec!["http://127.0.0.1:1".to_owned(); 3],
            webhook: None,
            monitor: "dce".to_owned(),
            link: None,
        };
        let (stop, attempts) = (Stop::new(), std::cell::Cell::new(0));
        let present = Present { alerts: vec![alert(AlertState::Firing, None)], version: 1 };
        tell_alertmanagers(&receivers, Clock::start(), &(Mutex::new(present), Condvar::new()), &stop, |_, _| {
            attempts.set(attempts.get() + 1);
            stop.stop();
        });
        assert_eq!(attempts.get(), 1);
    }

    #[test]
    fn an_event_is_one_of_three() {
        let kind = |alert: &DriftAlert| cloud_event(alert, "dce")[3].1.clone();
        let mut firing = alert(AlertState::Firing, None);
        assert_eq!(kind(&firing), "dce.drift.alert.opened.v1");
        firing.updated_at += 300_000;
        assert_eq!(kind(&firing), "dce.drift.alert.updated.v1");
        assert_eq!(kind(&alert(AlertState::Resolved, Some(900_000))), "dce.drift.alert.resolved.v1");
    }

    /// The events' ids for the records that compaction has left, of those that stand before the bar none is told any more.
    #[test]
    fn an_opening_is_told_once_whichever_of_its_records_is_left() {
        let opened = alert(AlertState::Firing, None);
        let updated = DriftAlert { updated_at: 900_000, ..opened.clone() };
        let over = DriftAlert { updated_at: 1_200_000, ..alert(AlertState::Resolved, Some(1_200_000)) };
        let again =
            DriftAlert { id: "all/1500000".into(), opened_at: 1_500_000, updated_at: 1_500_000, ..opened.clone() };
        let (opening, end) = ("all/0/opened/600000", "all/0/resolved/1200000");
        let second = "all/1500000/opened/1500000";
        let check = |before: &[&DriftAlert], records: &[&DriftAlert], expected: &[&str]| {
            let mut heard = Heard::default();
            before.iter().for_each(|alert| heard.heard(alert));
            let mut told = Vec::new();
            for record in records {
                told.extend(heard.due(record).iter().map(|alert| cloud_event(alert, "dce")[1].1.clone()));
                heard.heard(record);
            }
            assert_eq!(told, expected);
        };
        check(&[], &[&opened, &updated, &over, &again], &[opening, end, second]);
        check(&[], &[&updated, &over], &[opening, end]);
        check(&[], &[&over], &[opening, end]);
        check(&[], &[&again], &[second]);
        check(&[&opened], &[&updated, &over], &[end]);
        check(&[&updated], &[&over, &again], &[end, second]);
        check(&[&over], &[&again], &[second]);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let refused = |status| NotifyError::Refused { url: String::new(), status, said: String::new() };
        for (status, may_pass) in [(400, false), (404, false), (408, true), (429, true), (500, true), (503, true)] {
            assert_eq!(refused(status).may_pass(), may_pass, "{status}");
        }
        assert_eq!([1, 2, 3, 7, 99].map(|failures| backoff(failures).as_millis()), [500, 1_000, 2_000, 30_000, 30_000]);
    }
}
