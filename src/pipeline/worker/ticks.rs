//! Moves the stream time of partitions in which nothing comes, by TICK records in the input itself: whoever reads it again
//! meets the same. Without them the forgotten sessions of a silent partition stay open.

use std::collections::BTreeMap;

use super::written::Written;
use super::{Worker, WorkerError, WorkerSettings};
use crate::kafka::append::Appender;
use crate::pipeline::source::SourceSettings;
use crate::types::{EventTime, Moment, Uptime};
use crate::wire::click::Input;

/// How often it is looked for silent partitions, at the most.
const LOOK_EVERY_MS: u64 = 1_000;

/// How long nothing has come in each partition.
#[derive(Debug)]
struct Silences {
    idle_after_ms: u64,
    /// When its last record came, or when it was looked at first.
    heard: BTreeMap<i32, Uptime>,
    looked: Uptime,
}

impl Silences {
    fn heard(&mut self, partition: i32, now: Uptime) {
        self.heard.insert(partition, now);
    }

    /// Those of the partitions that have been silent for as long as that.
    fn due(&mut self, now: Uptime, partitions: impl Iterator<Item = i32>) -> Vec<i32> {
        let since = now.0.saturating_sub(self.looked.0);
        if since < (self.idle_after_ms / 4).clamp(1, LOOK_EVERY_MS) {
            return Vec::new();
        }
        self.looked = now;
        // Nobody has listened: what came meanwhile waits to be read.
        if since >= self.idle_after_ms / 2 {
            self.heard.clear();
        }
        let before = std::mem::take(&mut self.heard);
        for partition in partitions {
            self.heard.insert(partition, before.get(&partition).copied().unwrap_or(now));
        }
        let is_due = |heard: &Uptime| now.0.saturating_sub(heard.0) >= self.idle_after_ms;
        self.heard.iter().filter(|(_, heard)| is_due(heard)).map(|(partition, _)| *partition).collect()
    }
}

/// Writes them. One that gets lost is written again when the partition has been silent for as long once more, and one too
/// many, as of a member that is not the owner any more, moves nothing that time would not move.
pub(super) struct Ticker {
    input: Appender,
    silences: Silences,
}

impl Ticker {
    /// Where they are wanted.
    pub(super) fn new(settings: &WorkerSettings) -> Result<Option<Self>, WorkerError> {
        let Some(idle_after) = settings.idle_after else { return Ok(None) };
        let SourceSettings { client, topic, .. } = &settings.source;
        let input = Appender::new(client, topic).map_err(|why| WorkerError::Ticker { topic: topic.clone(), why })?;
        let idle_after_ms = u64::try_from(idle_after.as_millis()).unwrap_or(u64::MAX);
        let silences = Silences { idle_after_ms, heard: BTreeMap::new(), looked: Uptime(0) };
        Ok(Some(Self { input, silences }))
    }

    pub(super) fn heard(&mut self, partition: i32, now: Uptime) {
        self.silences.heard(partition, now);
    }

    fn send(&mut self, partition: i32, time: EventTime, written: Written) -> Result<(), String> {
        let mut value = Vec::new();
        let tick = Input::Tick(time);
        let encoded = match written {
            Written::By(encoding) => tick.encode_into(encoding, &mut value),
            Written::ByIds(ids) => {
                tick.encode_by_id(ids.click.expect("registered where ticks are written"), &mut value)
            }
        };
        encoded.expect("a tick has no number that could be refused");
        self.input.append(partition, &value)
    }
}

impl Worker<'_, '_> {
    /// Into partitions where nothing has come for `session.idle_after`, if something there waits for time to pass.
    pub(super) fn tick(&mut self, now: Uptime) {
        let Some(ticker) = &mut self.ticker else { return };
        if let Some(why) = ticker.input.take_failure() {
            tracing::warn!(
                why,
                "a TICK was not written: its partition's forgotten sessions stay open until the next one"
            );
        }
        let idle_after_ms = i64::try_from(ticker.silences.idle_after_ms).unwrap_or(i64::MAX);
        for partition in ticker.silences.due(now, self.positions.keys().copied()) {
            let Some(sessions) = self.partitions.sessions().get(&partition) else { continue };
            let time = EventTime::parse(self.watch.clock.wall_ms().saturating_sub(idle_after_ms));
            let Some(time) = time.filter(|time| Moment::from(*time) > sessions.stream_time()) else { continue };
            if !sessions.waits_for_time() {
                continue;
            }
            ticker.heard(partition, now);
            match ticker.send(partition, time, self.written) {
                Ok(()) => self.watch.metrics.tick_written(),
                Err(why) => tracing::warn!(why, "a TICK was not written"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silences() -> Silences {
        Silences { idle_after_ms: 10_000, heard: BTreeMap::new(), looked: Uptime(0) }
    }

    /// Looked at each second, as a worker's turns do.
    fn due_at(silences: &mut Silences, seconds: std::ops::Range<u64>, partitions: &[i32]) -> Vec<(u64, Vec<i32>)> {
        let due = seconds.map(|at| (at, silences.due(Uptime(at * 1_000), partitions.iter().copied())));
        due.filter(|(_, due)| !due.is_empty()).collect()
    }

    #[test]
    fn a_partition_is_silent_that_long_after_its_last_record_or_its_coming() {
        let mut silences = silences();
        assert_eq!(due_at(&mut silences, 1..11, &[0, 1]), []);
        silences.heard(1, Uptime(10_000));
        assert_eq!(due_at(&mut silences, 11..13, &[0, 1]), [(11, vec![0]), (12, vec![0])]);
        silences.heard(0, Uptime(12_000));
        assert_eq!(due_at(&mut silences, 13..21, &[0, 1]), [(20, vec![1])]);
        // It went, and came back.
        assert_eq!(due_at(&mut silences, 21..22, &[0]), []);
        assert_eq!(due_at(&mut silences, 22..32, &[0, 1]), (22..32).map(|at| (at, vec![0])).collect::<Vec<_>>());
        assert_eq!(due_at(&mut silences, 32..33, &[0, 1]), [(32, vec![0, 1])]);
    }

    #[test]
    fn what_waits_to_be_read_after_a_pause_is_no_silence() {
        let mut silences = silences();
        assert_eq!(due_at(&mut silences, 1..9, &[0]), []);
        // A registry was away for a minute.
        assert_eq!(due_at(&mut silences, 68..78, &[0]), []);
        assert_eq!(due_at(&mut silences, 78..79, &[0]), [(78, vec![0])]);
    }

    #[test]
    fn it_is_not_looked_at_each_turn() {
        let mut silences = silences();
        assert_eq!(silences.due(Uptime(1_000), [0].into_iter()), Vec::<i32>::new());
        silences.heard(0, Uptime(0));
        silences.heard(7, Uptime(0));
        assert_eq!(silences.due(Uptime(1_999), [0].into_iter()), Vec::<i32>::new());
        assert!(silences.heard.contains_key(&7), "not looked at");
        assert_eq!(silences.due(Uptime(2_000), [0].into_iter()), Vec::<i32>::new());
        assert!(!silences.heard.contains_key(&7), "whoever went is forgotten");
    }
}
