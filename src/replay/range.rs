//! Which part of a topic is replayed. Takes what was asked for and what the broker says is there, gives spans; what
//! retention has eaten of it is refused, with the gap.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::kafka::reader::Span;
use crate::types::ResumeAt;

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Range {
    /// By the records' timestamps: from the first one at `since` or later, up to the first one at `until` or later.
    /// Milliseconds; `None` is the oldest there is, and the end as of the start.
    Times { since: Option<i64>, until: Option<i64> },
    /// By partition: from an offset, up to another one exclusive or to the end as of the start. Others are left out.
    Offsets(BTreeMap<i32, (i64, Option<i64>)>),
}

/// What is there of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub partition: i32,
    /// The oldest offset, and one more than the newest.
    pub low: i64,
    pub high: i64,
    /// The first offset stamped `since` or later, and `until` or later, where there is one.
    pub since: Option<i64>,
    pub until: Option<i64>,
    /// The oldest record's timestamp, where it was looked at.
    pub oldest_ms: Option<i64>,
}

/// Why a range cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("{topic} has no partition {partition}: it has {partitions}")]
    NoPartition { topic: String, partition: i32, partitions: usize },
    #[error("{topic}/{partition}: asked for up to offset {until}, and it ends at {high}")]
    PastTheEnd { topic: String, partition: i32, until: i64, high: i64 },
    #[error("{}", gone_text(topic, gaps, rest))]
    Gone {
        topic: String,
        gaps: Vec<Gap>,
        /// What is left of all that was asked for, by partition; an open end stays open.
        rest: Vec<(i32, i64, Option<i64>)>,
    },
}

/// Records that were asked for and are not there any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    pub partition: i32,
    pub asked: Asked,
    pub low: i64,
    /// Since when the rest is.
    pub oldest_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// From there on, so many of which are missing.
    Offset(i64, i64),
    Time(i64),
}

impl Range {
    /// `0:100-2000,1:50-`. The text of a refusal says what is wrong.
    pub fn parse_offsets(text: &str) -> Result<Self, String> {
        let mut offsets = BTreeMap::new();
        for part in text.split(',') {
            let parsed = part.split_once(':').and_then(|(partition, span)| {
                let (from, until) = span.split_once('-')?;
                let partition = partition.parse::<i32>().ok().filter(|partition| *partition >= 0)?;
                let from = from.parse::<i64>().ok().filter(|from| *from >= 0)?;
                let until = if until.is_empty() { None } else { Some(until.parse::<i64>().ok()?) };
                Some((partition, from, until))
            });
            let (partition, from, until) =
                parsed.ok_or_else(|| format!("{part:?} is not PARTITION:FROM-UNTIL, such as 0:100-2000 or 1:50-"))?;
            if until.is_some_and(|until| until < from) {
                return Err(format!("{part:?} ends before it begins"));
            }
            if offsets.insert(partition, (from, until)).is_some() {
                return Err(format!("partition {partition} is given twice"));
            }
        }
        Ok(Self::Offsets(offsets))
    }

