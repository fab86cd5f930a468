//! Moves the stream time of partitions in which nothing comes, by TICK records in the input itself: whoever reads it again
//! meets the same. Without them the forgotten sessions of a silent partition stay open.

use std::collections::BTreeMap;

use super::written::Written;
use super::{Worker, WorkerError, WorkerSettings};
use crate::kafka::append::Appender;
use crate::pipeline::source::SourceSettings;
use crate::types::{EventTime, Moment, Uptime};
use crate::wire::click::Input;

/// How often it is looked for silent partitions.
const LOOK_EVERY_MS: u64 = 250;
/// A look that comes later than this has listened no longer: what came meanwhile waits to be read.
const LISTENED_MAX_MS: u64 = 1_000;
/// A partition where TICKs move nothing is given one at twice the distance each time, so often.
const DOUBLINGS_MAX: u32 = 6;

/// How long nothing has come in each partition while somebody listened.
#[derive(Debug)]
struct Silences {
    idle_after_ms: u64,
    looked: Uptime,
    listened_ms: u64,
    partitions: BTreeMap<i32, Silence>,
}

#[derive(Debug, Clone, Copy)]
struct Silence {
    /// Since the last record, the last TICK, or the partition's coming.
    since_ms: u64,
    /// The time of the last TICK.
    ticked: Moment,
    /// TICKs in a row that stream time has not followed: they are not read, or rejected, or were never written.
    fruitless: u32,
}

impl Silences {
    fn new(idle_after_ms: u64) -> Self {
        Self { idle_after_ms, looked: Uptime(0), listened_ms: 0, partitions: BTreeMap::new() }
    }

    fn heard(&mut self, partition: i32) {
        if let Some(silence) = self.partitions.get_mut(&partition) {
            silence.since_ms = self.listened_ms;
        }
    }

    /// Whether it is time to look at these partitions, which are all that there are.
    fn looks(&mut self, now: Uptime, partitions: impl Iterator<Item = i32>) -> bool {
        let since = now.0.saturating_sub(self.looked.0);
        if since < LOOK_EVERY_MS {
            return false;
        }
        self.looked = now;
        self.listened_ms += since.min(LISTENED_MAX_MS);
        let new = Silence { since_ms: self.listened_ms, ticked: Moment::NEVER, fruitless: 0 };
        let before = std::mem::take(&mut self.partitions);
        self.partitions.extend(partitions.map(|p| (p, before.get(&p).copied().unwrap_or(new))));
        true
    }

    /// Whether a partition whose stream time that is has been silent for long enough.
    fn is_due(&mut self, partition: i32, stream_time: Moment) -> bool {
        let Some(silence) = self.partitions.get_mut(&partition) else { return false };
        if stream_time >= silence.ticked {
            silence.fruitless = 0;
        }
        let wanted_ms = self.idle_after_ms.saturating_mul(1 << silence.fruitless);
        self.listened_ms - silence.since_ms >= wanted_ms
    }

    fn ticked(&mut self, partition: i32, time: Moment) {
        if let Some(silence) = self.partitions.get_mut(&partition) {
            let fruitless = (silence.fruitless + 1).min(DOUBLINGS_MAX);
            *silence = Silence { since_ms: self.listened_ms, ticked: time, fruitless };
        }
    }
}

/// Writes them. One that gets lost is followed by another, and one too many, as of a member that is not the owner any more,
/// says no more than the clock did.
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
        Ok(Some(Self { input, silences: Silences::new(idle_after_ms) }))
    }

    /// A record came.
    pub(super) fn heard(&mut self, partition: i32) {
        self.silences.heard(partition);
    }

    fn send(&mut self, partition: i32, time: EventTime, written: Written) -> Result<(), String> {
        let mut value = Vec::new();
        let tick = Input::Tick(time);
        let encoded = match written {
            Written::By(encoding) => tick.encode_into(encoding, &mut value),
            Written::ByIds(ids) => tick.encode_by_id(ids.click.expect("looked up where ticks are written"), &mut value),
        };
        encoded.expect("a tick has no number that could be refused");
        self.input.append(partition, &value)
    }
}

