//! `dce rejects`: counts by reason and by detail, beside the input they came out of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;

use serde_json::json;

use super::book::{self, Reject};
use super::{Choice, Desk, Period};
use crate::cli::paint::{line, thousands};
use crate::cli::{Frame, moments, tail};

/// Details that are told apart; numbers in them are not.
const DETAILS_MAX: usize = 1_000;
/// Details that are shown of a reason.
const DETAILS_SHOWN: usize = 5;
const DETAIL_CHARS: usize = 160;

#[derive(Default)]
struct Count {
    count: u64,
    first_ms: Option<i64>,
    last_ms: Option<i64>,
    partitions: BTreeSet<i32>,
    details: HashMap<String, u64>,
}

impl Count {
    fn take(&mut self, reject: &Reject) {
        self.count += 1;
        let at_ms = reject.kept.timestamp_ms;
        self.first_ms = [self.first_ms, at_ms].into_iter().flatten().min();
        self.last_ms = self.last_ms.max(at_ms);
        let partition = reject.origin.as_ref().map_or(reject.kept.partition, |origin| origin.partition);
        self.partitions.insert(partition);
        let pattern = pattern(&reject.detail);
        if self.details.len() < DETAILS_MAX || self.details.contains_key(&pattern) {
            *self.details.entry(pattern).or_default() += 1;
        }
    }

    /// The most frequent first.
    fn details(&self) -> Vec<(&String, u64)> {
        let mut details: Vec<(&String, u64)> = self.details.iter().map(|(detail, count)| (detail, *count)).collect();
        details.sort_by(|left, right| right.1.cmp(&left.1).then(left.0.cmp(right.0)));
        details
    }
}

pub(super) fn run(choice: &Choice, desk: &Desk<'_>, frame: &Frame) -> anyhow::Result<()> {
    let period = desk.period(choice)?;
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    let marks = book::read(desk, choice, period, |reject| {
        let reason = if reject.reason.is_empty() { "?".to_owned() } else { reject.reason.clone() };
        counts.entry(reason).or_default().take(&reject);
        Ok(())
    })?;
    let input = input_records(desk, period)?;
    let total: u64 = counts.values().map(|count| count.count).sum();
    let (mut sent, mut came_back) = (0_u64, 0_u64);
    if !marks.is_empty() {
        // Which of them they are is known only now; kept in memory they would be as many as were rejected.
        book::read(desk, choice, period, |reject| {
            let origin = reject.origin.as_ref();
            sent += u64::from(origin.is_some_and(|origin| !marks.sent(origin).is_empty()));
            came_back += u64::from(origin.is_some_and(|origin| marks.came_from(origin).is_some()));
            Ok(())
        })?;
    }

    let mut out = frame.output.lock();
    if frame.json {
        for (reason, count) in &counts {
            let details: Vec<_> =
                count.details().into_iter().map(|(detail, count)| json!({"detail": detail, "count": count})).collect();
            let row = json!({
                "reason": reason, "count": count.count, "share": share(count.count, input), "first": count.first_ms,
                "last": count.last_ms, "partitions": count.partitions, "details": details,
            });
            writeln!(out, "{row}")?;
        }
        let summary =
            json!({"summary": {"rejected": total, "input": input, "sent_back": sent, "came_back": came_back}});
        writeln!(out, "{summary}")?;
    } else {
        if total > 0 {
            print(&mut out, &counts, input)?;
        }
        let topic = &desk.config.topics.rejected;
        let of_input = match share(total, input) {
            Some(share) => {
                format!(" of {} in {} ({})", thousands(input), desk.config.topics.clickstream, percent(share))
            }
            None => String::new(),
        };
        let sent =
            if sent > 0 { format!("; {sent} of them were sent back, {came_back} came back") } else { String::new() };
        writeln!(out, "{} rejected records in {topic}{of_input}{sent}", thousands(total))?;
    }
    out.flush()?;
    Ok(())
}