    /// The spans to read, one a partition that is asked for.
    pub fn spans(&self, topic: &str, found: &[Found]) -> Result<Vec<Span>, RangeError> {
        let mut gaps = Vec::new();
        let (mut spans, mut rest) = (Vec::new(), Vec::new());
        match self {
            Self::Times { since, until } => {
                for found in found {
                    let from = if since.is_some() { found.since.unwrap_or(found.high) } else { found.low };
                    let end = if until.is_some() { found.until.unwrap_or(found.high) } else { found.high };
                    if let Some(since) = *since
                        && found.low > 0
                        && from == found.low
                        && found.oldest_ms.is_none_or(|oldest| oldest > since)
                    {
                        // Of what was deleted nobody can say when it was; some of it may lie after `since`.
                        gaps.push(found.gap(Asked::Time(since)));
                    }
                    if !is_all_gone(&gaps, found, end.max(from)) {
                        rest.push((found.partition, from, until.map(|_| end.max(from))));
                    }
                    spans.push(span(found.partition, from, end.max(from)));
                }
            }
            Self::Offsets(offsets) => {
                for (partition, (from, until)) in offsets {
                    let Some(found) = found.iter().find(|found| found.partition == *partition) else {
                        let (topic, partitions) = (topic.to_owned(), found.len());
                        return Err(RangeError::NoPartition { topic, partition: *partition, partitions });
                    };
                    let end = until.unwrap_or(found.high.max(*from));
                    if end > found.high {
                        let (topic, partition, high) = (topic.to_owned(), *partition, found.high);
                        return Err(RangeError::PastTheEnd { topic, partition, until: end, high });
                    }
                    if *from < found.low && *from < end {
                        gaps.push(found.gap(Asked::Offset(*from, end.min(found.low) - from)));
                    }
                    let left = (*from).max(found.low);
                    if !is_all_gone(&gaps, found, end) {
                        rest.push((*partition, left, until.map(|until| until.max(left))));
                    }
                    spans.push(span(*partition, *from, end));
                }
            }
        }
        if gaps.is_empty() { Ok(spans) } else { Err(RangeError::Gone { topic: topic.to_owned(), gaps, rest }) }
    }
}

impl Found {
    fn gap(&self, asked: Asked) -> Gap {
        Gap { partition: self.partition, asked, low: self.low, oldest_ms: self.oldest_ms }
    }
}

/// Whether a gap in this partition has left nothing up to `end`.
fn is_all_gone(gaps: &[Gap], found: &Found, end: i64) -> bool {
    end <= found.low && gaps.last().is_some_and(|gap| gap.partition == found.partition)
}

fn span(partition: i32, from: i64, until: i64) -> Span {
    Span { partition, from: ResumeAt(from), until: ResumeAt(until) }
}

fn gone_text(topic: &str, gaps: &[Gap], rest: &[(i32, i64, Option<i64>)]) -> String {
    let mut text = format!("{topic}: records that were asked for are gone (retention or deletion):");
    for gap in gaps {
        let Gap { partition, low, oldest_ms, .. } = gap;
        let since = oldest_ms
            .map_or("the rest holds no record".to_owned(), |ms| format!("the rest begins at {} ({ms} ms)", iso(ms)));
        _ = match gap.asked {
            Asked::Offset(from, missing) => {
                write!(
                    text,
                    " partition {partition}: asked from offset {from}, the oldest is {low}, {missing} are missing, {since};"
                )
            }
            Asked::Time(ms) => write!(
                text,
                " partition {partition}: asked from {} ({ms} ms), the oldest is offset {low}, {low} before it were deleted \
                 and may have been later than that, {since};",
                iso(ms)
            ),
        };
    }
    if rest.is_empty() {
        _ = write!(text, " nothing of what was asked for is left; replay it from an archive of {topic}");
        return text;
    }
    let rest: Vec<String> = rest
        .iter()
        .map(|(partition, from, until)| {
            format!("{partition}:{from}-{}", until.map_or(String::new(), |until| until.to_string()))
        })
        .collect();
    _ = write!(
        text,
        " replay them from an archive of {topic}, or what is left of all that was asked for by --offsets {}",
        rest.join(",")
    );
    text
}