impl Worker<'_, '_> {
    /// Into partitions where nothing has come for `session.idle_after`, if something there has been due since.
    pub(super) fn tick(&mut self) {
        let Some(ticker) = &mut self.ticker else { return };
        if !ticker.silences.looks(self.watch.clock.uptime(), self.positions.keys().copied()) {
            return;
        }
        if let Some(why) = ticker.input.take_failure() {
            tracing::warn!(
                why,
                "a TICK was not written: forgotten sessions of a silent partition stay open until one is"
            );
        }
        let idle_after_ms = i64::try_from(ticker.silences.idle_after_ms).unwrap_or(i64::MAX);
        let Some(time) = EventTime::parse(self.watch.clock.wall_ms().saturating_sub(idle_after_ms)) else { return };
        for partition in self.positions.keys().copied() {
            let Some(sessions) = self.partitions.sessions_mut(partition) else { continue };
            let is_silent = ticker.silences.is_due(partition, sessions.stream_time());
            if !is_silent || sessions.next_due().is_none_or(|due| due > time.into()) {
                continue;
            }
            ticker.silences.ticked(partition, time.into());
            match ticker.send(partition, time, self.written) {
                Ok(()) => self.watch.metrics.tick_sent(),
                Err(why) => tracing::warn!(why, "a TICK was not written"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of ten seconds, looked at each quarter of one as a worker's turns do. The seconds at which a TICK goes to each of the
    /// partitions; `moves`: stream time follows it.
    fn ticks(
        silences: &mut Silences,
        seconds: std::ops::Range<u64>,
        partitions: &[i32],
        moves: bool,
    ) -> Vec<(u64, i32)> {
        let mut ticks = Vec::new();
        for at in seconds.start * 4..seconds.end * 4 {
            if !silences.looks(Uptime(at * 250), partitions.iter().copied()) {
                continue;
            }
            for partition in partitions.iter().copied() {
                let ticked = silences.partitions[&partition].ticked;
                if silences.is_due(partition, if moves { ticked } else { Moment::NEVER }) {
                    silences.ticked(partition, Moment::from_bits(at));
                    ticks.push((at / 4, partition));
                }
            }
        }
        ticks
    }

    #[test]
    fn a_partition_is_silent_that_long_after_its_last_record_its_last_tick_or_its_coming() {
        let mut silences = Silences::new(10_000);
        assert_eq!(ticks(&mut silences, 1..11, &[0, 1], true), []);
        silences.heard(1);
        assert_eq!(ticks(&mut silences, 11..31, &[0, 1], true), [(11, 0), (20, 1), (21, 0), (30, 1)]);
        // It went, and came back.
        assert_eq!(ticks(&mut silences, 31..32, &[0], true), [(31, 0)]);
        assert_eq!(ticks(&mut silences, 32..43, &[0, 1], true), [(41, 0), (42, 1)]);
    }

    #[test]
    fn where_ticks_move_nothing_they_become_rare() {
        let mut silences = Silences::new(1_000);
        let rare = ticks(&mut silences, 1..1_000, &[0], false);
        let distances: Vec<u64> = rare.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert_eq!(distances[..8], [2, 4, 8, 16, 32, 64, 64, 64]);
        // Time has come as far as the last one by other records.
        silences.heard(0);
        assert_eq!(ticks(&mut silences, 1_000..1_003, &[0], true), [(1_000, 0), (1_001, 0), (1_002, 0)]);
    }

    #[test]
    fn a_minute_in_which_nobody_listened_is_no_silence_and_long_turns_are() {
        let mut silences = Silences::new(10_000);
        assert_eq!(ticks(&mut silences, 1..8, &[0], true), []);
        // A registry was away.
        assert_eq!(ticks(&mut silences, 68..71, &[0], true), [(70, 0)]);
        // A worker that is busy with other partitions.
        let mut silences = Silences::new(1_000);
        let looks =
            (1..6).map(|turn| silences.looks(Uptime(turn * 900), [0].into_iter()) && silences.is_due(0, Moment::NEVER));
        assert_eq!(looks.collect::<Vec<_>>(), [false, false, true, true, true]);
    }
}
