//! Looks now and then at how much of the outputs no transaction has decided yet: it is hidden from whoever reads committed
//! records. Ends of partitions → two gauges. A thread and clients of its own, so that a slow broker holds nobody up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::sink::SinkSettings;
use crate::kafka::follow::{Lookup, LookupError};
use crate::stop::Stop;
use crate::telemetry::Clock;
use crate::telemetry::metrics::Metrics;
use crate::types::Uptime;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long the broker may take for one question.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Looks until it is dropped.
#[derive(Debug)]
pub struct Undecided {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Undecided {
    /// Of the partitions that are assigned at each look. Asks nobody before the first.
    pub fn watch(
        sink: &SinkSettings,
        application: &str,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, LookupError> {
        let decided = Lookup::new(&sink.client, application)?;
        let all = Lookup::of_undecided(&sink.client, application)?;
        let topics: Vec<String> = sink.topics.written().into_iter().map(str::to_owned).collect();
        let stop = Stop::new();
        let until = stop.clone();
        let thread = std::thread::Builder::new().name("undecided".to_owned()).spawn(move || {
            let mut seen = Seen::default();
            while !until.wait(LOOK_EVERY) {
                let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
                let partitions = metrics.assigned_partitions();
                // In this order: what is decided meanwhile is no more than what is there then.
                let ends = decided
                    .ends(&topics, &partitions, ANSWER_MAX)
                    .and_then(|decided| Ok((decided, all.ends(&topics, &partitions, ANSWER_MAX)?)));
                match ends {
                    Ok((decided, all)) => {
                        for (partition, found) in seen.look(clock.uptime(), &decided, &all) {
                            metrics.undecided(partition, found.records, found.held_up);
                        }
                    }
                    Err(error) => tracing::debug!(%error, "the outputs' ends are not known"),
                }
            }
        });
        let thread = thread.map_err(|error| tracing::warn!(%error, "no thread looks at what is undecided")).ok();
        Ok(Self { stop, thread })
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that looks at what is undecided panicked");
        }
    }
}

type Ends = BTreeMap<(String, i32), i64>;

/// Of all outputs of one partition.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Found {
    /// Markers have offsets too.
    records: u64,
    /// For how long the same transaction has been seen to be open, in the output where that is longest.
    held_up: Duration,
}

/// Where each output was decided up to at the last look, and since when, where something was undecided.
#[derive(Debug, Default)]
struct Seen(BTreeMap<(String, i32), (i64, Uptime)>);

impl Seen {
    fn look(&mut self, now: Uptime, decided: &Ends, all: &Ends) -> BTreeMap<i32, Found> {
        let last = std::mem::take(&mut self.0);
        let mut found: BTreeMap<i32, Found> = BTreeMap::new();
        for (place, decided) in decided {
            let of_partition = found.entry(place.1).or_default();
            let records = all.get(place).and_then(|end| u64::try_from(end - decided).ok()).unwrap_or(0);
            if records == 0 {
                continue;
            }
            let since = last.get(place).filter(|(seen, _)| seen == decided).map_or(now, |(_, since)| *since);
            self.0.insert(place.clone(), (*decided, since));
            of_partition.records += records;
            of_partition.held_up = of_partition.held_up.max(Duration::from_millis(now.0.saturating_sub(since.0)));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `topic:partition:offset`, separated by spaces.
    fn ends(text: &str) -> Ends {
        let end = |word: &str| {
            let parts: Vec<&str> = word.split(':').collect();
            ((parts[0].to_owned(), parts[1].parse().unwrap()), parts[2].parse().unwrap())
        };
        text.split(' ').map(end).collect()
    }

    #[test]
    fn a_transaction_that_stays_open_is_told_from_one_after_the_other() {
        let mut seen = Seen::default();
        let mut look = |at: u64, decided: &str, all: &str| {
            let found = seen.look(Uptime(at * 1_000), &ends(decided), &ends(all));
            let text =
                found.into_iter().map(|(p, found)| format!("{p}: {} {}s", found.records, found.held_up.as_secs()));
            text.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(look(10, "a:0:5 b:0:7 a:1:3", "a:0:8 b:0:8 a:1:3"), "0: 4 0s, 1: 0 0s");
        assert_eq!(
            look(20, "a:0:6 b:0:7 a:1:3", "a:0:9 b:0:9 a:1:4"),
            "0: 5 10s, 1: 1 0s",
            "b's is still open, a's another"
        );
        assert_eq!(look(30, "a:0:6 b:0:9 a:1:4", "a:0:9 b:0:9 a:1:4"), "0: 3 10s, 1: 0 0s");
        assert_eq!(look(40, "a:0:6 b:0:9", "a:0:6 b:0:9"), "0: 0 0s", "a partition that went is forgotten");
        assert_eq!(
            look(50, "a:0:6 b:0:9", "a:0:7"),
            "0: 1 0s",
            "it was decided in between; and half an answer is no fault"
        );
    }
}