/// UTC, to the millisecond.
fn iso(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(partition: i32, low: i64, high: i64) -> Found {
        Found { partition, low, high, since: None, until: None, oldest_ms: Some(1_000) }
    }

    fn check(range: &Range, found: &[Found], want: Result<&[(i32, i64, i64)], &str>) {
        let spans = range.spans("clicks", found).map_err(|error| error.to_string());
        let spans = spans.map(|spans| spans.iter().map(|s| (s.partition, s.from.0, s.until.0)).collect::<Vec<_>>());
        match (spans, want) {
            (Ok(spans), Ok(want)) => assert_eq!(spans, want),
            (Err(text), Err(want)) => assert!(text.contains(want), "{text}"),
            (spans, want) => panic!("{spans:?} for {want:?}"),
        }
    }

    #[test]
    fn offsets_are_parsed() {
        let parse = |text| Range::parse_offsets(text);
        assert_eq!(
            parse("0:100-2000,1:50-"),
            Ok(Range::Offsets([(0, (100, Some(2000))), (1, (50, None))].into_iter().collect()))
        );
        for wrong in
            ["", "0", "0:", "0:-5", "0:1-0", "0:1-2,0:3-4", "-1:0-1", "0:a-b", "0:1-2,", "0:99999999999999999999-"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn offsets_become_spans_of_what_is_there() {
        let range = |text| Range::parse_offsets(text).unwrap();
        let there = [found(0, 10, 100), found(1, 0, 50)];
        check(&range("0:10-20"), &there, Ok(&[(0, 10, 20)]));
        check(&range("1:5-,0:100-"), &there, Ok(&[(0, 100, 100), (1, 5, 50)]));
        check(&range("1:60-"), &there, Err("ends at 50"));
        check(&range("0:10-101"), &there, Err("asked for up to offset 101, and it ends at 100"));
        check(&range("2:0-"), &there, Err("no partition 2: it has 2"));
        check(
            &range("0:4-20"),
            &there,
            Err(
                "partition 0: asked from offset 4, the oldest is 10, 6 are missing, the rest begins at 1970-01-01T00:00:01Z",
            ),
        );
        check(&range("0:4-20"), &there, Err("--offsets 0:10-20"));
        check(&range("0:4-8,1:3-"), &there, Err("the oldest is 10, 4 are missing"));
        // Of the one nothing is left, and of the other all.
        check(&range("0:4-8,1:3-"), &there, Err("by --offsets 1:3-"));
        check(
            &range("0:4-8"),
            &there,
            Err("nothing of what was asked for is left; replay it from an archive of clicks"),
        );
        check(&range("0:4-10"), &there, Err("nothing of what was asked for is left"));
        check(&range("0:4-11"), &there, Err("by --offsets 0:10-11"));
        check(&range("0:4-"), &[found(0, 10, 10)], Err("nothing of what was asked for is left"));
    }

    #[test]
    fn times_become_spans_of_what_is_there() {
        let times = |since, until| Range::Times { since, until };
        let there = |low, since, until| [Found { since, until, ..found(0, low, 100) }];
        check(&times(None, None), &there(10, None, None), Ok(&[(0, 10, 100)]));
        check(&times(Some(5_000), Some(9_000)), &there(10, Some(40), Some(60)), Ok(&[(0, 40, 60)]));
        check(&times(Some(5_000), Some(9_000)), &there(10, None, None), Ok(&[(0, 100, 100)]));
        // Nothing was ever deleted, so all that is later than the time is there.
        check(&times(Some(500), None), &there(0, Some(0), None), Ok(&[(0, 0, 100)]));
        check(&times(Some(1_000), None), &there(10, Some(10), None), Ok(&[(0, 10, 100)]));
        check(&times(Some(500), None), &there(10, Some(10), None), Err("10 before it were deleted"));
        check(&times(Some(500), None), &there(10, Some(10), None), Err("--offsets 0:10-"));
        let two = [there(10, Some(10), Some(40))[0], Found { partition: 1, since: Some(7), ..found(1, 0, 50) }];
        check(&times(Some(500), Some(900)), &two, Err("--offsets 0:10-40,1:7-50"));
        let all_later = there(10, Some(10), Some(10));
        check(&times(Some(500), Some(900)), &all_later, Err("nothing of what was asked for is left"));
        // Nothing is left, so nobody can say that nothing is missing.
        let emptied = Found { low: 100, oldest_ms: None, ..there(10, None, None)[0] };
        check(&times(Some(500), None), &[emptied], Err("100 before it were deleted"));
        check(&times(Some(500), None), &[emptied], Err("the rest holds no record"));
        check(&times(None, None), &[emptied], Ok(&[(0, 100, 100)]));
        // An end before the beginning is nothing.
        check(&times(Some(5_000), Some(4_000)), &there(0, Some(40), Some(30)), Ok(&[(0, 40, 40)]));
    }
}