/// How many records the input has of that time: by offsets, so about.
fn input_records(desk: &Desk<'_>, period: Period) -> anyhow::Result<u64> {
    let topic = &desk.config.topics.clickstream;
    let all = |since_ms| -> anyhow::Result<u64> {
        let extents = tail::extents(desk.config, &desk.client, topic, since_ms)?;
        Ok(extents.into_iter().map(crate::kafka::follow::Extent::len).sum())
    };
    let after = period.until_ms.map(|until_ms| all(Some(until_ms))).transpose()?;
    Ok(all(period.since_ms)?.saturating_sub(after.unwrap_or(0)))
}

/// `None` of nothing.
fn share(count: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| count as f64 / of as f64)
}

fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent == 0.0 || percent >= 1.0 => format!("{percent:.1} %"),
        percent => format!("{percent:.4} %"),
    }
}

fn print(out: &mut impl Write, counts: &BTreeMap<String, Count>, input: u64) -> std::io::Result<()> {
    writeln!(out, "{:<9}  {:>11}  {:>9}  {:<24}  {:<24}  PARTITIONS", "REASON", "COUNT", "SHARE", "FIRST", "LAST")?;
    for (reason, count) in counts {
        let time = |ms: Option<i64>| ms.map_or_else(|| "-".to_owned(), moments::text);
        writeln!(
            out,
            "{:<9}  {:>11}  {:>9}  {:<24}  {:<24}  {}",
            line(reason, 32),
            thousands(count.count),
            share(count.count, input).map_or_else(|| "-".to_owned(), percent),
            time(count.first_ms),
            time(count.last_ms),
            numbers(&count.partitions),
        )?;
        let details = count.details();
        for (detail, count) in details.iter().take(DETAILS_SHOWN).filter(|(detail, _)| !detail.is_empty()) {
            writeln!(out, "           {:>11}  {}", thousands(*count), line(detail, DETAIL_CHARS))?;
        }
        if details.len() > DETAILS_SHOWN {
            let more: u64 = details[DETAILS_SHOWN..].iter().map(|(_, count)| count).sum();
            writeln!(out, "           {:>11}  {} other details", thousands(more), details.len() - DETAILS_SHOWN)?;
        }
    }
    writeln!(out)
}

/// `0,1,4-9`.
fn numbers(partitions: &BTreeSet<i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for partition in partitions {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *partition => *last = *partition,
            Some(_) | None => ranges.push((*partition, *partition)),
        }
    }
    let said = ranges.iter().map(|(first, last)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    });
    said.collect::<Vec<_>>().join(",")
}

/// What stands before a character.
enum Before {
    Number,
    Word,
    Other,
}

/// A detail with its numbers taken out, so that one rule is one line.
fn pattern(detail: &str) -> String {
    let mut pattern = String::with_capacity(detail.len());
    let mut before = Before::Other;
    for c in detail.chars() {
        let number = matches!(before, Before::Number) && c.is_ascii_alphanumeric();
        if number || (matches!(before, Before::Other) && c.is_ascii_digit()) {
            if !number {
                pattern.push('N');
            }
            before = Before::Number;
        } else {
            pattern.push(c);
            before = if c.is_alphanumeric() || c == '_' { Before::Word } else { Before::Other };
        }
    }
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rule_is_one_line() {
        let detail = "event_time is 86397544 ms beyond the record's timestamp, limit 300000";
        assert_eq!(pattern(detail), "event_time is N ms beyond the record's timestamp, limit N");
        assert_eq!(pattern("the first byte is 0x6e, not c3 01"), "the first byte is N, not c3 N");
        assert_eq!(pattern(""), "");
    }

    #[test]
    fn partitions_are_said_in_ranges() {
        let said = |numbers_in: &[i32]| numbers(&numbers_in.iter().copied().collect());
        assert_eq!(said(&[]), "");
        assert_eq!(said(&[0, 1, 4, 5, 6, 9]), "0,1,4-6,9");
    }

    #[test]
    fn small_shares_are_not_nothing() {
        let said = [0.0, 0.000_012, 0.01, 0.5].map(percent);
        assert_eq!(said, ["0.0 %", "0.0012 %", "1.0 %", "50.0 %"]);
        assert_eq!(share(1, 0), None);
    }
}
