//! `[monitor]`, and the topics that the monitor writes.

use std::net::SocketAddr;
use std::time::Duration;

use super::checked::Reader;
use super::registry::is_url;
use super::{ConfigError, DriftTopics, Monitor};

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;
const URLS_MAX: usize = 5;

pub(super) fn monitor(read: &Reader<'_>) -> Result<Monitor, ConfigError> {
    let window_ms = read.duration_ms("monitor.window", HOUR_MS, "1h")?;
    // So that hours, days and weeks are whole numbers of windows.
    if window_ms < MINUTE_MS || !HOUR_MS.is_multiple_of(window_ms) {
        return Err(read.invalid("monitor.window", r#"a part of an hour, 1m or more, such as "5m", "10m" or "1h""#));
    }
    let every_ms = read.duration_ms("monitor.false_alarm_every", 365 * DAY_MS, "365d")?;
    if every_ms < DAY_MS {
        return Err(read.invalid("monitor.false_alarm_every", "1d or more"));
    }
    Ok(Monitor {
        window: Duration::from_millis(window_ms),
        lateness: Duration::from_millis(read.duration_ms("monitor.lateness", 6 * HOUR_MS, "6h")?),
        false_alarm_every: Duration::from_millis(every_ms),
        segments_max: read.count("monitor.segments_max", 0..=1_000)?,
        listen: listen(read)?,
        link: match read.text("monitor.link")? {
            "" => None,
            link if is_url(link) => Some(link.trim_end_matches('/').to_owned()),
            _ => {
                return Err(
                    read.invalid("monitor.link", "the address of the monitor's page as people reach it, or \"\"")
                );
            }
        },
        alertmanagers: alertmanagers(read)?,
        webhook: match read.text("monitor.webhook")? {
            "" => None,
            url if is_url(url) => Some(url.to_owned()),
            _ => {
                return Err(
                    read.invalid("monitor.webhook", "http:// or https:// and what it takes to be posted to, or \"\"")
                );
            }
        },
        topics: topics(read)?,
    })
}

fn listen(read: &Reader<'_>) -> Result<Option<SocketAddr>, ConfigError> {
    match read.text("monitor.listen")? {
        "off" => Ok(None),
        address => match address.parse() {
            Ok(address) => Ok(Some(address)),
            Err(_) => {
                Err(read.invalid("monitor.listen", r#"an IP address and a port, such as "127.0.0.1:9465", or "off""#))
            }
        },
    }
}

fn alertmanagers(read: &Reader<'_>) -> Result<Vec<String>, ConfigError> {
    let text = read.text("monitor.alertmanager")?;
    let urls: Vec<&str> = text.split(',').map(str::trim).filter(|url| !url.is_empty()).collect();
    if urls.len() > URLS_MAX || !urls.iter().all(|url| is_url(url)) {
        let must = format!(r#"up to {URLS_MAX} addresses separated by commas, such as "http://alertmanager:9093""#);
        return Err(read.invalid("monitor.alertmanager", must));
    }
    Ok(urls.into_iter().map(|url| url.trim_end_matches('/').to_owned()).collect())
}

fn topics(read: &Reader<'_>) -> Result<DriftTopics, ConfigError> {
    const KEYS: [&str; 10] = [
        "topics.clickstream",
        "topics.embeddings",
        "topics.embeddings_live",
        "topics.sessions",
        "topics.rejected",
        "topics.state",
        "topics.drift_windows",
        "topics.drift_alerts",
        "topics.drift_references",
        "topics.drift_customers",
    ];
    for (place, key) in KEYS.iter().enumerate().skip(6) {
        let name = read.text(key)?;
        if let Some(other) = KEYS[..place].iter().find(|other| read.text(other).is_ok_and(|text| text == name)) {
            return Err(read.invalid(key, format!("another topic than {other}")));
        }
    }
    Ok(DriftTopics {
        windows: read.topic("topics.drift_windows")?,
        alerts: read.topic("topics.drift_alerts")?,
        references: read.topic("topics.drift_references")?,
        customers: read.topic("topics.drift_customers")?,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, Layers};

    #[test]
    fn a_monitor() {
        let load = |sets: &[&str]| {
            let sets = sets.iter().map(|set| (*set).to_owned()).collect();
            Config::load(&Layers { sets, ..Layers::default() })
        };
        let monitor = load(&["monitor.alertmanager=http://one:9093/, http://two:9093"]).unwrap().monitor;
        assert_eq!(monitor.alertmanagers, ["http://one:9093", "http://two:9093"]);
        assert_eq!(monitor.group_id("dce"), "dce-monitor");
        for (set, must) in [
            ("monitor.window=7m", "a part of an hour"),
            ("monitor.window=2h", "at most 1h"),
            ("monitor.false_alarm_every=1h", "1d or more"),
            ("monitor.alertmanager=alertmanager:9093", "up to 5 addresses"),
            ("monitor.webhook=ftp://a", "http:// or https://"),
            ("monitor.listen=9465", "an IP address and a port"),
            ("topics.drift_alerts=drift-windows", "another topic than topics.drift_windows"),
            ("topics.drift_alerts=customer-embeddings", "another topic than topics.embeddings"),
        ] {
            let said = load(&[set]).unwrap_err().to_string();
            assert!(said.contains(must), "{set}: {said}");
        }
    }
}
