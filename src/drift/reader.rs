//! Topics read side by side, and up to when: a window is closed once all that was published before is read. Offsets and times →
//! records.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::engine::Engine;
use super::past::{self, WAIT};
use super::run::{MonitorError, MonitorSettings};
use crate::kafka::follow::{Extent, Follower, Lookup, Visit};
use crate::kafka::raw::Message;

/// Records of a partition may be stamped by so much earlier than the one before: transactions overlap.
const DISORDER_MS: i64 = 60_000;

/// Where the partitions ended at a moment.
#[derive(Debug)]
struct Sample {
    at_ms: i64,
    ends: BTreeMap<i32, i64>,
}

/// A topic of many partitions, from a time on.
#[derive(Debug)]
pub struct Stream {
    topic: String,
    partitions: Vec<i32>,
    follower: Follower,
    /// Sees where logs end, transactions that are not decided included.
    ends: Lookup,
    sample: Option<Sample>,
    /// The largest timestamp of each partition.
    newest: BTreeMap<i32, i64>,
    /// Partitions whose records before the first one are gone: deleted by the retention.
    cut: BTreeSet<i32>,
    /// What was published before is not there whole.
    whole_from_ms: i64,
}

impl Stream {
    /// From the first record of each partition that is stamped `since_ms` or later.
    pub fn open(
        settings: &MonitorSettings,
        lookup: &Lookup,
        topic: &str,
        partitions: &[i32],
        since_ms: i64,
    ) -> Result<Self, MonitorError> {
        let extents = lookup.extents(topic, partitions, WAIT)?;
        let since = lookup.since(topic, &extents, since_ms, WAIT)?;
        let is_cut = |(all, since): &(&Extent, &Extent)| all.low > 0 && since.low == all.low && !since.is_empty();
        let cut = extents.iter().zip(&since).filter(is_cut).map(|(_, since)| since.partition).collect();
        let extents = since;
        Ok(Self {
            cut,
            whole_from_ms: 0,
            topic: topic.to_owned(),
            partitions: partitions.to_vec(),
            follower: Follower::start(&settings.client, &settings.group, topic, &extents)?,
            ends: Lookup::of_undecided(&settings.client, &settings.group)?,
            sample: None,
            newest: BTreeMap::new(),
        })
    }

    /// What comes within `wait`, each with when it was published.
    pub fn next(
        &mut self,
        wait: Duration,
        now_ms: i64,
        mut each: impl FnMut(Message<'_>, i64),
    ) -> Result<(), MonitorError> {
        let (newest, cut, whole_from_ms) = (&mut self.newest, &mut self.cut, &mut self.whole_from_ms);
        self.follower.next(wait, |message| {
            let published_ms = message.timestamp_ms().unwrap_or(0);
            // One that is ahead of the clock says nothing of how far the reading has come.
            if published_ms <= now_ms + DISORDER_MS {
                let newest = newest.entry(message.partition()).or_insert(published_ms);
                *newest = published_ms.max(*newest);
            }
            if published_ms <= now_ms + DISORDER_MS && cut.remove(&message.partition()) {
                *whole_from_ms = published_ms.max(*whole_from_ms);
            }
            each(message, published_ms);
            Ok::<_, MonitorError>(Visit::Next)
        })?;
        if let Some(why) = self.follower.take_trouble() {
            tracing::debug!(topic = self.topic, why, "trouble while reading");
        }
        Ok(())
    }

    /// All records stamped before this time are read. Where `wanted_ms` is later than what is known, the broker is asked where
    /// the partitions end now; that there are more than are read is an error, before a window is closed without them.
    pub fn read_until(&mut self, wanted_ms: i64, now_ms: i64) -> Result<i64, MonitorError> {
        self.sample.take_if(|sample| sample.at_ms > now_ms);
        if self.sample.as_ref().is_none_or(|sample| sample.at_ms < wanted_ms) && now_ms >= wanted_ms {
            let (read, partitions) = (self.partitions.len(), self.ends.partitions(&self.topic, WAIT)?);
            if partitions > read {
                return Err(MonitorError::Grown { topic: self.topic.clone(), read, partitions });
            }
            let ends = self.ends.ends(&[&self.topic], &self.partitions, WAIT)?;
            let ends = ends.into_iter().map(|((_, partition), end)| (partition, end)).collect();
            self.sample = Some(Sample { at_ms: now_ms, ends });
        }
        let Some(sample) = &self.sample else { return Ok(i64::MIN) };
        let next = self.follower.next_offsets();
        let of_partition = |partition: &i32| {
            let end = sample.ends.get(partition).copied().unwrap_or(i64::MAX);
            if next.get(partition).is_some_and(|next| *next >= end) {
                return sample.at_ms;
            }
            // On the way there.
            self.newest.get(partition).map_or(i64::MIN, |newest| newest - DISORDER_MS).min(sample.at_ms)
        };
        Ok(self.partitions.iter().map(of_partition).min().unwrap_or(sample.at_ms))
    }

    /// Windows that start before then were not seen whole.
    pub fn whole_from_ms(&self) -> i64 {
        self.whole_from_ms
    }

    pub fn newest_ms(&self) -> Option<i64> {
        self.newest.values().max().copied()
    }

    /// Offsets between what is read and where the partitions ended when that was asked last.
    pub fn lag(&self) -> Option<u64> {
        let sample = self.sample.as_ref()?;
        let next = self.follower.next_offsets();
        let behind = sample
            .ends
            .iter()
            .map(|(partition, end)| u64::try_from(end - next.get(partition).copied().unwrap_or(0)).unwrap_or(0));
        Some(behind.sum())
    }
}

/// A topic of one partition, from an offset on.
#[derive(Debug)]
pub struct Source(Follower);

impl Source {
    pub fn from(settings: &MonitorSettings, topic: &str, offset: i64) -> Result<Self, MonitorError> {
        let extent = Extent { partition: 0, low: offset, end: offset };
        Ok(Self(Follower::start(&settings.client, &settings.group, topic, &[extent])?))
    }

    /// References that were pinned since.
    pub fn pins(&mut self, engine: &mut Engine) -> Result<(), MonitorError> {
        self.0.next(Duration::ZERO, |message| {
            past::pin(engine, message);
            Ok::<_, MonitorError>(Visit::Next)
        })?;
        Ok(())
    }

    /// What comes within `wait`, with its offset; `each` says whether to go on.
    pub fn next(&mut self, wait: Duration, mut each: impl FnMut(Message<'_>) -> Visit) -> Result<(), MonitorError> {
        self.0.next(wait, |message| Ok::<_, MonitorError>(each(message)))?;
        Ok(())
    }
}
